"""Write JSON lines: whole or not at all, never over a file that is there unless told to, gzipped when the name ends in `.gz`."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from preferent.core.errors import DataError, ExistsError
from preferent.core.records import Preference

_DEFAULTS = Preference(prompt=(), response_a="", response_b="", p_a=0.5)
_ALWAYS = {"prompt", "response_a", "response_b", "p_a", "weight"}


def refuse_overwrite(path: Path, *, force: bool) -> None:
    """Raises ExistsError when the file is there and `force` is not given."""
    if path.exists() and not force:
        raise ExistsError(f"{path} exists", hint="choose another name, or --force to overwrite it")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends, and is removed when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes files for the owner alone; a data file is an ordinary one.
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]], *, force: bool = False) -> int:
    """Write one JSON object per line; returns how many.

    Raises ExistsError unless `force`, DataError for a row that JSON cannot hold (NaN included). Nothing is written then.
    """
    path = Path(path)
    refuse_overwrite(path, force=force)
    n = 0
    with replacing(path) as temporary, gzipped(temporary) if path.suffix == ".gz" else temporary.open("wb") as file:
        for n, row in enumerate(rows, 1):
            file.write(dump(row, f"{path}:{n}"))
    return n


@contextmanager
def gzipped(path: Path) -> Iterator[IO[bytes]]:
    """A gzip file to write to. No name and no time in its header: the same rows give the same bytes."""
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        yield cast(IO[bytes], file)


def finish(partial: Path, output: Path) -> None:
    """Move JSON lines that grew beside their place to it, packed where its name ends in .gz."""
    if output.suffix != ".gz":
        partial.replace(output)
        return
    with replacing(output) as temporary, partial.open("rb") as plain, gzipped(temporary) as packed:
        shutil.copyfileobj(plain, packed)
    partial.unlink()


def dump(row: dict[str, Any], where: str) -> bytes:
    """One line of JSON in UTF-8."""
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: a row that JSON cannot hold: {error}") from error


def preference_row(record: Preference) -> dict[str, Any]:
    """A preference as a native row; a prompt of one user turn is written as its text, defaults are left out."""
    row: dict[str, Any] = {}
    for name in Preference.model_fields:
        value = getattr(record, name)
        if name in _ALWAYS or value != getattr(_DEFAULTS, name):
            row[name] = list(value) if isinstance(value, tuple) else value
    turns = record.prompt
    one = len(turns) == 1 and turns[0].role == "user"
    row["prompt"] = turns[0].content if one else [{"role": turn.role, "content": turn.content} for turn in turns]
    return row


def write_preferences(path: str | Path, preferences: Iterable[Preference], *, force: bool = False) -> int:
    """Write preferences in the native shape, as `check` reads it; returns how many. Raises as `write_jsonl` does."""
    return write_jsonl(path, (preference_row(record) for record in preferences), force=force)
