"""What can be had of every objective at once: weights swept, what each choice of weights gets people, and the front of the best.

For every prompt with several responses that people rated on every objective, each choice of weights picks the response with the highest
weighted sum of the heads; what it gets is the mean rating of the picked responses. One point per choice of weights, in the units of the
ratings' standard deviations, 0 being a random pick.

Legend: S choices of weights, K objectives, P prompts, R responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.core.estimates import Estimate, cluster_codes, resample_weights
from preferent.core.records import Floats, Prompt

# Steps of the grid of weights by number of objectives; about 20 to 130 choices.
STEPS = {2: 20, 3: 8, 4: 5, 5: 4, 6: 3}
RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Front:
    """weights_SK, points_SK: every choice of weights and what it gets. efficient_S: the choices that none other beats or equals on every
    objective at once. hypervolume: of what lies between a random pick (0) and the front, in standard deviations to the power K; oracle:
    the same when the ratings themselves choose. n_prompts: that have several fully rated responses."""

    names: tuple[str, ...]
    weights_SK: Floats
    points_SK: Floats
    efficient_S: NDArray[np.bool_]
    hypervolume: Estimate
    oracle: float
    n_prompts: int


def weight_grid(n_objectives: int) -> Floats:
    """All weights >= 0 with sum 1 on a regular grid, shape (S, K)."""
    steps = STEPS.get(n_objectives, 2)

    def parts(left: int, places: int) -> list[list[int]]:
        if places == 1:
            return [[left]]
        return [[first, *rest] for first in range(left + 1) for rest in parts(left - first, places - 1)]

    return np.array(parts(steps, n_objectives), dtype=np.float64) / steps


def efficient(points_SK: Floats) -> NDArray[np.bool_]:
    """Which points no other point dominates (at least as good everywhere and better somewhere), shape (S,). Of equal points all are."""
    as_good = (points_SK[None, :, :] >= points_SK[:, None, :]).all(-1)
    better = (points_SK[None, :, :] > points_SK[:, None, :]).any(-1)
    beaten = np.count_nonzero(as_good & better, axis=1)
    return beaten == 0


def hypervolume(points_SK: Floats, reference_K: Floats) -> float:
    """Volume of the space that some point dominates and that dominates the reference (Zitzler and Thiele 1998); exact, by slicing along
    the last objective. Points that do not beat the reference everywhere add nothing."""
    points = np.asarray(points_SK, dtype=np.float64) - np.asarray(reference_K, dtype=np.float64)
    points = points[(points > 0.0).all(1)]
    return _volume(np.unique(points, axis=0)) if len(points) else 0.0


def _volume(points: Floats) -> float:
    if points.shape[1] == 1:
        return float(points.max())
    if points.shape[1] == 2:
        # From the right: every step up adds a strip.
        order = points[np.argsort(-points[:, 0])]
        heights = np.maximum.accumulate(order[:, 1])
        gained = np.diff(heights, prepend=0.0)
        return float((order[:, 0] * gained).sum())
    points = points[efficient(points)]
    order = points[np.argsort(-points[:, -1], kind="stable")]
    levels = np.append(order[:, -1], 0.0)
    total = 0.0
    for count in range(1, len(order) + 1):
        depth = levels[count - 1] - levels[count]
        if depth > 0.0:
            total += depth * _volume(order[:count, :-1])
    return total


def front_of(
    names: Sequence[str], prompts: Sequence[Prompt], heads_RK: Floats, ratings_RK: Floats, *, rng: np.random.Generator
) -> Front | None:
    """The front over a sweep of weights; None without two objectives and two prompts that have several fully rated responses.

    heads_RK, ratings_RK: of each response, NaN where it was not rated. Both are standardised here, over the responses that count. An
    objective that nobody rated, being only ever compared, has no part in it.
    """
    rated_K = np.asarray((~np.isnan(ratings_RK)).any(axis=0))
    names = [name for name, rated in zip(names, rated_K.tolist(), strict=True) if rated]
    heads_RK, ratings_RK = heads_RK[:, rated_K], ratings_RK[:, rated_K]
    full_R = np.asarray(~np.isnan(ratings_RK).any(axis=1))
    codes_R = cluster_codes([prompt for prompt, full in zip(prompts, full_R.tolist(), strict=True) if full])
    if len(names) < 2 or not len(codes_R):
        return None
    several = np.bincount(codes_R) > 1
    kept = several[codes_R]
    if several.sum() < 2:
        return None
    codes_R = cluster_codes(codes_R[kept].tolist())
    heads, ratings = _standard(heads_RK[full_R][kept]), _standard(ratings_RK[full_R][kept])
    n = int(codes_R.max()) + 1
    weights_SK = weight_grid(len(names))
    random_PK = np.stack([np.bincount(codes_R, ratings[:, k], n) / np.bincount(codes_R) for k in range(len(names))], axis=1)
    gained_SPK = _picked(heads @ weights_SK.T, codes_R, ratings) - random_PK
    oracle_SPK = _picked(ratings @ weights_SK.T, codes_R, ratings) - random_PK
    points_SK = gained_SPK.mean(1)
    nothing = np.zeros(len(names))
    counts_BP = resample_weights(n, RESAMPLES, rng)
    draws = [hypervolume(np.einsum("p,spk->sk", counts / n, gained_SPK), nothing) for counts in counts_BP]
    low, high = np.quantile(draws, [0.025, 0.975])
    method = f"bootstrap over {n} prompts"
    value = Estimate(hypervolume(points_SK, nothing), float(low), float(high), n, method)
    return Front(tuple(names), weights_SK, points_SK, efficient(points_SK), value, hypervolume(oracle_SPK.mean(1), nothing), n)


def _standard(values_RK: Floats) -> Floats:
    spread_K = values_RK.std(0)
    return (values_RK - values_RK.mean(0)) / np.where(spread_K > 0.0, spread_K, 1.0)


def _picked(scores_RS: Floats, codes_R: NDArray[np.int64], ratings_RK: Floats) -> Floats:
    """The ratings of the best-scored response of every prompt, shape (S, P, K); the first of equals."""
    n = int(codes_R.max()) + 1
    picked = np.empty((scores_RS.shape[1], n, ratings_RK.shape[1]))
    for prompt in range(n):
        own = np.flatnonzero(codes_R == prompt)
        picked[:, prompt] = ratings_RK[own[scores_RS[own].argmax(0)]]
    return picked
