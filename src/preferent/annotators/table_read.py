"""Votes from files: JSONL (also .gz, .zst) or Parquet, by the record's own field names, with or without the texts.

A line is one judgment: comparison_id (or item), annotator_id (or annotator), choice (or label), and where present weight, shown_first,
seconds, strength, objective, source, response_a_id and response_b_id. Other fields (texts, rationale, at, gold, meta) are not votes and
are left alone; `graph_read` looks at the texts.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import zstandard

from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import ALIASES, KNOWN, NEEDED, NUMBERS, Policies, Where
from preferent.core.errors import DataError
from preferent.core.extras import missing_extra

FIELDS = (*ALIASES, *KNOWN)


def read_votes(path: str | Path, *, labels: Sequence[str] | None = None, policies: Policies | None = None) -> VoteTable:
    """A VoteTable from a .jsonl (.gz, .zst) or .parquet file.

    Raises DataError for a file that cannot be read, and with `path:line` for a line that is no JSON object or has no item, annotator or
    label field (a field that is there and null is a null: see `Policies`); MissingExtraError for Parquet without pyarrow.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file", hint="give a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file of judgments")
    columns, where = (_parquet(path), Where(str(path))) if path.suffix == ".parquet" else _jsonl(path)
    return VoteTable.from_columns(columns, labels=labels, policies=policies, where=where)


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of every line that is not blank."""
    with ExitStack() as stack:
        stream: Any = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            stream = stack.enter_context(gzip.open(stream))
        elif path.suffix == ".zst":
            stream = zstandard.ZstdDecompressor().stream_reader(stream)
        text = stack.enter_context(io.TextIOWrapper(stream, encoding="utf-8-sig"))
        try:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, line
        except (OSError, EOFError, UnicodeDecodeError, zstandard.ZstdError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error


def _jsonl(path: Path) -> tuple[dict[str, list[Any]], Where]:
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    n = 0
    for number, line in lines_of(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON: {error.msg} at column {error.colno}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: a line must be a JSON object, got {line.strip()[:40]!r}")
        own = {ALIASES.get(field, field): row[field] for field in FIELDS if field in row}
        missing = [name for name in NEEDED if name not in own]
        if missing:
            allowed = {name: [name, *(alias for alias, key in ALIASES.items() if key == name)] for name in missing}
            raise DataError(f"{path}:{number}: no field for {missing!r}, the fields are {list(row)!r}; allowed are {allowed!r}")
        for name, value in own.items():
            if name not in columns:
                columns[name] = [None] * n  # a field that first occurs late is null before
            columns[name].append(value)
        n += 1
        lines.append(number)
        for values in columns.values():
            if len(values) < n:
                values.append(None)
    if not n:
        raise DataError(f"{path}: no lines", hint="a line is one judgment: comparison_id, annotator_id, choice")
    # An optional field that is null everywhere says nothing.
    kept = {name: values for name, values in columns.items() if name in NEEDED or any(value is not None for value in values)}
    return kept, Where.of_lines(str(path), lines)


def _parquet(path: Path) -> dict[str, Any]:
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    names = [name for name in pq.read_schema(path).names if name in FIELDS]
    table = pq.read_table(path, columns=names)
    columns = {name: table.column(name) for name in names}
    numbers = {name: columns[name].to_pylist() for name in NUMBERS if name in columns}
    kept = {**columns, **numbers}
    return {name: column for name, column in kept.items() if ALIASES.get(name, name) in NEEDED or _any_value(column)}


def _any_value(column: Any) -> bool:
    """Whether anything in a column is not null."""
    return column.null_count < len(column) if hasattr(column, "null_count") else any(value is not None for value in column)
