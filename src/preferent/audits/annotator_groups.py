"""Groups of annotators who prefer different things, and what each of them loses when one number is made of all.

Legend: K groups, P pairs of responses, R responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.annotators.graph import PairVotes
from preferent.annotators.mixture import Mixture, MixtureSettings, fit_mixture
from preferent.annotators.pair_ends import Pair, PairedVotes
from preferent.annotators.social_choice import RULES, compare
from preferent.core.estimates import Estimate

MAX_VOTES = 500_000
MAX_SET = 3000  # responses of one component whose pairs the rules go through
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Conflict:
    """A pair on which two groups surely want opposite sides. p_a: for each group, the chance that it prefers response a; `comparison` is
    one that shows this pair, on these sides."""

    comparison: str
    pair: Pair
    groups: tuple[int, int]
    probability: float
    p_a: tuple[Estimate, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the texts."""
        return {
            "comparison_id": self.comparison,
            "response_a_id": self.pair.a,
            "response_b_id": self.pair.b,
            "groups": list(self.groups),
            "probability": self.probability,
            "p_a": [estimate.to_dict() for estimate in self.p_a],
        }


@dataclass(frozen=True, eq=False, slots=True)
class Groups:
    """What the mixture found. conflicts: the surest ones; n_conflicts: all. losses: (rule, group, regret, against, lost sets). no_losses:
    why there are none."""

    mixture: Mixture
    n_conflicts: int
    conflicts: tuple[Conflict, ...]
    losses: tuple[tuple[str, int, float, float, float], ...]
    no_losses: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        mixture = self.mixture
        tests = [
            {"groups": test.groups, "gain": test.gain.to_dict(), "p_value": test.p_value, "accepted": test.accepted}
            for test in mixture.tests
        ]
        keys = ("rule", "group", "regret", "against", "lost_sets")
        return {
            "groups": mixture.n_groups,
            "share": mixture.share_K.tolist(),
            "tests": tests,
            "converged": mixture.converged,
            "n_conflicts": self.n_conflicts,
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
            "losses": [dict(zip(keys, row, strict=True)) for row in self.losses],
            "no_losses": self.no_losses or None,
            "intervals": mixture.intervals,
            "notes": list(mixture.notes),
        }


def why_no_groups(votes: PairVotes, fixed: int | None) -> str:
    """Why groups are not looked for, or nothing."""
    n = len(np.unique(votes.annotator_V))
    if n < 2:
        return "one annotator is one group"
    if fixed is None and len(votes) > MAX_VOTES:
        return f"{len(votes):,} votes are more than the {MAX_VOTES:,} that the number of groups is looked for in; --groups K fits K of them"
    return ""


def find_groups(paired: PairedVotes, comparisons: Mapping[tuple[int, int], tuple[str, Pair]], *, fixed: int | None, seed: int) -> Groups:
    """Fit the mixture (K chosen, or `fixed`) and see what each group loses.

    comparisons: for (smaller, larger) response number a comparison of the two, with its sides as the rows show them.
    """
    mixture = fit_mixture(paired.votes, MixtureSettings(groups=fixed), seed=seed)
    order = np.argsort(-mixture.conflicts.probability_C, kind="stable")[:SHOWN]
    conflicts = tuple(_conflict(mixture, int(c), paired, comparisons) for c in order)
    losses, why = _losses(mixture)
    return Groups(mixture, len(mixture.conflicts), conflicts, losses, why)


def _conflict(mixture: Mixture, c: int, paired: PairedVotes, comparisons: Mapping[tuple[int, int], tuple[str, Pair]]) -> Conflict:
    at = int(mixture.conflicts.pair_C[c])
    lo, hi = int(mixture.lo_P[at]), int(mixture.hi_P[at])
    name, pair = comparisons[(lo, hi)]
    turned = paired.responses[lo] != pair.a
    p_a = []
    for k in range(mixture.n_groups):
        ends = [float(end[k, at]) for end in (mixture.p_a.value, mixture.p_a.low, mixture.p_a.high)]
        value, low, high = (1.0 - ends[0], 1.0 - ends[2], 1.0 - ends[1]) if turned else ends
        p_a.append(Estimate(value, low, high, len(paired.votes), mixture.intervals))
    groups = (int(mixture.conflicts.group_C[c]), int(mixture.conflicts.against_C[c]))
    return Conflict(name, pair, groups, float(mixture.conflicts.probability_C[c]), tuple(p_a))


def _losses(mixture: Mixture) -> tuple[tuple[tuple[str, int, float, float, float], ...], str]:
    """Per rule and group; sets are the components of the graph, whose responses compare."""
    if mixture.n_groups < 2:
        return (), "one group loses nothing"
    component_R = mixture.graph.component_I
    voted_R = component_R >= 0
    if np.bincount(component_R[voted_R]).max() > MAX_SET:
        return (), f"a component of more than {MAX_SET:,} responses: the rules go through all its pairs"
    chosen = compare(mixture.scores.value[:, voted_R], weight_K=mixture.share_K, set_I=component_R[voted_R])
    rows = [(rule, loss.group, loss.regret, loss.against, loss.lost_sets) for rule, choice in chosen.items() for loss in choice.losses]
    return tuple(row for row in rows if row[0] != "per-group"), ""


def rule_meanings() -> list[str]:
    """One sentence for each rule."""
    return [f"{rule}: {meaning}." for rule, meaning in RULES.items() if rule != "per-group"]
