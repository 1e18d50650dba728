"""How well a score per step finds errors: the first-error benchmark score of ProcessBench, the threshold it needs, AUROC per step.

Step scores are higher for right steps (probabilities that the step is right, or logits; thresholds are on the same scale). They come as
one array per solution, in the order of the steps.

ProcessBench (Zheng et al. 2024, arXiv 2412.06559; scored as the authors' `run_eval_prm_*.py` do): the predicted place is the first step
whose score is below the threshold, -1 where none is; a solution is a hit where the predicted place equals the true one exactly. Accuracy
over the solutions with an error and over those without (true place -1), F1 their harmonic mean. The authors' code gives NaN where
both accuracies are 0; here that F1 is 0. Their benchmark score is the plain mean of F1 over its four subsets, see `subset_mean`. A
classifier with two labels is cut at 0.5 there; for scores on another scale the paper picks the threshold on one subset (GSM8K) and
uses it on the others: `choose_threshold` on validation data.

Legend: N solutions, S steps of all solutions, C clusters (problems), R resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preferent.audits.resample import NAN, cluster_draws, interval, mean_draws, no_estimate, share_interval, sums
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate, cluster_codes
from preferent.core.records import Floats

StepScores = Sequence[ArrayLike]
Labels = Sequence[float | None]
Ints = NDArray[np.int64]


def predicted_first_error(scores: StepScores, threshold: float) -> Ints:
    """The first step of each solution whose score is below the threshold, -1 where none is, shape (N,)."""
    places = []
    for score_T in _checked(scores):
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


@dataclass(frozen=True, slots=True)
class FirstError:
    """ProcessBench's three numbers with intervals over problems: accuracy of the place on solutions with an error, accuracy of "no error"
    on solutions without, and F1. n_error, n_right: how many there are of each."""

    error_accuracy: Estimate
    right_accuracy: Estimate
    f1: Estimate
    n_error: int
    n_right: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        numbers = {name: getattr(self, name).to_dict() for name in ("error_accuracy", "right_accuracy", "f1")}
        return numbers | {"n_error": self.n_error, "n_right": self.n_right}


def first_error_f1(
    predicted_N: ArrayLike,
    true_N: ArrayLike,
    clusters_N: Sequence[Hashable] | NDArray[Any],
    *,
    rng: np.random.Generator,
    n_resamples: int = 2000,
) -> FirstError:
    """ProcessBench's score of predicted places, -1 for "no error", with 95 % percentile intervals from resampling whole clusters.

    F1 has no value where one of the two kinds of solutions is missing. Raises ConfigError when the numbers of solutions differ.
    """
    predicted_N, true_N = np.asarray(predicted_N), np.asarray(true_N)
    if predicted_N.shape != true_N.shape or len(clusters_N) != len(true_N):
        raise ConfigError(f"{len(predicted_N)} predictions, {len(true_N)} true places and {len(clusters_N)} clusters; must be as many")
    n_error, n_right = int(np.count_nonzero(true_N >= 0)), int(np.count_nonzero(true_N < 0))
    if not len(true_N):
        none = no_estimate("no observations")
        return FirstError(none, none, none, 0, 0)
    codes_N = cluster_codes(clusters_N)
    n_clusters = int(codes_N.max()) + 1
    hit_N = (predicted_N == true_N).astype(np.float64)
    kinds = [(true_N >= 0).astype(np.float64), (true_N < 0).astype(np.float64)]
    sums_C2 = np.stack([sums(codes_N, hit_N * kind_N, n_clusters) for kind_N in kinds], axis=1)
    mass_C2 = np.stack([sums(codes_N, kind_N, n_clusters) for kind_N in kinds], axis=1)
    draws_R2 = mean_draws(sums_C2, mass_C2, rng, n_resamples)
    with np.errstate(invalid="ignore"):
        error, right = (float(value) for value in sums_C2.sum(0) / mass_C2.sum(0))
    touched_2 = [int(np.count_nonzero(mass_C2[:, k])) for k in range(2)]
    return FirstError(
        share_interval(error, draws_R2[:, 0], n_error, touched_2[0]) if n_error else no_estimate("no solution with an error"),
        share_interval(right, draws_R2[:, 1], n_right, touched_2[1]) if n_right else no_estimate("no solution without an error"),
        interval(harmonic(error, right), _harmonic(draws_R2), len(true_N), n_clusters)
        if n_error and n_right
        else no_estimate("needs solutions with an error and without", len(true_N)),
        n_error,
        n_right,
    )


def harmonic(a: float, b: float) -> float:
    """2ab / (a + b), 0 where both are 0."""
    return 2.0 * a * b / (a + b) if a + b > 0 else 0.0 if not np.isnan(a + b) else NAN


def _harmonic(draws_R2: Floats) -> Floats:
    total_R = draws_R2.sum(axis=1)
    return np.where(total_R > 0, 2.0 * draws_R2.prod(axis=1) / np.where(total_R > 0, total_R, 1.0), np.where(np.isnan(total_R), NAN, 0.0))


def subset_mean(subsets: Sequence[FirstError]) -> float:
    """The benchmark's one number: the plain mean of F1 over its subsets, each weighing the same."""
    return float(np.mean([subset.f1.value for subset in subsets])) if subsets else NAN


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
    kept = _checked(scores)
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
    return _harmonic(np.stack(accuracy, axis=1))


# ---- every step by itself ----


@dataclass(frozen=True, slots=True)
class StepAuroc:
    """auroc: chance that a right step has a higher score than a wrong one (ties half), over all labelled steps. n_right, n_wrong: steps.
    n_left_out: steps without a label or with a label of exactly 1/2."""

    auroc: Estimate
    n_right: int
    n_wrong: int
    n_left_out: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"auroc": self.auroc.to_dict(), "n_right": self.n_right, "n_wrong": self.n_wrong, "n_left_out": self.n_left_out}


def step_auroc(
    scores: StepScores,
    labels: Sequence[Labels],
    clusters_N: Sequence[Hashable] | NDArray[Any],
    *,
    rng: np.random.Generator,
    n_resamples: int = 1000,
) -> StepAuroc:
    """AUROC of the scores of single steps, with a 95 % percentile interval from resampling whole clusters of solutions.

    A soft label counts on its side of 1/2. Raises ConfigError when scores and labels do not fit.
    """
    kept = _checked(scores)
    if not len(kept) == len(labels) == len(clusters_N) or any(len(s) != len(row) for s, row in zip(kept, labels, strict=False)):
        raise ConfigError("step scores, labels and clusters must be as many, with one score for each label")
    if not kept:
        return StepAuroc(no_estimate("no observations"), 0, 0, 0)
    score_S = np.concatenate(kept)
    label_S = np.array([np.nan if label is None else label for row in labels for label in row], dtype=np.float64)
    code_S = np.repeat(cluster_codes(clusters_N), [len(row) for row in labels])
    used_S = ~np.isnan(label_S) & (label_S != 0.5)
    right_S = label_S[used_S] > 0.5
    n_right, n_wrong = int(right_S.sum()), int((~right_S).sum())
    left_out = int((~used_S).sum())
    if not n_right or not n_wrong:
        return StepAuroc(no_estimate("needs right steps and wrong ones", n_right + n_wrong), n_right, n_wrong, left_out)
    _, cluster_S = np.unique(code_S[used_S], return_inverse=True)
    _, place_S = np.unique(score_S[used_S], return_inverse=True)
    n_clusters = int(cluster_S.max()) + 1
    order_S = np.argsort(place_S, kind="stable")
    starts = np.flatnonzero(np.diff(place_S[order_S], prepend=-1))
    cluster_S, right_S = cluster_S[order_S], right_S[order_S].astype(np.float64)

    def auroc(count_C: Floats) -> float:
        weight_S = count_C[cluster_S]
        right_V = np.add.reduceat(weight_S * right_S, starts)
        wrong_V = np.add.reduceat(weight_S * (1.0 - right_S), starts)
        total = right_V.sum() * wrong_V.sum()
        return float((right_V * (np.cumsum(wrong_V) - wrong_V / 2)).sum() / total) if total > 0 else NAN

    value = auroc(np.ones(n_clusters))
    draws_R = np.array([auroc(row.astype(np.float64)) for slab in cluster_draws(n_clusters, n_resamples, rng) for row in slab])
    return StepAuroc(interval(value, draws_R, n_right + n_wrong, n_clusters), n_right, n_wrong, left_out)


def _checked(scores: StepScores) -> list[Floats]:
    """Score arrays as floats. Raises ConfigError for a solution without steps or a score that is not a number."""
    kept = [np.asarray(score_T, dtype=np.float64) for score_T in scores]
    for n, score_T in enumerate(kept):
        if score_T.ndim != 1 or not len(score_T) or np.isnan(score_T).any():
            raise ConfigError(f"step scores of solution {n}: {score_T!r}; allowed is one number for each of at least one step")
    return kept
