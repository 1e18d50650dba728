"""The two baselines that every accuracy has beside it: the longer side wins, and one held-out annotator.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preferent.audits.metrics import hits
from preferent.core.records import Floats

TIE = 1e-9


def longer_hits(chars_a_N: Floats, chars_b_N: Floats, p_N: Floats) -> Floats:
    """Hits of 'the longer side (in characters) wins', shape (N,): equal lengths count one half, label ties are NaN."""
    return hits(chars_a_N - chars_b_N, p_N)


@dataclass(frozen=True, slots=True)
class Annotator:
    """One held-out annotator and the scorer on the same targets, per pair.

    annotator_N, scorer_N: mean hits over the pair's held-out votes, shape (N,), NaN where a pair gives none. n_votes: held-out votes
    that were used. n_undecided: votes left out because the other votes were evenly split.
    """

    annotator_N: Floats
    scorer_N: Floats
    n_votes: int
    n_undecided: int


def held_out_annotator(votes: Sequence[Sequence[float]], margin_N: Floats) -> Annotator:
    """Leave-one-out: each vote in turn predicts the majority of the other votes on its pair; the scorer predicts the same majority.

    `votes[i]`: one number per annotator, 1 for a, 0 for b, 0.5 for a tie, or a probability for a. A pair needs two votes. Where the other
    votes are evenly split there is nothing to predict: the vote is left out and counted. A held-out vote of 0.5 and equal rewards
    count one half. Each pair weighs the same however many votes it has.
    """
    annotator_N, scorer_N = np.full(len(votes), np.nan), np.full(len(votes), np.nan)
    n_votes = n_undecided = 0
    for i, row in enumerate(votes):
        if len(row) < 2:
            continue
        lean = np.asarray(row, dtype=np.float64) - 0.5
        others = lean.sum() - lean
        decided = np.abs(others) > TIE
        n_undecided += int(np.count_nonzero(~decided))
        if not decided.any():
            continue
        n_votes += int(np.count_nonzero(decided))
        majority = np.sign(others[decided])
        annotator_N[i] = np.mean(0.5 + 0.5 * np.sign(lean[decided]) * majority)
        scorer_N[i] = np.mean(0.5 + 0.5 * np.sign(margin_N[i]) * majority)
    return Annotator(annotator_N, scorer_N, n_votes, n_undecided)
