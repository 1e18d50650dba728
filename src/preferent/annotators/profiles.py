"""One row per annotator, whatever the model: how reliable, which way biased, how fast, and every flag with its evidence.

Legend: V votes, A annotators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.annotators.graph_models import TIES, GraphResult
from preferent.annotators.labels import LabelResult, wilson
from preferent.annotators.reliability import Flag, Limits, flags
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate


@dataclass(frozen=True, slots=True)
class Profile:
    """One annotator: votes; reliability; first, longer, ties: the share of their decided votes for the side shown first and for the longer
    side, and of all votes that tie, None where the table cannot tell; seconds: their median, None; traits: coefficients of the model
    (value, low, high), where it has any; flags."""

    annotator: Any
    votes: int
    reliability: Estimate
    first: Estimate | None
    longer: Estimate | None
    ties: Estimate | None
    seconds: float | None
    traits: dict[str, Estimate]
    flags: tuple[Flag, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what is not known is null."""
        shares = {name: getattr(self, name) for name in ("first", "longer", "ties")}
        return {
            "annotator_id": self.annotator,
            "n_judgments": self.votes,
            "reliability": _plain(self.reliability),
            **{f"{name}_share": None if value is None else _plain(value) for name, value in shares.items()},
            "median_seconds": self.seconds,
            "traits": {name: _plain(value) for name, value in self.traits.items()},
            "flags": [{"kind": flag.kind, "says": flag.says} for flag in self.flags],
        }


def _plain(estimate: Estimate) -> dict[str, float | None]:
    row = estimate.to_dict()
    return {name: row[name] for name in ("value", "low", "high")}


def profiles(table: VoteTable, result: LabelResult, limits: Limits | None = None) -> list[Profile]:
    """One row per annotator of the table. `result` must be of this table and know its annotators; without confusions or scores there are
    no flags. Raises ConfigError when it knows none."""
    if result.annotators is None or len(result.annotators.names) != table.n_annotators:
        raise ConfigError(f"profiles: {result.method!r} has no annotators of this table")
    known = result.annotators
    flagged: dict[Any, list[Flag]] = {}
    if isinstance(result, GraphResult) or known.alpha_ALL is not None:
        for flag in flags(table, result, limits):
            flagged.setdefault(flag.annotator, []).append(flag)
    first, longer, tied = _sided(table, "first"), _sided(table, "longer"), _tied(table)
    seconds = _median_seconds(table)
    traits = result.traits if isinstance(result, GraphResult) else {}
    rows = []
    for a, name in enumerate(table.annotators.tolist()):
        own = {
            trait: Estimate(float(b.value[a]), float(b.low[a]), float(b.high[a]), int(known.votes_A[a]), "95 %")
            for trait, b in traits.items()
        }
        ends = (float(known.reliability_A[a]), float(known.low_A[a]), float(known.high_A[a]))
        reliable = Estimate(*ends, int(known.votes_A[a]), "95 %")
        rows.append(
            Profile(name, int(known.votes_A[a]), reliable, first[a], longer[a], tied[a], seconds[a], own, tuple(flagged.get(name, ())))
        )
    return rows


def _sided(table: VoteTable, side: str) -> list[Estimate | None]:
    """Share of decided votes for the side that was shown first, or that is longer, with Wilson's interval."""
    none: list[Estimate | None] = [None] * table.n_annotators
    codes = [table.labels.index(label) if label in table.labels else -2 for label in ("a", "b")]
    decided_V = np.isin(table.label_V, codes)
    if side == "first":
        if table.first_V is None:
            return none
        known_V, hit_V = decided_V & (table.first_V >= 0), table.label_V == table.first_V
    else:
        if table.sides is None or table.sides.length_R is None:
            return none
        length_a, length_b = (table.sides.length_R[codes_I][table.item_V] for codes_I in (table.sides.a_I, table.sides.b_I))
        known_V = decided_V & np.isfinite(length_a - length_b) & (length_a != length_b)
        hit_V = (table.label_V == codes[0]) == (length_a > length_b)
    return _wilson_rows(table, known_V, hit_V)


def _tied(table: VoteTable) -> list[Estimate | None]:
    codes = [k for k, label in enumerate(table.labels) if label in TIES]
    if not codes:
        return [None] * table.n_annotators
    return _wilson_rows(table, np.ones(len(table), dtype=bool), np.isin(table.label_V, codes))


def _wilson_rows(table: VoteTable, known_V: Any, hit_V: Any) -> list[Estimate | None]:
    n_A = np.bincount(table.annotator_V[known_V], minlength=table.n_annotators)
    share_A = np.bincount(table.annotator_V[known_V], hit_V[known_V], table.n_annotators) / np.maximum(n_A, 1)
    low_A, high_A = wilson(share_A, n_A.astype(np.float64))
    columns = zip(share_A.tolist(), low_A.tolist(), high_A.tolist(), n_A.tolist(), strict=True)
    return [Estimate(share, low, high, n, "Wilson's 95 % interval") if n else None for share, low, high, n in columns]


def _median_seconds(table: VoteTable) -> list[float | None]:
    out: list[float | None] = [None] * table.n_annotators
    if table.seconds_V is None:
        return out
    timed_V = np.isfinite(table.seconds_V)
    order = np.argsort(table.annotator_V[timed_V], kind="stable")
    who, seconds = table.annotator_V[timed_V][order], table.seconds_V[timed_V][order]
    names, starts = np.unique(who, return_index=True)
    for a, own in zip(names.tolist(), np.split(seconds, starts[1:]), strict=True):
        out[a] = float(np.median(own))
    return out
