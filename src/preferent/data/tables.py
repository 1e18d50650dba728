"""Rows of Parquet files and of data sets through `datasets`. A text in place of a row says why there are no more rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preferent.core.errors import DataError
from preferent.core.extras import missing_extra

Rows = Iterator[dict[str, Any] | str]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?")
_FILE_SUFFIX = re.compile(r"\.(jsonl?|ndjson|gz|zst|parquet|csv|tsv|txt|arrow)$", re.IGNORECASE)
_AT_ONCE = 512


def looks_like_hub_id(name: str) -> bool:
    """`owner/name` or `owner/name:config`, and not the path of a file."""
    return _HUB_ID.fullmatch(name) is not None and _FILE_SUFFIX.search(name) is None


def parquet_rows(path: Path) -> Rows:
    """Rows of a Parquet file, a few hundred in memory at a time."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                yield from batch.to_pylist()
    # to_pylist decodes text, and a damaged page can hold anything.
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError, OverflowError) as error:
        yield f"not a readable Parquet file: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def dataset_rows(name: str, split: str) -> Rows:
    """Rows of one split of a hub data set (streamed), a folder of data files (streamed) or a folder written by `save_to_disk`."""
    data = _open_dataset(name, split)
    rows = iter(data)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        # Whatever a remote file or a type cast raises in the middle: the rows before it count.
        except (OSError, ValueError, TypeError, RuntimeError, LookupError) as error:
            yield f"the data set ends early: {type(error).__name__}: {error}"
            return
        yield dict(row)


def _open_dataset(name: str, split: str) -> Any:
    try:
        import datasets
        import datasets.exceptions
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    path, _, config = (name, "", "") if Path(name).is_dir() else name.partition(":")
    saved = Path(path)
    try:
        if (saved / "state.json").is_file() or (saved / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(path)
            return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(path, config or None, split=split, streaming=True)
    except (OSError, ValueError, LookupError, datasets.exceptions.DatasetsError) as error:
        kind = "folder" if saved.is_dir() else "file, and not a data set that the hub gives"
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: no readable {kind} (split {split!r}): {said}", hint="check the name, the split and the network"
        ) from error
