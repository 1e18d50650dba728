"""One expectation-maximisation for every model in which an item has a label and an annotator a confusion matrix.

The model (Dawid and Skene 1979): item i has label k with chance pi_k; annotator a then votes l with chance theta_akl; votes are
independent given the label. Methods differ only in their M-step, which maps expected counts to theta and pi. Each iteration is one
sparse product of the votes with log theta and one with the soft labels.

Legend: V votes, I items, A annotators, K labels of an item, L labels voted (K = L), C = A * L cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit, logit, polygamma

from preferent.annotators.convergence import Convergence, iterate
from preferent.annotators.labels import Z95
from preferent.annotators.table import VoteTable
from preferent.core.records import Floats


@dataclass(frozen=True, eq=False)
class Cells:
    """The votes as a sparse matrix items x (annotator, voted label). `informative_I` is None, or where an item has several votes."""

    votes_IC: Any
    n_annotators: int
    n_labels: int
    votes_I: NDArray[np.int64]
    informative_I: NDArray[np.bool_] | None

    @property
    def n_items(self) -> int:
        return self.votes_IC.shape[0]

    def scores(self, table_AKL: Floats) -> Floats:
        """Sum over the votes of each item of table[annotator, k, voted label], shape (I, K)."""
        return self.votes_IC @ np.ascontiguousarray(table_AKL.transpose(0, 2, 1)).reshape(-1, table_AKL.shape[1])

    def counts(self, p_IK: Floats) -> Floats:
        """Expected votes of each annotator for l on items of label k, shape (A, K, L).

        Items with one vote only are left out: a vote that nobody else could contradict says nothing about its annotator.
        """
        p_IK = p_IK if self.informative_I is None else p_IK * self.informative_I[:, None]
        return (self.votes_IC.T @ p_IK).reshape(self.n_annotators, self.n_labels, -1).transpose(0, 2, 1)


def cells_of(table: VoteTable) -> Cells:
    """Raises DataError when votes of several objectives are mixed."""
    table.one_objective()
    n_labels, shape = table.n_labels, (table.n_items, table.n_annotators * table.n_labels)
    cell_V = table.annotator_V * np.int32(n_labels)
    cell_V += table.label_V
    starts = np.zeros(table.n_items + 1, dtype=np.int32)
    np.cumsum(table.rows_I, out=starts[1:])
    weight_V = np.ones(len(table)) if table.weight_V is None else table.weight_V
    votes_IC = sp.csr_array((weight_V, cell_V, starts), shape=shape)
    several_I = table.votes_I > 1
    informative_I = None if several_I.all() or not several_I.any() else several_I
    return Cells(votes_IC, table.n_annotators, n_labels, table.votes_I, informative_I)


def normalised(x: Floats) -> Floats:
    """Rows (last axis) that sum to 1."""
    return x / x.sum(axis=-1, keepdims=True)


def shares(table: VoteTable) -> Floats:
    """The share of the vote of every label, shape (I, L)."""
    return normalised(table.counts_IL)


@dataclass(frozen=True, eq=False)
class Parameters:
    """What an M-step returns. theta_AKL need not be normalised (variational bounds are not); `log_prior` belongs to the objective."""

    theta_AKL: Floats
    pi_K: Floats
    log_prior: float
    extra: tuple[Floats, ...] = ()


MStep = Callable[[Floats, Floats, "Parameters | None"], Parameters]


@dataclass(frozen=True, eq=False)
class Fit:
    """p_IK: posterior of every item. score_IK: the log-likelihood of its votes under every label (no prior in it)."""

    p_IK: Floats
    score_IK: Floats
    parameters: Parameters
    convergence: Convergence


def e_step(cells: Cells, parameters: Parameters) -> tuple[Floats, Floats, float]:
    """(posterior, votes' log-likelihood given the label, log-likelihood of all votes)."""
    score_IK = cells.scores(np.log(parameters.theta_AKL))
    p_IK = score_IK + np.log(parameters.pi_K)
    top_I = p_IK.max(axis=1, keepdims=True)
    p_IK -= top_I
    likelihood = float(top_I.sum())
    np.exp(p_IK, out=p_IK)
    total_I = np.sum(p_IK, axis=1, keepdims=True, out=top_I)
    p_IK /= total_I
    return p_IK, score_IK, likelihood + float(np.log(total_I, out=total_I).sum())


def run_em(cells: Cells, p_IK: Floats, m_step: MStep, *, tolerance: float, max_iterations: int, first: Parameters | None = None) -> Fit:
    """EM from the soft labels `p_IK` until the objective (log-likelihood + log prior) settles.

    `m_step(counts_AKL, mass_K, last parameters)` must not lower its bound, so the objective never falls.
    """

    def step(state: tuple[Floats, Floats | None, Parameters | None]) -> tuple[tuple[Floats, Floats, Parameters], float, float]:
        p_IK, _, last = state
        parameters = m_step(cells.counts(p_IK), p_IK.sum(axis=0), last)
        p_IK, score_IK, likelihood = e_step(cells, parameters)
        return (p_IK, score_IK, parameters), likelihood + parameters.log_prior, likelihood

    state, convergence = iterate(step, (p_IK, None, first), tolerance=tolerance, max_iterations=max_iterations)
    return Fit(state[0], state[1], state[2], convergence)  # type: ignore[arg-type]


def with_warmup(fit: Fit, warmup: int) -> Fit:
    """The same fit with the iterations of an earlier stage counted in."""
    return replace(fit, convergence=replace(fit.convergence, iterations=fit.convergence.iterations + warmup))


def log_prior_of(exponent: Floats, theta: Floats) -> float:
    """Log density, up to a constant, of Dirichlet priors with parameters 1 + exponent."""
    return float((exponent * np.log(np.maximum(theta, 1e-300))).sum())


def observed_alpha(cells: Cells, p_IK: Floats, prior: Floats | float) -> Floats:
    """Dirichlet posteriors of the confusions that know what the votes do not tell, shape (A, K, L).

    Means are those of expected counts plus `prior`. Their size is the observed information, not that of labels known for sure: a vote
    for l on an item that has label k with chance p tells p^2 of what it would tell if the label were k for sure (Louis 1982: complete
    minus missing information, 1 / theta^2 times p - p (1 - p)), which per row weighs cell l by 1 - theta_kl.
    """
    counts_AKL, told_AKL = cells.counts(p_IK), cells.counts(p_IK**2)
    alpha_AKL = counts_AKL + prior
    theta_AKL = normalised(alpha_AKL)
    told_AKL /= np.maximum(counts_AKL, 1e-12)
    votes_AK = counts_AKL.sum(axis=-1)
    prior_AK = alpha_AKL.sum(axis=-1) - votes_AK
    size_AK = votes_AK * (told_AKL * (1.0 - theta_AKL)).sum(axis=-1) / max(1, cells.n_labels - 1) + prior_AK
    return theta_AKL * np.maximum(size_AK, 1e-3)[..., None]


def posterior_interval(cells: Cells, p_IK: Floats, alpha_AKL: Floats, scale_I: Floats | None = None) -> tuple[Floats, Floats]:
    """95 % interval of every posterior chance over the uncertainty of the annotators' confusions.

    Delta method on the logit of each label: log theta has variance psi'(alpha_kl) - psi'(alpha_k.) under its Dirichlet posterior,
    annotators are independent. It says how far the chance could be from the one under the true confusions, not whether the model
    holds. `scale_I` multiplies the logit (tempering).
    """
    variance_AKL = polygamma(1, alpha_AKL) - polygamma(1, alpha_AKL.sum(axis=-1, keepdims=True))
    variance_IK = cells.scores(variance_AKL)
    if p_IK.shape[1] == 2:
        # One logit serves both labels.
        low_I1, high_I1 = _logit_interval(p_IK[:, :1], variance_IK.sum(axis=1, keepdims=True), scale_I)
        return np.hstack([low_I1, 1.0 - high_I1]), np.hstack([high_I1, 1.0 - low_I1])
    # The others' shares among themselves weigh their variances.
    squares_IK = p_IK**2 * variance_IK
    others_IK = (squares_IK.sum(axis=1, keepdims=True) - squares_IK) / np.maximum(1.0 - p_IK, 1e-12) ** 2
    return _logit_interval(p_IK, variance_IK + others_IK, scale_I)


def _logit_interval(p_IK: Floats, variance_IK: Floats, scale_I: Floats | None) -> tuple[Floats, Floats]:
    """Ends of chances whose logits have these variances (before they are scaled)."""
    half_IK = np.sqrt(variance_IK)
    half_IK *= Z95 if scale_I is None else Z95 * scale_I[:, None]
    logit_IK = logit(np.clip(p_IK, 1e-12, 1.0 - 1e-12))
    return expit(logit_IK - half_IK), expit(logit_IK + half_IK)
