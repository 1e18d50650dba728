"""One number for a solution from the scores of its steps, and which way to take it: chosen on validation data, never assumed.

Which way is best depends on what the step scores mean: where they say that a step is right, the product and the minimum do well; where
they say that the solution will come out right, the last one does (`bench/steps_lab.py` shows both). A step score here is a probability
in [0, 1].

Legend: N solutions, T steps, F features of a solution.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

from preferent.core.errors import ConfigError, FitError
from preferent.core.estimates import Estimate, cluster_codes, clustered_mean
from preferent.core.records import Floats

Plain = Literal["product", "minimum", "mean", "last"]
How = Literal["product", "minimum", "mean", "last", "weighted"]
PLAIN: tuple[Plain, ...] = get_args(Plain)
# What a fitted weight can use: logits of the minimum and the last, mean of logits, their sum (the product's), number of steps.
FEATURES = ("minimum", "last", "mean", "product", "steps")
_EDGE = 1e-6
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How step scores become one reward, JSON-ready for a checkpoint.

    weights: feature -> weight, for "weighted" only; "" is the constant.
    """

    how: How
    weights: dict[str, float] = field(default_factory=dict)

    def __call__(self, scores: Sequence[ArrayLike]) -> Floats:
        """Rewards of N solutions, shape (N,), in [0, 1], higher is better. Raises ConfigError for scores outside [0, 1]."""
        kept = _probabilities(scores)
        if self.how == "weighted":
            features_NF = step_features(kept)
            return expit(features_NF @ np.array([self.weights.get(name, 0.0) for name in FEATURES]) + self.weights.get("", 0.0))
        # The product as a sum of logs, so that long solutions do not all end at 0.
        reduce = {"product": lambda p: float(np.exp(np.log(np.clip(p, 1e-300, 1.0)).sum())), "minimum": np.min, "mean": np.mean}
        return np.array([p[-1] if self.how == "last" else reduce[self.how](p) for p in kept], dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"how": self.how, "weights": dict(self.weights)}


def step_features(scores: Sequence[ArrayLike]) -> Floats:
    """FEATURES of each solution, shape (N, F), of scores clipped to [1e-6, 1 - 1e-6]."""
    rows = []
    for p in scores:
        logit_T = _logit(np.asarray(p, dtype=np.float64))
        log_T = -np.logaddexp(0.0, -logit_T)
        rows.append((logit_T.min(), logit_T[-1], logit_T.mean(), log_T.sum(), np.log(len(logit_T))))
    return np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES))


def fit_weights(scores: Sequence[ArrayLike], right_N: ArrayLike) -> Aggregation:
    """The weighted aggregation: logistic regression of "the solution is right" on the features, with a ridge of 1 on standardised weights
    (so that it exists where the classes part). Raises FitError when only one kind of solution is given."""
    right_N = np.asarray(right_N, dtype=np.float64)
    features_NF = step_features(_probabilities(scores))
    if len(right_N) != len(features_NF):
        raise ConfigError(f"{len(features_NF)} solutions but {len(right_N)} outcomes")
    if not 0 < right_N.sum() < len(right_N):
        raise FitError("weights need right solutions and wrong ones")
    centre_F, scale_F = features_NF.mean(axis=0), features_NF.std(axis=0)
    scale_F = np.where(scale_F > 0, scale_F, 1.0)
    design = np.column_stack([(features_NF - centre_F) / scale_F, np.ones(len(right_N))])

    def loss(weight: Floats) -> tuple[float, Floats]:
        z = design @ weight
        value = np.logaddexp(0.0, z).sum() - right_N @ z + 0.5 * _RIDGE * float(weight[:-1] @ weight[:-1])
        slope = design.T @ (expit(z) - right_N)
        slope[:-1] += _RIDGE * weight[:-1]
        return float(value), slope

    found = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B")
    if not np.isfinite(found.x).all():
        raise FitError("the weights of the aggregation did not come out finite")
    weight_F = found.x[:-1] / scale_F
    weights = {name: float(value) for name, value in zip(FEATURES, weight_F, strict=True)}
    return Aggregation("weighted", weights | {"": float(found.x[-1] - weight_F @ centre_F)})


@dataclass(frozen=True, slots=True)
class Choice:
    """The aggregation chosen on validation data, and how each did there: the chance that a right solution is above a wrong one of the same
    problem (ties half), with its interval over problems. The weighted one was fitted on the other half of the problems in turn; the one
    returned is fitted on all."""

    chosen: Aggregation
    within_problem: dict[How, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"chosen": self.chosen.to_dict(), "within_problem": {how: value.to_dict() for how, value in self.within_problem.items()}}


def choose_aggregation(
    scores: Sequence[ArrayLike], right_N: ArrayLike, problems_N: Sequence[Hashable] | NDArray[Any], *, rng: np.random.Generator
) -> Choice:
    """The aggregation that orders solutions of one problem best on validation data: what best-of-n asks of it.

    Where no problem has both a right and a wrong solution, the order over all solutions decides, and the estimates say so. Of equals the
    first of product, minimum, mean, last, weighted. Raises ConfigError when lengths differ, FitError without right or without wrong ones.
    """
    right_N = np.asarray(right_N, dtype=np.float64)
    kept = _probabilities(scores)
    code_N = cluster_codes(problems_N)
    if not len(kept) == len(right_N) == len(code_N):
        raise ConfigError(f"{len(kept)} solutions, {len(right_N)} outcomes and {len(code_N)} problems; must be as many")
    if not 0 < right_N.sum() < len(right_N):
        raise FitError("choosing an aggregation needs right solutions and wrong ones")
    half_C = rng.permutation(int(code_N.max()) + 1) % 2
    rewards: dict[How, Floats] = {how: Aggregation(how)(kept) for how in PLAIN}
    rewards["weighted"] = _cross_fitted(kept, right_N, half_C[code_N])
    seed = int(rng.integers(2**63))
    quality: dict[How, Estimate] = {how: _order(reward_N, right_N, code_N, seed) for how, reward_N in rewards.items()}
    best = max(quality, key=lambda how: quality[how].value)
    return Choice(fit_weights(kept, right_N) if best == "weighted" else Aggregation(best), quality)


def _cross_fitted(scores: list[Floats], right_N: Floats, half_N: NDArray[np.int64]) -> Floats:
    """Weighted rewards of each half by the weights of the other; by those of all where a half holds one kind only."""
    reward_N = np.empty(len(right_N))
    for half in (0, 1):
        train, test = np.flatnonzero(half_N != half), np.flatnonzero(half_N == half)
        if not 0 < right_N[train].sum() < len(train):
            train = np.arange(len(right_N))
        if len(test):
            reward_N[test] = fit_weights([scores[i] for i in train], right_N[train])([scores[i] for i in test])
    return reward_N


def _order(reward_N: Floats, right_N: Floats, code_N: NDArray[np.int64], seed: int) -> Estimate:
    """Share of (right, wrong) pairs of one problem in the right order, each problem weighing the same."""
    shares, problems = [], []
    for code in np.unique(code_N):
        of_N = code_N == code
        good, bad = reward_N[of_N & (right_N > 0.5)], reward_N[of_N & (right_N <= 0.5)]
        if len(good) and len(bad):
            shares.append(float((0.5 + 0.5 * np.sign(good[:, None] - bad[None, :])).mean()))
            problems.append(int(code))
    if shares:
        return clustered_mean(shares, problems, rng=np.random.default_rng(seed))
    good, bad = reward_N[right_N > 0.5], reward_N[right_N <= 0.5]
    value = float((0.5 + 0.5 * np.sign(good[:, None] - bad[None, :])).mean())
    return Estimate(value, float("nan"), float("nan"), len(reward_N), "no interval: no problem has both kinds, order over all solutions")


def _probabilities(scores: Sequence[ArrayLike]) -> list[Floats]:
    kept = [np.asarray(p, dtype=np.float64) for p in scores]
    for n, p in enumerate(kept):
        if p.ndim != 1 or not len(p) or not ((p >= 0.0) & (p <= 1.0)).all():
            raise ConfigError(f"step scores of solution {n}: {p!r}; allowed is one probability for each of at least one step")
    return kept


def _logit(p: Floats) -> Floats:
    p = np.clip(p, _EDGE, 1.0 - _EDGE)
    return np.log(p) - np.log1p(-p)
