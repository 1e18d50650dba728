"""Where a solution goes wrong, told from scores per step: the first one below a threshold, and the threshold that tells best.

Step scores are higher for right steps (probabilities that the step is right, or logits; thresholds are on the same scale). They come as
one array per solution, in the order of the steps. What is said of it in reports, with intervals, is `audits.steps`.

Legend: N solutions, M thresholds, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preferent.core.errors import ConfigError
from preferent.core.records import Floats

StepScores = Sequence[ArrayLike]
Labels = Sequence[float | None]
Ints = NDArray[np.int64]


def predicted_first_error(scores: StepScores, threshold: float) -> Ints:
    """The first step of each solution whose score is below the threshold, -1 where none is, shape (N,)."""
    places = []
    for score_T in checked_steps(scores):
        below = np.flatnonzero(score_T < threshold)
        places.append(int(below[0]) if len(below) else -1)
    return np.array(places, dtype=np.int64)


def true_first_error(labels: Sequence[Labels]) -> list[int | None]:
    """The place of the first step with a label below 1/2, -1 where every step is labelled and none is; None where nobody can say (a step
    without a label comes first). Shape (N,)."""
    places: list[int | None] = []
    for row in labels:
        first = next((t for t, label in enumerate(row) if label is None or label < 0.5), -1)
        places.append(None if first >= 0 and row[first] is None else first)
    return places


def harmonic(a: float, b: float) -> float:
    """2ab / (a + b), 0 where both are 0."""
    return 2.0 * a * b / (a + b) if a + b > 0 else 0.0 if not np.isnan(a + b) else float("nan")


def harmonics(pairs_R2: Floats) -> Floats:
    """`harmonic` of every row, shape (R,)."""
    total_R = pairs_R2.sum(axis=1)
    safe_R = np.where(total_R > 0, total_R, 1.0)
    none_R = np.where(np.isnan(total_R), np.nan, 0.0)
    return np.where(total_R > 0, 2.0 * pairs_R2.prod(axis=1) / safe_R, none_R)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold chosen on labelled solutions, and the F1 that it has there (optimistic: quote it on other data)."""

    value: float
    f1: float


def choose_threshold(scores: StepScores, true_N: ArrayLike) -> Threshold:
    """The threshold with the highest F1 on these solutions, of all there are; of equal ones the middle of the widest stretch.

    A solution with its first error at j is a hit for thresholds above score j and not above every earlier score; one without an error
    for thresholds not above any score. So F1 is a step function of the threshold, and every step of it is looked at. Raises ConfigError
    when a kind of solution is missing: without both, F1 has no value.
    """
    true_N = np.asarray(true_N)
    kept = checked_steps(scores)
    if len(kept) != len(true_N):
        raise ConfigError(f"{len(kept)} score arrays and {len(true_N)} true places; must be as many")
    if not ((true_N >= 0).any() and (true_N < 0).any()):
        raise ConfigError("a threshold needs solutions with an error and without", hint="give validation data of both kinds")
    # Each solution is a hit for thresholds in (above, upto].
    bounds = []
    for score_T, place in zip(kept, true_N.tolist(), strict=True):
        if place >= len(score_T):
            raise ConfigError(f"first error {place} of a solution with {len(score_T)} scores")
        before = score_T if place < 0 else score_T[:place]
        bounds.append((-np.inf if place < 0 else score_T[place], before.min() if len(before) else np.inf))
    above_N, upto_N = np.array(bounds).T
    edges = np.unique(np.concatenate([above_N, upto_N]))
    edges = edges[np.isfinite(edges)]
    if not len(edges):
        raise ConfigError("no score to put a threshold at")
    middles = np.concatenate([[edges[0] - 1.0], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1.0]])
    f1_M = _f1_at(middles, above_N, upto_N, true_N)
    best = np.flatnonzero(f1_M >= f1_M.max() - 1e-12)
    widths = np.concatenate([[0.0], np.diff(edges), [0.0]])
    chosen = int(best[np.argmax(widths[best])])
    return Threshold(float(middles[chosen]), float(f1_M[chosen]))


def _f1_at(thresholds_M: Floats, above_N: Floats, upto_N: Floats, true_N: NDArray[Any]) -> Floats:
    """F1 at each threshold, from the range (above, upto] of every solution, by counting the range ends below the threshold."""
    accuracy = []
    for kind_N in (true_N >= 0, true_N < 0):
        lows, highs = np.sort(above_N[kind_N]), np.sort(np.maximum(upto_N, above_N)[kind_N])
        hits_M = np.searchsorted(lows, thresholds_M, side="left") - np.searchsorted(highs, thresholds_M, side="left")
        accuracy.append(hits_M / kind_N.sum())
    return harmonics(np.stack(accuracy, axis=1))


def checked_steps(scores: StepScores) -> list[Floats]:
    """Score arrays as floats. Raises ConfigError for a solution without steps or a score that is not a number."""
    kept = [np.asarray(score_T, dtype=np.float64) for score_T in scores]
    for n, score_T in enumerate(kept):
        if score_T.ndim != 1 or not len(score_T) or np.isnan(score_T).any():
            raise ConfigError(f"step scores of solution {n}: {score_T!r}; allowed is one number for each of at least one step")
    return kept
