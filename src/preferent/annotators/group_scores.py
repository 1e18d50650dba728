"""Scores of several groups of annotators at once: what all share plus what each group adds, both shrunk (partial pooling).

    score of item i in cell c:  S_ci = m_i + sum over effects g of member_cg delta_gi,   m ~ N(0, score^2), delta_g ~ N(0, tau_g^2)

A cell is a kind of annotator (a group of a mixture, or a combination of known attributes); an effect is one group or one level of one
attribute. Bradley-Terry within each cell, a tie counts half for each side. The taus are learned, so that effects which are not there
shrink to nothing.

Legend: R rows (a pair as judged by one cell), C cells, G effects, T kinds of effect (one tau each), I items, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.special import expit

from preferent.annotators.bradley_terry import Banded, Ended, band, scaled_lbfgs
from preferent.annotators.graph import Ints, sums
from preferent.core.records import Floats

DENSE = 2500
_FEW = 6.0
BOUNDS = (0.02, 3.0)


@dataclass(frozen=True, eq=False, slots=True)
class CellVotes:
    """Votes added up: of n_R votes of cell_R on (lo_R, hi_R), win_R went to lo. member_CG: which effects act in a cell (0 or 1);
    kind_G: which tau an effect has."""

    lo_R: Ints
    hi_R: Ints
    cell_R: Ints
    n_R: Floats
    win_R: Floats
    member_CG: Floats
    kind_G: Ints
    n_items: int

    @property
    def n_effects(self) -> int:
        return self.member_CG.shape[1]


@dataclass(frozen=True, eq=False, slots=True)
class GroupScores:
    """common_I and offsets_GI in logits, with the prior sds: score and tau_T."""

    common_I: Floats
    offsets_GI: Floats
    score: float
    tau_T: Floats

    def cells(self, member_CG: Floats) -> Floats:
        """Scores per cell, shape (C, I)."""
        return self.common_I + member_CG @ self.offsets_GI


def log_prior(at: GroupScores, kind_G: Ints) -> float:
    """Normal log density of scores and offsets, normalised: it must not fall while the taus are learned."""
    tau_G1 = at.tau_T[kind_G][:, None]
    terms = (at.common_I / at.score) ** 2 + 2 * np.log(at.score)
    return -0.5 * float(terms.sum() + ((at.offsets_GI / tau_G1) ** 2 + 2 * np.log(tau_G1)).sum())


def _loss(flat: Floats, votes: CellVotes, score: float, tau_G: Floats) -> tuple[float, Floats]:
    stacked = flat.reshape(-1, votes.n_items)
    scores_CI = stacked[0] + votes.member_CG @ stacked[1:]
    gap_R = scores_CI[votes.cell_R, votes.lo_R] - scores_CI[votes.cell_R, votes.hi_R]
    nll = float(votes.n_R @ np.logaddexp(0.0, gap_R) - votes.win_R @ gap_R)
    by_gap_R = votes.n_R * expit(gap_R) - votes.win_R
    by_score_CI = _onto_items(votes, by_gap_R, -by_gap_R)
    precision = np.concatenate([[score**-2], tau_G**-2])[:, None]
    gradient = np.concatenate([by_score_CI.sum(0, keepdims=True), votes.member_CG.T @ by_score_CI]) + precision * stacked
    return nll + 0.5 * float((precision * stacked**2).sum()), gradient.ravel()


def _onto_items(votes: CellVotes, lo_R: Floats, hi_R: Floats) -> Floats:
    """Sums of per-row values on the lo and the hi items, shape (C, I)."""
    n_cells, n = len(votes.member_CG), votes.n_items
    flat = sums(votes.cell_R * n + votes.lo_R, lo_R, n_cells * n) + sums(votes.cell_R * n + votes.hi_R, hi_R, n_cells * n)
    return flat.reshape(n_cells, n)


def _curvature(at: GroupScores, votes: CellVotes) -> Floats:
    """Diagonal of information plus prior, shape (1 + G, I)."""
    scores_CI = at.cells(votes.member_CG)
    p_R = expit(scores_CI[votes.cell_R, votes.lo_R] - scores_CI[votes.cell_R, votes.hi_R])
    weight_R = votes.n_R * p_R * (1.0 - p_R)
    on_CI = _onto_items(votes, weight_R, weight_R)
    precision = np.concatenate([[at.score**-2], at.tau_T[votes.kind_G] ** -2])[:, None]
    return np.concatenate([on_CI.sum(0, keepdims=True), votes.member_CG.T @ on_CI]) + precision


def improve(at: GroupScores, votes: CellVotes, *, tolerance: float, max_iterations: int) -> tuple[GroupScores, Ended]:
    """Scores and offsets moved uphill from `at`, the prior sds as they are. The log posterior never falls."""
    begin = np.concatenate([at.common_I[None], at.offsets_GI])
    scale = 1.0 / np.sqrt(_curvature(at, votes))
    tau_G = at.tau_T[votes.kind_G]
    found, ended = scaled_lbfgs(
        lambda x: _loss(x, votes, at.score, tau_G), begin.ravel(), scale.ravel(), tolerance=tolerance, max_iterations=max_iterations
    )
    stacked = found.reshape(begin.shape)
    return GroupScores(stacked[0], stacked[1:], at.score, at.tau_T), ended


def learn(at: GroupScores, votes: CellVotes, begun: GroupScores) -> GroupScores:
    """New prior sds: the mean of squares plus posterior variances, where items have votes; _FEW pseudo-items at the starting value."""
    second = np.concatenate([at.common_I[None], at.offsets_GI]) ** 2 + 1.0 / _curvature(at, votes)
    on_CI = _onto_items(votes, votes.n_R, votes.n_R)
    seen = np.concatenate([on_CI.sum(0, keepdims=True), votes.member_CG.T @ on_CI]) > 0
    score = _sd(second[0][seen[0]], begun.score)
    tau = [_sd(second[1:][votes.kind_G == t][seen[1:][votes.kind_G == t]], begun.tau_T[t]) for t in range(len(at.tau_T))]
    return GroupScores(at.common_I, at.offsets_GI, score, np.array(tau))


def _sd(second: Floats, begun: float) -> float:
    return float(np.clip(np.sqrt((second.sum() + _FEW * begun**2) / (len(second) + _FEW)), *BOUNDS))


def fit_cells(votes: CellVotes, begun: GroupScores, *, tolerance: float = 1e-8, rounds: int = 12) -> tuple[GroupScores, Ended]:
    """Scores, offsets and taus together: EM until no sd moves by 2 % or the rounds are over (then not converged)."""
    at, iterations = begun, 0
    for _ in range(rounds):
        at, ended = improve(at, votes, tolerance=1e-6, max_iterations=100)
        iterations += ended.iterations
        new = learn(at, votes, begun)
        moved = np.abs(np.log(np.append(new.tau_T, new.score) / np.append(at.tau_T, at.score))).max(initial=0.0)
        at = new
        if moved < 0.02:
            break
    else:
        moved = np.inf
    at, ended = improve(at, votes, tolerance=tolerance, max_iterations=300)
    return at, Ended(ended.converged and moved < 0.02, iterations + ended.iterations, ended.log_posterior)


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """What is asked of a fit: mixes of effects (C, G), and how much of the common scores goes into them (0: differences between mixes)."""

    mix_CG: Floats
    common: float = 1.0

    @property
    def acts_CE(self) -> Floats:
        """What each unknown, common first, adds to each mix."""
        return np.concatenate([np.full((len(self.mix_CG), 1), self.common), self.mix_CG], axis=1)

    def scores(self, at: GroupScores) -> Floats:
        """Shape (C, I)."""
        return self.common * at.common_I + self.mix_CG @ at.offsets_GI


def joint_covariance(at: GroupScores, votes: CellVotes) -> Floats | None:
    """Laplace covariance of common scores and offsets, shape (1 + G, I, 1 + G, I); None beyond DENSE unknowns."""
    n, effects = votes.n_items, 1 + votes.n_effects
    if effects * n > DENSE:
        return None
    return np.linalg.inv(_precision(at, votes).toarray()).reshape(effects, n, effects, n)


def cell_draws(
    at: GroupScores, votes: CellVotes, asked: Asked, n_draws: int, rng: np.random.Generator, *, covariance: Floats | None
) -> Iterator[Floats]:
    """Posterior draws (D, I) of each mix that is asked about; without the joint covariance (None) every unknown by itself."""
    scores_CI = asked.scores(at)
    for c, acts_E in enumerate(asked.acts_CE):
        z_DI = rng.normal(size=(n_draws, votes.n_items))
        if covariance is None:
            yield scores_CI[c] + z_DI * np.sqrt(acts_E**2 @ (1.0 / _curvature(at, votes)))
            continue
        own_II = _mixed(covariance, acts_E)
        floor = 1e-12 + 1e-9 * float(np.trace(own_II)) / len(own_II)  # a mix that does not vary is singular
        yield scores_CI[c] + z_DI @ np.linalg.cholesky(own_II + floor * np.eye(len(own_II))).T


def _mixed(covariance: Floats, acts_E: Floats) -> Floats:
    return np.einsum("e,eifj,f->ij", acts_E, covariance, acts_E, optimize=True)


def cell_bands(
    at: GroupScores, votes: CellVotes, pairs_Q2: Ints, *, asked: Asked | None = None, covariance: Floats | None = None
) -> tuple[Banded, Banded, str]:
    """Scores (C, I) and gaps (C, Q) with 95 % intervals (Laplace), and how they were made; asked: of these mixes of effects instead
    of the cells that voted. covariance: of `joint_covariance`, where it is at hand.

    Joint and exact up to DENSE unknowns; beyond, each unknown's own information, as if all others were known.
    """
    asked = Asked(votes.member_CG) if asked is None else asked
    scores_CI, acts_CE = asked.scores(at), asked.acts_CE
    i_Q, j_Q = pairs_Q2[:, 0], pairs_Q2[:, 1]
    gap_CQ = scores_CI[:, i_Q] - scores_CI[:, j_Q]
    covariance = joint_covariance(at, votes) if covariance is None else covariance
    if covariance is None:
        variance_EI = 1.0 / _curvature(at, votes)
        variance_CI = acts_CE**2 @ variance_EI
        sd_CQ = np.sqrt(variance_CI[:, i_Q] + variance_CI[:, j_Q])
        return band(scores_CI, np.sqrt(variance_CI)), band(gap_CQ, sd_CQ), "95 %, Laplace, diagonal approximation"
    variance_CI, variance_CQ = np.empty_like(scores_CI), np.empty_like(gap_CQ)
    for c, acts_E in enumerate(acts_CE):
        own_II = _mixed(covariance, acts_E)
        variance_CI[c] = np.diagonal(own_II)
        variance_CQ[c] = own_II[i_Q, i_Q] + own_II[j_Q, j_Q] - 2.0 * own_II[i_Q, j_Q]
    return band(scores_CI, np.sqrt(variance_CI)), band(gap_CQ, np.sqrt(variance_CQ)), "95 %, Laplace, exact"


def _precision(at: GroupScores, votes: CellVotes) -> csr_array:
    """Joint precision of common scores and offsets, ((1 + G) I) squared."""
    acts_CE = np.concatenate([np.ones((len(votes.member_CG), 1)), votes.member_CG], axis=1)
    scores_CI = at.cells(votes.member_CG)
    p_R = expit(scores_CI[votes.cell_R, votes.lo_R] - scores_CI[votes.cell_R, votes.hi_R])
    row, effect = np.nonzero(acts_CE[votes.cell_R])
    value = acts_CE[votes.cell_R][row, effect]
    n = votes.n_items
    columns = np.concatenate([effect * n + votes.lo_R[row], effect * n + votes.hi_R[row]])
    shape = (len(p_R), acts_CE.shape[1] * n)
    design = coo_array((np.concatenate([value, -value]), (np.tile(row, 2), columns)), shape).tocsr()
    prior = np.repeat(np.concatenate([[at.score**-2], at.tau_T[votes.kind_G] ** -2]), n)
    weighted = diags_array(votes.n_R * p_R * (1.0 - p_R)) @ design
    return (design.T @ weighted + diags_array(prior)).tocsr()
