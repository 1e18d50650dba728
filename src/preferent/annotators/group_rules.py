"""Soft labels under a named rule, from what several groups prefer of each comparison, and what each group loses by it.

The rules are those of `social_choice`, with every comparison as a set of two: a group's win rate is then its own p_a.

    utilitarian  sigma(sum_k w_k logit p_k)       borda  sum_k w_k p_k       worst-off  1/2 + (min_k p_k - min_k (1 - p_k)) / 2

Legend: K groups, I comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from preferent.annotators.bradley_terry import Banded
from preferent.annotators.labels import clustered
from preferent.annotators.social_choice import RULES, Rule
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

SURE = 1e-12  # how near to 0 and 1 a chance may come


@dataclass(frozen=True, slots=True)
class LabelLoss:
    """What a group loses. regret: chance that a member prefers the group's own choice less that for the rule's, mean over comparisons (0:
    it gets its way). against: share of comparisons that the rule orders against the group. Intervals are over comparisons, the groups'
    preferences taken as known."""

    group: int
    weight: float
    regret: Estimate
    against: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {
            "group": f"group {self.group + 1}",
            "weight": self.weight,
            "regret": self.regret.to_dict(),
            "against": self.against.to_dict(),
        }


@dataclass(frozen=True, eq=False, slots=True)
class RuleLabels:
    """p_a: shape (I,), or (K, I) for "per-group", with intervals: the groups' errors are taken to move together (all rules rise with each
    group's p_a)."""

    rule: Rule
    meaning: str
    p_a: Banded
    losses: tuple[LabelLoss, ...]


def rule_labels(p_KI: Banded, rule: Rule, weight_K: ArrayLike, *, rng: np.random.Generator) -> RuleLabels:
    """Apply a rule to the groups' p_a of every comparison. weight_K: how much each group counts, >= 0, scaled to sum 1.

    Raises ConfigError for an unknown rule or weights that do not fit.
    """
    weight = np.asarray(weight_K, dtype=np.float64)
    if rule not in RULES:
        raise ConfigError(f"rule {rule!r}, allowed are {', '.join(map(repr, get_args(Rule)))}")
    if weight.shape != p_KI.value.shape[:1] or weight.min(initial=0.0) < 0.0 or not weight.sum() > 0.0:
        raise ConfigError(f"weights {weight.tolist()!r} of {p_KI.value.shape[0]} groups, allowed are numbers >= 0 that are not all 0")
    weight = weight / weight.sum()
    if rule == "per-group":
        zero = Estimate(0.0, 0.0, 0.0, p_KI.value.shape[1], "every group keeps its own labels")
        return RuleLabels(rule, RULES[rule], p_KI, tuple(LabelLoss(k, float(weight[k]), zero, zero) for k in range(len(weight))))
    chosen = p_KI.map(lambda p: _ruled(p, rule, weight))
    return RuleLabels(rule, RULES[rule], chosen, _losses(chosen.value, p_KI.value, weight, rng))


def _ruled(p_KI: Floats, rule: Rule, weight_K: Floats) -> Floats:
    if rule == "utilitarian":
        return expit(weight_K @ logit(np.clip(p_KI, SURE, 1.0 - SURE)))
    if rule == "borda":
        return weight_K @ p_KI
    counted = p_KI[weight_K > 0.0]
    return 0.5 + (counted.min(axis=0) - (1.0 - counted).min(axis=0)) / 2.0


def _losses(chosen_I: Floats, p_KI: Floats, weight_K: Floats, rng: np.random.Generator) -> tuple[LabelLoss, ...]:
    items_I = np.arange(len(chosen_I))
    picked_I = np.where(chosen_I > 0.5, 1.0, np.where(chosen_I < 0.5, 0.0, 0.5))
    out = []
    for k, p_I in enumerate(p_KI):
        regret_I = np.maximum(p_I, 1.0 - p_I) - (picked_I * p_I + (1.0 - picked_I) * (1.0 - p_I))
        against_I = ((chosen_I - 0.5) * (p_I - 0.5) < 0.0).astype(np.float64)
        regret, against = (_share(clustered(values_I, items_I, rng)) for values_I in (regret_I, against_I))
        out.append(LabelLoss(k, float(weight_K[k]), regret, against))
    return tuple(out)


def _share(found: Estimate) -> Estimate:
    """Both numbers lie between 0 and 1, and so do their intervals."""
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high)) if np.isfinite(found.low) else found
