"""What known attributes of annotators say about their preferences: which columns matter, how far each level is from the crowd, and on which
pairs two levels want opposite sides.

Legend: G levels of all columns, P pairs of responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.annotators.attribute_levels import Attributes
from preferent.annotators.attributes import AttributeFit, fit_attributes
from preferent.annotators.gain import GroupTest
from preferent.annotators.graph import PairVotes
from preferent.annotators.pair_ends import Pair, PairedVotes
from preferent.core.estimates import Estimate

MAX_VOTES = 500_000
SHOWN = 10
TAKEN_APART = "taken one by one, the other attributes at their average"
Comparisons = Mapping[tuple[int, int], tuple[str, Pair]]


@dataclass(frozen=True, slots=True)
class Level:
    """Annotators of one level. distance: how far their p_a is from the average annotator's, mean over the pairs they judged. departs: pairs
    on which they surely (95 %) differ from the average annotator."""

    attribute: str
    level: str
    annotators: int
    votes: int
    distance: Estimate
    departs: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        own = {name: getattr(self, name) for name in ("attribute", "level", "annotators", "votes")}
        return own | {"distance": self.distance.to_dict(), "pairs_that_depart": self.departs}


@dataclass(frozen=True, slots=True)
class LevelConflict:
    """A pair on which two levels of one attribute want opposite sides. p_a: of the two levels, for response a of `pair`."""

    attribute: str
    levels: tuple[str, str]
    comparison: str
    pair: Pair
    probability: float
    p_a: tuple[Estimate, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the texts."""
        return {
            "attribute": self.attribute,
            "levels": list(self.levels),
            "comparison_id": self.comparison,
            "response_a_id": self.pair.a,
            "response_b_id": self.pair.b,
            "probability": self.probability,
            "p_a": [estimate.to_dict() for estimate in self.p_a],
        }


@dataclass(frozen=True, eq=False, slots=True)
class AttributeStudy:
    """tests and spread: by attribute, in the order of the file. levels: of every attribute. n_conflicts: pairs in conflict by attribute,
    counted once for every two levels; conflicts: the surest of attributes that are more than noise. left_out: attribute -> why."""

    tests: dict[str, GroupTest]
    spread: dict[str, float]
    levels: tuple[Level, ...]
    n_conflicts: dict[str, int]
    conflicts: tuple[LevelConflict, ...]
    left_out: dict[str, str]
    intervals: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the texts."""
        tests = [
            {"attribute": name, "levels": test.groups, "gain": test.gain.to_dict(), "p_value": test.p_value, "accepted": test.accepted,
             "spread": self.spread[name], "pairs_in_conflict": self.n_conflicts[name]}
            for name, test in self.tests.items()
        ]  # fmt: skip
        return {
            "attributes": tests,
            "levels": [level.to_dict() for level in self.levels],
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
            "left_out": self.left_out,
            "intervals": self.intervals,
            "notes": list(self.notes),
        }


def why_no_attributes(votes: PairVotes, attributes: Attributes) -> str:
    """Why attributes are not looked at, or nothing."""
    if not attributes.columns:
        return "no column can be used: " + "; ".join(f"{name}: {why}" for name, why in attributes.left_out.items())
    if len(np.unique(votes.annotator_V)) < 2:
        return "one annotator has no crowd to differ from"
    if len(votes) > MAX_VOTES:
        return f"{len(votes):,} votes are more than the {MAX_VOTES:,} that attributes are looked at in"
    return ""


def study_attributes(paired: PairedVotes, attributes: Attributes, comparisons: Comparisons, *, seed: int) -> AttributeStudy:
    """Fit all columns together, with partial pooling. comparisons: see `find_groups`."""
    fit = fit_attributes(paired.votes, attributes.columns, seed=seed)
    sure_GP = (fit.departure.low > 0.0) | (fit.departure.high < 0.0)
    levels = []
    for g, (name, level) in enumerate(fit.levels_G):
        value, low, high = (float(end[g]) for end in (fit.distance_G.value, fit.distance_G.low, fit.distance_G.high))
        distance = Estimate(value, low, high, int(fit.votes_G[g]), f"posterior mean and 95 % interval, {TAKEN_APART}")
        levels.append(Level(name, str(level), int(fit.annotators_G[g]), int(fit.votes_G[g]), distance, int(sure_GP[g].sum())))
    found: list[LevelConflict] = []
    for name, conflicts in fit.conflicts.items():
        if fit.tests[name].accepted:
            order = np.argsort(-conflicts.probability_C, kind="stable")[:SHOWN]
            found += [_conflict(fit, name, int(c), paired, comparisons) for c in order]
    found.sort(key=lambda one: -one.probability)
    graph_notes = fit.graph.notes()
    notes = (*attributes.notes, *(note for note in fit.notes if note not in graph_notes))
    n_conflicts = {name: len(conflicts) for name, conflicts in fit.conflicts.items()}
    return AttributeStudy(
        fit.tests, fit.spread, tuple(levels), n_conflicts, tuple(found[:SHOWN]), attributes.left_out, fit.intervals, notes
    )


def _conflict(fit: AttributeFit, name: str, c: int, paired: PairedVotes, comparisons: Comparisons) -> LevelConflict:
    conflicts = fit.conflicts[name]
    at = int(conflicts.pair_C[c])
    lo, hi = int(fit.lo_P[at]), int(fit.hi_P[at])
    comparison, pair = comparisons[(lo, hi)]
    turned = paired.responses[lo] != pair.a
    rows = (int(conflicts.group_C[c]), int(conflicts.against_C[c]))
    both = []
    for g in rows:
        value, low, high = (float(end[g, at]) for end in (fit.p_a.value, fit.p_a.low, fit.p_a.high))
        value, low, high = (1.0 - value, 1.0 - high, 1.0 - low) if turned else (value, low, high)
        both.append(Estimate(value, low, high, int(fit.votes_G[g]), fit.intervals))
    names = (str(fit.levels_G[rows[0]][1]), str(fit.levels_G[rows[1]][1]))
    return LevelConflict(name, names, comparison, pair, float(conflicts.probability_C[c]), (both[0], both[1]))
