"""From posteriors that decide well to probabilities that are honest.

The posterior of a label model multiplies the votes of an item as if they were independent given its label. They are not: hard items
mislead many annotators at once, so with real votes such posteriors are far too sure (a mean log loss of 1.1 to 1.6 on public sets where
the share of the vote has .9). Two remedies, both used by `choose`:

- tempering: n votes that share a part `rho` of their errors are worth n / (1 + (n - 1) rho) independent ones (Kish's design effect), so
  the evidence is taken to the power 1 / (1 + (n - 1) rho). Votes left out show a part of rho; another part, errors that the whole
  crowd shares against the truth, no vote can show, and is a stated prior (`UNSEEN`);
- the share of the vote: the more votes an item has, the less a model has to add to it.

Legend: V votes, I items, A annotators, K labels of an item, L labels voted, M methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.em import Cells, Fit, normalised
from preferent.annotators.table import VoteTable
from preferent.core.records import Floats

Votes = NDArray[Any]  # numbers of votes, whole or effective
# UNSEEN, HALF_SHARE and TRIED were picked by looking at the gold of four public crowd sets (some sixty settings, the last of them a grid of
# 25 of which 3 beat crowd-kit's best log loss on all four) and at simulated crowds. What they give on those sets is therefore in-sample.
# Neighbours decide alike (accuracy within .004) and differ by about .005 in log loss per .01 of UNSEEN.
UNSEEN = 0.02
TRIED = (0.0, 0.03, 0.1, 0.3)
HALF_SHARE = 40.0
SMOOTHING = 1.0
PRIOR_VOTES = 10.0


def design_power(votes_I: Votes, rho: float) -> Floats:
    """The power 1 / (1 + (n - 1) rho) that makes n votes with shared errors worth their effective number."""
    return 1.0 / (1.0 + np.maximum(np.asarray(votes_I, dtype=np.float64) - 1.0, 0.0) * rho)


def temper(p_IL: Floats, votes_I: Votes, rho: float, base_L: Floats) -> Floats:
    """`p_IL` drawn towards `base_L`: p^b base^(1 - b), normalised, b from `design_power`. rho = 0 changes nothing."""
    power_I1 = design_power(votes_I, rho)[:, None]
    log_p = power_I1 * np.log(np.maximum(p_IL, 1e-300)) + (1.0 - power_I1) * np.log(base_L)
    log_p -= log_p.max(axis=1, keepdims=True)
    return normalised(np.exp(log_p))


def base_of(table: VoteTable) -> Floats:
    """What an item without evidence is tempered towards: the shares of all votes, flattened (square root), one vote per label added."""
    return normalised(np.sqrt(normalised(table.counts_IL.sum(axis=0) + 1.0)))


def smoothed_shares(counts: Floats, marginal_L: Floats) -> Floats:
    """Shares of counts with one more vote that is spread like all votes."""
    return normalised(counts + SMOOTHING * marginal_L)


def share_weight(votes_I: Votes) -> Floats:
    """How much of the answer is the share of the vote: n / (n + 40)."""
    return np.asarray(votes_I / (votes_I + HALF_SHARE), dtype=np.float64)


def left_out_posterior(cells: Cells, table: VoteTable, fit: Fit, rows_V: np.ndarray) -> Floats:
    """Posterior of each vote's item without its annotator's votes on it, shape (rows, K): her factors divided out."""
    own_VL, _ = table.own_weight(rows_V)
    log_theta_VK = np.zeros((len(rows_V), cells.n_labels))
    for label in range(cells.n_labels):
        has = own_VL[:, label] > 0
        log_theta_VK[has] += own_VL[has, label, None] * np.log(fit.parameters.theta_AKL[table.annotator_V[rows_V[has]], :, label])
    log_p = np.log(fit.parameters.pi_K) + fit.score_IK[table.item_V[rows_V]] - log_theta_VK
    log_p -= log_p.max(axis=1, keepdims=True)
    return normalised(np.exp(log_p))


def left_out_shares(table: VoteTable, rows_V: np.ndarray) -> Floats:
    """Smoothed share of the others' votes on each vote's item, shape (rows, L)."""
    counts = np.maximum(table.counts_IL[table.item_V[rows_V]] - table.own_weight(rows_V)[0], 0.0)
    return smoothed_shares(counts, normalised(table.counts_IL.sum(axis=0)))


def vote_likelihood(cells: Cells, table: VoteTable, p_IK: Floats, left_VK: Floats, rows_V: np.ndarray) -> Floats:
    """Log chance of each left-out vote, shape (rows,): how well labels made without a vote predict it.

    The same reading for every method: the item's left-out label, seen through a confusion of the vote's annotator that is estimated
    from her other votes under the method's labels, shrunk by 10 votes to the crowd's.
    """
    counts_AKL = cells.counts(p_IK)
    pooled_KL = normalised(counts_AKL.sum(axis=0) + 0.01)
    annotator_V, label_V, own_VK = table.annotator_V[rows_V], table.label_V[rows_V], p_IK[table.item_V[rows_V]]
    if cells.informative_I is not None:
        own_VK = own_VK * cells.informative_I[table.item_V[rows_V], None]
    own_VL, same_V = table.own_weight(rows_V)
    mine_VK = np.maximum(counts_AKL[annotator_V, :, label_V] - own_VK * same_V[:, None], 0.0)
    all_VK = np.maximum(counts_AKL.sum(axis=2)[annotator_V] - own_VK * own_VL.sum(axis=1)[:, None], 0.0)
    theta_VK = (mine_VK + PRIOR_VOTES * pooled_KL[:, label_V].T) / (all_VK + PRIOR_VOTES)
    return np.log(np.maximum((left_VK * theta_VK).sum(axis=1), 1e-12))


def stack_weights(likelihood_MV: Floats, *, rounds: int = 20) -> Floats:
    """Weights of M methods whose mixture predicts the left-out votes best, pulled half way to equal weights; shape (M,), sum 1.

    EM for the mixture of their predictions, as in stacking (Yao et al. 2018), with as many pseudo-votes as there are votes.
    """
    chance_MV = np.exp(likelihood_MV - likelihood_MV.max(axis=0))
    weight_M = np.full(len(chance_MV), 1.0 / len(chance_MV))
    for _ in range(rounds):
        share_MV = weight_M[:, None] * chance_MV
        found_M = (share_MV / share_MV.sum(axis=0)).mean(axis=1)
        weight_M = 0.5 * found_M + 0.5 / len(chance_MV)
    return weight_M
