"""The texts of the comparisons, from the rows of the judgments themselves or from a file of comparisons: which response is which.

A response is its text within its prompt: the same text under the same prompt is one node of the graph however often it was compared.
Rows may instead (or as well) name responses by `response_a_id` and `response_b_id`, which `table_read` takes as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preferent.annotators.table import VoteTable
from preferent.annotators.table_read import lines_of
from preferent.core.errors import DataError
from preferent.core.extras import missing_extra

IDS = ("comparison_id", "item", "id")
TEXTS = ("response_a", "response_b")


@dataclass(frozen=True, slots=True)
class Texts:
    """pairs: item -> names of its responses (a, b). lengths: characters of each response. texts: name -> (prompt, response)."""

    pairs: dict[Any, tuple[str, str]]
    lengths: dict[str, float]
    texts: dict[str, tuple[Any, str]]


def with_texts(table: VoteTable, path: str | Path) -> tuple[VoteTable, Texts | None]:
    """(the table with sides, texts): from a .jsonl (.gz, .zst) or .parquet file whose rows have an item's id, prompt, response_a and
    response_b. (the table as it is, None) where the file has no texts.

    Names made from texts are "<smallest item id>/a" or "/b". A table whose rows named their responses keeps those names and gets the
    lengths and texts, unless an id stands for several texts. Raises DataError with `path:line` when an item has different texts in
    different rows, or one that was judged has none.
    """
    seen = _comparisons(Path(path), set(table.items.tolist()))
    if not seen:
        return table, None
    names: dict[tuple[str, str], str] = {}
    pairs: dict[Any, tuple[str, str]] = {}
    texts: dict[str, tuple[Any, str]] = {}
    for item in table.items.tolist():
        if item not in seen:
            raise DataError(f"{path}: no row has the texts of {item!r}, which was judged")
        prompt, *both = seen[item]
        key = json.dumps(prompt, ensure_ascii=False, sort_keys=True)
        own = []
        for side, text in zip("ab", both, strict=True):
            # Twice the same text is no pair of one response with itself: its sides stay two.
            name = f"{item}/b" if side == "b" and both[0] == both[1] else names.setdefault((key, text), f"{item}/{side}")
            texts.setdefault(name, (prompt, text))
            own.append(name)
        pairs[item] = (own[0], own[1])
    lengths = {name: float(max(1, len(text))) for name, (_, text) in texts.items()}
    if table.sides is None:
        return table.with_sides(pairs, lengths), Texts(pairs, lengths, texts)
    return _by_ids(table, pairs, texts)


def _by_ids(table: VoteTable, pairs: dict[Any, tuple[str, str]], texts: dict[str, tuple[Any, str]]) -> tuple[VoteTable, Texts | None]:
    """Lengths and texts under the ids that the rows gave, if an id is one text."""
    assert table.sides is not None
    known: dict[Any, tuple[Any, str]] = {}
    named: dict[Any, tuple[Any, Any]] = {}
    for row, item in enumerate(table.items.tolist()):
        ids = tuple(table.sides.responses[[table.sides.a_I[row], table.sides.b_I[row]]].tolist())
        named[item] = (ids[0], ids[1])
        for one, name in zip(ids, pairs[item], strict=True):
            if known.setdefault(one, texts[name])[1] != texts[name][1]:
                return table, None  # a system rather than a text: what it wrote differs from prompt to prompt
    lengths = {name: float(max(1, len(text))) for name, (_, text) in known.items()}
    return table.with_sides(named, lengths), Texts(named, lengths, known)


def _comparisons(path: Path, wanted: set[Any]) -> dict[Any, tuple[Any, str, str]]:
    """item -> (prompt, response a, response b), of rows that have texts and a wanted id."""
    found: dict[Any, tuple[Any, str, str]] = {}
    for where, row in _rows(path):
        field = next((name for name in IDS if row.get(name) is not None), None)
        if field is None or row[field] not in wanted or not all(isinstance(row.get(name), str) for name in TEXTS):
            continue
        entry = (row.get("prompt"), row["response_a"], row["response_b"])
        if found.setdefault(row[field], entry) != entry:
            raise DataError(
                f"{where}: {row[field]!r} has other texts here than in an earlier row",
                hint="one comparison has one prompt and two responses, on the same sides in every row",
            )
    return found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix != ".parquet":
        for number, line in lines_of(path):
            row = json.loads(line)
            if isinstance(row, dict):
                yield f"{path}:{number}", row
        return
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    names = [name for name in pq.read_schema(path).names if name in (*IDS, "prompt", *TEXTS)]
    if not set(TEXTS) <= set(names):
        return
    number = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=names):
        for row in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", row
