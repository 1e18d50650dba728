"""PPE's human metrics that rank language models: does the scorer order the models as people do? (Frick et al. 2024, section 4)

Every pair shows replies of two named models. People and scorer each give the models Bradley-Terry strengths from the same pairs, and the
two rankings are compared: Spearman, Kendall's tau-b, and Pearson's correlation of the rows of the two win-rate matrices, averaged over
models. Three more follow Li et al. 2024 ("Arena-Hard", section 3), whom they cite: *separability*, the share of model pairs whose 95 %
intervals by the scorer do not overlap; *confidence agreement*, over the model pairs that people separate: 1 where the scorer separates
them the same way, -1 the other way round, 0 where it does not; and the *Brier score* of the scorer's chance that one model is above the
other, against people's order.

The authors' code was not at hand. Where the papers leave it open: a tie counts half a win each; strengths have PRIOR wins each way between
every two models, so that an undefeated one has a strength; intervals resample prompts.

Legend: N pairs, M models, R draws, C prompts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from preferent.audits.benchmarks.result import Bootstrap
from preferent.audits.resample import NAN, interval, no_estimate
from preferent.core.estimates import Estimate, cluster_codes, resample_weights
from preferent.core.records import Floats

PRIOR = 0.1
STEPS = 300
MOST_DRAWS = 500
LEAST_MODELS = 3
NAMES = ("Spearman", "Kendall", "row-wise Pearson", "separability", "confidence agreement", "Brier score")


@dataclass(frozen=True, slots=True)
class ModelPairs:
    """a_N, b_N: which of `names` wrote the first and the second reply. people_N, scorer_N: 1 where the first is preferred, 0 where the
    second is, 1/2 for a tie."""

    names: Sequence[str]
    a_N: NDArray[np.int64]
    b_N: NDArray[np.int64]
    people_N: Floats
    scorer_N: Floats
    prompts: Sequence[Hashable]


def ranking_metrics(pairs: ModelPairs, boot: Bootstrap) -> dict[str, Estimate]:
    """NAMES as numbers. The first three have 95 % intervals over prompts; the others are made of such intervals and have none."""
    n, n_models = len(pairs.a_N), len(pairs.names)
    if n_models < LEAST_MODELS:
        return {name: no_estimate(f"{n_models} models; a ranking needs {LEAST_MODELS}", n) for name in NAMES}
    codes_N = cluster_codes(list(pairs.prompts))
    n_prompts = int(codes_N.max()) + 1
    weights_RC = resample_weights(n_prompts, min(boot.n_resamples, MOST_DRAWS), boot.rng)
    wins = [_wins(pairs, said_N, codes_N, np.vstack([np.ones((1, n_prompts), dtype=np.int32), weights_RC])) for said_N in
            (pairs.people_N, pairs.scorer_N)]  # fmt: skip
    (people_M, people_RM), (scorer_M, scorer_RM) = ((rows[0], rows[1:]) for rows in map(strengths, wins))
    found = {}
    for name, compare in (("Spearman", _spearman), ("Kendall", _kendall)):
        draws_R = np.array([compare(one, other) for one, other in zip(people_RM, scorer_RM, strict=True)])
        found[name] = interval(compare(people_M, scorer_M), draws_R, n, n_prompts)
    rows_R = np.array([_rows(one, other) for one, other in zip(*wins, strict=True)])
    found["row-wise Pearson"] = interval(float(rows_R[0]), rows_R[1:], n, n_prompts)
    values = (*_separated(people_RM, scorer_RM), _brier(people_M, scorer_RM))
    none = "made of intervals, and has none"
    return found | {name: Estimate(value, NAN, NAN, n, none) for name, value in zip(NAMES[3:], values, strict=True)}


def _wins(pairs: ModelPairs, said_N: Floats, codes_N: NDArray[np.int64], weights_RC: NDArray[np.int32]) -> Floats:
    """Wins of the row's model over the column's, shape (R, M, M), with each prompt counted by its weight."""
    m = len(pairs.names)
    places = np.concatenate([pairs.a_N * m + pairs.b_N, pairs.b_N * m + pairs.a_N])
    said = np.concatenate([said_N, 1.0 - said_N])
    by_prompt = sparse.csr_array((said, (np.concatenate([codes_N, codes_N]), places)), shape=(weights_RC.shape[1], m * m))
    return np.asarray(by_prompt.T @ weights_RC.T.astype(np.float64)).T.reshape(-1, m, m)


def strengths(wins_RMM: Floats) -> Floats:
    """Bradley-Terry log strengths, shape (R, M), mean 0, by Hunter's (2004) minorisation; PRIOR wins each way between every two."""
    m = wins_RMM.shape[1]
    wins_RMM = wins_RMM + PRIOR * (1.0 - np.eye(m))
    met_RMM, won_RM = wins_RMM + wins_RMM.transpose(0, 2, 1), wins_RMM.sum(axis=2)
    worth_RM = np.ones_like(won_RM)
    for _ in range(STEPS):
        before_RM = worth_RM
        worth_RM = won_RM / (met_RMM / (worth_RM[:, :, None] + worth_RM[:, None, :])).sum(axis=2)
        worth_RM /= np.exp(np.log(worth_RM).mean(axis=1, keepdims=True))
        if np.abs(np.log(worth_RM / before_RM)).max() < 1e-9:
            break
    return np.log(worth_RM)


def _spearman(one_M: Floats, other_M: Floats) -> float:
    if np.ptp(one_M) == 0 or np.ptp(other_M) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(one_M), stats.rankdata(other_M))[0, 1])


def _kendall(one_M: Floats, other_M: Floats) -> float:
    """Tau-b; 0 where one of the two has no order at all."""
    first, second = np.triu_indices(len(one_M), 1)
    orders = [np.sign(values_M[first] - values_M[second]) for values_M in (one_M, other_M)]
    told = float(np.sqrt(np.prod([np.count_nonzero(order) for order in orders])))
    return float((orders[0] * orders[1]).sum()) / told if told else 0.0


def _rows(people_MM: Floats, scorer_MM: Floats) -> float:
    """Mean over models of the correlation between their two rows of win rates, over the others they met; rows without spread count 0."""
    met_MM = people_MM + people_MM.T
    found = []
    for row in range(len(met_MM)):
        seen = met_MM[row] > 0
        if seen.sum() >= LEAST_MODELS - 1:
            rates = [wins_MM[row, seen] / met_MM[row, seen] for wins_MM in (people_MM, scorer_MM)]
            found.append(float(np.corrcoef(*rates)[0, 1]) if min(map(np.ptp, rates)) > 0 else 0.0)
    return float(np.mean(found)) if found else float("nan")


def _separated(people_RM: Floats, scorer_RM: Floats) -> tuple[float, float]:
    """(separability of the scorer, confidence agreement)."""
    orders = [_order(draws_RM) for draws_RM in (people_RM, scorer_RM)]
    sure = orders[0] != 0
    return float(np.mean(orders[1] != 0)), float(np.mean((orders[0] * orders[1])[sure])) if sure.any() else float("nan")


def _order(draws_RM: Floats) -> NDArray[np.int64]:
    """For every two models 1 where the interval of the first is above that of the second, -1 where it is below, 0 where they overlap."""
    low_M, high_M = np.quantile(draws_RM, [0.025, 0.975], axis=0)
    first, second = np.triu_indices(draws_RM.shape[1], 1)
    return (low_M[first] > high_M[second]).astype(np.int64) - (high_M[first] < low_M[second]).astype(np.int64)


def _brier(people_M: Floats, scorer_RM: Floats) -> float:
    """Mean squared error of the scorer's chance that the first of two models is the better, against people's order."""
    first, second = np.triu_indices(len(people_M), 1)
    gap_RP = np.sign(scorer_RM[:, first] - scorer_RM[:, second])
    chance_P, truth_P = ((gap_RP + 1) / 2).mean(axis=0), (np.sign(people_M[first] - people_M[second]) + 1) / 2
    return float(np.mean((chance_P - truth_P) ** 2))
