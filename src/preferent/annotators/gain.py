"""Is a richer model more than noise? Its gain in held-out log-likelihood, annotator by annotator.

Legend: A annotators, V votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from preferent.annotators.graph import Ints
from preferent.core.estimates import Estimate
from preferent.core.records import Floats


@dataclass(frozen=True, slots=True)
class GroupTest:
    """Do this many groups foretell held-out votes better than the simpler model? gain: log-likelihood per annotator over all
    folds, with its 95 % interval over annotators; p_value: one-sided, of no gain."""

    groups: int
    gain: Estimate
    p_value: float
    accepted: bool


def gain_test(k: int, gain_A: Floats, level: float) -> GroupTest:
    """One-sided over annotators; with one annotator nothing can be told and p is 1."""
    mean, n = float(gain_A.mean()), len(gain_A)
    error = float(gain_A.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    p_value = float(norm.sf(mean / error)) if 0.0 < error < np.inf else 1.0
    gain = Estimate(mean, mean - 1.96 * error, mean + 1.96 * error, n, "held-out log-likelihood per annotator, normal interval")
    return GroupTest(k, gain, p_value, p_value < level)


def deal_folds(annotator_V: Ints, folds: int, rng: np.random.Generator) -> Ints:
    """Folds 0.. of the votes, as even as can be within every annotator."""
    order = np.lexsort((rng.random(len(annotator_V)), annotator_V))
    fold_V = np.empty(len(annotator_V), dtype=np.int64)
    starts = np.concatenate([[True], np.diff(annotator_V[order]) != 0])
    within = np.arange(len(order)) - np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    fold_V[order] = (within + rng.integers(0, folds, len(starts))[np.cumsum(starts) - 1]) % folds
    return fold_V
