"""Numbers with intervals, and the bootstrap that makes them.

Legend: N observations, C clusters, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preferent.core.records import Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number a report may print: its value, a 95 % interval, how many observations it rests on, and how it was made.

    `low` and `high` are NaN when no interval can be given; `method` then says why.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.3f} (n={self.n}; {self.method})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: NaN becomes None."""
        row = asdict(self)
        return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}


def cluster_codes(labels: Sequence[Hashable] | NDArray[Any]) -> NDArray[np.int64]:
    """Cluster labels of any hashable kind as integers 0..C-1, shape (N,), in order of first appearance."""
    codes: dict[Hashable, int] = {}
    return np.array([codes.setdefault(label, len(codes)) for label in labels], dtype=np.int64)


def resample_weights(n_clusters: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """How often each cluster is drawn in each bootstrap resample, shape (R, C); each row sums to C."""
    if n_clusters == 0:
        return np.zeros((n_resamples, 0), dtype=np.int32)
    return rng.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=n_resamples).astype(np.int32)


def clustered_mean(
    values_N: ArrayLike,
    clusters_N: Sequence[Hashable] | NDArray[Any],
    *,
    rng: np.random.Generator,
    weights_N: ArrayLike | None = None,
    n_resamples: int = 2000,
) -> Estimate:
    """Mean of `values_N` with a 95 % percentile interval from resampling whole clusters (prompts).

    With one cluster no interval exists and the estimate says so.
    """
    values_N = np.asarray(values_N, dtype=np.float64)
    if len(values_N) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "no observations")
    weights_N = np.ones_like(values_N) if weights_N is None else np.asarray(weights_N, dtype=np.float64)
    codes_N = cluster_codes(clusters_N)
    n_clusters = int(codes_N.max()) + 1
    sums_C = np.asarray(np.bincount(codes_N, values_N * weights_N, n_clusters), dtype=np.float64)
    mass_C = np.asarray(np.bincount(codes_N, weights_N, n_clusters), dtype=np.float64)
    value = float(sums_C.sum() / mass_C.sum())
    if n_clusters < 2:
        return Estimate(value, float("nan"), float("nan"), len(values_N), "no interval: one prompt only")
    draws_R = _ratio_draws(sums_C, mass_C, n_resamples, rng)
    low, high = np.quantile(draws_R, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(values_N), f"bootstrap over {n_clusters} prompts")


def _ratio_draws(sums_C: Floats, mass_C: Floats, n_resamples: int, rng: np.random.Generator) -> Floats:
    """Bootstrap draws of sum(sums) / sum(mass), in slabs so that R x C stays small in memory."""
    draws = []
    slab = max(1, min(n_resamples, 20_000_000 // max(1, len(sums_C))))
    for start in range(0, n_resamples, slab):
        counts = resample_weights(len(sums_C), min(slab, n_resamples - start), rng)
        mass = counts @ mass_C
        draws.append((counts @ sums_C)[mass > 0] / mass[mass > 0])
    return np.concatenate(draws)


def clustered_statistic(
    statistic: Callable[[NDArray[np.int64]], float],
    clusters_N: Sequence[Hashable] | NDArray[Any],
    *,
    rng: np.random.Generator,
    n_resamples: int = 500,
) -> Estimate:
    """Any statistic of row indices, with a 95 % percentile interval from resampling whole clusters.

    `statistic` receives row indices (with repeats) and returns a number; draws that are NaN are left out.
    """
    codes_N = cluster_codes(clusters_N)
    rows_N = np.arange(len(codes_N))
    if len(codes_N) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "no observations")
    value = float(statistic(rows_N))
    n_clusters = int(codes_N.max()) + 1
    if n_clusters < 2:
        return Estimate(value, float("nan"), float("nan"), len(codes_N), "no interval: one prompt only")
    order = np.argsort(codes_N, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(codes_N, minlength=n_clusters))])
    draws = []
    for _ in range(n_resamples):
        picked = rng.integers(0, n_clusters, n_clusters)
        draws.append(float(statistic(np.concatenate([order[bounds[c] : bounds[c + 1]] for c in picked]))))
    draws = [draw for draw in draws if not np.isnan(draw)]
    if len(draws) < n_resamples // 2:
        return Estimate(value, float("nan"), float("nan"), len(codes_N), "no interval: undefined in most resamples")
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(codes_N), f"bootstrap over {n_clusters} prompts")
