"""The models that `choose` pools: three that differ in what they assume about annotators and about how common the labels are.

Why three: with few votes a competence model decides best, with many a confusion matrix; where raters overuse one label a flattened
prior is right, where that label is common it is wrong. Pooled, they are never far from the best of them on the public crowd sets.

Legend: I items, A annotators, K labels of an item, L labels voted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preferent.annotators.dawid_skene import dirichlet_step, fit_shrunk
from preferent.annotators.em import Cells, Fit, Parameters, e_step, normalised, observed_alpha, run_em, with_warmup
from preferent.annotators.mace import fit_competence, structured
from preferent.core.records import Floats

TOLERANCE, ITERATIONS = 1e-5, 40
PULL, STRENGTH, WEAK = 4.0, 30.0, 10.0
FLAT = 0.5


@dataclass(frozen=True, eq=False)
class Member:
    """One fitted model of the panel. alpha_AKL: its Dirichlet posterior of the confusions."""

    name: str
    fit: Fit
    alpha_AKL: Floats

    @property
    def drifted(self) -> bool:
        """Whether, for the crowd as this model sees it, some label's items are mostly voted otherwise."""
        pooled_KL = normalised(self.alpha_AKL.sum(axis=0))
        return bool((np.diag(pooled_KL) < 0.5 * pooled_KL.max(axis=1)).any())


def fit_panel(cells: Cells, start_IK: Floats) -> list[Member]:
    """Competence, confusion with the competence's prior, and Dawid-Skene shrunk to the crowd; a drifted one is left out."""
    competence = fit_competence(cells, start_IK, pull=PULL, anchor=0.3, flat=FLAT, warmup=8, iterations=ITERATIONS)
    c_A, xi_AL = competence.parameters.extra[:2]
    theta_AKL = structured(c_A, xi_AL)
    votes_A = cells.counts(competence.p_IK**2).sum(axis=(1, 2))
    members = [Member("competence", competence, theta_AKL * (votes_A + PULL)[:, None, None])]
    hybrid, prior_AKL = _fit_hybrid(cells, start_IK, competence.p_IK, theta_AKL)
    members.append(Member("confusion around competence", hybrid, observed_alpha(cells, hybrid.p_IK, prior_AKL)))
    fit, prior_KL = fit_shrunk(cells, start_IK, strength=WEAK, anchor=1.0, tolerance=TOLERANCE, max_iterations=ITERATIONS)
    members.append(Member("dawid-skene", fit, observed_alpha(cells, fit.p_IK, prior_KL + 1e-3)))
    sound = [member for member in members if not member.drifted]
    return sound or members[:1]


def _fit_hybrid(cells: Cells, start_IK: Floats, p_IK: Floats, theta_AKL: Floats, *, anchor: float = 0.3) -> tuple[Fit, Floats]:
    """(fit, prior pseudo-counts): Dawid-Skene whose prior for each annotator lies half way from the crowd's confusion to her own
    competence model's."""
    first_KL, mass_K = cells.counts(start_IK).sum(axis=0) + 0.1, start_IK.sum(axis=0)
    prior_AKL, pi_K = theta_AKL, normalised(mass_K)
    warmup = 6
    for _ in range(warmup):
        counts_AKL = cells.counts(p_IK)
        pooled_KL = normalised(counts_AKL.sum(axis=0) + first_KL)
        prior_AKL = STRENGTH * 0.5 * (theta_AKL + pooled_KL) + 1e-3
        pi_K = normalised(normalised(p_IK.sum(axis=0) + anchor * mass_K + 1.0) ** FLAT)
        p_IK = e_step(cells, Parameters(normalised(counts_AKL + prior_AKL), pi_K, 0.0))[0]
    step = dirichlet_step(prior_AKL, pi_K=pi_K)
    return with_warmup(run_em(cells, p_IK, step, tolerance=TOLERANCE, max_iterations=ITERATIONS), warmup), prior_AKL
