"""Hidden context from a table of votes: mean and variance of every response's utility, and from them a soft label for every pair.

Legend: I items (comparisons), R responses, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preferent.annotators.bradley_terry import Banded, Settings
from preferent.annotators.convergence import Convergence
from preferent.annotators.graph_models import TIES, ResponseEstimates, pairs_of
from preferent.annotators.hidden_context import SCORE_SD, fit_distributional
from preferent.annotators.labels import Z95, LabelResult, item_notes
from preferent.annotators.table import VoteTable
from preferent.core.errors import DataError
from preferent.core.records import Floats

NAME = "hidden_context"


@dataclass(frozen=True, eq=False, kw_only=True)
class HiddenResult(LabelResult):
    """responses: means of utility as scores, in the order of variance_R: the variance of each response's utility with its 95 % interval.
    preferred: p_a of every item with its interval, for whoever votes next: somebody of the same hidden context as those who did."""

    responses: ResponseEstimates
    variance_R: Banded
    preferred: Banded

    def p_a(self, a: str = "a", b: str = "b") -> tuple[Floats, Floats, Floats]:
        own = self.preferred
        if (a, b) == ("b", "a"):
            return 1.0 - own.value, 1.0 - own.high, 1.0 - own.low
        if (a, b) != ("a", "b"):
            raise DataError(f"the sides of a pair are 'a' and 'b', got {a!r} and {b!r}")
        return own.value, own.low, own.high


def hidden_context(table: VoteTable, settings: Settings | None = None) -> HiddenResult:
    """Fit the mean-variance model to the votes of a table that knows its sides; ties count half for each side, weights count.

    The model knows nothing of annotators. Deterministic. Raises DataError (see `pairs_of`).
    """
    votes = pairs_of(table)
    fit = fit_distributional(votes, settings=settings)
    assert table.sides is not None
    n = len(table.sides.responses)
    a_I, b_I = table.sides.a_I.astype(np.int64), table.sides.b_I.astype(np.int64)
    at_I = np.searchsorted(fit.lo_P * n + fit.hi_P, np.minimum(a_I, b_I) * n + np.maximum(a_I, b_I))
    turned_I = a_I > b_I
    value, low, high = (column[at_I] for column in (fit.p_lo.value, fit.p_lo.low, fit.p_lo.high))
    preferred = Banded(np.where(turned_I, 1.0 - value, value), np.where(turned_I, 1.0 - high, low), np.where(turned_I, 1.0 - low, high))
    p_IL, low_IL, high_IL = (np.zeros((table.n_items, table.n_labels)) for _ in range(3))
    for side, ends in (("a", (preferred.value, preferred.low, preferred.high)),
                       ("b", (1.0 - preferred.value, 1.0 - preferred.high, 1.0 - preferred.low))):  # fmt: skip
        if side in table.labels:
            code = table.labels.index(side)
            p_IL[:, code], low_IL[:, code], high_IL[:, code] = ends
    variance_R = ((fit.mean.high - fit.mean.low) / (2 * Z95)) ** 2
    responses = ResponseEstimates(
        table.sides.responses, fit.mean.value, fit.mean.low, fit.mean.high, fit.graph.votes_I,
        np.minimum(1.0, variance_R / SCORE_SD**2), fit.graph,
    )  # fmt: skip
    names = [str(one) for one in table.sides.responses.tolist()]
    said = [*(note for note in fit.notes if note not in fit.graph.notes()), *fit.graph.notes(names)]
    if any(label in TIES for label in table.labels):
        said.append("ties count as half a win for each side and have no chance of their own")
    interval = f"{fit.intervals}; of the chance that whoever votes next prefers a"
    ended = Convergence(fit.converged, fit.iterations, fit.log_likelihood)
    return HiddenResult(
        NAME, table.items, table.labels, p_IL, np.minimum(low_IL, p_IL), np.maximum(high_IL, p_IL), table.votes_I, ended, interval, None,
        (*item_notes(table), *said), responses=responses, variance_R=fit.sd.map(np.square), preferred=preferred,
    )  # fmt: skip
