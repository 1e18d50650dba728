"""One temperature that makes reward differences into probabilities: P(i preferred) = sigma(margin / T), fitted on held-out pairs.

Legend: N pairs, C clusters (prompts).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from preferent.core.errors import FitError
from preferent.core.estimates import Estimate, cluster_codes
from preferent.core.records import Floats

# The search runs between these two; a fit that ends at one of them says so.
LOWEST, HIGHEST = 1e-6, 1e6
# Fewer pairs than this say next to nothing about a scale.
MIN_PAIRS = 10
# The search ends when log T is known to this much.
TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature.

    value: T. low, high: 95 % interval (NaN when none exists). nll_before, nll_after: weighted mean negative log likelihood at T = 1
    and at `value`, in nats. n: pairs. at_bound: the likelihood still rises beyond the bound of the search (`LOWEST`: margins separate
    the labels perfectly; `HIGHEST`: margins say nothing about the labels or oppose them); such a T is no estimate, keep T = 1.
    """

    value: float
    low: float
    high: float
    nll_before: float
    nll_after: float
    n: int
    method: str
    at_bound: bool = False
    iterations: int = 0

    def estimate(self) -> Estimate:
        """T as a number a report may print."""
        return Estimate(self.value, self.low, self.high, self.n, self.method)


def fit_temperature(
    margin_N: ArrayLike,
    p_N: ArrayLike,
    weight_N: ArrayLike | None = None,
    *,
    clusters_N: Sequence[Hashable] | NDArray[Any] | None = None,
) -> Temperature:
    """The T > 0 with the least mean soft negative log likelihood of labels p under sigma(margin / T) (Guo et al. 2017, sec. 4.2).

    margin_N: reward_i - reward_j at T = 1; p_N: probability that i is preferred, in [0, 1]; both shape (N,), and so are weights >= 0.
    The objective is convex in 1/T, so its derivative has at most one zero: Brent's method finds it on log T to 1e-10 between
    T = 1e-6 and T = 1e6. Never worse than T = 1. The interval is the normal one on log T, cut to the range of the search, with the
    sandwich variance; given `clusters_N` (N prompts) it allows for pairs of one prompt being alike.

    Raises FitError: fewer than 10 pairs of positive weight, numbers that are not finite or out of range, all margins 0, all labels 0.5.
    """
    margin_N, p_N, weight_N, kept_N = _checked(margin_N, p_N, weight_N)
    codes_N = np.arange(len(margin_N)) if clusters_N is None else cluster_codes([clusters_N[n] for n in np.flatnonzero(kept_N).tolist()])
    share_N = weight_N / weight_N.sum()

    def slope(log_t: float) -> float:
        """Derivative of the objective in 1/T."""
        return float(share_N @ (margin_N * (expit(margin_N * np.exp(-log_t)) - p_N)))

    before = _nll(margin_N, p_N, share_N)
    low, high = np.log(LOWEST), np.log(HIGHEST)
    if slope(low) <= 0.0:
        return _bound(LOWEST, margin_N, p_N, share_N, "the margins separate the labels")
    if slope(high) >= 0.0:
        return _bound(HIGHEST, margin_N, p_N, share_N, "the margins do not predict the labels")
    log_t, info = brentq(slope, low, high, xtol=TOLERANCE, full_output=True)
    value = float(np.exp(log_t))
    after = _nll(margin_N / value, p_N, share_N)
    if after > before:  # by rounding only, at T = 1 itself
        value, after = 1.0, before
    half, method = _half_width(margin_N, p_N, weight_N, codes_N, value=value)
    least, most = (float(np.exp(np.clip(np.log(value) + sign * half, low, high))) for sign in (-1, 1))
    return Temperature(value, least, most, before, after, len(margin_N), method, iterations=int(info.iterations))


def _checked(margin: ArrayLike, p: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Arrays of the pairs with positive weight, labels at most 0.5, and which those are; FitError for what has no answer."""
    margin_N, p_N = np.asarray(margin, dtype=np.float64), np.asarray(p, dtype=np.float64)
    weight_N = np.ones_like(margin_N) if weight is None else np.asarray(weight, dtype=np.float64)
    if not margin_N.ndim == 1 or not margin_N.shape == p_N.shape == weight_N.shape:
        raise FitError(f"margins, labels and weights must be flat and of one length, got {margin_N.shape}, {p_N.shape}, {weight_N.shape}")
    for name, values, fine in (
        ("margin", margin_N, np.isfinite(margin_N)),
        ("label", p_N, (p_N >= 0.0) & (p_N <= 1.0)),
        ("weight", weight_N, np.isfinite(weight_N) & (weight_N >= 0.0)),
    ):
        if not fine.all():
            at = int(np.argmin(fine))
            allowed = {"margin": "finite numbers", "label": "0 to 1", "weight": "finite and at least 0"}[name]
            raise FitError(f"cannot fit a temperature: {name} {at} is {float(values[at])!r}, allowed: {allowed}")
    kept_N = weight_N > 0.0
    margin_N, p_N, weight_N = margin_N[kept_N], p_N[kept_N], weight_N[kept_N]
    hint = "keep T = 1, or hold out more pairs (`held_out`)"
    if len(margin_N) < MIN_PAIRS:
        raise FitError(f"cannot fit a temperature on {len(margin_N)} pairs, at least {MIN_PAIRS} are needed", hint=hint)
    if not margin_N.any():
        raise FitError("cannot fit a temperature: every margin is 0, so every temperature fits alike", hint=hint)
    if (p_N == 0.5).all():
        raise FitError("cannot fit a temperature: every label is a tie (p = 0.5)", hint=hint)
    # Each pair the way round on which its label is small: sigma(x) - p keeps its digits there, and a pair and its mirror are the same.
    turned_N = p_N > 0.5
    return np.where(turned_N, -margin_N, margin_N), np.where(turned_N, 1.0 - p_N, p_N), weight_N, kept_N


def _nll(logit_N: Floats, p_N: Floats, share_N: Floats) -> float:
    """Weighted mean of -p log sigma(x) - (1 - p) log sigma(-x)."""
    return float(share_N @ (p_N * np.logaddexp(0.0, -logit_N) + (1.0 - p_N) * np.logaddexp(0.0, logit_N)))


def _bound(value: float, margin_N: Floats, p_N: Floats, share_N: Floats, why: str) -> Temperature:
    """T at a bound of the search, without an interval."""
    before, after = _nll(margin_N, p_N, share_N), _nll(margin_N / value, p_N, share_N)
    nan = float("nan")
    return Temperature(value, nan, nan, before, after, len(margin_N), f"no interval: {why}", at_bound=True)


def _half_width(margin_N: Floats, p_N: Floats, weight_N: Floats, codes_N: NDArray[Any], *, value: float) -> tuple[float, str]:
    """Half the width of the 95 % interval of log T, and how it was made."""
    n_clusters = int(codes_N.max()) + 1
    if n_clusters < 2:
        return float("nan"), "no interval: one prompt only"
    win_N = expit(margin_N / value)
    curvature = float(weight_N @ (margin_N**2 * win_N * (1.0 - win_N)))
    if curvature <= 0.0:
        return float("nan"), "no interval: the likelihood is flat"
    score_C = np.bincount(codes_N, weight_N * margin_N * (win_N - p_N), n_clusters)
    deviation = np.sqrt(float(score_C @ score_C) * n_clusters / (n_clusters - 1)) / curvature
    # d log T = -T d(1/T)
    return 1.96 * value * float(deviation), f"sandwich variance over {n_clusters} clusters"
