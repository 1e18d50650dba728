"""GLAD (Whitehill et al. 2009): annotators have an ability, items a difficulty.

An annotator of ability alpha votes the item's label with chance sigmoid(alpha exp(ease)); errors fall evenly on the other labels. A
negative ability is an adversary. Fitted by maximising the marginal likelihood itself with its exact gradient (no inner loops).

Legend: V votes, I items, A annotators, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from preferent.annotators.convergence import Convergence
from preferent.annotators.dawid_skene import INTERVAL
from preferent.annotators.em import normalised, shares
from preferent.annotators.labels import Z95, AnnotatorEstimates, LabelResult, item_notes
from preferent.annotators.majority import own_weight
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError
from preferent.core.records import Floats


@dataclass(frozen=True, eq=False)
class GladModel:
    """The objective: log-likelihood of all votes, labels summed out, plus log priors alpha ~ N(1, spread^2), ease ~ N(0, spread^2).

    `pi_L` is held at the shares of the vote (one extra vote per label).
    """

    table: VoteTable
    weight_V: Floats
    pi_L: Floats
    spread: tuple[float, float]

    def posterior(self, x: Floats) -> tuple[Floats, Floats, Floats, float]:
        """(p_IL, logit_V, ease_I, log-likelihood)."""
        table = self.table
        alpha_A, ease_I = x[: table.n_annotators], np.exp(x[table.n_annotators :])
        logit_V = alpha_A[table.annotator_V] * ease_I[table.item_V]
        # A vote for l multiplies the odds of l against any other label by (L - 1) exp(logit).
        odds_V = (logit_V + np.log(max(1, table.n_labels - 1))) * self.weight_V
        score_IL = np.bincount(_cells(table), odds_V, table.n_items * table.n_labels).reshape(table.n_items, table.n_labels)
        score_IL += np.log(self.pi_L)
        top_I = score_IL.max(axis=1, keepdims=True)
        p_IL = np.exp(score_IL - top_I)
        total_I = p_IL.sum(axis=1, keepdims=True)
        wrong_V = -np.logaddexp(0.0, logit_V) - np.log(max(1, table.n_labels - 1))
        likelihood = float(top_I.sum() + np.log(total_I).sum() + self.weight_V @ wrong_V)
        return p_IL / total_I, logit_V, ease_I, likelihood

    def negative(self, x: Floats) -> tuple[float, Floats]:
        """(minus the objective, its gradient)."""
        table = self.table
        n_annotators = table.n_annotators
        p_IL, logit_V, ease_I, likelihood = self.posterior(x)
        slope_V = (p_IL.ravel()[_cells(table)] - expit(logit_V)) * self.weight_V
        gradient = np.empty_like(x)
        gradient[:n_annotators] = np.bincount(table.annotator_V, slope_V * ease_I[table.item_V], n_annotators)
        gradient[n_annotators:] = np.bincount(table.item_V, slope_V * logit_V, table.n_items)
        centred = x - np.concatenate([np.ones(n_annotators), np.zeros(table.n_items)])
        scale = np.concatenate([np.full(n_annotators, self.spread[0] ** -2), np.full(table.n_items, self.spread[1] ** -2)])
        penalty = 0.5 * float(scale @ centred**2)
        return penalty - likelihood, scale * centred - gradient


def _cells(table: VoteTable) -> np.ndarray:
    return table.item_V.astype(np.int64) * table.n_labels + table.label_V


def glad(table: VoteTable, *, spread: tuple[float, float] = (1.0, 1.0), tolerance: float = 1e-5, max_iterations: int = 500) -> LabelResult:
    """Soft labels, abilities and difficulties by L-BFGS on the penalised marginal likelihood.

    `spread`: standard deviations of the priors N(1, .) of ability and N(0, .) of log ease. An item's interval comes from its
    annotators' abilities alone. Source: Whitehill et al. (2009), eq. 1 to 4. Raises ConfigError, DataError (mixed objectives).
    """
    if min(spread) <= 0:
        raise ConfigError(f"glad: spread={spread!r}, allowed are numbers > 0")
    table.one_objective()
    model = GladModel(table, own_weight(table), normalised(shares(table).sum(axis=0) + 1.0), spread)
    start = np.concatenate([np.ones(table.n_annotators), np.zeros(table.n_items)])
    trace: list[float] = []
    answer = minimize(
        model.negative,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=lambda intermediate_result: trace.append(-float(intermediate_result.fun)),
        options={"maxiter": max_iterations, "ftol": tolerance, "gtol": 1e-8, "maxcor": 6},
    )
    p_IL, logit_V, ease_I, likelihood = model.posterior(answer.x)
    fit = Convergence(bool(answer.status == 0), int(answer.nit), likelihood, tuple(trace))
    # Curvature of each ability by itself: expected information of a vote is s (1 - s) ease^2.
    s_V = expit(logit_V)
    information_V = s_V * (1.0 - s_V) * model.weight_V
    precision_A = np.bincount(table.annotator_V, information_V * ease_I[table.item_V] ** 2, table.n_annotators) + spread[0] ** -2
    variance_V = ease_I[table.item_V] ** 2 / precision_A[table.annotator_V]
    low_IL, high_IL = _interval(table, p_IL, variance_V)
    alpha_A, half_A = answer.x[: table.n_annotators], Z95 / np.sqrt(precision_A)
    annotators = AnnotatorEstimates(table.annotators, table.votes_A, expit(alpha_A), expit(alpha_A - half_A), expit(alpha_A + half_A))
    notes = (*item_notes(table), "reliability is that on an item of average difficulty")
    interval = INTERVAL.replace("confusions", "abilities")
    return LabelResult("glad", table.items, table.labels, p_IL, low_IL, high_IL, table.votes_I, fit, interval, annotators, notes)


def _interval(table: VoteTable, p_IL: Floats, variance_V: Floats) -> tuple[Floats, Floats]:
    """Ends of each label's chance: the logit of a label moves with every vote for it or against it."""
    size_I = np.sqrt(np.bincount(table.item_V, variance_V, table.n_items))
    p_IL = np.clip(p_IL, 1e-12, 1.0 - 1e-12)
    logit_IL, half_I = np.log(p_IL) - np.log1p(-p_IL), Z95 * size_I[:, None]
    return expit(logit_IL - half_I), expit(logit_IL + half_I)
