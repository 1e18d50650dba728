"""Rows that a program made from labelled ones: how they are marked, so that nobody takes them for people's word.

`data.augment` (off-prompt and neutral rows) and `audits.augment` (the audit's own edits) make them; the command line keeps them out of
everything that is held out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.core.records import Preference, Ranking

MARK = "augmented"


@dataclass(frozen=True, slots=True)
class Augmented:
    """added: the new rows, each with `meta["augmented"]`. by: how many of each making. skipped: why rows were not made, and how often."""

    added: tuple[Preference, ...]
    by: Mapping[str, int]
    skipped: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the rows."""
        return {"added": len(self.added), "by": dict(self.by), "skipped": dict(self.skipped)}

    @classmethod
    def of(cls, added: Sequence[Preference], skipped: Mapping[str, int]) -> Augmented:
        """With the makings counted from the marks."""
        return cls(tuple(added), dict(Counter(row.meta[MARK]["by"] for row in added)), {why: n for why, n in skipped.items() if n})


@dataclass(frozen=True, slots=True)
class Owner:
    """A labelled pair that new rows are made from. row: its place in the input. name: its id, or "record 7"."""

    row: int
    name: str
    pair: Preference

    @property
    def better(self) -> str:
        """The preferred response; of a tie the first."""
        return self.pair.response_a if self.pair.p_a >= 0.5 else self.pair.response_b

    @property
    def worse(self) -> str:
        return self.pair.response_b if self.pair.p_a >= 0.5 else self.pair.response_a


def is_made(record: Any) -> bool:
    """Whether a record is the work of an augmentation."""
    return MARK in (getattr(record, "meta", None) or {})


def owners_of(records: Sequence[Any], rng: np.random.Generator) -> tuple[list[Owner], Counter[str]]:
    """(pairs to make rows from, why others are none). Of a ranking one pair is drawn, with different ranks where there are any."""
    owners, skipped = [], Counter[str]()
    for row, record in enumerate(records):
        pair: Any = record
        if isinstance(record, Ranking):
            pairs = record.preferences()
            decided = [one for one in pairs if one.p_a != 0.5] or pairs
            pair = decided[int(rng.integers(len(decided)))]
        if not isinstance(pair, Preference):
            skipped["not a preference or a ranking"] += 1
        elif is_made(pair):
            skipped["made by an augmentation itself"] += 1
        elif pair.objective is not None:
            skipped["about a single objective: nothing follows for it from being off the prompt"] += 1
        else:
            owners.append(Owner(row, record.id or f"record {row + 1}", pair))
    return owners, skipped


def made_from(
    owner: Owner, responses: tuple[str, str], p_a: float, *, number: int, mark: Mapping[str, Any], weight: float, swap: bool
) -> Preference:
    """A new row under the owner's prompt: its meta and the mark, a weight of the owner's times `weight`, sides exchanged where `swap`."""
    pair = owner.pair
    row = Preference(
        prompt=pair.prompt,
        response_a=responses[0],
        response_b=responses[1],
        p_a=p_a,
        weight=pair.weight * weight,
        source=f"{MARK}/{mark['by']}",
        id=f"{owner.name}/{MARK}-{number}",
        meta={**pair.meta, MARK: dict(mark)},
    )
    return row.swap() if swap else row
