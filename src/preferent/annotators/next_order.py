"""A batch of pairs for getting the order right: each vote is valued by what it teaches about all pairs whose order is in doubt.

With posterior covariance S of the scores, a vote on pair q (direction c = e_i - e_j) of information w lowers the variance of the gap
of pair r by w (c' S c_r)^2 / (1 + w c' S c). Summed over pairs with weights phi(mean_r / sd_r), large where the sign is open, this is

    value_q = w / (1 + w c' S c) * c' S L S c,    L = sum over r of phi(mean_r / sd_r) c_r c_r'

(a weighted V-optimal design). The batch is greedy: after each choice S is what it will be once that vote is in, so near-duplicates
lose their value by themselves.

Legend: Q candidate pairs, J items that occur in them, B batch.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from preferent.annotators.graph import Ints
from preferent.core.records import Floats


def order_batch(ends_Q2: Ints, mean_Q: Floats, covariance_JJ: Floats, n: int, *, alike_Q: Ints | None = None) -> tuple[Ints, Floats]:
    """The n most valuable of the candidates (n <= Q) in the order of choice, and what each candidate is worth before any is chosen, shape
    (Q,), in squared logits. Of equals the first is taken.

    ends_Q2: the two ends of each candidate as rows of the covariance. alike_Q: candidates of one code ask the same question, of which
    one at most is taken (n codes at least); all differ if left out. O(J^3) once, then O(J^2 + Q) for each choice.
    """
    i_Q, j_Q = ends_Q2[:, 0], ends_Q2[:, 1]
    covariance = covariance_JJ.copy()
    spread_Q = _between(covariance, i_Q, j_Q)
    doubt_Q = np.exp(-0.5 * mean_Q**2 / spread_Q)
    laplacian = np.zeros_like(covariance)
    np.add.at(laplacian, (i_Q, j_Q), -doubt_Q)
    laplacian += laplacian.T
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    reach = covariance @ laplacian @ covariance
    alike_Q = np.arange(len(mean_Q)) if alike_Q is None else alike_Q
    chosen, taken_Q = np.zeros(n, dtype=np.int64), np.zeros(len(mean_Q), dtype=bool)
    share_Q = _share(mean_Q, spread_Q)
    first_Q = value_Q = share_Q * _between(reach, i_Q, j_Q)
    for step in range(n):
        value_Q = np.where(taken_Q, -np.inf, value_Q)
        chosen[step] = q = int(np.argmax(value_Q))
        taken_Q |= alike_Q == alike_Q[q]
        shift = covariance[:, i_Q[q]] - covariance[:, j_Q[q]]
        carried = laplacian @ shift
        pull, share = covariance @ carried, share_Q[q]
        reach += share**2 * float(shift @ carried) * np.outer(shift, shift) - share * (np.outer(shift, pull) + np.outer(pull, shift))
        covariance -= share * np.outer(shift, shift)
        share_Q = _share(mean_Q, _between(covariance, i_Q, j_Q))
        value_Q = share_Q * _between(reach, i_Q, j_Q)
    return chosen, first_Q


def _share(mean_Q: Floats, spread_Q: Floats) -> Floats:
    """w / (1 + w s^2), w = p (1 - p) at the posterior chance of a vote for one side (MacKay's approximation to its mean)."""
    p_Q = expit(mean_Q / np.sqrt(1.0 + np.pi / 8.0 * spread_Q))
    weight_Q = p_Q * (1.0 - p_Q)
    return weight_Q / (1.0 + weight_Q * spread_Q)


def _between(matrix_JJ: Floats, i_Q: Ints, j_Q: Ints) -> Floats:
    """c' M c for each pair."""
    diagonal = np.diagonal(matrix_JJ)
    return np.maximum(diagonal[i_Q] + diagonal[j_Q] - 2.0 * matrix_JJ[i_Q, j_Q], 1e-12)
