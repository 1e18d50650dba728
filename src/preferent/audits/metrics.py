"""What a pair says about a scorer: pure functions on arrays over samples, never over batch means.

Orientation: `margin_N` = reward of a minus reward of b; `p_N` = probability that a is preferred. Every function gives the same
answer when the sides of a pair are exchanged (margin -> -margin, p -> 1 - p). A sample that a metric does not speak about is NaN.

Ties, everywhere: a label of exactly 0.5 names no side, so such pairs are left out of accuracy and mean margin, and counted; equal
rewards on a decided pair count one half, and are counted.

Legend: N pairs, B bins, C clusters, R resamples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from preferent.audits.resample import Codes, interval, mean_draws, no_estimate, share_interval, sums
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

N_BINS = 10


def check_temperature(temperature: float) -> float:
    """`temperature` if it can divide rewards, else ConfigError."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature is {temperature!r}; allowed: a finite number above 0")
    return float(temperature)


def probability(margin_N: Floats, temperature: float = 1.0) -> Floats:
    """P(a preferred) = sigmoid(margin / T), shape (N,) (Bradley and Terry 1952); safe at any finite margin."""
    return np.exp(-np.logaddexp(0.0, -margin_N / temperature))


def hits(margin_N: Floats, p_N: Floats) -> Floats:
    """1 where the higher reward is on the preferred side, 0 where it is not, 0.5 at equal rewards, NaN at label ties."""
    agree_N = 0.5 + 0.5 * np.sign(margin_N) * np.sign(p_N - 0.5)
    return np.where(p_N == 0.5, np.nan, agree_N)


def nll(margin_N: Floats, p_N: Floats, temperature: float = 1.0) -> Floats:
    """Cross-entropy of the soft label in nats: -p log q - (1 - p) log(1 - q) with q = sigmoid(margin / T), shape (N,)."""
    z_N = margin_N / temperature
    return p_N * np.logaddexp(0.0, -z_N) + (1.0 - p_N) * np.logaddexp(0.0, z_N)


def label_entropy(p_N: Floats) -> Floats:
    """Entropy of the soft label in nats: the lowest NLL any scorer can reach on that pair, shape (N,)."""
    return entr(p_N) + entr(1.0 - p_N)


def brier(margin_N: Floats, p_N: Floats, temperature: float = 1.0) -> Floats:
    """(sigmoid(margin / T) - p)^2, shape (N,) (Brier 1950, for one side; the other side gives the same number)."""
    return (probability(margin_N, temperature) - p_N) ** 2


def preferred_margin(margin_N: Floats, p_N: Floats) -> Floats:
    """Reward of the preferred side minus the other, shape (N,); NaN at label ties."""
    return np.where(p_N == 0.5, np.nan, margin_N * np.sign(p_N - 0.5))


def confidence(margin_N: Floats, p_N: Floats, temperature: float = 1.0) -> tuple[Floats, Floats]:
    """(confidence, label) of the side the scorer prefers: max(q, 1-q) in [0.5, 1] and the label probability of that side.

    At equal rewards both orientations are taken: confidence 0.5, label 0.5.
    """
    q_N = probability(np.abs(margin_N), temperature)
    return q_N, np.where(margin_N > 0, p_N, np.where(margin_N < 0, 1.0 - p_N, 0.5))


def equal_mass_bins(values_N: Floats, weights_N: Floats, n_bins: int) -> NDArray[np.int64]:
    """Bin of each value, 0..n_bins-1, such that bins hold about the same weight; equal values share a bin, shape (N,).

    The bin is that of the middle of a value's weight, so neither the order nor the doubling of the rows changes it.
    """
    distinct, place_N = np.unique(values_N, return_inverse=True)
    mass = sums(place_N, weights_N, len(distinct))
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    # rounded so that a middle on the edge of two bins does not depend on the last bit of a cumulative sum
    return np.minimum(np.floor(np.round(middle * n_bins, 9)), n_bins - 1).astype(np.int64)[place_N]


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability plot: its range of confidence, its pairs, their mean confidence, and how often they were right."""

    low: float
    high: float
    n: int
    confidence: float
    observed: Estimate


@dataclass(frozen=True, slots=True)
class Reliability:
    """Expected calibration error with its interval, the error a perfectly calibrated scorer would show here, and the bins."""

    ece: Estimate
    noise: Estimate
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        bins = [{**asdict(row), "observed": row.observed.to_dict()} for row in self.bins]
        return {"ece": self.ece.to_dict(), "noise": self.noise.to_dict(), "bins": bins}


def reliability(
    confidence_N: Floats,
    label_N: Floats,
    weights_N: Floats,
    codes_N: Codes,
    *,
    rng: np.random.Generator,
    n_resamples: int = 2000,
) -> Reliability:
    """ECE over at most 10 equal-mass bins of the confidence of the preferred side: sum over bins of mass x |confidence - observed|.

    A finite sample never shows 0, however well calibrated the scorer is. `noise` is what would be left if the bins' true gaps were 0: the
    mean of sum mass x |gap* - gap| over cluster resamples. The interval of `ece` uses the same draws: by the triangle inequality
    |ECE - true ECE| <= sum mass x |gap - true gap|, whose 95 % quantile widens the estimate on both sides (floored at 0). It is
    conservative, holds at 0, and speaks of the calibration error at the resolution of these bins.
    """
    bin_N = equal_mass_bins(confidence_N, weights_N, N_BINS)
    used, bin_N = np.unique(bin_N, return_inverse=True)
    n, n_bins, n_clusters = len(bin_N), len(used), int(codes_N.max()) + 1
    cell_N = codes_N * n_bins + bin_N
    gap_CB, agree_CB, mass_CB = (
        sums(cell_N, weights_N * value_N, n_clusters * n_bins).reshape(n_clusters, n_bins)
        for value_N in (confidence_N - label_N, label_N, np.ones(n))
    )
    share_B = mass_CB.sum(0) / mass_CB.sum()
    gap_B = gap_CB.sum(0) / mass_CB.sum(0)
    draws_R2B = mean_draws(np.hstack([gap_CB, agree_CB]), np.hstack([mass_CB, mass_CB]), rng, n_resamples)
    noise_R = np.abs(np.nan_to_num(draws_R2B[:, :n_bins] - gap_B)) @ share_B  # a bin that a draw misses adds nothing
    bins = []
    for b in range(n_bins):
        where_N, agree = bin_N == b, float(agree_CB[:, b].sum() / mass_CB[:, b].sum())
        clusters = int(np.count_nonzero(mass_CB[:, b]))
        observed = share_interval(agree, draws_R2B[:, n_bins + b], int(where_N.sum()), clusters)
        low, high = float(confidence_N[where_N].min()), float(confidence_N[where_N].max())
        bins.append(Bin(low, high, observed.n, float(np.average(confidence_N[where_N], weights=weights_N[where_N])), observed))
    value, noise = float(share_B @ np.abs(gap_B)), interval(float(noise_R.mean()), noise_R, n, n_clusters)
    if n_clusters < 2:
        return Reliability(Estimate(value, np.nan, np.nan, n, noise.method), no_estimate(noise.method, n), tuple(bins))
    reach = float(np.quantile(noise_R, 0.95))
    method = f"conservative bound, bootstrap over {n_clusters} prompts, {n_bins} equal-mass bins"
    return Reliability(Estimate(value, max(0.0, value - reach), min(1.0, value + reach), n, method), noise, tuple(bins))
