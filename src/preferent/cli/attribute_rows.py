"""What is known of annotators, from a file: annotator_id and any columns, as JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preferent.annotators.attribute_levels import Attributes, attribute_levels
from preferent.core.errors import DataError
from preferent.data.ledger import Refusal
from preferent.data.lines import read_raw

NAMES = ("annotator_id", "annotator")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SHOWN = 5


def read_attributes(path: Path, annotators: Sequence[Any]) -> Attributes:
    """The columns of the file for these annotators, in their order, with levels as `attribute_levels` makes them.

    An empty text is missing; a CSV column of numbers only is one of numbers. Raises DataError with `path:line` for a row without a name, an
    annotator who is named twice, or a value that is no text, number or truth value; and for a file that knows none of the annotators.
    """
    place = {str(name): a for a, name in enumerate(annotators)}
    columns: dict[str, list[Any]] = {}
    seen: dict[str, str] = {}
    for where, row in _csv(path) if path.suffix.lower() in DELIMITERS else _rows(path):
        key = next((name for name in NAMES if row.get(name) is not None and row[name] != ""), None)
        if key is None:
            raise DataError(f"{where}: no {NAMES[0]}; the row has {list(row)!r}")
        who = str(row[key])
        if who in seen:
            raise DataError(f"{where}: the annotator {who!r} was named before, at {seen[who]}", hint="one row for each annotator")
        seen[who] = where
        for name, value in row.items():
            if name not in NAMES:
                own = columns.setdefault(name, [None] * len(annotators))
                if who in place:
                    own[place[who]] = _value(value, f"{where}: {name}")
    if not columns:
        raise DataError(f"{path}: no column besides {NAMES[0]}", hint="one column for each attribute: age, region, expertise")
    if not place.keys() & seen.keys():
        raise DataError(f"{path}: knows none of the {len(place):,} annotators who judged; it names {list(seen)[:SHOWN]!r}")
    if path.suffix.lower() in DELIMITERS:
        columns = {name: _numbers(values) for name, values in columns.items()}
    made = attribute_levels(columns)
    notes = list(made.notes)
    if unknown := len(seen.keys() - place.keys()):
        notes.append(f"{path}: {unknown:,} annotators who gave no vote are left aside")
    if silent := len(place.keys() - seen.keys()):
        notes.append(f"{path}: has no row for {silent:,} of {len(place):,} annotators")
    return Attributes(made.columns, made.left_out, tuple(notes))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in read_raw(path):
        if isinstance(row, Refusal):
            raise DataError(str(row))
        yield row.where, row.value


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=DELIMITERS[path.suffix.lower()], strict=True)
            names = list(rows.fieldnames or ())
            if len(set(names)) < len(names):
                raise DataError(f"{path}:1: a column name occurs twice: {names!r}")
            for row in rows:
                where = f"{path}:{rows.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: the row has another number of cells than the {len(names)} columns")
                yield where, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _value(value: Any, where: str) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | int | float):
        return value.strip() if isinstance(value, str) else value
    raise DataError(f"{where}: {str(value)[:60]!r}, allowed are texts, numbers, truth values and null")


def _numbers(values: list[Any]) -> list[Any]:
    """Texts of CSV as numbers, where all are."""
    try:
        found = [None if value is None else float(value) for value in values]
    except ValueError:
        return values
    if not all(value is None or math.isfinite(value) for value in found):
        return values
    return [int(value) if value is not None and value.is_integer() else value for value in found]
