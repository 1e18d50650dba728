"""Accuracy by kind of pair, each with the longer-side baseline and the paired difference beside it.

Buckets are fixed and named, so that two reports can be compared line by line. Legend: N pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.audits.resample import NAN, Column, no_estimate
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

TOO_FEW = 10
MAX_SOURCES = 40
MATCHED = "length-matched"
LENGTH_BUCKETS = ("preferred much shorter", "preferred shorter", MATCHED, "preferred longer", "preferred much longer")
STRENGTH_BUCKETS = ("barely (p < .6)", "leaning (.6 to .75)", "clear (.75 to .9)", "strong (.9 and above)")
GROUPS = {
    "length": "length of the preferred side (much: beyond a factor of two; matched: within 10 %)",
    "strength": "strength of the label (p of the preferred side)",
    "source": "source",
}
NO_SOURCE = "(no source)"


@dataclass(frozen=True, slots=True)
class Slice:
    """Decided pairs of one kind: how often the scorer and the longer side are right there, and the paired difference.

    `n` counts decided pairs (label not exactly 0.5). Below 10 the three estimates carry no value and say 'too few'.
    """

    group: str
    name: str
    n: int
    accuracy: Estimate
    longer_side: Estimate
    difference: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        estimates = {"accuracy": self.accuracy, "longer_side": self.longer_side, "difference": self.difference}
        return {"group": self.group, "name": self.name, "n": self.n, **{key: value.to_dict() for key, value in estimates.items()}}


def relative_difference(chars_a_N: Floats, chars_b_N: Floats, p_N: Floats) -> Floats:
    """(characters of the preferred side - of the other) / the longer of the two, in [-1, 1], shape (N,); 0 where both are empty or tied."""
    longest_N = np.maximum(np.maximum(chars_a_N, chars_b_N), 1.0)
    return np.sign(p_N - 0.5) * (chars_a_N - chars_b_N) / longest_N


def length_buckets(chars_a_N: Floats, chars_b_N: Floats, p_N: Floats) -> NDArray[np.int64]:
    """Index into LENGTH_BUCKETS, shape (N,). Length-matched: the shorter has at least 90 % of the characters of the longer."""
    difference_N = np.round(relative_difference(chars_a_N, chars_b_N, p_N), 9)
    size_N = np.where(np.abs(difference_N) <= 0.1, 0, np.where(np.abs(difference_N) <= 0.5, 1, 2))
    return (2 + np.sign(difference_N) * size_N).astype(np.int64)


def strength_buckets(p_N: Floats) -> NDArray[np.int64]:
    """Index into STRENGTH_BUCKETS of the label probability of the preferred side, shape (N,); meaningless at label ties."""
    strength_N = np.round(np.maximum(p_N, 1.0 - p_N), 9)  # rounded: 1 - .1 and .9 belong together
    return np.digitize(strength_N, [0.6, 0.75, 0.9])


def slice_masks(
    sources: Sequence[str | None], chars_a_N: Floats, chars_b_N: Floats, p_N: Floats
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(group, name) -> which decided pairs belong, in the order of a report. Empty buckets are kept: their n of 0 is information."""
    decided_N = p_N != 0.5
    masks: dict[tuple[str, str], NDArray[np.bool_]] = {}
    length_N, strength_N = length_buckets(chars_a_N, chars_b_N, p_N), strength_buckets(p_N)
    for k, name in enumerate(LENGTH_BUCKETS):
        masks["length", name] = decided_N & (length_N == k)
    for k, name in enumerate(STRENGTH_BUCKETS):
        masks["strength", name] = decided_N & (strength_N == k)
    for name, member_N in _source_masks(sources).items():
        masks["source", name] = decided_N & member_N
    return masks


def _source_masks(sources: Sequence[str | None]) -> dict[str, NDArray[np.bool_]]:
    """One mask per source, the largest first; beyond MAX_SOURCES the rest share one row that says so."""
    names = [NO_SOURCE if source is None else source for source in sources]
    counted = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    shown, rest = counted[:MAX_SOURCES], counted[MAX_SOURCES:]
    place = {name: k for k, (name, _) in enumerate(shown)}
    code_N = np.array([place.get(name, -1) for name in names])
    masks = {name: code_N == k for name, k in place.items()}
    if rest:
        masks[f"({len(rest)} smaller sources together)"] = code_N == -1
    return masks


def slice_columns(
    masks: Mapping[tuple[str, str], NDArray[np.bool_]], scorer_N: Floats, longer_N: Floats, weights_N: Floats
) -> dict[str, Column]:
    """Three columns per slice (accuracy, longer side, difference) for the shared bootstrap."""
    columns = {}
    for k, where_N in enumerate(masks.values()):
        columns[f"{k}/accuracy"] = Column.of(scorer_N, weights_N, where_N, share=True)
        columns[f"{k}/longer"] = Column.of(longer_N, weights_N, where_N, share=True)
        columns[f"{k}/difference"] = Column.of(scorer_N - longer_N, weights_N, where_N)
    return columns


def slices_from(masks: Mapping[tuple[str, str], NDArray[np.bool_]], estimates: Mapping[str, Estimate]) -> tuple[Slice, ...]:
    """The slices of a report from the estimates of `slice_columns`."""
    rows = []
    for k, ((group, name), where_N) in enumerate(masks.items()):
        n = int(where_N.sum())
        found = [estimates[f"{k}/{part}"] for part in ("accuracy", "longer", "difference")]
        if group == "length" and name != MATCHED:  # the longer side is always or never right there
            found[1] = replace(found[1], low=NAN, high=NAN, method="by definition")
        if n < TOO_FEW:
            found = [no_estimate(f"too few (under {TOO_FEW})", n)] * 3
        rows.append(Slice(group, name, n, *found))
    return tuple(rows)
