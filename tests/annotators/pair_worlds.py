"""Votes on pairs from planted scores and traits, for the tests of the comparison graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preferent.annotators.annotator_slope import davidson
from preferent.annotators.graph import PairVotes, pair_votes
from preferent.core.records import Floats


@dataclass(frozen=True, eq=False)
class Planted:
    votes: PairVotes
    scores_I: Floats
    slope_A: Floats
    position_A: Floats
    items_V2: np.ndarray
    outcome_V: Floats
    annotator_V: np.ndarray


def planted(
    seed: int,
    shape: tuple[int, int, int] = (40, 20, 1500),
    *,
    spreads: tuple[float, float, float] = (1.2, 0.5, 0.5),
    tie: float | None = None,
    adversaries: int = 0,
) -> Planted:
    """shape: items, annotators, votes. spreads: sd of scores, slopes around 1, positions. tie: log of Davidson's weight."""
    rng = np.random.default_rng(seed)
    n_items, n_annotators, n_votes = shape
    scores_I = rng.normal(0.0, spreads[0], n_items)
    slope_A = 1.0 + spreads[1] * rng.normal(size=n_annotators)
    slope_A[:adversaries] *= -1.0
    slope_A += 1.0 - slope_A.mean() if not adversaries else 0.0
    position_A = rng.normal(0.0, spreads[2], n_annotators)
    annotator_V = rng.integers(0, n_annotators, n_votes)
    i_V = rng.integers(0, n_items, n_votes)
    j_V = (i_V + rng.integers(1, n_items, n_votes)) % n_items
    d_V = slope_A[annotator_V] * (scores_I[i_V] - scores_I[j_V]) + position_A[annotator_V]
    p_V, tied_V, _ = davidson(d_V, np.full(n_votes, -np.inf if tie is None else tie))
    draw_V = rng.random(n_votes)
    outcome_V = np.where(draw_V < p_V, 1.0, np.where(draw_V < p_V + tied_V, 0.5, 0.0))
    items_V2 = np.stack([i_V, j_V], axis=1)
    votes = pair_votes(items_V2, outcome_V, annotator_V=annotator_V, shown_first_V=i_V, counts=(n_items, n_annotators))
    return Planted(votes, scores_I, slope_A, position_A, items_V2, outcome_V, annotator_V)
