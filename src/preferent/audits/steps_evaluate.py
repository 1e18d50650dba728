"""A step scorer on held-out solutions: first-error F1 and AUROC beside the best constant and the best length rule.

Everything that is chosen (the threshold, the constant, the length rule) is chosen on validation solutions and measured on test solutions of
other problems; the caller splits by problem (`data.steps_split.split_by_problem`).

Legend: N solutions.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preferent.audits.steps import (
    FirstError,
    Ints,
    StepAuroc,
    StepScores,
    Threshold,
    choose_threshold,
    first_error_f1,
    predicted_first_error,
    step_auroc,
    true_first_error,
)
from preferent.audits.steps_baselines import STEP_RULES, BestConstant, LengthRule, best_constant, best_length_rule
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate
from preferent.core.records import StepLabels


@dataclass(frozen=True)
class StepEvaluation:
    """The scorer, the best constant and the best length rule on the same test solutions, with intervals over problems.

    threshold: of the scorer, with its F1 on validation. first_error: name ("scorer", "constant", "length") -> ProcessBench's numbers.
    auroc: the same, without the constant, whose AUROC is 1/2. beats: name of a baseline -> whether the scorer's intervals of F1 and AUROC
    both lie above the baseline's. n_unknown: test solutions whose first error nobody can tell from the labels; they count for AUROC only.
    """

    threshold: Threshold
    constant: BestConstant
    length_rule: LengthRule
    auroc_rule: str
    first_error: dict[str, FirstError]
    auroc: dict[str, StepAuroc]
    n_unknown: int

    @property
    def beats(self) -> dict[str, bool]:
        f1, auroc = {k: v.f1 for k, v in self.first_error.items()}, {k: v.auroc for k, v in self.auroc.items()}
        half = Estimate(0.5, 0.5, 0.5, auroc["scorer"].n, "a constant")
        return {
            "constant": _above(f1["scorer"], f1["constant"]) and _above(auroc["scorer"], half),
            "length": _above(f1["scorer"], f1["length"]) and _above(auroc["scorer"], auroc["length"]),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "threshold": {"value": self.threshold.value, "validation_f1": self.threshold.f1},
            "first_error": {name: found.to_dict() for name, found in self.first_error.items()},
            "auroc": {name: found.to_dict() for name, found in self.auroc.items()},
            "length_rule": self.length_rule.to_dict(),
            "auroc_rule": self.auroc_rule,
            "constant": {"place": self.constant.place, "share_right": self.constant.share_right},
            "beats": self.beats,
            "n_unknown": self.n_unknown,
        }

    def render(self) -> str:
        """A table for a terminal."""
        lines = [f"{'':10} {'first-error F1':>22} {'with an error':>22} {'without':>22} {'AUROC per step':>22}"]
        for name, found in self.first_error.items():
            auroc = str(self.auroc[name].auroc) if name in self.auroc else "0.500"
            lines.append(f"{name:10} {found.f1!s:>22} {found.error_accuracy!s:>22} {found.right_accuracy!s:>22} {auroc:>22}")
        lines.append(f"threshold {self.threshold.value:.4g}; length rules: {self.length_rule.name} (F1), {self.auroc_rule} (AUROC)")
        if self.n_unknown:
            lines.append(f"{self.n_unknown} solutions whose first error the labels do not tell: no part of F1")
        return "\n".join(lines)


def evaluate_steps(
    validation: tuple[Sequence[StepLabels], StepScores],
    test: tuple[Sequence[StepLabels], StepScores],
    clusters_N: Sequence[Hashable],
    *,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    threshold: Threshold | None = None,
) -> StepEvaluation:
    """Evaluate step scores (higher is more likely right). clusters_N: the problem of each test solution.

    validation, test: solutions with their scores, one array per solution. threshold: of the scorer, where it was chosen before; chosen on
    validation otherwise. Raises ConfigError when lengths differ, or when validation lacks solutions with an error or without.
    """
    (fit_records, fit_scores), (records, scores) = validation, test
    if len(fit_records) != len(fit_scores) or not len(records) == len(scores) == len(clusters_N):
        raise ConfigError("step evaluation: one score array and one problem for each solution")
    kept_fit, fit_true_N = _known(fit_records)
    kept, true_N = _known(records)
    if not len(kept):
        raise ConfigError("step evaluation: the labels tell the first error of no test solution")
    if threshold is None:
        threshold = choose_threshold([fit_scores[i] for i in kept_fit], fit_true_N)
    constant = best_constant(fit_true_N)
    rule = best_length_rule([fit_records[i].steps for i in kept_fit], fit_true_N)
    predicted = {
        "scorer": predicted_first_error([scores[i] for i in kept], threshold.value),
        "constant": constant.predict(len(kept), rng),
        "length": rule.predict([records[i].steps for i in kept]),
    }
    problems = [clusters_N[i] for i in kept]
    first_error = {name: first_error_f1(said_N, true_N, problems, rng=rng, n_resamples=n_resamples) for name, said_N in predicted.items()}
    auroc_rule = _best_auroc_rule(fit_records, rng)
    by_rule: list[ArrayLike] = [STEP_RULES[auroc_rule](record.steps) for record in records]
    labels = [record.labels for record in records]
    auroc = {
        "scorer": step_auroc(scores, labels, clusters_N, rng=rng, n_resamples=n_resamples),
        "length": step_auroc(by_rule, labels, clusters_N, rng=rng, n_resamples=n_resamples),
    }
    return StepEvaluation(threshold, constant, rule, auroc_rule, first_error, auroc, len(records) - len(kept))


def _known(records: Sequence[StepLabels]) -> tuple[list[int], Ints]:
    """Solutions whose first error the labels tell, and where it is."""
    places = true_first_error([record.labels for record in records])
    return [i for i, place in enumerate(places) if place is not None], np.array([p for p in places if p is not None], dtype=np.int64)


def _best_auroc_rule(records: Sequence[StepLabels], rng: np.random.Generator) -> str:
    labels = [record.labels for record in records]
    found = {
        name: step_auroc([rule(record.steps) for record in records], labels, range(len(records)), rng=rng, n_resamples=1).auroc.value
        for name, rule in STEP_RULES.items()
    }
    return max(found, key=lambda name: -1.0 if np.isnan(found[name]) else found[name])


def _above(estimate: Estimate, other: Estimate) -> bool:
    """Whether the intervals do not overlap; False where one is missing."""
    return bool(estimate.low > other.high)
