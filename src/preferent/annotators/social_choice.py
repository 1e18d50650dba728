"""One number from several groups, by a rule that has a name, and what each group loses under it.

Groups differ in what they prefer; every way to add them up is a choice about whose preferences count how. Win rates are the chance that
a member of the group prefers the item to another item of its set, drawn at random: a scale on which groups compare, unlike logits, whose
size also says how decided a group is.

Legend: K groups, I items, N sets of items (one prompt's responses).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from preferent.core.errors import ConfigError
from preferent.core.records import Floats

Rule = Literal["utilitarian", "borda", "worst-off", "per-group"]
RULES: dict[str, str] = {
    "utilitarian": "mean of the groups' scores in logits, by weight: a decided group counts for more than an undecided one of its size",
    "borda": "mean of the groups' win rates within the set, by weight: what pooled votes estimate, whatever was asked of whom",
    "worst-off": "the smallest of the groups' win rates within the set: no group may be sacrificed, however small",
    "per-group": "no single number: the groups stay apart",
}


@dataclass(frozen=True, slots=True)
class GroupLoss:
    """What a group loses under a rule. regret: win rate of its own best item less that of the item the rule picks, mean over sets with at
    least two items (0: it gets its favourite). against: share of pairs within sets that the rule orders against the group.
    lost_sets: share of sets in which the rule does not pick the group's favourite."""

    group: int
    weight: float
    regret: float
    against: float
    lost_sets: float


@dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """scores: shape (I,) under the rule, on the rule's own scale (see RULES), comparable within a set; (K, I) for "per-group"."""

    rule: Rule
    meaning: str
    scores: Floats
    losses: tuple[GroupLoss, ...]


def choose(scores_KI: ArrayLike, rule: Rule, *, weight_K: ArrayLike | None = None, set_I: ArrayLike | None = None) -> Choice:
    """Apply a rule to the groups' scores (logits, Bradley-Terry scale).

    weight_K: how much each group counts (its share of the population), >= 0, scaled to sum 1; equal if left out. set_I: which set an
    item belongs to (all in one if left out); a set of one item has win rate 1/2. Raises ConfigError for an unknown rule or shapes that
    do not fit.
    """
    scores = np.atleast_2d(np.asarray(scores_KI, dtype=np.float64))
    if rule not in RULES:
        raise ConfigError(f"choose: rule {rule!r}, allowed are {', '.join(map(repr, get_args(Rule)))}")
    n_groups, n_items = scores.shape
    weight = np.full(n_groups, 1.0) if weight_K is None else np.asarray(weight_K, dtype=np.float64)
    sets = np.zeros(n_items, dtype=np.int64) if set_I is None else np.asarray(set_I)
    if weight.shape != (n_groups,) or sets.shape != (n_items,) or not np.isfinite(scores).all():
        raise ConfigError(
            f"choose: finite scores (K, I) = {scores.shape} need weights (K,) and sets (I,), got {weight.shape}, {sets.shape}"
        )
    if weight.min() < 0.0 or not weight.sum() > 0.0:
        raise ConfigError(f"choose: weights {weight.tolist()!r}, allowed are numbers >= 0 that are not all 0")
    weight = weight / weight.sum()
    wins_KI = win_rates(scores, sets)
    if rule == "per-group":
        own = tuple(GroupLoss(k, float(weight[k]), 0.0, 0.0, 0.0) for k in range(n_groups))
        return Choice(rule, RULES[rule], scores, own)
    if rule == "utilitarian":
        chosen_I = weight @ scores
    elif rule == "borda":
        chosen_I = weight @ wins_KI
    else:
        chosen_I = wins_KI[weight > 0].min(axis=0)
    return Choice(rule, RULES[rule], chosen_I, _losses(chosen_I, scores, wins_KI, weight, sets))


def compare(scores_KI: ArrayLike, *, weight_K: ArrayLike | None = None, set_I: ArrayLike | None = None) -> dict[str, Choice]:
    """Every rule on the same groups, for the report."""
    return {rule: choose(scores_KI, rule, weight_K=weight_K, set_I=set_I) for rule in get_args(Rule)}


def win_rates(scores_KI: Floats, set_I: NDArray) -> Floats:
    """Mean chance of each item against the other items of its set, per group, shape (K, I)."""
    wins_KI = np.full(scores_KI.shape, 0.5)
    for members in _sets(set_I):
        if len(members) > 1:
            own = scores_KI[:, members]
            p_KGG = expit(own[:, :, None] - own[:, None, :])
            wins_KI[:, members] = (p_KGG.sum(axis=2) - 0.5) / (len(members) - 1)
    return wins_KI


def _sets(set_I: NDArray) -> Iterator[NDArray[np.int64]]:
    _, code_I = np.unique(set_I, return_inverse=True)
    yield from np.split(np.argsort(code_I, kind="stable"), np.cumsum(np.bincount(code_I))[:-1])


def _losses(chosen_I: Floats, scores_KI: Floats, wins_KI: Floats, weight_K: Floats, set_I: NDArray) -> tuple[GroupLoss, ...]:
    n_groups = len(weight_K)
    regret_K, against_K, lost_K, n_pairs, n_sets = np.zeros(n_groups), np.zeros(n_groups), np.zeros(n_groups), 0, 0
    for members in _sets(set_I):
        if len(members) < 2:
            continue
        wins_KG, picked = wins_KI[:, members], int(np.argmax(chosen_I[members]))
        regret_KN = wins_KG.max(axis=1) - wins_KG[:, picked]
        regret_K += regret_KN
        lost_K += regret_KN > 0.0
        one, two = np.triu_indices(len(members), 1)
        rule_P = chosen_I[members][one] - chosen_I[members][two]
        own_KP = scores_KI[:, members][:, one] - scores_KI[:, members][:, two]
        against_K += (rule_P * own_KP < 0.0).sum(axis=1)
        n_sets, n_pairs = n_sets + 1, n_pairs + len(one)
    if n_sets == 0:
        return tuple(GroupLoss(k, float(weight_K[k]), float("nan"), float("nan"), float("nan")) for k in range(n_groups))
    return tuple(
        GroupLoss(k, float(weight_K[k]), float(regret_K[k] / n_sets), float(against_K[k] / n_pairs), float(lost_K[k] / n_sets))
        for k in range(n_groups)
    )
