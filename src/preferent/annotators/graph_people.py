"""How reliable each annotator is under a model over responses: the chance of siding with the better response on the pairs they judged.

Legend: V votes, A annotators.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from preferent.annotators.bradley_terry import PairFit
from preferent.annotators.crowd_bt import CrowdFit
from preferent.annotators.graph import PairVotes, sums
from preferent.annotators.labels import wilson
from preferent.core.records import Floats


def reliability(fitted: PairFit | CrowdFit, votes: PairVotes) -> tuple[Floats, Floats, Floats]:
    """(value, low, high) per annotator, 95 %, shape (A,).

    With a slope: the mean over their pairs of the chance that their slope alone sides with the higher score, its interval that of the
    slope. Crowd-BT: its honesty. Without either: the share of their decided votes for the higher score, with Wilson's interval (each
    vote has had its say in that score). Annotators without a vote get the prior's or no information.
    """
    if isinstance(fitted, CrowdFit):
        return fitted.honesty.value, fitted.honesty.low, fitted.honesty.high
    gap_V = fitted.scores.value[votes.item_i_V] - fitted.scores.value[votes.item_j_V]
    n_A = np.bincount(votes.annotator_V, minlength=votes.n_annotators).astype(np.float64)
    if "slope" in fitted.traits:
        slope = fitted.traits["slope"]
        size_V = np.abs(gap_V)
        ends = [
            sums(votes.annotator_V, expit(trait_A[votes.annotator_V] * size_V), votes.n_annotators) / np.maximum(n_A, 1.0)
            for trait_A in (slope.value, slope.low, slope.high)
        ]
        return ends[0], ends[1], ends[2]
    decided_V = votes.outcome_V != 0.5
    sided_V = np.where(gap_V == 0.0, 0.5, (gap_V > 0) == (votes.outcome_V == 1.0))
    decided_A = sums(votes.annotator_V, decided_V.astype(np.float64), votes.n_annotators)
    share_A = sums(votes.annotator_V, decided_V * sided_V, votes.n_annotators) / np.maximum(decided_A, 1.0)
    share_A = np.where(decided_A > 0, share_A, 0.5)
    low_A, high_A = wilson(share_A, decided_A)
    return share_A, np.minimum(low_A, share_A), np.maximum(high_A, share_A)
