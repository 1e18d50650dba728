"""Crowd-BT (Chen et al. 2013, "Pairwise ranking aggregation in a crowdsourced setting"): an annotator reports the truth or its opposite.

P(a says lo beats hi) = eta_a sigma(d) + (1 - eta_a) sigma(-d), d = s_lo - s_hi, with eta_a ~ Beta and s normal. eta 1/2 is a guesser,
eta near 0 an adversary. Unlike a slope it cannot say that somebody is better than the scores' own noise. Ties count half for each side.

Legend: V votes, P pairs, I items, A annotators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from preferent.annotators.annotator_slope import PairModel, Spreads
from preferent.annotators.bradley_terry import Banded, Settings, band, scaled_lbfgs, warm_start
from preferent.annotators.graph import Graph, Ints, PairTable, PairVotes, describe, pair_table, sums
from preferent.annotators.posterior import ScoreGraph, spread
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

_EDGE = 1e-12


@dataclass(frozen=True, slots=True)
class CrowdPrior:
    """score: prior sd of the scores in logits. honest, opposite: the Beta prior of eta in pseudo-votes."""

    score: float = 1.5
    honest: float = 4.0
    opposite: float = 1.0

    def __post_init__(self) -> None:
        if not min(self.score, self.honest, self.opposite) > 0.0:
            raise ConfigError(f"{self}: allowed are numbers > 0")


@dataclass(frozen=True, eq=False, slots=True)
class CrowdFit:
    """Scores (I,), p_a of the distinct pairs (the truth's own chance, eta = 1), honesty eta per annotator, all with 95 % intervals."""

    prior: CrowdPrior
    scores: Banded
    lo_P: Ints
    hi_P: Ints
    gap: Banded
    p_a: Banded
    honesty: Banded
    graph: Graph
    converged: bool
    iterations: int
    log_likelihood: float
    log_posterior: float
    intervals: str
    notes: tuple[str, ...]
    trace: tuple[float, ...] = ()


def crowd_objective(flat_X: Floats, votes: PairTable, prior: CrowdPrior) -> tuple[float, Floats]:
    """Minus log posterior and its gradient by (scores_I, logit of eta_A)."""
    scores_I, logit_A = flat_X[: votes.n_items], flat_X[votes.n_items :]
    nll, by_gap_V, by_logit_V = _vote_loss(scores_I, logit_A, votes)
    eta_A = expit(logit_A)
    beta = prior.honest * np.logaddexp(0.0, -logit_A) + prior.opposite * np.logaddexp(0.0, logit_A)
    by_logit_A = sums(votes.annotator_V, by_logit_V, votes.n_annotators) + (prior.honest + prior.opposite) * eta_A - prior.honest
    by_score_I = votes.difference_I(votes.total_P(by_gap_V)) + scores_I / prior.score**2
    value = nll + 0.5 * float(scores_I @ scores_I) / prior.score**2 + float(beta.sum())
    return value, np.concatenate([by_score_I, by_logit_A])


def _vote_loss(scores_I: Floats, logit_A: Floats, votes: PairTable) -> tuple[float, Floats, Floats]:
    ahead_V = votes.spread_V(expit(scores_I[votes.lo_P] - scores_I[votes.hi_P]))
    eta_V = expit(logit_A)[votes.annotator_V]
    p_V = np.clip(eta_V * ahead_V + (1.0 - eta_V) * (1.0 - ahead_V), _EDGE, 1.0 - _EDGE)
    nll = -float(votes.weighted(votes.win_V * np.log(p_V) + (1.0 - votes.win_V) * np.log1p(-p_V)).sum())
    by_p_V = votes.weighted((p_V - votes.win_V) / (p_V * (1.0 - p_V)))
    by_gap_V = by_p_V * (2.0 * eta_V - 1.0) * ahead_V * (1.0 - ahead_V)
    return nll, by_gap_V, by_p_V * (2.0 * ahead_V - 1.0) * eta_V * (1.0 - eta_V)


def fit_crowd(votes: PairVotes, prior: CrowdPrior | None = None, settings: Settings | None = None) -> CrowdFit:
    """MAP of Crowd-BT from a plain Bradley-Terry start; the mirrored solution (everybody lies) is ruled out by the prior of eta.

    The mode is taken over the logit of eta, where the Beta prior has no edge that could trap it.
    """
    prior, settings = prior or CrowdPrior(), settings or Settings()
    table = pair_table(votes)
    graph = describe(table)
    plain, first = warm_start(table, PairModel(slope=False, spreads=Spreads(score=prior.score)))
    begin_X = np.concatenate([plain.scores_I, np.full(table.n_annotators, np.log(prior.honest / prior.opposite))])
    votes_A = np.bincount(table.annotator_V, minlength=table.n_annotators)
    scale_X = 1.0 / np.sqrt(np.concatenate([0.1 * graph.votes_I + prior.score**-2, 0.1 * votes_A + 0.2 * (prior.honest + prior.opposite)]))
    found_X, ended = scaled_lbfgs(
        lambda x: crowd_objective(x, table, prior), begin_X, scale_X, tolerance=settings.tolerance, max_iterations=settings.max_iterations
    )
    scores_I, logit_A = found_X[: table.n_items], found_X[table.n_items :]
    score_graph, own_A = _information(scores_I, logit_A, table, prior, graph)
    pairs_P2 = np.stack([table.lo_P, table.hi_P], 1)
    spreads = spread(score_graph, pairs_P2, rng=np.random.default_rng(settings.seed), dense=settings.exact)
    gap = band(scores_I[table.lo_P] - scores_I[table.hi_P], np.sqrt(spreads.gap_variance_Q))
    notes = list(graph.notes())
    if graph.tie_share > 0:
        notes.append(f"{graph.tie_share:.1%} of the votes are ties, counted as half a win for each side")
    if not ended.converged:
        notes.append(f"not converged in {ended.iterations} steps; raise max_iterations")
    return CrowdFit(
        prior=prior,
        scores=band(scores_I, np.sqrt(spreads.variance_I)),
        lo_P=table.lo_P,
        hi_P=table.hi_P,
        gap=gap,
        p_a=gap.map(expit),
        honesty=band(logit_A, own_A**-0.5).map(expit),
        graph=graph,
        converged=ended.converged,
        iterations=first + ended.iterations,
        log_likelihood=-_vote_loss(scores_I, logit_A, table)[0],
        log_posterior=ended.log_posterior,
        intervals=f"95 %, {spreads.method}",
        notes=tuple(notes),
        trace=ended.trace,
    )


def _information(scores_I: Floats, logit_A: Floats, table: PairTable, prior: CrowdPrior, graph: Graph) -> tuple[ScoreGraph, Floats]:
    """Fisher information: edge weights of the scores' graph, and each annotator's own about logit eta, prior included."""
    ahead_V = table.spread_V(expit(scores_I[table.lo_P] - scores_I[table.hi_P]))
    eta_V = expit(logit_A)[table.annotator_V]
    p_V = np.clip(eta_V * ahead_V + (1.0 - eta_V) * (1.0 - ahead_V), _EDGE, 1.0 - _EDGE)
    by_gap_V = (2.0 * eta_V - 1.0) * ahead_V * (1.0 - ahead_V)
    by_logit_V = (2.0 * ahead_V - 1.0) * eta_V * (1.0 - eta_V)
    told_V = table.weighted(1.0 / (p_V * (1.0 - p_V)))
    weight_P = table.total_P(by_gap_V**2 * told_V)
    own_A = sums(table.annotator_V, by_logit_V**2 * told_V, table.n_annotators)
    eta_A = expit(logit_A)
    own_A += (prior.honest + prior.opposite) * eta_A * (1.0 - eta_A)
    prior_I = np.full(table.n_items, prior.score**-2)
    return ScoreGraph(table.lo_P, table.hi_P, weight_P, prior_I, graph.component_I), own_A
