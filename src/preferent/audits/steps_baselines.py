"""What a step scorer must beat: the best constant, and the best rule that looks at lengths and places only.

Both are chosen on validation data and then used as they are, like the threshold of a scorer.

Legend: N solutions, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preferent.audits.steps import Ints, choose_threshold, harmonic, predicted_first_error
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

Steps = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class BestConstant:
    """The best answer that does not look at the solution. A single answer has an F1 of 0: always "no error" misses every error, always
    "step k" every right solution. So it is a coin: "no error" with chance `share_right`, else `place`. f1: expected on the data it was
    chosen on."""

    place: int
    share_right: float
    f1: float

    def predict(self, n: int, rng: np.random.Generator) -> Ints:
        """Predicted places of n solutions, shape (n,)."""
        return np.where(rng.random(n) < self.share_right, -1, self.place).astype(np.int64)


def best_constant(true_N: ArrayLike) -> BestConstant:
    """The coin with the highest expected F1. With a the share of errors at the most frequent place and q the chance of "no error", F1 is
    2 q (1-q) a / (q + (1-q) a), highest at q = sqrt(a) / (1 + sqrt(a)). Raises ConfigError without solutions of both kinds."""
    true_N = np.asarray(true_N)
    errors = true_N[true_N >= 0]
    if not len(errors) or len(errors) == len(true_N):
        raise ConfigError("the best constant needs solutions with an error and without")
    counts = np.bincount(errors)
    place = int(counts.argmax())
    share = float(counts[place] / len(errors))
    right = share**0.5 / (1.0 + share**0.5)
    return BestConstant(place, right, harmonic((1.0 - right) * share, right))


# Scores that know nothing of what a step says: higher means "right".
STEP_RULES: dict[str, Callable[[Sequence[str]], Floats]] = {
    "a longer step is wrong": lambda steps: -np.array([len(step) for step in steps], dtype=np.float64),
    "a shorter step is wrong": lambda steps: np.array([len(step) for step in steps], dtype=np.float64),
    "a later step is wrong": lambda steps: -np.arange(len(steps), dtype=np.float64),
    "a step late in a long solution is wrong": lambda steps: -np.cumsum([len(step) for step in steps]).astype(np.float64),
    "the last steps are wrong": lambda steps: np.arange(len(steps), 0, -1, dtype=np.float64),
    "a step longer than the one before is wrong": lambda steps: (
        -np.diff([len(step) for step in steps], prepend=len(steps[0])).astype(np.float64)
    ),
}


@dataclass(frozen=True, slots=True)
class LengthRule:
    """A rule of STEP_RULES with its threshold; or "a long solution is wrong at one place": solutions of more than `threshold` characters
    have their first error at `place` (counted from the end where negative). f1: on the data it was chosen on (optimistic)."""

    name: str
    threshold: float
    f1: float
    place: int | None = None

    def predict(self, steps: Steps) -> Ints:
        """Predicted places, -1 for no error, shape (N,)."""
        if self.place is None:
            return predicted_first_error([STEP_RULES[self.name](row) for row in steps], self.threshold)
        length_N, count_N = _sizes(steps)
        return _long_solution(length_N, count_N, self.threshold, self.place)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"name": self.name, "threshold": self.threshold, "place": self.place, "f1": self.f1}


def best_length_rule(steps: Steps, true_N: ArrayLike) -> LengthRule:
    """The rule with the highest F1 on these solutions. Raises ConfigError without solutions of both kinds."""
    true_N = np.asarray(true_N)
    rules = []
    for name, rule in STEP_RULES.items():
        chosen = choose_threshold([rule(row) for row in steps], true_N)
        rules.append(LengthRule(name, chosen.value, chosen.f1))
    length_N, count_N = _sizes(steps)
    for place in (-3, -2, -1, 0, 1, 2, 3, 4, 5):
        for limit in np.quantile(length_N, np.linspace(0.0, 0.95, 39)):
            hit_N = _long_solution(length_N, count_N, float(limit), place) == true_N
            f1 = harmonic(float(hit_N[true_N >= 0].mean()), float(hit_N[true_N < 0].mean()))
            rules.append(LengthRule("a long solution is wrong at one place", float(limit), f1, place))
    return max(rules, key=lambda rule: rule.f1)


def _sizes(steps: Steps) -> tuple[Floats, Ints]:
    """Characters and steps of each solution."""
    length_N = np.array([sum(len(step) for step in row) for row in steps], dtype=np.float64)
    return length_N, np.array([len(row) for row in steps], dtype=np.int64)


def _long_solution(length_N: Floats, count_N: Ints, limit: float, place: int) -> Ints:
    at_N = np.maximum(count_N + place, 0) if place < 0 else np.minimum(place, count_N - 1)
    return np.where(length_N > limit, at_N, -1).astype(np.int64)
