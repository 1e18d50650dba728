"""Utility of a response as a distribution: what people disagree about when nothing is known of who they are.

Mean-variance model of distributional preference learning (Siththaranjan et al. 2023, "Distributional preference learning"): whoever
votes sees utilities u_i ~ N(mu_i, sd_i^2), drawn anew with the hidden context (who asks, what they value), and prefers the larger:

    P(lo beats hi) = Phi((mu_lo - mu_hi) / sqrt(sd_lo^2 + sd_hi^2))

mu ~ N(0, score^2) and log sd_i ~ N(log 0.85, spread^2) fix the scale: with sd 0.85 on both sides Phi(x / 1.2) is about the logistic of
1.42 x; reported means are in these units. A tie counts half for each side.

Legend: I items, P pairs, K groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr, ndtri

from preferent.annotators.bradley_terry import Banded, Settings, band, scaled_lbfgs
from preferent.annotators.graph import Graph, Ints, PairTable, PairVotes, describe, pair_table, sums
from preferent.annotators.hidden_spread import DENSE, hidden_spread, standardised
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

BASE_SD = 0.85
SCORE_SD = 1.5
_LOG_ROOT = 0.5 * np.log(2.0 * np.pi)


@dataclass(frozen=True, eq=False, slots=True)
class Distributional:
    """mean and sd of each item's utility, shape (I,), with 95 % intervals (NaN where there are none; `intervals` says how they were
    made). hidden: share of the variance of utility that hidden context explains,
    mean(sd^2) / (var(mean) + mean(sd^2)), 1 - r^2 of the paper. notes: what the reader must know."""

    mean: Banded
    sd: Banded
    hidden: float
    converged: bool
    iterations: int
    log_likelihood: float
    intervals: str
    notes: tuple[str, ...]

    @property
    def mean_I(self) -> Floats:
        return self.mean.value

    @property
    def sd_I(self) -> Floats:
        return self.sd.value

    def quantile(self, q: float) -> Floats:
        """The utility that a share q of contexts falls short of, shape (I,): rank by a low one to be averse to risk."""
        if not 0.0 < q < 1.0:
            raise ConfigError(f"quantile {q!r}, allowed are numbers in (0, 1)")
        return self.mean_I + float(ndtri(q)) * self.sd_I


@dataclass(frozen=True, eq=False, kw_only=True)
class DistributionalFit(Distributional):
    """p_lo: chance that the item lo_P of each pair that was judged is preferred to hi_P by whoever votes next, with its interval."""

    lo_P: Ints
    hi_P: Ints
    p_lo: Banded
    graph: Graph


def across_groups(scores_KI: ArrayLike, weight_K: ArrayLike) -> Distributional:
    """Mean and sd of utility over known or found groups: no assumption beyond the groups' scores (logits)."""
    scores, weight = np.asarray(scores_KI, dtype=np.float64), np.asarray(weight_K, dtype=np.float64)
    if scores.ndim != 2 or weight.shape != scores.shape[:1] or weight.min() < 0.0 or not weight.sum() > 0.0:
        raise ConfigError(f"across_groups: scores (K, I) and weights (K,) >= 0, got shapes {scores.shape} and {weight.shape}")
    weight = weight / weight.sum()
    mean_I = weight @ scores
    sd_I = np.sqrt(weight @ (scores - mean_I) ** 2)
    nan_I = np.full(mean_I.shape, np.nan)
    mean, sd, how = Banded(mean_I, nan_I, nan_I), Banded(sd_I, nan_I, nan_I), "none: the groups' scores are taken as known"
    return Distributional(mean, sd, _hidden(mean_I, sd_I), True, 0, float("nan"), how, ("from the groups' scores, no fit of its own",))


def _hidden(mean_I: Floats, sd_I: Floats) -> float:
    inside, between = float(np.mean(sd_I**2)), float(np.var(mean_I))
    return inside / (inside + between) if inside + between > 0.0 else float("nan")


def fit_distributional(
    votes: PairVotes, *, score: float = SCORE_SD, spread: float = 0.5, settings: Settings | None = None
) -> DistributionalFit:
    """MAP of mean and sd per item. The sd of an item is told only by pairs of different difficulty: with few votes it stays at its
    prior, and the notes say how many items moved. Votes count by their weights."""
    if not (score > 0.0 and spread > 0.0):
        raise ConfigError(f"fit_distributional: score={score!r}, spread={spread!r}, allowed are numbers > 0")
    settings, table = settings or Settings(), pair_table(votes)
    n, graph = table.n_items, describe(table)
    mass_I = table.degree_I(table.mass_P)
    scale = 1.0 / np.sqrt(np.concatenate([0.5 * mass_I + score**-2, 0.1 * mass_I + spread**-2]))
    found, ended = scaled_lbfgs(
        lambda x: distributional_objective(x, table, score, spread),
        np.zeros(2 * n),
        scale,
        tolerance=settings.tolerance,
        max_iterations=settings.max_iterations,
    )
    mean_I, sd_I = found[:n], BASE_SD * np.exp(found[n:])
    moved = int((np.abs(found[n:]) > spread).sum())
    notes = [*graph.notes(), f"{moved} of {n} items have a spread that differs from the prior's by more than its sd"]
    if not ended.converged:
        notes.append(f"not converged in {ended.iterations} steps; raise max_iterations")
    likelihood = ended.log_posterior + 0.5 * float((mean_I**2).sum() / score**2 + (found[n:] ** 2).sum() / spread**2)
    told = hidden_spread(mean_I, sd_I, table, graph, (score, spread))
    z = band(standardised(mean_I, sd_I, table)[0], np.sqrt(told.z_P))
    log = band(found[n:], np.sqrt(told.log_I))
    own = (band(mean_I, np.sqrt(told.mean_I)), log.map(lambda values: BASE_SD * np.exp(values)), _hidden(mean_I, sd_I))
    how = "95 %, Laplace" + ("" if told.exact else f"; too narrow in components of more than {DENSE // 2:,} responses")
    ends = (ended.converged, ended.iterations, likelihood, how, tuple(notes))
    return DistributionalFit(*own, *ends, lo_P=table.lo_P, hi_P=table.hi_P, p_lo=z.map(ndtr), graph=graph)


def distributional_objective(flat: Floats, table: PairTable, score: float, spread: float) -> tuple[float, Floats]:
    """Minus log posterior and gradient by (mean_I, log of sd_I / BASE_SD)."""
    n = table.n_items
    mean_I, log_I = flat[:n], flat[n:]
    variance_I = BASE_SD**2 * np.exp(2.0 * log_I)
    total_P = variance_I[table.lo_P] + variance_I[table.hi_P]
    z_P = (mean_I[table.lo_P] - mean_I[table.hi_P]) / np.sqrt(total_P)
    win_P = table.total_P(table.weighted(table.win_V))
    loss_P = table.mass_P - win_P
    log_win_P, log_loss_P = log_ndtr(z_P), log_ndtr(-z_P)
    log_density_P = -0.5 * z_P**2 - _LOG_ROOT
    by_z_P = -win_P * np.exp(log_density_P - log_win_P) + loss_P * np.exp(log_density_P - log_loss_P)
    by_total_P = by_z_P * z_P * -0.5 / total_P
    onto_I = sums(table.lo_P, by_total_P, n) + sums(table.hi_P, by_total_P, n)
    gradient = np.concatenate(
        [table.difference_I(by_z_P / np.sqrt(total_P)) + mean_I / score**2, onto_I * 2.0 * variance_I + log_I / spread**2]
    )
    value = -float(win_P @ log_win_P + loss_P @ log_loss_P) + 0.5 * float((mean_I**2).sum() / score**2 + (log_I**2).sum() / spread**2)
    return value, gradient
