"""Best-of-n over solutions with a checkable answer: each aggregation beside majority vote, weighted vote, a random pick and the oracle.

Legend: P problems, M solutions per problem (the pool), B subsets of n solutions drawn per problem, K values of n.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preferent.audits.resample import Column, clustered_means
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

ORACLE, MAJORITY, RANDOM = "oracle", "majority vote", "random"
VOTE = "vote weighted by {}"


def best_of_n_table(
    rewards: Mapping[str, ArrayLike],
    right_PM: ArrayLike,
    answers: Sequence[Sequence[Hashable]],
    ns: Sequence[int],
    *,
    rng: np.random.Generator,
    n_subsets: int = 64,
) -> dict[str, list[Estimate]]:
    """Share of problems solved when one of n solutions is picked by each rule, one estimate for each of `ns`, intervals over problems.

    rewards: rule -> rewards of shape (P, M), higher is better; right_PM: 1 where the answer is right; answers: the stated answers, None
    where a solution states none (it casts no vote). For n < M, `n_subsets` subsets of each pool are drawn, the same ones for every rule,
    so that rules can be compared at the same n; n = M is the pool itself. Ties are shared evenly among those tied.

    Rows: each rule, "vote weighted by <rule>" (an answer's votes are its rewards, for rewards >= 0), "majority vote", "random" and "oracle"
    (solved where any of the n is right). Raises ConfigError when shapes differ or an n is not in 1..M.
    """
    right_PM = np.asarray(right_PM, dtype=np.float64)
    reward_of = {name: np.asarray(reward_PM, dtype=np.float64) for name, reward_PM in rewards.items()}
    _check(right_PM, reward_of, answers, ns)
    code_PM = _codes(answers)
    found: dict[str, list[Estimate]] = {}
    seed = int(rng.integers(2**63))
    for n in ns:
        columns = _solved(reward_of, right_PM, code_PM, _subsets(right_PM.shape, n, n_subsets, rng))
        for name, solved_P in columns.items():
            column = {name: Column.of(solved_P, np.ones_like(solved_P), share=True)}
            estimates = clustered_means(column, np.arange(len(solved_P)), rng=np.random.default_rng(seed))
            found.setdefault(name, []).append(estimates[name])
    return found


def _subsets(shape: tuple[int, ...], n: int, n_subsets: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places in the pool, shape (P, B, n), without repeats within a subset."""
    n_problems, pool = shape
    if n == pool:
        return np.broadcast_to(np.arange(pool), (n_problems, 1, pool))
    return rng.random((n_problems, n_subsets, pool)).argsort(axis=2)[:, :, :n]


def _solved(
    reward_of: Mapping[str, Floats], right_PM: Floats, code_PM: NDArray[np.int64], subset_PBn: NDArray[np.int64]
) -> dict[str, Floats]:
    """Per rule the chance that each problem is solved, shape (P,)."""
    rows = np.arange(len(right_PM))[:, None, None]
    right_PBn, code_PBn = right_PM[rows, subset_PBn], code_PM[rows, subset_PBn]
    columns: dict[str, Floats] = {}
    for name, reward_PM in reward_of.items():
        reward_PBn = reward_PM[rows, subset_PBn]
        columns[name] = _mean_of_best(reward_PBn, right_PBn)
        if (reward_PM >= 0).all():
            columns[VOTE.format(name)] = _voted(reward_PBn, right_PBn, code_PBn)
    columns[MAJORITY] = _voted(np.ones_like(right_PBn), right_PBn, code_PBn)
    columns[RANDOM] = right_PBn.mean(axis=(1, 2))
    columns[ORACLE] = right_PBn.max(axis=2).mean(axis=1)
    return columns


def _mean_of_best(reward_PBn: Floats, right_PBn: Floats) -> Floats:
    best_PBn = reward_PBn == reward_PBn.max(axis=2, keepdims=True)
    return ((right_PBn * best_PBn).sum(axis=2) / best_PBn.sum(axis=2)).mean(axis=1)


def _voted(weight_PBn: Floats, right_PBn: Floats, code_PBn: NDArray[np.int64]) -> Floats:
    """Each solution counts with all votes for its answer; the best answers share evenly, whatever the number of solutions with them. Where
    nobody states an answer, any solution."""
    same = (code_PBn[..., :, None] == code_PBn[..., None, :]) & (code_PBn[..., :, None] >= 0)
    votes_PBn = (same * weight_PBn[..., None, :]).sum(axis=3)
    # Rounded, so that sums of the same rewards in another order tie.
    votes_PBn = np.round(np.where(code_PBn >= 0, votes_PBn, -1.0), 12)
    size_PBn = np.where(code_PBn >= 0, same.sum(axis=3), 1)
    best_PBn = (votes_PBn == votes_PBn.max(axis=2, keepdims=True)) / size_PBn
    return ((right_PBn * best_PBn).sum(axis=2) / best_PBn.sum(axis=2)).mean(axis=1)


def _codes(answers: Sequence[Sequence[Hashable]]) -> NDArray[np.int64]:
    """Answers as numbers, -1 for none."""
    codes: dict[Any, int] = {}
    return np.array([[-1 if answer is None else codes.setdefault(answer, len(codes)) for answer in row] for row in answers], dtype=np.int64)


def _check(right_PM: Floats, reward_of: Mapping[str, Floats], answers: Sequence[Sequence[Hashable]], ns: Sequence[int]) -> None:
    if right_PM.ndim != 2 or 0 in right_PM.shape:
        raise ConfigError(f"best-of-n: outcomes of shape {right_PM.shape}; needed are (problems, solutions)")
    for name, reward_PM in reward_of.items():
        if reward_PM.shape != right_PM.shape or not np.isfinite(reward_PM).all():
            raise ConfigError(f"best-of-n: rewards of {name!r} have shape {reward_PM.shape}; needed are finite numbers of {right_PM.shape}")
    if len(answers) != len(right_PM) or any(len(row) != right_PM.shape[1] for row in answers):
        raise ConfigError(f"best-of-n: needs one answer for each of {right_PM.shape} solutions")
    for n in ns:
        if not 1 <= n <= right_PM.shape[1]:
            raise ConfigError(f"best-of-n: n={n!r}, allowed are 1 to {right_PM.shape[1]} (the solutions per problem)")
