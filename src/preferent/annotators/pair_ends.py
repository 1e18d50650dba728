"""Which two responses a comparison is about, and votes on comparisons as votes on pairs of responses.

Where nobody says which responses a comparison shows, every comparison stands alone with two responses of its own: each pair is then
estimated from its own votes, and nothing is learned from one pair for another.

Legend: V votes, I comparisons of a table, R responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.annotators.graph import Ints, PairVotes, pair_votes
from preferent.annotators.table import VoteTable
from preferent.core.errors import DataError
from preferent.core.records import Prompt


@dataclass(frozen=True, slots=True)
class Pair:
    """The two responses of a comparison: their names, and prompt and texts where they are known."""

    a: str
    b: str
    prompt: Prompt | None = None
    text_a: str | None = None
    text_b: str | None = None

    @property
    def has_texts(self) -> bool:
        return self.text_a is not None and self.text_b is not None


def alone(comparison_id: Any) -> Pair:
    """Two responses that no other comparison shows."""
    return Pair(f"{comparison_id}/a", f"{comparison_id}/b")


@dataclass(frozen=True, eq=False, slots=True)
class PairedVotes:
    """votes: on responses, numbered as in `responses` (sorted by name). ends_I2: (a, b) of every comparison of the table. known: how many
    comparisons have named responses; the others stand alone."""

    votes: PairVotes
    responses: tuple[str, ...]
    ends_I2: Ints
    known: int


def paired_votes(table: VoteTable, pairs: Mapping[str, Pair], *, more: Sequence[Pair] = (), lengths: bool = False) -> PairedVotes:
    """Votes of a table with the labels a, b and maybe tie (every other label counts as a tie), by the comparisons' ids as texts.

    more: pairs whose responses are to be numbered too, judged or not. lengths: take the lengths of the responses along (in characters), if
    the texts of all are known. Raises DataError for a comparison of a response with itself, or a
    table without the labels a and b.
    """
    for label in ("a", "b"):
        if label not in table.labels:
            raise DataError(f"votes on pairs have the labels a and b, this table has {list(table.labels)!r}")
    names = [str(name) for name in table.items.tolist()]
    own = [pairs.get(name) or alone(name) for name in names]
    for name, pair in zip(names, own, strict=True):
        if pair.a == pair.b:
            raise DataError(f"comparison {name!r} shows the response {pair.a!r} on both sides")
    responses = sorted({end for pair in (*own, *more) for end in (pair.a, pair.b)})
    number = {name: code for code, name in enumerate(responses)}
    ends_I2 = np.array([(number[pair.a], number[pair.b]) for pair in own], dtype=np.int64).reshape(-1, 2)
    value_L = np.array([{"a": 1.0, "b": 0.0}.get(label, 0.5) for label in table.labels])
    first_V = None
    if table.first_V is not None:
        # Columns: shown first was a, was b, unknown (any other label, or nothing).
        column_L = np.array([{"a": 0, "b": 1}.get(label, 2) for label in table.labels] + [2])
        ends_I3 = np.concatenate([ends_I2, np.full((len(ends_I2), 1), -1)], axis=1)
        first_V = ends_I3[table.item_V, column_L[table.first_V]]
    votes = pair_votes(
        ends_I2[table.item_V],
        value_L[table.label_V],
        annotator_V=table.annotator_V,
        shown_first_V=first_V,
        lengths_I=_lengths((*own, *more), responses) if lengths else None,
        weight_V=table.weight_V,
        counts=(len(responses), table.n_annotators),
    )
    return PairedVotes(votes, tuple(responses), ends_I2, sum(name in pairs for name in names))


def _lengths(pairs: Sequence[Pair], responses: Sequence[str]) -> list[int] | None:
    known = {name: text for pair in pairs for name, text in ((pair.a, pair.text_a), (pair.b, pair.text_b)) if text is not None}
    return [max(1, len(known[name])) for name in responses] if len(known) == len(responses) else None
