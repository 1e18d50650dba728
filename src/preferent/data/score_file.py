"""Score every row of a file: in the input's order, resumable after a kill at any moment, nothing lost.

Answers are appended to OUTPUT.partial and take OUTPUT's place when the last one is there. A later run with the same output goes on
after the last whole line, once it has found the same ids in the input and the same rewards from the scorer.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from preferent.core.errors import DataError
from preferent.core.extras import missing_extra
from preferent.core.scorer import Scorer
from preferent.data.lines import Source, as_paths
from preferent.data.score_rows import Item, answer, read_items
from preferent.data.write import dump, gzipped, refuse_overwrite, replacing

# Rows scored again on resume. Half precision may differ in the second decimal with the batch; another model differs by more.
_PROBES = 4
_TOLERANCE = 0.02
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """rows: answered, those of an earlier run included. failed: answered with an error. resumed: found done at the start."""

    rows: int
    failed: int
    resumed: int
    output: str

    def __int__(self) -> int:
        return self.rows

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def render(self) -> str:
        """One line for a terminal."""
        parts = [f"{self.rows} rows in {self.output}"]
        if self.resumed:
            parts.append(f"{self.resumed} of them from an earlier run")
        if self.failed:
            parts.append(f"{self.failed} could not be scored: see their 'error'")
        return ", ".join(parts)


def score_file(
    scorer: Scorer,
    source: Source,
    output: str | Path,
    *,
    batch: int = 256,
    force: bool = False,
    progress: Callable[[int], object] | None = None,
) -> ScoreSummary:
    """Answer every row of `source` (see `score_rows`) in `output`: JSON lines (gzipped for `.gz`) or Parquet (`.parquet`).

    batch: rows scored and written at a time. force: overwrite `output`, and forget what an earlier run left of it. progress: called
    with the number of rows just answered. Raises ExistsError when `output` is there, DataError when the source cannot be opened or
    what an earlier run left belongs to another input or scorer.
    """
    output = Path(output)
    if any(Path(name).exists() and output.exists() and output.samefile(name) for name in as_paths(source)):
        raise DataError(f"{output}: is the input", hint="choose another output")
    refuse_overwrite(output, force=force)
    if output.suffix == ".parquet":
        _parquet()
    partial = output.with_name(output.name + ".partial")
    if force:
        partial.unlink(missing_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    items = read_items(source)
    resumed, failed = _resume(scorer, items, partial) if partial.exists() else (0, 0)
    if progress is not None and resumed:
        progress(resumed)
    rows = resumed
    # The first row is read before the partial file is made: a source that cannot be opened leaves nothing behind.
    chunk = list(islice(items, batch))
    with partial.open("ab") as file:
        while chunk:
            answers = answer(scorer, chunk)
            file.write(b"".join([dump(row, str(partial)) for row in answers]))
            file.flush()
            rows += len(chunk)
            failed += sum("error" in row for row in answers)
            if progress is not None:
                progress(len(chunk))
            chunk = list(islice(items, batch))
    if not rows:
        partial.unlink()
        raise DataError(f"{', '.join(as_paths(source))}: holds no rows", hint="a row is {id, prompt, response} or {id, prompt, responses}")
    _finish(partial, output)
    return ScoreSummary(rows, failed, resumed, str(output))


# ---- resume ----


def _resume(scorer: Scorer, items: Iterator[Item], partial: Path) -> tuple[int, int]:
    """Cut a torn last line, check the others against the input; (rows done, errors among them). The items done are consumed."""
    done = failed = whole = 0
    probes: list[tuple[Item, dict[str, Any]]] = []
    for row, length in _whole_lines(partial):
        item = next(items, None)
        if item is None or item.id != row.get("id") or ("rewards" in row) != (item.many and item.error is None):
            found = "the input has no more rows" if item is None else f"the input has id {item.id!r} at {item.where}"
            raise _other_run(partial, f"line {done + 1} answers id {row.get('id')!r}, but {found}")
        whole += length
        done += 1
        failed += "error" in row
        if len(probes) < _PROBES and "error" not in row:
            probes.append((item, row))
    with partial.open("r+b") as file:
        file.truncate(whole)
    for (item, before), now in zip(probes, answer(scorer, [item for item, _ in probes]), strict=True):
        if not _same(before, now):
            raise _other_run(partial, f"id {item.id!r} has {_rewards(before)}, but {scorer.name} gives {_rewards(now)}")
    return done, failed


def _whole_lines(partial: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Answers up to the first line that is torn, with the bytes each takes."""
    with partial.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError:
                return
            if not isinstance(row, dict) or "id" not in row:
                return
            yield row, len(line)


def _other_run(partial: Path, what: str) -> DataError:
    return DataError(
        f"{partial}: left by a run on another input or with another scorer: {what}", hint="--force starts over, or choose another output"
    )


def _rewards(row: dict[str, Any]) -> list[Any]:
    return row["rewards"] if "rewards" in row else [row["reward"]]


def _same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    a, b = _rewards(before), _rewards(now)
    return len(a) == len(b) and all(
        x is not None and y is not None and math.isclose(x, y, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) for x, y in zip(a, b, strict=True)
    )


# ---- the finished file ----


def _finish(partial: Path, output: Path) -> None:
    if output.suffix == ".parquet":
        with replacing(output) as temporary:
            _write_parquet(partial, temporary)
        partial.unlink()
    elif output.suffix == ".gz":
        with replacing(output) as temporary, partial.open("rb") as plain, gzipped(temporary) as packed:
            shutil.copyfileobj(plain, packed)
        partial.unlink()
    else:
        partial.replace(output)


def _parquet() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    return pyarrow


def _write_parquet(partial: Path, path: Path) -> None:
    """Ids as text; a column for every key that some answer has, null elsewhere."""
    pa = _parquet()
    keys: set[str] = set()
    objectives: set[str] = set()
    for row, _ in _whole_lines(partial):
        keys |= row.keys()
        for each in [row.get("objectives") or {}, *(row.get("objectives_each") or [])]:
            objectives |= each.keys()
    number, named = pa.float64(), pa.struct([(name, pa.float64()) for name in sorted(objectives)])
    types = {"id": pa.string(), "reward": number, "rewards": pa.list_(number), "std": number, "stds": pa.list_(number)}
    types |= {"objectives": named, "objectives_each": pa.list_(named), "error": pa.string()}
    types |= {"steps": pa.list_(number), "steps_each": pa.list_(pa.list_(number))}
    schema = pa.schema([(name, kind) for name, kind in types.items() if name in keys])
    rows = ({**row, "id": None if row["id"] is None else str(row["id"])} for row, _ in _whole_lines(partial))
    with pa.parquet.ParquetWriter(path, schema) as writer:
        while part := list(islice(rows, _AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))
