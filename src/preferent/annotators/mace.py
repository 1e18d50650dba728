"""MACE (Hovy et al. 2013): an annotator either knows the label or writes down something of her own.

theta_akl = c_a [k = l] + (1 - c_a) xi_al: competence c and a habit xi. It has far fewer parameters than a confusion matrix and so does
well with few votes per annotator. Here by variational Bayes on the shared EM, everything in logarithms.

Legend: I items, A annotators, K labels of an item, L labels voted.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, digamma, gammaln

from preferent.annotators.dawid_skene import INTERVAL, beta_interval, drift_notes
from preferent.annotators.em import (
    Cells,
    Fit,
    MStep,
    Parameters,
    cells_of,
    e_step,
    log_prior_of,
    normalised,
    posterior_interval,
    run_em,
    shares,
    with_warmup,
)
from preferent.annotators.labels import AnnotatorEstimates, LabelResult, item_notes
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

TINY = 1e-12


def mace(
    table: VoteTable,
    *,
    rng: np.random.Generator,
    restarts: int = 10,
    competence: tuple[float, float] = (0.5, 0.5),
    habit: float = 10.0,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> LabelResult:
    """Soft labels by variational Bayes, the best of several starts.

    Priors: c_a ~ Beta(competence), xi_a ~ Dirichlet(habit / L for each label), labels uniform (all as in the paper). The first start is
    the share of the vote, the others give every annotator a random competence and habit drawn from `rng`; the start with the highest
    bound wins and the spread of the bounds is told in the notes. Source: Hovy et al. (2013), section 3. Raises ConfigError, DataError.
    """
    if restarts < 1 or min(competence) <= 0 or habit <= 0:
        raise ConfigError(f"mace: restarts={restarts!r} (>= 1), competence={competence!r}, habit={habit!r} (> 0)")
    cells, n_labels = cells_of(table), table.n_labels
    xi_prior_L = np.full(n_labels, habit / n_labels)
    fits = []
    for restart in range(restarts):
        if restart == 0:
            start_IK, first = shares(table), None
        else:
            c_A = rng.beta(2.0, 1.0, table.n_annotators)
            xi_AL = rng.dirichlet(np.ones(n_labels), table.n_annotators)
            first = _bounds((c_A, 1.0 - c_A), xi_AL, 0.0, n_labels)
            start_IK = e_step(cells, first)[0]
        step = _variational_step(competence, xi_prior_L)
        fits.append(run_em(cells, start_IK, step, tolerance=tolerance, max_iterations=max_iterations, first=first))
    bounds = np.array([fit.convergence.trace[-1] for fit in fits])
    # A later start must beat the first by more than the tolerance, so that chance does not decide between equal answers.
    won = int(np.flatnonzero(bounds >= bounds.max() - tolerance * (1.0 + abs(bounds.max())))[0])
    fit = fits[won]
    note = f"{restarts} starts, bounds {bounds.min():.2f} to {bounds.max():.2f}; start {won + 1} is taken"
    c_A, n_A, xi_AL = fit.parameters.extra[:3]
    return competent_result(table, cells, fit, f"mace ({restarts} starts)", (c_A, n_A, xi_AL), (note,))


def competent_result(
    table: VoteTable, cells: Cells, fit: Fit, name: str, posterior: tuple[Floats, Floats, Floats], notes: tuple[str, ...]
) -> LabelResult:
    """`posterior`: mean competence, how many votes it rests on, mean habit."""
    c_A, n_A, xi_AL = posterior
    theta_AKL = structured(c_A, xi_AL)
    alpha_AKL = theta_AKL * n_A[:, None, None]
    low_IK, high_IK = posterior_interval(cells, fit.p_IK, np.maximum(alpha_AKL, 1e-3))
    pi_K = fit.p_IK.mean(axis=0)
    mean_A = np.einsum("akk->ak", theta_AKL) @ pi_K
    low_A, high_A = beta_interval(mean_A, mean_A * (1.0 - mean_A) / (n_A + 1.0))
    annotators = AnnotatorEstimates(table.annotators, table.votes_A, mean_A, low_A, high_A, alpha_AKL)
    notes = (*item_notes(table), *drift_notes(table, alpha_AKL), *notes)
    return LabelResult(
        name, table.items, table.labels, fit.p_IK, low_IK, high_IK, table.votes_I, fit.convergence, INTERVAL, annotators, notes
    )


def structured(c_A: Floats, xi_AL: Floats) -> Floats:
    """The confusions of competences and habits, shape (A, K, L)."""
    theta_AKL = np.repeat(((1.0 - c_A)[:, None] * xi_AL)[:, None, :], xi_AL.shape[1], axis=1)
    diagonal = np.arange(xi_AL.shape[1])
    theta_AKL[:, diagonal, diagonal] += c_A[:, None]
    return theta_AKL + TINY


def _responsible(counts_AKL: Floats, know_A: Floats, guess_AL: Floats) -> tuple[Floats, Floats]:
    """(votes given from knowledge (A,), votes given from habit (A, L)): a right vote is known with chance know / (know + guess)."""
    right_AL = np.einsum("akk->ak", counts_AKL)
    known_AL = right_AL * (know_A[:, None] / (know_A[:, None] + guess_AL))
    return known_AL.sum(axis=1), counts_AKL.sum(axis=1) - known_AL


def _bounds(c: tuple[Floats, Floats], xi_AL: Floats, log_prior: float, n_labels: int, extra: tuple[Floats, ...] = ()) -> Parameters:
    """Parameters from (weight of knowing, weight of not knowing) and habit weights, which need not sum to 1."""
    guess_AL = c[1][:, None] * xi_AL
    theta_AKL = np.repeat(guess_AL[:, None, :], n_labels, axis=1)
    diagonal = np.arange(n_labels)
    theta_AKL[:, diagonal, diagonal] += c[0][:, None]
    return Parameters(theta_AKL + TINY, np.full(n_labels, 1.0 / n_labels), log_prior, (c[0], guess_AL, *extra))


def _variational_step(competence: tuple[float, float], xi_prior_L: Floats) -> MStep:
    """Coordinate ascent of the evidence bound; `log_prior` is minus the divergence of the posteriors from their priors."""

    def step(counts_AKL: Floats, mass_K: Floats, last: Parameters | None) -> Parameters:
        n_annotators, _, n_labels = counts_AKL.shape
        weights = (np.full(n_annotators, 0.5), np.full((n_annotators, n_labels), 0.5 / n_labels)) if last is None else _weights(last)
        known_A, habit_AL = _responsible(counts_AKL, *weights)
        a_A, b_A = competence[0] + known_A, competence[1] + habit_AL.sum(axis=1)
        x_AL = xi_prior_L + habit_AL
        log_c_A, log_not_A = digamma(a_A) - digamma(a_A + b_A), digamma(b_A) - digamma(a_A + b_A)
        log_xi_AL = digamma(x_AL) - digamma(x_AL.sum(axis=1, keepdims=True))
        divergence = _beta_kl(a_A, b_A, competence, log_c_A, log_not_A) + _dirichlet_kl(x_AL, xi_prior_L, log_xi_AL)
        means = (a_A / (a_A + b_A), a_A + b_A, normalised(x_AL))
        bounds = _bounds((np.exp(log_c_A), np.exp(log_not_A)), np.exp(log_xi_AL), -divergence, n_labels)
        return Parameters(bounds.theta_AKL, bounds.pi_K, bounds.log_prior, means + bounds.extra)

    return step


def _weights(last: Parameters) -> tuple[Floats, Floats]:
    """(know_A, guess_AL): the last two of the extra."""
    return last.extra[-2], last.extra[-1]


def _beta_kl(a_A: Floats, b_A: Floats, prior: tuple[float, float], log_c_A: Floats, log_not_A: Floats) -> float:
    difference = betaln(*prior) - betaln(a_A, b_A) + (a_A - prior[0]) * log_c_A + (b_A - prior[1]) * log_not_A
    return float(difference.sum())


def _dirichlet_kl(x_AL: Floats, prior_L: Floats, log_xi_AL: Floats) -> float:
    normalisers_A = gammaln(x_AL.sum(axis=1)) - gammaln(x_AL).sum(axis=1) - gammaln(prior_L.sum()) + gammaln(prior_L).sum()
    return float(normalisers_A.sum() + ((x_AL - prior_L) * log_xi_AL).sum())


def fit_competence(cells: Cells, start_IK: Floats, *, pull: float, anchor: float, flat: float, warmup: int, iterations: int) -> Fit:
    """Maximum a posteriori with priors that the warm-up takes from the crowd, for the panel of `choose`.

    c_a is shrunk by `pull` votes to the crowd's competence and xi_a to its habit; the labels' prior is that of the shares and the fit
    (`anchor` says how much stays with the shares) to the power `flat`, because crowds overuse their commonest label. `parameters.extra`
    is (c_A, xi_AL, know, guess).
    """
    n_annotators = cells.n_annotators
    mass_K, p_IK = start_IK.sum(axis=0), start_IK
    c_A, xi_AL = np.full(n_annotators, 0.5), np.tile(normalised(mass_K + 1.0), (n_annotators, 1))
    crowd_c, crowd_L, pi_K = 0.5, normalised(mass_K + 1.0), normalised(mass_K + 1.0)
    for _ in range(warmup):
        known_A, habit_AL = _responsible(cells.counts(p_IK), c_A, (1.0 - c_A)[:, None] * xi_AL)
        n_A = known_A + habit_AL.sum(axis=1)
        crowd_c, crowd_L = (known_A.sum() + 1.0) / (n_A.sum() + 2.0), normalised(habit_AL.sum(axis=0) + 1.0)
        c_A, xi_AL = (known_A + pull * crowd_c) / (n_A + pull), normalised(habit_AL + pull * crowd_L)
        pi_K = normalised(normalised(p_IK.sum(axis=0) + anchor * mass_K + 1.0) ** flat)
        p_IK = e_step(cells, Parameters(structured(c_A, xi_AL), pi_K, 0.0))[0]

    def step(counts_AKL: Floats, mass_K: Floats, last: Parameters | None) -> Parameters:
        know_A, guess_AL = (c_A, (1.0 - c_A)[:, None] * xi_AL) if last is None else _weights(last)
        known_A, habit_AL = _responsible(counts_AKL, know_A, guess_AL)
        c = (known_A + pull * crowd_c) / (known_A + habit_AL.sum(axis=1) + pull)
        xi = normalised(habit_AL + pull * crowd_L)
        log_prior = log_prior_of(np.array([pull * crowd_c]), c) + log_prior_of(np.array([pull * (1.0 - crowd_c)]), 1.0 - c)
        log_prior += log_prior_of(pull * crowd_L, xi)
        return Parameters(structured(c, xi), pi_K, log_prior, (c, xi, c, (1.0 - c)[:, None] * xi))

    return with_warmup(run_em(cells, p_IK, step, tolerance=1e-5, max_iterations=iterations), warmup)
