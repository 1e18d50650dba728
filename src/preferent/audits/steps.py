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
from preferent.core.step_errors import Ints as Ints
from preferent.core.step_errors import Labels, StepScores, checked_steps, harmonic, harmonics
from preferent.core.step_errors import Threshold as Threshold
from preferent.core.step_errors import choose_threshold as choose_threshold
from preferent.core.step_errors import predicted_first_error as predicted_first_error
from preferent.core.step_errors import true_first_error as true_first_error


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
    on_error = share_interval(error, draws_R2[:, 0], n_error, touched_2[0]) if n_error else no_estimate("no solution with an error")
    on_right = share_interval(right, draws_R2[:, 1], n_right, touched_2[1]) if n_right else no_estimate("no solution without an error")
    if not (n_error and n_right):
        return FirstError(on_error, on_right, no_estimate("needs solutions with an error and without", len(true_N)), n_error, n_right)
    f1 = interval(harmonic(error, right), harmonics(draws_R2), len(true_N), n_clusters)
    if f1.low == f1.high:
        # An accuracy of exactly 0 or 1 has no spread to resample, and is not known exactly for that.
        bounds = (harmonic(on_error.low, on_right.low), harmonic(on_error.high, on_right.high))
        f1 = Estimate(f1.value, *bounds, f1.n, "harmonic mean of both accuracies' bounds")
    return FirstError(on_error, on_right, f1, n_error, n_right)


def subset_mean(subsets: Sequence[FirstError]) -> float:
    """The benchmark's one number: the plain mean of F1 over its subsets, each weighing the same."""
    return float(np.mean([subset.f1.value for subset in subsets])) if subsets else NAN


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
    kept = checked_steps(scores)
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
