"""Fit scores of responses and traits of annotators to votes on pairs: Bradley-Terry, Davidson, annotator slopes, position and length.

Maximum a posteriori with normal priors (`annotator_slope` has the likelihood). The spreads of the priors are learned from the votes by
EM on Laplace's approximation (empirical Bayes) unless the model says otherwise. Sparse throughout: memory is linear in the votes.

    votes = pair_votes(items_V2, outcome_V, annotator_V=..., shown_first_V=...)
    fit = fit_pairs(votes, PairModel(position="annotator"))

Legend: V votes, P distinct pairs (lo < hi), I items, A annotators, X parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from preferent.annotators import annotator_slope as likelihood
from preferent.annotators.annotator_slope import Coefficients, Evidence, PairModel, Spreads, davidson
from preferent.annotators.graph import Graph, Ints, PairTable, PairVotes, describe, pair_table
from preferent.annotators.posterior import ScoreGraph, marginal_spread, quick_spread, spread
from preferent.core.errors import ConfigError, FitError
from preferent.core.records import Floats

Z95 = 1.959963984540054
_CELLS = 5_000_000  # of the dense matrix items x coefficients
_FEW = 6.0  # pseudo-observations behind each learned spread, at its starting value
_SPREAD_TOLERANCE = 0.05
LEARN = 1_000_000  # votes that are enough to learn the prior spreads from
_RELAX = 1.5  # EM creeps towards a spread from one side: steps after the first go this much further
# Learned spreads stay in these bounds: where most items are undefeated nothing in the votes holds the spread of the scores down.
BOUNDS = {"score": (0.1, 3.0), "slope": (0.05, 3.0), "position": (0.02, 3.0), "length": (0.02, 3.0), "tie": (0.05, 3.0)}


@dataclass(frozen=True, slots=True)
class Settings:
    """tolerance: the fit has converged when a step improves the log posterior by less than this share of it. spread_rounds: at most so
    many rounds of learning the prior spreads. exact: components of up to so many items get the exact Laplace inverse."""

    tolerance: float = 1e-7
    max_iterations: int = 500
    spread_rounds: int = 8
    exact: int = 2500
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.tolerance < 1e-2 or min(self.max_iterations, self.spread_rounds, self.exact) < 1:
            raise ConfigError(f"{self}: tolerance in (0, 0.01), the counts at least 1")


@dataclass(frozen=True, eq=False, slots=True)
class Banded:
    """Values with their 95 % intervals, arrays of one shape."""

    value: Floats
    low: Floats
    high: Floats

    def map(self, rising: Callable[[Floats], Floats]) -> Banded:
        """The same on another scale, by a function that rises."""
        return Banded(rising(self.value), rising(self.low), rising(self.high))


@dataclass(frozen=True, eq=False, slots=True)
class PairFit:
    """A fitted model.

    scores: logits, shape (I,), zero-centred by the prior, comparable within a component of `graph` only. p_a: for each distinct pair
    (lo_P, hi_P), the chance that a typical honest annotator (slope 1, no position or length bias, mean tie coefficient) prefers lo,
    half of the ties included. traits: per annotator, shape (A,): slope, position (logits for the side shown first), length (logits per
    unit of log length) and tie (log of Davidson's weight), those that the model has. means: the mean coefficients. learned: the prior
    spreads in use. intervals: how the 95 % intervals were made. converged, iterations (of the optimiser, all rounds together).
    log_likelihood: of the votes, priors left out. notes: what the reader must know. trace: the log
    posterior after every step of the last round.
    """

    model: PairModel
    coefficients: Coefficients
    scores: Banded
    lo_P: Ints
    hi_P: Ints
    n_votes_P: Ints
    gap: Banded
    p_a: Banded
    traits: dict[str, Banded]
    graph: Graph
    score_graph: ScoreGraph
    converged: bool
    iterations: int
    log_likelihood: float
    log_posterior: float
    intervals: str
    notes: tuple[str, ...] = field(default=())
    trace: tuple[float, ...] = ()

    @property
    def means(self) -> dict[str, float]:
        return self.coefficients.means

    @property
    def learned(self) -> Spreads:
        return self.model.spreads


def fit_pairs(votes: PairVotes, model: PairModel, settings: Settings | None = None) -> PairFit:
    """Fit `model` to the votes. Deterministic given settings.seed (used only where large components need sampled variances).

    Raises ConfigError when the model needs a column that the votes lack, FitError when the optimiser meets something not finite.
    """
    settings = settings or Settings()
    table = pair_table(votes)
    for name in {"position", "length"} & set(model.named):
        likelihood.covariate(name, table)
    graph = describe(table)
    at, iterations = warm_start(table, model)
    prior = (
        _learn_prior(table, model, at, graph, settings) if len(votes) <= 2 * LEARN else _learn_from_some(table, model, at, graph, settings)
    )
    model, settled = prior.model, prior.settled
    at, ended = _optimise(table, prior, tolerance=settings.tolerance, max_iterations=settings.max_iterations)
    iterations += prior.iterations + ended.iterations
    told = likelihood.evidence(at, table, model)
    score_graph = _score_graph(table, model, told, graph)
    own_AKK = told.own_AKK
    pairs_P2 = np.stack([table.lo_P, table.hi_P], 1)
    cells = table.n_items * table.n_annotators * len(model.varied)
    if model.varied and table.n_items <= settings.exact and cells <= _CELLS:
        info = likelihood.information(at, table, model)
        spreads = marginal_spread(score_graph, likelihood.coupling(at, table, model, info, own_AKK), pairs_P2)
    else:
        spreads = spread(score_graph, pairs_P2, rng=np.random.default_rng(settings.seed), dense=settings.exact)
    gap_P = at.scores_I[table.lo_P] - at.scores_I[table.hi_P]
    gap = band(gap_P, np.sqrt(spreads.gap_variance_Q))
    return PairFit(
        model=model,
        coefficients=at,
        scores=band(at.scores_I, np.sqrt(spreads.variance_I)),
        lo_P=table.lo_P,
        hi_P=table.hi_P,
        n_votes_P=table.n_votes_P,
        gap=gap,
        p_a=gap.map(lambda x: _preferred(at, model, x)),
        traits=_traits(at, model, own_AKK),
        graph=graph,
        score_graph=score_graph,
        converged=ended.converged and settled,
        iterations=iterations,
        log_likelihood=likelihood.log_likelihood(at, table, model),
        log_posterior=ended.log_posterior,
        intervals=f"95 %, {spreads.method}",
        notes=_notes(table, model, graph, ended, settled),
        trace=ended.trace,
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """How the optimiser ended: by its own test, after how many steps, at which log posterior (up to a constant); its value after every
    step."""

    converged: bool
    iterations: int
    log_posterior: float
    trace: tuple[float, ...] = ()


def warm_start(table: PairTable, model: PairModel) -> tuple[Coefficients, int]:
    """Scores of plain Bradley-Terry on the votes added up by pair (no annotators: a fraction of the rows), the rest at its prior mean."""
    win_P, n_P = table.total_P(table.weighted(table.win_V)), table.mass_P
    precision = model.spreads.score**-2

    def loss(scores_I: Floats) -> tuple[float, Floats]:
        gap_P = scores_I[table.lo_P] - scores_I[table.hi_P]
        value = float(n_P @ np.logaddexp(0.0, gap_P) - win_P @ gap_P + 0.5 * precision * scores_I @ scores_I)
        return value, table.difference_I(n_P * expit(gap_P) - win_P) + precision * scores_I

    scale_I = 1.0 / np.sqrt(0.2 * table.degree_I(n_P) + precision)
    found_I, ended = scaled_lbfgs(loss, np.zeros(table.n_items), scale_I, tolerance=1e-6, max_iterations=100)
    return replace(likelihood.start(table, model), scores_I=found_I), ended.iterations


def scaled_lbfgs(
    loss: Callable[[Floats], tuple[float, Floats]], start_X: Floats, scale_X: Floats, *, tolerance: float, max_iterations: int
) -> tuple[Floats, Ended]:
    """Minimise with every parameter measured in its own standard error, which is what makes L-BFGS need few steps here."""

    def scaled(z_X: Floats) -> tuple[float, Floats]:
        value, gradient_X = loss(z_X * scale_X)
        return value, gradient_X * scale_X

    options = {"maxcor": 12, "ftol": tolerance, "gtol": 1e-9, "maxiter": max_iterations, "maxfun": 3 * max_iterations}
    trace: list[float] = []
    result = minimize(
        scaled,
        start_X / scale_X,
        jac=True,
        method="L-BFGS-B",
        options=options,
        callback=lambda intermediate_result: trace.append(-float(intermediate_result.fun)),
    )
    if not np.isfinite(result.fun) or not np.isfinite(result.x).all():
        raise FitError(f"the fit met a log posterior of {-result.fun!r}", hint="are lengths or spreads extreme?")
    return result.x * scale_X, Ended(bool(result.success), int(result.nit), -float(result.fun), tuple(trace))


@dataclass(frozen=True, eq=False, slots=True)
class _Prior:
    """Where learning the spreads stands: the model with its spreads, the coefficients, their blur (see `objective`)."""

    model: PairModel
    at: Coefficients
    blur_A: Floats | None
    iterations: int
    settled: bool


def _optimise(table: PairTable, prior: _Prior, *, tolerance: float, max_iterations: int) -> tuple[Coefficients, Ended]:
    scale_X = 1.0 / np.sqrt(likelihood.curvature_diagonal(prior.at, table, prior.model))

    def loss(flat_X: Floats) -> tuple[float, Floats]:
        return likelihood.objective(flat_X, table, prior.model, prior.blur_A)

    found_X, ended = scaled_lbfgs(loss, prior.at.flat(), scale_X, tolerance=tolerance, max_iterations=max_iterations)
    return likelihood.unflatten(found_X, table, prior.model), ended


def _learn_prior(table: PairTable, model: PairModel, at: Coefficients, graph: Graph, settings: Settings) -> _Prior:
    """EM: the variance of a prior is the mean of (value squared + its posterior variance); until no spread moves by 5 %."""
    now = _Prior(model, at, None, 0, not (model.learn_spreads or model.slope))
    if now.settled:
        return now
    # The blur of the warm start: without one the first round runs after slopes that explode while the scores shrink, in many steps.
    now = replace(_e_step(table, now, graph, model.spreads), model=model)
    for round in range(settings.spread_rounds):
        at, ended = _optimise(table, now, tolerance=1e-5 if round == 0 else 1e-6, max_iterations=settings.max_iterations)
        before = now.model.spreads
        now = _e_step(table, replace(now, at=at, iterations=now.iterations + ended.iterations), graph, model.spreads)
        moves = {name: float(np.log(getattr(now.model.spreads, name) / getattr(before, name))) for name in ("score", *model.varied)}
        if round and max(map(abs, moves.values())) < _SPREAD_TOLERANCE:
            return replace(now, settled=True)
        if round and model.learn_spreads:
            further = {name: getattr(before, name) * np.exp(_RELAX * move) for name, move in moves.items()}
            further = {name: float(np.clip(value, *BOUNDS[name])) for name, value in further.items()}
            now = replace(now, model=replace(now.model, spreads=replace(now.model.spreads, **further)))
    return now


def _learn_from_some(table: PairTable, model: PairModel, at: Coefficients, graph: Graph, settings: Settings) -> _Prior:
    """`_learn_prior` from about `LEARN` votes: whole components where there are many, else pairs; then a look at all votes, so that the
    coefficients and the blur are those of everybody."""
    rng, share = np.random.default_rng(settings.seed), LEARN / len(table.win_V)
    if len(graph.size_C) > 1 and graph.size_C[0] < 0.01 * table.n_items:
        kept_P = (rng.random(len(graph.size_C)) < share)[graph.component_I[table.lo_P]]
    else:
        kept_P = rng.random(len(table.lo_P)) < share
    some = table.keep(kept_P)
    learned = _learn_prior(some, model, at, describe(some), settings)
    if learned.iterations == 0:
        return learned
    # Of the scores, those of the pairs left out are still the warm start's.
    seen_I = some.degree_I(np.ones(len(some.lo_P))) > 0
    mixed = replace(learned.at, scores_I=np.where(seen_I, learned.at.scores_I, at.scores_I))
    kept = replace(model, spreads=learned.model.spreads, learn_spreads=False)
    now = _e_step(table, replace(learned, at=mixed, model=kept), graph, kept.spreads)
    at, ended = _optimise(table, now, tolerance=1e-5, max_iterations=settings.max_iterations)
    now = _e_step(table, replace(now, at=at, iterations=now.iterations + ended.iterations), graph, kept.spreads)
    return replace(now, model=replace(now.model, learn_spreads=model.learn_spreads), settled=learned.settled)


def _e_step(table: PairTable, now: _Prior, graph: Graph, begun: Spreads) -> _Prior:
    """Posterior variances at the present coefficients, hence the blur and (if they are to be learned) the spreads."""
    model, at = now.model, now.at
    told = likelihood.evidence(at, table, model)
    quick = quick_spread(_score_graph(table, model, told, graph))
    variance_AK = np.diagonal(np.linalg.inv(told.own_AKK), axis1=1, axis2=2)
    blur_A = likelihood.blur(at, table, model, quick.gap_variance_Q) if model.slope else None
    if model.learn_spreads:
        found = {"score": _pooled_sd((at.scores_I**2 + quick.variance_I)[graph.votes_I > 0], "score", begun)}
        for k, name in enumerate(model.varied):
            found[name] = _pooled_sd((at.deviations[name] ** 2 + variance_AK[:, k])[table.active_A], name, begun)
        model = replace(model, spreads=replace(model.spreads, **found))
    return replace(now, model=model, blur_A=blur_A)


def _pooled_sd(second: Floats, name: str, begun: Spreads) -> float:
    sd = np.sqrt((second.sum() + _FEW * getattr(begun, name) ** 2) / (len(second) + _FEW))
    return float(np.clip(sd, *BOUNDS[name]))


def _score_graph(table: PairTable, model: PairModel, told: Evidence, graph: Graph) -> ScoreGraph:
    prior_I = np.full(table.n_items, model.spreads.score**-2)
    return ScoreGraph(table.lo_P, table.hi_P, told.weight_P, prior_I, graph.component_I)


def band(value: Floats, sd: Floats) -> Banded:
    """Value and its normal 95 % interval."""
    return Banded(value, value - Z95 * sd, value + Z95 * sd)


def _preferred(at: Coefficients, model: PairModel, gap: Floats) -> Floats:
    if model.ties == "half":
        return expit(gap)
    p, tied, _ = davidson(gap, np.full(gap.shape, at.means["tie"]))
    return p + 0.5 * tied


def _traits(at: Coefficients, model: PairModel, own_AKK: Floats) -> dict[str, Banded]:
    sd_AK = np.sqrt(np.diagonal(np.linalg.inv(own_AKK), axis1=1, axis2=2))
    return {name: band(np.asarray(at.of(name)), sd_AK[:, k]) for k, name in enumerate(model.varied)}


def _notes(table: PairTable, model: PairModel, graph: Graph, ended: Ended, settled: bool) -> tuple[str, ...]:
    notes = list(graph.notes())
    if model.ties == "half" and graph.tie_share > 0:
        notes.append(f"{graph.tie_share:.1%} of the votes are ties, counted as half a win for each side; ties='davidson' models them")
    if model.slope and len(np.unique(table.annotator_V)) < 3:
        notes.append("slopes of fewer than three annotators cannot be told from the scale of the scores: the prior decides")
    if not ended.converged:
        notes.append(f"not converged in {ended.iterations} steps; raise max_iterations")
    if not settled:
        notes.append("the prior spreads were still moving when their rounds were over; raise spread_rounds")
    return tuple(notes)


def outcome_probabilities(fit: PairFit, votes: PairVotes, *, known_annotators: bool = True) -> Floats:
    """Chances of (j wins, tie, i wins) for each vote, shape (V, 3), rows sum to 1.

    With known_annotators the traits of the vote's annotator count; otherwise a typical one votes (slope 1, mean coefficients). With
    ties="half" the tie column is 0.
    """
    at = fit.coefficients

    def trait(name: str) -> Floats | float:
        typical = 1.0 if name == "slope" else at.means.get(name, 0.0)
        value = at.of(name) if known_annotators else typical
        return value[votes.annotator_V] if isinstance(value, np.ndarray) else value

    d_V = trait("slope") * (at.scores_I[votes.item_i_V] - at.scores_I[votes.item_j_V])
    for name, column_V in (("position", votes.first_V), ("length", votes.length_V)):
        if name in fit.model.named and column_V is not None:
            d_V = d_V + trait(name) * column_V
    if fit.model.ties == "half":
        p_V, tied_V = expit(d_V), np.zeros_like(d_V)
    else:
        p_V, tied_V, _ = davidson(d_V, np.broadcast_to(trait("tie"), d_V.shape))
    return np.stack([1.0 - p_V - tied_V, tied_V, p_V], axis=1)
