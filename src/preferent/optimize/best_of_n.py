"""Best-of-n: what choosing the best of n responses by one reward gains in another, from one pool of N > n responses per prompt.

The mean over all C(N, n) subsets of the pool, without drawing any (Nakano et al. 2021, WebGPT, appendix I; Coste et al. 2023,
appendix B): with responses sorted by the proxy, ascending, the i-th is the best of a subset in C(i-1, n-1) of C(N, n) cases. This is
unbiased for n fresh draws from whatever made the pool. Responses that the proxy cannot tell apart share their cases equally, as
breaking ties at random would.

Legend: P prompts, N responses per prompt, K values of n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.records import Floats


@dataclass(frozen=True, slots=True)
class BestOfN:
    """One point of the curve: mean proxy and gold reward of the response chosen by the proxy among n, with 95 % intervals over prompts.

    kl_bound: log n - (n - 1) / n nats, the divergence of best-of-n from the policy that made the pool; exact where ties have no
    chance, an upper bound otherwise (Beirami et al. 2024, theorem 1).
    """

    n: int
    proxy: Estimate
    gold: Estimate
    kl_bound: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"n": self.n, "proxy": self.proxy.to_dict(), "gold": self.gold.to_dict(), "kl_bound": self.kl_bound}


def best_of_n(
    proxy_PN: ArrayLike, gold_PN: ArrayLike, ns: Sequence[int], *, rng: np.random.Generator, n_resamples: int = 2000
) -> list[BestOfN]:
    """The curve of proxy and gold under best-of-n by the proxy, one point for each of `ns`, in that order.

    proxy_PN, gold_PN: shape (P, N), finite, higher is better. All points rest on the same bootstrap draws of prompts. Raises
    ConfigError when shapes differ, a reward is not finite, or an n is not in 1..N.
    """
    proxy_PN, gold_PN = _pool(proxy_PN, gold_PN)
    proxy_PK, gold_PK = expected_best(proxy_PN, proxy_PN, ns), expected_best(proxy_PN, gold_PN, ns)
    seed = int(rng.integers(2**63))

    def mean(values_P: Floats) -> Estimate:
        return clustered_mean(values_P, np.arange(len(values_P)), rng=np.random.default_rng(seed), n_resamples=n_resamples)

    return [BestOfN(int(n), mean(proxy_PK[:, k]), mean(gold_PK[:, k]), kl_bound(int(n))) for k, n in enumerate(ns)]


def gold_change(
    proxy_PN: ArrayLike, gold_PN: ArrayLike, n_from: int, n_to: int, *, rng: np.random.Generator, n_resamples: int = 2000
) -> Estimate:
    """How much gold reward changes from best-of-`n_from` to best-of-`n_to`, paired by prompt; below zero is over-optimisation.

    Choose both n before looking at the curve: from a peak picked by eye the fall looks a little deeper than it is.
    """
    proxy_PN, gold_PN = _pool(proxy_PN, gold_PN)
    gold_P2 = expected_best(proxy_PN, gold_PN, (n_from, n_to))
    return clustered_mean(gold_P2[:, 1] - gold_P2[:, 0], np.arange(len(gold_P2)), rng=rng, n_resamples=n_resamples)


def expected_best(proxy_PN: ArrayLike, value_PN: ArrayLike, ns: Sequence[int]) -> Floats:
    """Mean value of the response with the highest proxy over all subsets of n, for each prompt and n, shape (P, K).

    Raises as `best_of_n`.
    """
    proxy_PN, value_PN = _pool(proxy_PN, value_PN)
    n_pool = proxy_PN.shape[1]
    weights_NK = np.stack([best_weights(n_pool, n) for n in ns], axis=1) if len(ns) else np.zeros((n_pool, 0))
    rows = [_tie_mean(proxy_N, value_N) for proxy_N, value_N in zip(proxy_PN, value_PN, strict=True)]
    return np.stack(rows) @ weights_NK


def best_weights(n_pool: int, n: int) -> Floats:
    """Chance that the i-th of `n_pool` responses in ascending order is the best of n drawn without replacement, shape (N,), sum 1.

    C(i, n) / C(N, n) is built downwards from 1 by factors (i - n) / i, so no large number ever occurs: rounding stays near N times
    the machine's epsilon for any N.
    """
    if not (isinstance(n, int | np.integer) and 1 <= n <= n_pool):
        raise ConfigError(f"best-of-n: n={n!r}, allowed are whole numbers from 1 to {n_pool} (the responses per prompt)")
    i_N = np.arange(n_pool, 0, -1, dtype=np.float64)
    within_N = np.concatenate([[1.0], np.cumprod(np.maximum(i_N - n, 0.0) / i_N)[:-1]])  # all n among the lowest i
    return (within_N * n / i_N)[::-1]


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n, in nats."""
    return float(np.log(n) - (n - 1) / n)


def _tie_mean(proxy_N: Floats, value_N: Floats) -> Floats:
    """Values in ascending order of the proxy, each replaced by the mean of those with the same proxy."""
    order_N = np.argsort(proxy_N, kind="stable")
    _, group_N, size_G = np.unique(proxy_N, return_inverse=True, return_counts=True)
    mean_G = np.bincount(group_N, value_N) / size_G
    return mean_G[group_N][order_N]


def _pool(proxy_PN: ArrayLike, value_PN: ArrayLike) -> tuple[Floats, Floats]:
    proxy_PN, value_PN = np.asarray(proxy_PN, dtype=np.float64), np.asarray(value_PN, dtype=np.float64)
    if proxy_PN.ndim != 2 or proxy_PN.shape != value_PN.shape or 0 in proxy_PN.shape:
        raise ConfigError(f"best-of-n: needs two arrays of one shape (prompts, responses), got {proxy_PN.shape} and {value_PN.shape}")
    for name, array in (("proxy", proxy_PN), ("gold", value_PN)):
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ConfigError(f"best-of-n: {name} reward at (prompt, response) {where} is {array[where]!r}; allowed are finite numbers")
    return proxy_PN, value_PN
