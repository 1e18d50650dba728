"""Ways to label the steps of one solution automatically, each with what it costs at most.

Legend: T steps, K rollouts from each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from preferent.core.errors import ConfigError
from preferent.core.records import StepLabels
from preferent.feedback.rollouts import (
    Checker,
    Judge,
    Label,
    Policy,
    Rollouts,
    consensus,
    first_error_by_search,
    hard_labels,
    labels_up_to,
    monte_carlo,
)

Method = Literal["monte-carlo", "binary-search", "judge"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """labels: one per step, None for not labelled. calls: rollouts and judgements that were asked for. facts: JSON-ready, what the labels
    were made from (success counts, what the judge said)."""

    labels: tuple[Label, ...]
    calls: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class Labeller:
    """monte-carlo: rates of K = `n` rollouts after every step; binary-search: the first error only; judge: the judge alone.

    threshold None: soft labels, the success rates themselves (monte-carlo without a judge only); a number: hard labels, 1 where the rate
    is above it. For binary-search None means 0. With a judge beside rollouts, only solutions in which both name the same first error get
    labels. A threshold is best set on solutions whose labels are known: see `feedback.rollouts` on "any success".

    Raises ConfigError when the parts do not fit the method.
    """

    method: Method
    policy: Policy | None = None
    checker: Checker | None = None
    judge: Judge | None = None
    n: int = 8
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.method == "judge":
            if self.judge is None:
                raise ConfigError("method 'judge' needs a judge")
            return
        if self.policy is None or self.checker is None:
            raise ConfigError(f"method {self.method!r} needs a policy to continue solutions and a checker of their answers")
        if self.n < 1:
            raise ConfigError(f"rollouts per step: {self.n!r}, allowed are whole numbers from 1")
        if self.threshold is not None and not 0.0 <= self.threshold < 1.0:
            raise ConfigError(
                f"threshold={self.threshold!r}, allowed are numbers from 0 to below 1 (a step is right where the rate is above)"
            )
        if self.judge is not None and self.method == "monte-carlo" and self.threshold is None:
            raise ConfigError("consensus needs hard labels from the rollouts", hint="give a threshold")

    def most_calls(self, record: StepLabels) -> int:
        """The most that one solution can cost: K (T - 1) rollouts, or K ceil(log2 T) by binary search, and one judgement."""
        steps = len(record.steps)
        rollouts = {"monte-carlo": steps - 1, "binary-search": (steps - 1).bit_length(), "judge": 0}[self.method]
        return self.n * rollouts + (self.judge is not None)

    def settings(self) -> dict[str, Any]:
        """JSON-ready: what the labels depend on, for the file that holds them."""
        method = "consensus" if self.judge is not None and self.method != "judge" else self.method
        rollouts = {} if self.method == "judge" else {"rollouts": self.n, "threshold": self.threshold}
        return {"method": method, **({"by": self.method} if method == "consensus" else {}), **rollouts}

    def __call__(self, record: StepLabels) -> Labelled:
        """Label one solution."""
        if self.method == "judge":
            labels = self._judged(record)
            return Labelled(labels, 1, {})
        labels, rollouts = self._rolled(record)
        if self.judge is None:
            return Labelled(labels, rollouts.calls, rollouts.to_dict())
        both = consensus(labels, self._judged(record))
        facts = rollouts.to_dict() | {
            "calls": rollouts.calls + 1,
            "agree": both.agree,
            "rollouts_say": both.first,
            "judge_says": both.second,
        }
        return Labelled(both.labels, rollouts.calls + 1, facts)

    def _rolled(self, record: StepLabels) -> tuple[tuple[Label, ...], Rollouts]:
        assert self.policy is not None
        assert self.checker is not None
        if self.method == "binary-search":
            first, rollouts = first_error_by_search(record, self.policy, self.checker, n=self.n, threshold=self.threshold or 0.0)
            return labels_up_to(first, len(record.steps)), rollouts
        rollouts = monte_carlo(record, self.policy, self.checker, n=self.n)
        return rollouts.rates if self.threshold is None else hard_labels(rollouts.rates, self.threshold), rollouts

    def _judged(self, record: StepLabels) -> tuple[Label, ...]:
        assert self.judge is not None
        return tuple(self.judge(record))
