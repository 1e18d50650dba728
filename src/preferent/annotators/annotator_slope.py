"""The likelihood behind every pairwise model here: Bradley-Terry with annotators who differ in slope, position, length and ties.

Annotator a sees responses lo and hi (`lo` is the smaller item number) with the logit

    d = slope_a (s_lo - s_hi) + position_a first + length_a log(length_lo / length_hi)

first is +1 when lo was shown first, -1 when hi was, 0 unknown. Without ties P(lo wins) = 1 / (1 + exp(-d)) (Bradley and Terry 1952);
with ties the three outcomes have Davidson's (1970) weights exp(d / 2), exp(-d / 2) and exp(tie_a). Each coefficient is a mean plus a
deviation per annotator, deviations and scores are normal around zero: partial pooling. The slopes of those who voted average exactly
1, which sets the scale of the scores (a prior alone would leave it to whichever is fewer, items or annotators); single slopes may be
negative, so that adversaries count against what they say.

Legend: V votes, P pairs, I items, A annotators, X parameters, K coefficients that differ by annotator.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.special import expit

from preferent.annotators.graph import PairTable, sums
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

Level = Literal["none", "shared", "annotator", "deviation"]
MEAN_SD = 2.0  # prior sd of the mean position, length and tie coefficients, in logits
LEVELS = ("none", "shared", "annotator", "deviation")


@dataclass(frozen=True, slots=True)
class Spreads:
    """Standard deviations of the normal priors, in logits: of scores, and of annotators around the mean coefficient."""

    score: float = 1.5
    slope: float = 0.5
    position: float = 0.5
    length: float = 0.5
    tie: float = 1.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if not 0.0 < getattr(self, one.name) < np.inf:
                raise ConfigError(f"Spreads({one.name}={getattr(self, one.name)!r}): allowed are finite numbers > 0")


@dataclass(frozen=True, slots=True)
class PairModel:
    """Which coefficients there are and who shares them; `spreads` is the prior, or its start when `learn_spreads`.

    slope: one per annotator (False: everybody 1, plain Bradley-Terry). ties: "half" counts a tie as half a win for each, "davidson"
    gives it a probability. position and length need the display order and the lengths with the votes. "annotator" is a common mean plus
    a deviation for everybody; "deviation" has no mean, so that what the crowd has in common (a taste for length) stays in the scores.
    """

    slope: bool = True
    ties: Literal["half", "davidson"] = "half"
    position: Level = "none"
    length: Level = "none"
    tie: Level = "annotator"
    spreads: Spreads = field(default_factory=Spreads)
    learn_spreads: bool = True

    def __post_init__(self) -> None:
        if self.ties not in ("half", "davidson"):
            raise ConfigError(f"PairModel(ties={self.ties!r}): allowed are 'half' and 'davidson'")
        for name in ("position", "length", "tie"):
            if getattr(self, name) not in LEVELS:
                raise ConfigError(f"PairModel({name}={getattr(self, name)!r}): allowed are {', '.join(map(repr, LEVELS))}")
        if self.ties == "davidson" and self.tie == "none":
            raise ConfigError("PairModel(ties='davidson', tie='none'): Davidson's model needs a tie weight; tie='shared' or 'annotator'")

    @property
    def shared(self) -> tuple[str, ...]:
        """Coefficients with a mean to be estimated."""
        return tuple(name for name, level in self._levels().items() if name != "slope" and level != "deviation")

    @property
    def varied(self) -> tuple[str, ...]:
        """Coefficients that differ by annotator."""
        return tuple(name for name, level in self._levels().items() if level in ("annotator", "deviation"))

    @property
    def named(self) -> tuple[str, ...]:
        """Every coefficient besides the scores, once."""
        return tuple(self._levels())

    def pooled(self) -> PairModel:
        """The same model with all annotators alike."""
        return replace(self, slope=False, **dict.fromkeys(self.shared, "shared"))

    def _levels(self) -> dict[str, Level]:
        levels: dict[str, Level] = {"slope": "annotator" if self.slope else "none", "position": self.position, "length": self.length}
        if self.ties == "davidson":
            levels["tie"] = self.tie
        return {name: level for name, level in levels.items() if level != "none"}


@dataclass(frozen=True, eq=False, slots=True)
class Coefficients:
    """A point in parameter space: scores_I; means (slope's is 1); deviations {name: (A,)}."""

    scores_I: Floats
    means: dict[str, float]
    deviations: dict[str, Floats]

    def flat(self) -> Floats:
        return np.concatenate([self.scores_I, list(self.means.values()), *self.deviations.values()])

    def of(self, name: str) -> Floats | float:
        """The coefficient itself: per annotator, shared, or what it is when the model leaves it out (slope 1, others 0)."""
        mean = 1.0 if name == "slope" else self.means.get(name, 0.0)
        return mean + self.deviations[name] if name in self.deviations else mean

    def per_vote(self, name: str, votes: PairTable) -> Floats | float:
        value = self.of(name)
        return value[votes.annotator_V] if isinstance(value, np.ndarray) else value


def start(votes: PairTable, model: PairModel) -> Coefficients:
    """Everything at its prior mean."""
    return Coefficients(
        np.zeros(votes.n_items), dict.fromkeys(model.shared, 0.0), {name: np.zeros(votes.n_annotators) for name in model.varied}
    )


def unflatten(flat_X: Floats, votes: PairTable, model: PairModel) -> Coefficients:
    n, m, n_annotators = votes.n_items, len(model.shared), votes.n_annotators
    means = dict(zip(model.shared, flat_X[n : n + m].tolist(), strict=True))
    deviations = dict(zip(model.varied, flat_X[n + m :].reshape(len(model.varied), n_annotators), strict=True))
    if "slope" in deviations:
        deviations["slope"] = _centred(deviations["slope"], votes)
    return Coefficients(flat_X[:n], means, deviations)


def _centred(values_A: Floats, votes: PairTable) -> Floats:
    """Less the mean over those who voted; it is its own transpose, so it maps gradients too."""
    return np.where(votes.active_A, values_A - values_A[votes.active_A].mean(), values_A)


def prior_precision(votes: PairTable, model: PairModel) -> Floats:
    """Diagonal precision of the prior, shape (X,)."""
    spreads = model.spreads
    blocks = [np.full(votes.n_items, spreads.score**-2), np.full(len(model.shared), MEAN_SD**-2)]
    blocks += [np.full(votes.n_annotators, getattr(spreads, name) ** -2) for name in model.varied]
    return np.concatenate(blocks)


def logits(at: Coefficients, votes: PairTable) -> tuple[Floats, Floats]:
    """(d_V, gap_V): the logit of each vote and the score gap in it."""
    gap_V = votes.spread_V(at.scores_I[votes.lo_P] - at.scores_I[votes.hi_P])
    slope = at.per_vote("slope", votes)
    d_V = gap_V.copy() if isinstance(slope, float) else gap_V * slope
    for name in ("position", "length"):
        if name in at.means or name in at.deviations:
            d_V += at.per_vote(name, votes) * covariate(name, votes)
    return d_V, gap_V


def covariate(name: str, votes: PairTable) -> Floats:
    """The column that the coefficient multiplies. Raises ConfigError when the votes came without it."""
    column_V = votes.first_V if name == "position" else votes.length_V
    if column_V is None:
        what = "which side was shown first (shown_first_V)" if name == "position" else "the lengths of the items (lengths_I)"
        raise ConfigError(f"the model has a {name} coefficient, but the votes do not say {what}")
    return column_V


def objective(flat_X: Floats, votes: PairTable, model: PairModel, blur_A: Floats | None = None) -> tuple[float, Floats]:
    """Minus log posterior (up to a constant) and its gradient, shape (X,).

    blur_A: what each slope owes to the uncertainty of the scores it multiplies, the information-weighted posterior variance of the gaps
    that the annotator judged; half of blur_A slope^2 joins the loss (the E-step over the scores). Without it the joint mode lets many
    uncertain scores shrink while few slopes explode.
    """
    at = unflatten(flat_X, votes, model)
    found = [_slopes(at, part, model) for part in votes.parts or (votes,)]
    nll = float(sum(one[0] for one in found))
    by_gap_P = np.concatenate([one[1] for one in found])
    parts: dict[str, Floats] = {name: np.sum([one[2][name] for one in found], axis=0) for name in model.named}
    if blur_A is not None:
        slope_A = np.asarray(at.of("slope"))
        nll += 0.5 * float(blur_A @ slope_A**2)
        parts["slope"] = parts["slope"] + blur_A * slope_A
    if "slope" in parts:
        parts["slope"] = _centred(parts["slope"], votes)
    gradient_X = np.concatenate(
        [
            votes.difference_I(by_gap_P),
            np.array([parts[name].sum() for name in model.shared]),
            *(parts[name] for name in model.varied),
        ]
    )
    weighted_X = prior_precision(votes, model) * flat_X
    return nll + 0.5 * float(weighted_X @ flat_X), gradient_X + weighted_X


def _slopes(at: Coefficients, votes: PairTable, model: PairModel) -> tuple[float, Floats, dict[str, Floats]]:
    """Loss of these votes, its derivative by the gap of each pair, and by each coefficient (of each annotator)."""
    d_V, gap_V = logits(at, votes)
    nll, by_d_V, by_tie_V = _vote_loss(d_V, at, votes, model)
    slope = at.per_vote("slope", votes)
    by_gap_V = by_d_V if isinstance(slope, float) else by_d_V * slope
    parts: dict[str, Floats] = {}
    for name in model.named:
        by_V = by_tie_V if name == "tie" else by_d_V * (gap_V if name == "slope" else covariate(name, votes))
        parts[name] = _by_annotator(by_V, votes) if name in model.varied else np.array([by_V.sum()])
    return nll, votes.total_P(by_gap_V), parts


def log_likelihood(at: Coefficients, votes: PairTable, model: PairModel) -> float:
    """Sum of log probabilities of the votes, priors left out."""
    return -_vote_loss(logits(at, votes)[0], at, votes, model)[0]


def _by_annotator(values_V: Floats, votes: PairTable) -> Floats:
    return sums(votes.annotator_V, values_V, votes.n_annotators)


def _vote_loss(d_V: Floats, at: Coefficients, votes: PairTable, model: PairModel) -> tuple[float, Floats, Floats]:
    """Summed loss and its derivatives by d and by the tie coefficient."""
    if model.ties == "half":
        # log(1 + e^d) - win d, with the exponential of a negative number only.
        small_V = np.exp(-np.abs(d_V))
        if votes.weight_V is None:
            nll = float(np.log1p(small_V).sum() + np.maximum(d_V, 0.0).sum() - votes.win_V @ d_V)
        else:
            nll = float(votes.weight_V @ (np.log1p(small_V) + np.maximum(d_V, 0.0) - votes.win_V * d_V))
        small_V /= 1.0 + small_V
        return nll, votes.weighted(np.where(d_V >= 0, 1.0 - small_V, small_V) - votes.win_V), np.zeros(0)
    tie_V = np.broadcast_to(at.per_vote("tie", votes), d_V.shape)
    p_V, tied_V, log_total_V = davidson(d_V, tie_V)
    was_tied_V = votes.win_V == 0.5
    nll = float(votes.weighted(log_total_V - (votes.win_V - 0.5) * d_V - tie_V * was_tied_V).sum())
    return nll, votes.weighted(p_V + 0.5 * tied_V - votes.win_V), votes.weighted(tied_V - was_tied_V)


def davidson(d_V: Floats, tie_V: Floats) -> tuple[Floats, Floats, Floats]:
    """P(lo wins), P(tie) and the log of the summed weights exp(d / 2) + exp(-d / 2) + exp(tie); Davidson (1970)."""
    half_V = 0.5 * d_V
    top_V = np.maximum(np.abs(half_V), tie_V)
    up_V, down_V, tied_V = np.exp(half_V - top_V), np.exp(-half_V - top_V), np.exp(tie_V - top_V)
    total_V = up_V + down_V + tied_V
    return up_V / total_V, tied_V / total_V, np.log(total_V) + top_V


@dataclass(frozen=True, eq=False, slots=True)
class Information:
    """Expected (Fisher) information of each vote: about d, about the tie coefficient, and between the two."""

    d_V: Floats
    tie_V: Floats | None
    both_V: Floats | None


def information(at: Coefficients, votes: PairTable, model: PairModel) -> Information:
    """At `at`; always positive, unlike the observed curvature, whose extra term has expectation zero."""
    d_V, _ = logits(at, votes)
    if model.ties == "half":
        p_V = expit(d_V)
        return Information(votes.weighted(p_V * (1.0 - p_V)), None, None)
    p_V, tied_V, _ = davidson(d_V, np.broadcast_to(at.per_vote("tie", votes), d_V.shape))
    lead_V = 2.0 * p_V + tied_V - 1.0  # P(lo) - P(hi)
    terms = (0.25 * (1.0 - tied_V - lead_V**2), tied_V * (1.0 - tied_V), -0.5 * lead_V * tied_V)
    return Information(*(votes.weighted(term_V) for term_V in terms))


def pair_information(at: Coefficients, votes: PairTable, info: Information) -> Floats:
    """Information about the score gap of each pair, shape (P,): the weights of the graph Laplacian."""
    return votes.total_P(info.d_V * np.broadcast_to(at.per_vote("slope", votes), info.d_V.shape) ** 2)


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """Summed information of the votes: weight_P about the score gap of each pair (the weights of the graph Laplacian), own_AKK about each
    annotator's own deviations, prior included, shared about each common mean."""

    weight_P: Floats
    own_AKK: Floats
    shared: dict[str, float]


def evidence(at: Coefficients, votes: PairTable, model: PairModel) -> Evidence:
    """At `at`, in passes over the blocks of the votes."""
    weights, totals = [], dict.fromkeys(model.shared, 0.0)
    n, n_own = votes.n_annotators, len(model.varied)
    own_AKK = np.zeros((n, n_own, n_own))
    for part in votes.parts or (votes,):
        info = information(at, part, model)
        weights.append(pair_information(at, part, info))
        own_AKK += _annotator_information(at, part, model, info)
        for name in model.shared:
            by_V = info.tie_V if name == "tie" else info.d_V * covariate(name, part) ** 2
            assert by_V is not None  # a tie coefficient exists only with Davidson's information
            totals[name] += float(by_V.sum())
    own_AKK[:, np.arange(n_own), np.arange(n_own)] += np.array([getattr(model.spreads, name) ** -2 for name in model.varied])
    return Evidence(np.concatenate(weights), own_AKK, totals)


def blur(at: Coefficients, votes: PairTable, model: PairModel, gap_variance_P: Floats) -> Floats:
    """What each slope owes to the uncertainty of the scores, shape (A,): see `objective`."""
    total_A, done = np.zeros(votes.n_annotators), 0
    for part in votes.parts or (votes,):
        info = information(at, part, model)
        own_P = gap_variance_P[done : done + len(part.lo_P)]
        total_A += _by_annotator(info.d_V * part.spread_V(own_P), part)
        done += len(part.lo_P)
    return total_A


def _annotator_information(at: Coefficients, votes: PairTable, model: PairModel, info: Information) -> Floats:
    """Information about each annotator's own deviations, shape (A, K, K)."""
    names = model.varied
    _, gap_V = logits(at, votes)
    columns = {"slope": gap_V} | {name: covariate(name, votes) for name in names if name in ("position", "length")}
    matrix_AKK = np.zeros((votes.n_annotators, len(names), len(names)))
    for k, first in enumerate(names):
        for m, second in enumerate(names[: k + 1]):
            if first == "tie":
                by_V = info.tie_V if second == "tie" else _product(info.both_V, columns[second])
            else:
                by_V = _product(info.d_V, columns[first], columns[second])
            assert by_V is not None  # a tie coefficient exists only with Davidson's information
            matrix_AKK[:, k, m] = matrix_AKK[:, m, k] = _by_annotator(by_V, votes)
    return matrix_AKK


def coupling(at: Coefficients, votes: PairTable, model: PairModel, info: Information, own_AKK: Floats) -> csr_array:
    """What scores and annotators' deviations know of each other, B C^(-1/2), shape (I, A K): B is the information about both, own_AKK
    is C. With a Cholesky factor L of C's inverse, B L: the marginal precision of the scores is their own less its square."""
    names = model.varied
    _, gap_V = logits(at, votes)
    slope_V = np.broadcast_to(at.per_vote("slope", votes), gap_V.shape)
    factor_AKK = np.linalg.cholesky(np.linalg.inv(own_AKK))
    by_V = {}
    for name in names:
        by_V[name] = info.both_V if name == "tie" else info.d_V * (gap_V if name == "slope" else covariate(name, votes))
    values_VK = slope_V[:, None] * np.stack([np.asarray(by_V[name]) for name in names], axis=1)
    values_VK = np.einsum("vk,vkm->vm", values_VK, factor_AKK[votes.annotator_V])
    columns_VK = votes.annotator_V[:, None].astype(np.int64) * len(names) + np.arange(len(names))
    lo_V, hi_V = (np.repeat(x, votes.n_votes_P)[:, None] for x in (votes.lo_P, votes.hi_P))
    rows = np.concatenate([np.broadcast_to(x, columns_VK.shape).ravel() for x in (lo_V, hi_V)])
    data = np.concatenate([values_VK.ravel(), -values_VK.ravel()])
    shape = (votes.n_items, votes.n_annotators * len(names))
    return coo_array((data, (rows, np.tile(columns_VK.ravel(), 2))), shape).tocsr()


def _product(first_V: Floats | None, *others: Floats) -> Floats | None:
    result = first_V
    for other in others:
        result = None if result is None else result * other
    return result


def curvature_diagonal(at: Coefficients, votes: PairTable, model: PairModel) -> Floats:
    """Diagonal of the information plus the prior, shape (X,): what the optimiser scales by."""
    told = evidence(at, votes, model)
    items_I = votes.degree_I(told.weight_P) + model.spreads.score**-2
    means = [total + MEAN_SD**-2 for total in told.shared.values()]
    return np.concatenate([items_I, means, *(told.own_AKK[:, k, k] for k in range(len(model.varied)))])
