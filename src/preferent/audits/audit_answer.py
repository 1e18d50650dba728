"""What one question of the audit answers: findings, and the tables and figures a reader can check them against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr

from preferent.audits.counterfactual_stats import benjamini_hochberg
from preferent.audits.tables import Table
from preferent.core.estimates import Estimate
from preferent.core.findings import Finding, Verdict


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that is drawn when somebody looks: `paint` returns an `<svg>` string (and may raise MissingExtraError)."""

    title: str
    paint: Callable[[], str]
    caption: str


@dataclass(frozen=True, slots=True)
class Answer:
    """question: the name `--only` takes. about: sentences on what was asked and how to read it. skipped: why the question could not be
    asked, empty where it was. numbers: named estimates that are neither good nor bad by themselves."""

    question: str
    title: str
    about: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    numbers: tuple[tuple[str, Estimate], ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    pictures: tuple[Picture, ...] = ()
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the pictures."""
        return {
            "question": self.question,
            "title": self.title,
            "skipped": self.skipped or None,
            "findings": [finding.to_dict() for finding in self.findings],
            "numbers": {name: estimate.to_dict() for name, estimate in self.numbers},
            "tables": [_table_dict(title, table) for title, table in self.tables],
        }


def _table_dict(title: str, table: Table) -> dict[str, Any]:
    rows = [[value.to_dict() if isinstance(value, Estimate) else value for value in row] for row in table.rows]
    return {"title": title, "headers": list(table.headers), "rows": rows, "note": table.note}


def normal_p(estimate: Estimate, against: float = 0.0) -> float | None:
    """Two-sided p of `estimate` being `against`, from a normal law with the interval's width; None without an interval."""
    if np.isnan(estimate.low):
        return None
    sd = (estimate.high - estimate.low) / (2.0 * 1.959964)
    distance = abs(estimate.value - against)
    return (1.0 if distance == 0 else 0.0) if sd == 0 else float(2.0 * ndtr(-distance / sd))


def above(estimate: Estimate, limit: float) -> Verdict:
    """'finding' where the whole interval lies above `limit`, 'clear' where not, 'unknown' without an interval."""
    if np.isnan(estimate.low):
        return "unknown"
    return "finding" if estimate.low > limit else "clear"


def corrected(findings: Sequence[Finding], level: float = 0.05) -> tuple[Finding, ...]:
    """The findings with their p-values replaced by Benjamini and Hochberg's (1995) over all that have one; a finding whose corrected p is
    above `level` becomes clear. Those without a p-value stay as they are."""
    asked = [k for k, finding in enumerate(findings) if finding.p_value is not None]
    adjusted = benjamini_hochberg(np.array([findings[k].p_value for k in asked], dtype=np.float64))
    rows = list(findings)
    for k, p in zip(asked, adjusted, strict=True):
        verdict = "clear" if rows[k].verdict == "finding" and p > level else rows[k].verdict
        rows[k] = replace(rows[k], p_value=float(p), verdict=verdict)
    return tuple(rows)
