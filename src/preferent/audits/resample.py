"""Many prompt-clustered means from one set of resamples: fast, and every estimate of a report rests on the same draws.

The draws are those of `core.estimates.clustered_mean` (whole clusters, percentile interval); doing all columns at once costs one
matrix product instead of one bootstrap per number.

Legend: N observations, C clusters, K columns, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.core.estimates import Estimate, resample_weights
from preferent.core.records import Floats

Codes = NDArray[np.int64]
NAN = float("nan")
CELLS = 2_000_000  # resample counts held at once, so that memory stays flat in the number of prompts


@dataclass(frozen=True, slots=True)
class Column:
    """One quantity per observation, shape (N,), with its weights, shape (N,); weight 0 means the observation does not count."""

    values_N: Floats
    weights_N: Floats
    share: bool = False

    @classmethod
    def of(cls, values_N: Floats, weights_N: Floats, where_N: NDArray[np.bool_] | None = None, *, share: bool = False) -> Column:
        """A column in which NaN values, and rows outside `where_N`, do not count; `share`: the values are shares in [0, 1]."""
        counts_N = ~np.isnan(values_N) if where_N is None else ~np.isnan(values_N) & where_N
        return cls(np.where(counts_N, values_N, 0.0), np.where(counts_N, weights_N, 0.0), share)

    @property
    def n(self) -> int:
        """How many observations count."""
        return int(np.count_nonzero(self.weights_N))


def no_estimate(why: str, n: int = 0) -> Estimate:
    """An estimate without a value; `why` says why."""
    return Estimate(NAN, NAN, NAN, n, why)


def interval(value: float, draws_R: Floats, n: int, n_clusters: int) -> Estimate:
    """A percentile interval from draws (NaN draws left out), or the reason why there is none."""
    if n_clusters < 2:
        return Estimate(value, NAN, NAN, n, "no interval: one prompt only")
    draws_R = draws_R[np.isfinite(draws_R)]
    if len(draws_R) == 0:
        return Estimate(value, NAN, NAN, n, "no interval: undefined in the resamples")
    low, high = np.quantile(draws_R, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n, f"bootstrap over {n_clusters} prompts")


def cluster_draws(n_clusters: int, n_resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int32]]:
    """Bootstrap counts, shape (slab, C), in slabs of bounded size."""
    slab = max(1, min(n_resamples, CELLS // max(1, n_clusters)))
    for start in range(0, n_resamples, slab):
        yield resample_weights(n_clusters, min(slab, n_resamples - start), rng)


def share_interval(value: float, draws_R: Floats, n: int, n_clusters: int) -> Estimate:
    """`interval` for a share; at exactly 0 or 1 in the sample, where a bootstrap would claim certainty, an exact bound.

    Clopper and Pearson (1934) with each prompt as one trial: at 0 of C the upper end is 1 - 0.025^(1/C).
    """
    if value not in (0.0, 1.0) or n_clusters < 2:
        return interval(value, draws_R, n, n_clusters)
    reach = float(1.0 - 0.025 ** (1.0 / n_clusters))
    low, high = (0.0, reach) if value == 0.0 else (1.0 - reach, 1.0)
    return Estimate(value, low, high, n, f"exact bound over {n_clusters} prompts: no prompt differs")


def sums(codes_N: NDArray[np.int64], values_N: Floats, n_codes: int) -> Floats:
    """Sum of `values_N` per code, shape (n_codes,)."""
    return np.bincount(codes_N, values_N, n_codes).astype(np.float64, copy=False)


def clustered_means(
    columns: Mapping[str, Column], codes_N: Codes, *, rng: np.random.Generator, n_resamples: int = 2000
) -> dict[str, Estimate]:
    """The weighted mean of every column with a 95 % percentile interval from resampling whole clusters.

    `codes_N`: cluster of each observation, integers 0..C-1. A column in which nothing counts has no value and says so.
    """
    n_clusters = int(codes_N.max()) + 1 if len(codes_N) else 0
    names = [name for name, column in columns.items() if column.n]
    sums_CK = np.empty((n_clusters, len(names)))
    mass_CK = np.empty((n_clusters, len(names)))
    for k, name in enumerate(names):
        column = columns[name]
        sums_CK[:, k] = sums(codes_N, column.values_N * column.weights_N, n_clusters)
        mass_CK[:, k] = sums(codes_N, column.weights_N, n_clusters)
    draws_RK = mean_draws(sums_CK, mass_CK, rng, n_resamples) if names else np.empty((0, 0))
    estimates = {name: no_estimate("no observations") for name in columns}
    for k, name in enumerate(names):
        value = float(sums_CK[:, k].sum() / mass_CK[:, k].sum())
        make = share_interval if columns[name].share else interval
        estimates[name] = make(value, draws_RK[:, k], columns[name].n, int(np.count_nonzero(mass_CK[:, k])))
    return estimates


def mean_draws(sums_CK: Floats, mass_CK: Floats, rng: np.random.Generator, n_resamples: int) -> Floats:
    """Draws of sum / mass per column, shape (R, K); NaN where a draw holds no mass."""
    slabs = cluster_draws(len(sums_CK), n_resamples, rng)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([(counts @ sums_CK) / (counts @ mass_CK) for counts in slabs])


def clustered_counts(statistic: Callable[[Floats], float], codes_N: Codes, *, rng: np.random.Generator, n_resamples: int = 500) -> Estimate:
    """Any statistic of observation counts (how often each observation is in the sample, shape (N,)), with a clustered interval.

    For statistics that can use counts this is much cheaper than handing out row indices.
    """
    if len(codes_N) == 0:
        return no_estimate("no observations")
    n_clusters = int(codes_N.max()) + 1
    value = float(statistic(np.ones(len(codes_N))))
    if np.isnan(value):
        return no_estimate("undefined: one of the two does not vary", len(codes_N))
    if n_clusters < 2:
        return interval(value, np.empty(0), len(codes_N), n_clusters)
    slabs = cluster_draws(n_clusters, n_resamples, rng)
    draws_R = np.array([statistic(row_C[codes_N].astype(np.float64)) for slab in slabs for row_C in slab])
    return interval(value, draws_R, len(codes_N), n_clusters)


def ranks(values_N: Floats, counts_N: Floats) -> Floats:
    """Mid-ranks of `values_N` in the sample where value i occurs `counts_N[i]` times, shape (N,)."""
    distinct, place_N = np.unique(values_N, return_inverse=True)
    mass = sums(place_N, counts_N, len(distinct))
    return (np.cumsum(mass) - mass / 2 + 0.5)[place_N]


def correlation(x_N: Floats, y_N: Floats, counts_N: Floats) -> float:
    """Weighted Pearson correlation; NaN where one side does not vary."""
    total = counts_N.sum()
    dx_N, dy_N = x_N - counts_N @ x_N / total, y_N - counts_N @ y_N / total
    scale = np.sqrt((counts_N @ dx_N**2) * (counts_N @ dy_N**2))
    return float(counts_N @ (dx_N * dy_N) / scale) if scale > 0 else NAN


def spearman(x_N: Floats, y_N: Floats, counts_N: Floats | None = None) -> float:
    """Spearman's rank correlation (ties by mid-ranks), NaN where one side does not vary.

    `counts_N` says how often each row is in the sample (default once).
    """
    counts_N = np.ones(len(x_N)) if counts_N is None else counts_N
    return correlation(ranks(x_N, counts_N), ranks(y_N, counts_N), counts_N)
