"""Rankings judged as rankings: Spearman within each, and whether the highest reward is on a best response.

Legend: K responses, M rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preferent.audits.resample import Column, spearman
from preferent.core.records import Floats, Ranking


@dataclass(frozen=True, slots=True)
class RankingColumns:
    """Per-ranking numbers as bootstrap columns of shape (M,), and how many rankings were left out because all their ranks are equal."""

    columns: dict[str, Column]
    n_flat: int


def rank_agreement(reward_K: Floats, ranks_K: Floats) -> float:
    """Spearman between rewards and ranks with 1 = the labels' order; NaN where all ranks are equal, 0 where all rewards are equal."""
    if np.ptp(ranks_K) == 0:
        return float("nan")
    return 0.0 if np.ptp(reward_K) == 0 else spearman(reward_K, -ranks_K)


def top_1(reward_K: Floats, ranks_K: Floats) -> float:
    """Share of the highest-reward responses that carry the best rank; NaN where all ranks are equal."""
    if np.ptp(ranks_K) == 0:
        return float("nan")
    return float(np.mean(ranks_K[reward_K == reward_K.max()] == ranks_K.min()))


def ranking_columns(rewards: Sequence[Floats], rankings: Sequence[Ranking]) -> RankingColumns:
    """`rewards[m]`: shape (K_m,), the rewards of ranking m's responses in their order."""
    ranks = [np.asarray(ranking.ranks, dtype=np.float64) for ranking in rankings]
    weights_M = np.array([ranking.weight for ranking in rankings])
    agreement_M = np.array([rank_agreement(reward_K, ranks_K) for reward_K, ranks_K in zip(rewards, ranks, strict=True)])
    top_M = np.array([top_1(reward_K, ranks_K) for reward_K, ranks_K in zip(rewards, ranks, strict=True)])
    columns = {"spearman": Column.of(agreement_M, weights_M), "top_1": Column.of(top_M, weights_M, share=True)}
    return RankingColumns(columns, int(np.count_nonzero(np.isnan(agreement_M))))
