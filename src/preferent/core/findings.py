"""What an audit says: one line of it, and the two texts side by side that a person can check it against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from preferent.core.estimates import Estimate

# "finding": the interval excludes what a sound scorer would show. "clear": it does not. "unknown": no interval could be given.
Verdict = Literal["finding", "clear", "unknown"]


@dataclass(frozen=True, slots=True)
class Example:
    """Two responses to one prompt with their rewards: what a finding is made of. `id` names the prompt, in words or by place."""

    id: str
    prompt: str
    left: str
    right: str
    reward_left: float
    reward_right: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of an audit.

    audit: the file of `audits/` that asked. name: what was asked, in the field's words. estimate: the number, with its interval.
    compared_with: what the estimate is held against, in words ("0", "the longer side wins"). severity: how bad it is, 0 for nothing
    and higher for worse, on one scale (standard deviations of natural rewards, or a difference of accuracies times ten); orders the
    report. p_value: of the test behind the verdict, corrected for the battery where there is one; None where there is none.
    """

    audit: str
    name: str
    estimate: Estimate
    compared_with: str
    verdict: Verdict
    summary: str
    severity: float = 0.0
    p_value: float | None = None
    examples: tuple[Example, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "audit": self.audit,
            "name": self.name,
            "estimate": self.estimate.to_dict(),
            "compared_with": self.compared_with,
            "verdict": self.verdict,
            "summary": self.summary,
            "severity": self.severity,
            "p_value": self.p_value,
            "examples": [example.to_dict() for example in self.examples],
        }
