"""Any JSON-ready value as tables of a report: robust against keys nobody foresaw, and nothing is left out without saying so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from preferent.audits.text import interval_text, number
from preferent.core.estimates import Estimate

MAX_ROWS = 200
MAX_CELL = 300


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are numbers, texts or estimates; an estimate is shown with its interval. `note` stands below."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Printed:
    """A table as texts; `numeric[k]` says that column k is set right."""

    headers: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    note: str


@dataclass(frozen=True, slots=True)
class Part:
    """A titled table."""

    title: str
    table: Printed


def cell(value: Any) -> str:
    """One cell as text, cut at 300 characters with a mark."""
    if value is None:
        return "-"
    if isinstance(value, Estimate):
        return f"{number(value.value)} {interval_text(value)}"
    if is_estimate(value):
        known: dict[str, Any] = {key: float("nan") if inner is None else inner for key, inner in value.items()}
        return cell(Estimate(**known))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}… (+{len(text) - MAX_CELL:,} characters)"


def is_estimate(value: Any) -> bool:
    """Whether `value` is what `Estimate.to_dict` gives."""
    return isinstance(value, Mapping) and set(value) == {field.name for field in fields(Estimate)}


def printed(table: Table) -> Printed:
    """`table` as texts, with at most 200 rows and a note that counts the rest."""
    width = max([len(table.headers), *(len(row) for row in table.rows)], default=0)
    shown = table.rows[:MAX_ROWS]
    hidden = len(table.rows) - len(shown)
    rest = f"{hidden:,} of {len(table.rows):,} rows are not shown here." if hidden else ""
    numeric = [
        bool(shown) and all(isinstance(row[k], (int, float)) and not isinstance(row[k], bool) for row in shown if k < len(row))
        for k in range(width)
    ]
    numeric[:1] = [False]  # the first column names the row
    rows = [[cell(value) for value in row] + [""] * (width - len(row)) for row in shown]
    return Printed([str(head) for head in table.headers], rows, numeric, " ".join(filter(None, [table.note, rest])))


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (dotted key, value) rows."""
    rows: list[tuple[str, Any]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping) and inner and not is_estimate(inner):
            rows.extend(flat(inner, f"{name}."))
        else:
            rows.append((name, inner))
    return rows


def parts_of(data: Mapping[str, Any], title: str) -> list[Part]:
    """A ledger-like mapping as tables: its plain values first, then one table per mapping and one per list of rows."""
    parts = [Part(title, printed(Table((), _plain(data))))] if _plain(data) else []
    for key, value in data.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping) and value and not is_estimate(value):
            parts.append(Part(name, printed(Table((), flat(value)))))
        elif isinstance(value, (list, tuple)) and value:
            parts.append(Part(f"{name} ({len(value):,})", printed(_table_of(value))))
    return parts


def _plain(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The values that are not containers; an empty container is shown as 'none'."""
    rows = []
    for key, value in data.items():
        name = str(key).replace("_", " ")
        if isinstance(value, (Mapping, list, tuple)) and not is_estimate(value):
            if not value:
                rows.append((name, "none"))
        else:
            rows.append((name, value))
    return rows


def _table_of(values: Sequence[Any]) -> Table:
    """Rows that are mappings get the union of their keys as columns; anything else is one column."""
    if not all(isinstance(value, Mapping) for value in values):
        return Table((), [(value,) for value in values])
    keys = list(dict.fromkeys(key for value in values for key in value))
    return Table([str(key).replace("_", " ") for key in keys], [[value.get(key) for key in keys] for value in values])
