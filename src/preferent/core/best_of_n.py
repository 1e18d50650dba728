"""Best-of-n as mathematics: what the best of n by one reward is worth in another, and how far it is from the policy it chose from.

Several rooms need these few functions: `optimize` for curves with intervals, `lab` and `audits` for what they measure.

Legend: P prompts, N responses per prompt, K values of n, I outcomes of a discrete policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.errors import ConfigError
from preferent.core.records import Floats


def expected_best(proxy_PN: ArrayLike, value_PN: ArrayLike, ns: Sequence[int]) -> Floats:
    """Mean value of the response with the highest proxy over all C(N, n) subsets of n, for each prompt and n, shape (P, K).

    Unbiased for n fresh draws from whatever made the pool (Nakano et al. 2021, appendix I; Coste et al. 2023, appendix B). Responses
    that the proxy cannot tell apart share their cases equally, as breaking ties at random would. Raises ConfigError when shapes
    differ, a number is not finite, or an n is not in 1..N.
    """
    proxy_PN, value_PN = check_pool(proxy_PN, value_PN)
    n_pool = proxy_PN.shape[1]
    weights_NK = np.stack([best_weights(n_pool, n) for n in ns], axis=1) if len(ns) else np.zeros((n_pool, 0))
    rows = [_tie_mean(proxy_N, value_N) for proxy_N, value_N in zip(proxy_PN, value_PN, strict=True)]
    return np.stack(rows) @ weights_NK


def block_best(proxy_PN: ArrayLike, value_PN: ArrayLike, n: int) -> Floats:
    """The plain estimator of the same: cut the pool into disjoint blocks of n, take each block's best, average. Shape (P,).

    Unbiased too, with a larger variance; it is here to be compared with. What is left over at the end is not used; the first of
    equals wins. Raises as `expected_best`.
    """
    proxy_PN, value_PN = check_pool(proxy_PN, value_PN)
    n_prompts, n_pool = proxy_PN.shape
    _check_n(n, n_pool)
    blocks = n_pool // n
    proxy_PBn, value_PBn = (array[:, : blocks * n].reshape(n_prompts, blocks, n) for array in (proxy_PN, value_PN))
    return np.take_along_axis(value_PBn, proxy_PBn.argmax(axis=2)[..., None], axis=2)[..., 0].mean(axis=1)


def best_weights(n_pool: int, n: int) -> Floats:
    """Chance that the i-th of `n_pool` responses in ascending order is the best of n drawn without replacement, shape (N,), sum 1.

    C(i, n) / C(N, n) is built downwards from 1 by factors (i - n) / i, so no large number ever occurs: rounding stays near N times
    the machine's epsilon for any N.
    """
    _check_n(n, n_pool)
    i_N = np.arange(n_pool, 0, -1, dtype=np.float64)
    within_N = np.concatenate([[1.0], np.cumprod(np.maximum(i_N - n, 0.0) / i_N)[:-1]])  # all n among the lowest i
    return (within_N * n / i_N)[::-1]


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n, in nats: the divergence of best-of-n from its policy where ties have no chance, else an upper bound."""
    return float(np.log(n) - (n - 1) / n)


def exact_kl(proxy_I: ArrayLike, n: int, p_I: ArrayLike | None = None) -> float:
    """KL(best-of-n || policy) in nats for a policy with finitely many outcomes, exactly.

    proxy_I: the proxy of each outcome. p_I: its chance (need not be normalised), None: all alike, as for a pool of draws. Outcomes that
    the proxy cannot tell apart win in the proportion of their chances, so only groups G of equal proxy matter: with F the chance of
    a group or any below, Q_G = F_G^n - F_{G-1}^n, and KL = sum Q_G log(Q_G / P_G). It never exceeds `kl_bound`, nor -log of the top
    group's chance (Beirami et al. 2024, theorems 1 and 3). Raises ConfigError for no outcomes, chances below 0, and n < 1.
    """
    proxy_I = np.asarray(proxy_I, dtype=np.float64)
    p_I = np.ones_like(proxy_I) if p_I is None else np.asarray(p_I, dtype=np.float64)
    if proxy_I.ndim != 1 or len(proxy_I) == 0 or p_I.shape != proxy_I.shape or not np.isfinite(proxy_I).all():
        raise ConfigError(f"exact KL: needs finite rewards and chances of one shape (outcomes,), got {proxy_I.shape} and {p_I.shape}")
    if not (np.isfinite(p_I).all() and (p_I >= 0.0).all() and p_I.sum() > 0.0):
        raise ConfigError("exact KL: chances must be finite, >= 0 and not all 0")
    if n < 1:
        raise ConfigError(f"exact KL: n={n!r}, allowed are whole numbers >= 1")
    values_G, group_I = np.unique(proxy_I[p_I > 0.0], return_inverse=True)
    p_G = np.bincount(group_I, p_I[p_I > 0.0], len(values_G)) / p_I.sum()
    below_G = np.concatenate([[0.0], np.minimum(np.cumsum(p_G)[:-1], 1.0)])
    # F^n - F_^n = F^n (1 - (1 - P/F)^n), which keeps its digits where P is a small part of F.
    upto_G = below_G + p_G
    with np.errstate(divide="ignore"):
        q_G = np.exp(n * np.log(np.minimum(upto_G, 1.0))) * -np.expm1(n * np.log1p(-np.minimum(p_G / upto_G, 1.0)))
    seen = q_G > 0.0
    return float(max(0.0, q_G[seen] @ np.log(q_G[seen] / p_G[seen])))


def check_pool(proxy_PN: ArrayLike, value_PN: ArrayLike) -> tuple[Floats, Floats]:
    """Both as arrays of floats of one shape (P, N), finite. Raises ConfigError otherwise."""
    proxy_PN, value_PN = np.asarray(proxy_PN, dtype=np.float64), np.asarray(value_PN, dtype=np.float64)
    if proxy_PN.ndim != 2 or proxy_PN.shape != value_PN.shape or 0 in proxy_PN.shape:
        raise ConfigError(f"best-of-n: needs two arrays of one shape (prompts, responses), got {proxy_PN.shape} and {value_PN.shape}")
    for name, array in (("proxy", proxy_PN), ("gold", value_PN)):
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ConfigError(f"best-of-n: {name} reward at (prompt, response) {where} is {array[where]!r}; allowed are finite numbers")
    return proxy_PN, value_PN


def _check_n(n: int, n_pool: int) -> None:
    if not (isinstance(n, int | np.integer) and 1 <= n <= n_pool):
        raise ConfigError(f"best-of-n: n={n!r}, allowed are whole numbers from 1 to {n_pool} (the responses per prompt)")


def _tie_mean(proxy_N: Floats, value_N: Floats) -> Floats:
    """Values in ascending order of the proxy, each replaced by the mean of those with the same proxy."""
    order_N = np.argsort(proxy_N, kind="stable")
    _, group_N, size_G = np.unique(proxy_N, return_inverse=True, return_counts=True)
    mean_G = np.bincount(group_N, value_N) / size_G
    return mean_G[group_N][order_N]
