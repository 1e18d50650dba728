"""Best-of-n: what choosing the best of n responses by one reward gains in another, from one pool of N > n responses per prompt.

The mean over all C(N, n) subsets of the pool, without drawing any; the mathematics is in `core/best_of_n.py`, the intervals here.

Legend: P prompts, N responses per prompt, K values of n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.best_of_n import best_weights, check_pool, exact_kl, expected_best, kl_bound
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.records import Floats

__all__ = ["BestOfN", "best_of_n", "best_weights", "exact_kl", "expected_best", "gold_change", "kl_bound"]


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
    proxy_PN, gold_PN = check_pool(proxy_PN, gold_PN)
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
    gold_P2 = expected_best(proxy_PN, gold_PN, (n_from, n_to))
    return clustered_mean(gold_P2[:, 1] - gold_P2[:, 0], np.arange(len(gold_P2)), rng=rng, n_resamples=n_resamples)
