"""Dawid and Skene (1979): every annotator has a confusion matrix. Maximum likelihood, maximum a posteriori, shrunk, one coin.

Plain maximum likelihood decides well and is a poor probability: with few votes per annotator its confusions are extreme. The default
shrinks every annotator towards the crowd's pooled confusion.

Legend: I items, A annotators, K labels of an item, L labels voted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import betaincinv

from preferent.annotators.em import (
    Cells,
    Fit,
    MStep,
    Parameters,
    cells_of,
    e_step,
    log_prior_of,
    normalised,
    observed_alpha,
    posterior_interval,
    run_em,
    shares,
    with_warmup,
)
from preferent.annotators.labels import AnnotatorEstimates, LabelResult, item_notes
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

FLOOR = 1e-3
INTERVAL = "95 % interval of the posterior over the uncertainty of the annotators' confusions"
Form = Literal["ml", "map", "shrunk", "one-coin"]


def dawid_skene(
    table: VoteTable,
    form: Form = "shrunk",
    *,
    strength: float = 4.0,
    anchor: float = 0.3,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> LabelResult:
    """Soft labels and confusions by EM, started from the shares of the vote.

    form: "ml" maximum likelihood (a floor of .001 votes keeps logarithms finite); "map" Dirichlet priors of .1 votes per cell and one
    more on the diagonal; "shrunk" (default) Dirichlet priors of `strength` votes centred on the pooled confusion, which is found in a
    warm-up in which `anchor` of its mass stays with the shares of the vote, so that a label keeps its meaning; "one-coin" one accuracy
    per annotator, errors spread evenly, shrunk by `strength` votes to the crowd's. pi has one extra vote per label. Source: Dawid and
    Skene (1979), eq. 2.3 to 2.5; one coin: Zhang et al. (2014). Raises ConfigError, DataError (mixed objectives), FitError.
    """
    if strength < 0 or anchor < 0 or form not in ("ml", "map", "shrunk", "one-coin"):
        raise ConfigError(f"dawid_skene: form={form!r} (ml, map, shrunk, one-coin), strength={strength!r}, anchor={anchor!r} (>= 0)")
    cells = cells_of(table)
    if form == "shrunk":
        fit, prior = fit_shrunk(cells, shares(table), strength=strength, anchor=anchor, tolerance=tolerance, max_iterations=max_iterations)
    elif form == "one-coin":
        fit, prior = _fit_one_coin(cells, shares(table), strength, tolerance, max_iterations), np.zeros(())
    else:
        n = cells.n_labels
        prior = np.full((n, n), FLOOR) if form == "ml" else 0.1 + np.eye(n)
        fit = run_em(cells, shares(table), dirichlet_step(prior), tolerance=tolerance, max_iterations=max_iterations)
    if form == "one-coin":
        alpha_AKL = _one_coin_alpha(table, fit, strength)
    else:
        alpha_AKL = observed_alpha(cells, fit.p_IK, prior + (FLOOR if form == "shrunk" else 0.0))
    low_IK, high_IK = posterior_interval(cells, fit.p_IK, alpha_AKL)
    name = f"dawid-skene ({form}{f', strength {strength:g}' if form in ('shrunk', 'one-coin') else ''})"
    return LabelResult(
        name,
        table.items,
        table.labels,
        fit.p_IK,
        low_IK,
        high_IK,
        table.votes_I,
        fit.convergence,
        INTERVAL,
        reliability_from(table, alpha_AKL, fit.p_IK.mean(axis=0)),
        (*item_notes(table), *drift_notes(table, alpha_AKL)),
    )


def dirichlet_step(prior: Floats, *, pi_counts_K: Floats | None = None, pi_K: Floats | None = None) -> MStep:
    """The M-step under Dirichlet priors with parameters 1 + prior on every confusion row and 1 + pi_counts on pi (or pi fixed)."""

    def step(counts_AKL: Floats, mass_K: Floats, last: Parameters | None) -> Parameters:
        theta_AKL = normalised(counts_AKL + prior)
        more_K = np.ones(len(mass_K)) if pi_counts_K is None else pi_counts_K
        new_K = normalised(mass_K + more_K) if pi_K is None else pi_K
        log_prior = log_prior_of(np.broadcast_to(prior, theta_AKL.shape), theta_AKL)
        return Parameters(theta_AKL, new_K, log_prior + (log_prior_of(more_K, new_K) if pi_K is None else 0.0))

    return step


def fit_shrunk(
    cells: Cells, start_IK: Floats, *, strength: float, anchor: float, tolerance: float, max_iterations: int, warmup: int = 8
) -> tuple[Fit, Floats]:
    """(fit, prior pseudo-counts (K, L)): EM with confusions shrunk to the pooled one, which the warm-up estimates and then holds."""
    first_KL = cells.counts(start_IK).sum(axis=0) + 0.1
    p_IK, pooled_KL, mass_K = start_IK, normalised(first_KL), start_IK.sum(axis=0)
    del start_IK  # a million votes: every array over the items that nobody needs is megabytes
    for _ in range(warmup):
        counts_AKL = cells.counts(p_IK)
        pooled_KL = normalised(counts_AKL.sum(axis=0) + 0.1 + anchor * first_KL)
        pi_K = normalised(p_IK.sum(axis=0) + anchor * mass_K + 1.0)
        p_IK = e_step(cells, Parameters(normalised(counts_AKL + strength * pooled_KL + FLOOR), pi_K, 0.0))[0]
    prior_KL = strength * pooled_KL
    step = dirichlet_step(prior_KL + FLOOR, pi_counts_K=anchor * mass_K + 1.0)
    fit = run_em(cells, p_IK, step, tolerance=tolerance, max_iterations=max(1, max_iterations - warmup))
    return with_warmup(fit, warmup), prior_KL


def _fit_one_coin(cells: Cells, start_IK: Floats, strength: float, tolerance: float, max_iterations: int) -> Fit:
    """One accuracy per annotator; its prior is a Beta centred on the accuracy that the shares of the vote give the crowd."""
    n_labels = cells.n_labels
    counts_AKL = cells.counts(start_IK)
    mean = float((np.einsum("akk->", counts_AKL) + 1.0) / (counts_AKL.sum() + 2.0))
    right, wrong = strength * mean, strength * (1.0 - mean)

    def step(counts_AKL: Floats, mass_K: Floats, last: Parameters | None) -> Parameters:
        right_A, all_A = np.einsum("akk->a", counts_AKL), counts_AKL.sum(axis=(1, 2))
        accuracy_A = np.clip((right_A + right + FLOOR) / (all_A + strength + 2 * FLOOR), FLOOR, 1.0 - FLOOR / n_labels)
        theta_AKL = _coin(accuracy_A, n_labels)
        pi_K = normalised(mass_K + 1.0)
        log_prior = log_prior_of(np.array([right + FLOOR]), accuracy_A) + log_prior_of(np.array([wrong + FLOOR]), 1.0 - accuracy_A)
        return Parameters(theta_AKL, pi_K, log_prior + log_prior_of(np.ones(n_labels), pi_K), (accuracy_A, np.array([mean])))

    return run_em(cells, start_IK, step, tolerance=tolerance, max_iterations=max_iterations)


def _coin(accuracy_A: Floats, n_labels: int) -> Floats:
    eye = np.eye(n_labels)
    return accuracy_A[:, None, None] * eye + (1.0 - accuracy_A)[:, None, None] * (1.0 - eye) / max(1, n_labels - 1)


def _one_coin_alpha(table: VoteTable, fit: Fit, strength: float) -> Floats:
    """A Dirichlet for every row that is as sure as the coin is: the votes of all rows, worth their observed information (Louis 1982)."""
    accuracy_A = fit.parameters.extra[0]
    right_V, a_V = fit.p_IK[table.item_V, table.label_V], accuracy_A[table.annotator_V]
    told_V = (right_V / a_V - (1.0 - right_V) / (1.0 - a_V)) ** 2
    told_V *= (table.votes_I > 1)[table.item_V] if table.weight_V is None else (table.votes_I > 1)[table.item_V] * table.weight_V
    size_A = np.bincount(table.annotator_V, told_V, table.n_annotators) * accuracy_A * (1.0 - accuracy_A)
    return _coin(accuracy_A, table.n_labels) * (size_A + strength + FLOOR)[:, None, None]


def reliability_from(table: VoteTable, alpha_AKL: Floats, pi_K: Floats) -> AnnotatorEstimates:
    """Reliability, the chance of voting an item's label, from Dirichlet posteriors: the mean over labels as frequent as pi.

    The interval is that of a Beta distribution with the same mean and variance.
    """
    total_AK = alpha_AKL.sum(axis=-1)
    right_AK = np.einsum("akk->ak", alpha_AKL) / total_AK
    mean_A = right_AK @ pi_K
    variance_A = (right_AK * (1.0 - right_AK) / (total_AK + 1.0)) @ pi_K**2
    low_A, high_A = beta_interval(mean_A, variance_A)
    return AnnotatorEstimates(table.annotators, table.votes_A, mean_A, low_A, high_A, alpha_AKL)


def beta_interval(mean: Floats, variance: Floats, chance: float = 0.95) -> tuple[Floats, Floats]:
    """Central interval of the Beta distribution with this mean and variance."""
    mean = np.clip(mean, 1e-6, 1.0 - 1e-6)
    size = np.maximum(mean * (1.0 - mean) / np.maximum(variance, 1e-12) - 1.0, 1e-3)
    tail = (1.0 - chance) / 2
    return betaincinv(mean * size, (1.0 - mean) * size, tail), betaincinv(mean * size, (1.0 - mean) * size, 1.0 - tail)


def drift_notes(table: VoteTable, alpha_AKL: Floats) -> tuple[str, ...]:
    """A warning for every label whose items are, for the crowd, mostly voted otherwise: that class no longer means its name."""
    pooled_KL = normalised(alpha_AKL.sum(axis=0))
    lost = [k for k in range(len(pooled_KL)) if pooled_KL[k, k] < pooled_KL[:, k].max() or pooled_KL[k, k] < 0.5 * pooled_KL[k].max()]
    return tuple(
        f"label {table.labels[k]!r} has drifted: on its items the crowd votes {table.labels[int(pooled_KL[k].argmax())]!r} more often"
        for k in lost
    )
