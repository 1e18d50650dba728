"""With whose judgment the scorer agrees: accuracy on the votes of each group of annotators, and the group it serves worst.

Groups are given (a column of the judgments, or clusters that `annotators.mixture` found); nothing here guesses who anybody is. A group
whose own members disagree more sets a lower ceiling, so each group's agreement with itself stands beside the scorer's.

Legend: V votes, N pairs, G groups, C clusters (prompts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.audits.audit_answer import normal_p
from preferent.audits.metrics import hits
from preferent.audits.resample import Codes, Column, clustered_means
from preferent.core.errors import DataError
from preferent.core.estimates import Estimate
from preferent.core.findings import Finding
from preferent.core.records import Floats

TOO_FEW = 30


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group: its votes, how often the scorer agrees with them, how often the group's own other votes do (NaN where none share a
    pair), and the scorer's agreement minus that of all other groups' votes (resampled together)."""

    name: str
    n_votes: int
    scorer: Estimate
    itself: Estimate
    minus_others: Estimate


def agreement_by_group(
    margin_N: Floats, pair_V: Codes, label_V: Floats, group_V: Sequence[str], codes_N: Codes, *, rng: np.random.Generator
) -> list[GroupRow]:
    """Agreement of the scorer with each group's votes, the largest group first; intervals resample prompts.

    margin_N: reward of a minus b; pair_V: the pair of each vote; label_V: 1 for a, 0 for b, 0.5 a tie (left out), or a probability for a.
    Raises DataError with fewer than two groups of 30 decided votes.
    """
    names, group_code_V = np.unique(np.asarray(group_V, dtype=str), return_inverse=True)
    hit_V = hits(margin_N[pair_V], label_V)
    decided_V = ~np.isnan(hit_V)
    size_G = np.bincount(group_code_V[decided_V], minlength=len(names))
    kept = [int(g) for g in np.argsort(-size_G, kind="stable") if size_G[g] >= TOO_FEW]
    if len(kept) < 2:
        raise DataError(
            f"agreement by group needs two groups with {TOO_FEW} decided votes, got "
            + (", ".join(f"{names[g]} {size_G[g]}" for g in range(len(names))) or "none")
        )
    ones_V = np.ones(len(hit_V))
    itself_V = _with_the_rest(pair_V, label_V, group_code_V)
    columns: dict[str, Column] = {}
    for g in kept:
        own_V = group_code_V == g
        columns[f"{g}/scorer"] = Column.of(hit_V, ones_V, own_V, share=True)
        columns[f"{g}/itself"] = Column.of(itself_V, ones_V, own_V, share=True)
        columns[f"{g}/minus"] = _difference(hit_V, own_V & decided_V, ~own_V & decided_V)
    found = clustered_means(columns, codes_N[pair_V], rng=rng)
    parts = ("scorer", "itself", "minus")
    return [GroupRow(str(names[g]), int(size_G[g]), *(found[f"{g}/{part}"] for part in parts)) for g in kept]


def _difference(hit_V: Floats, own_V: NDArray[np.bool_], other_V: NDArray[np.bool_]) -> Column:
    """A column whose mean is mean(own) - mean(others), with each vote's influence on it (the delta method) as its value."""
    n_own, n_other = int(own_V.sum()), int(other_V.sum())
    mean_own, mean_other = hit_V[own_V].mean(), hit_V[other_V].mean()
    total = n_own + n_other
    influence_V = np.where(own_V, (hit_V - mean_own) * total / n_own, -(hit_V - mean_other) * total / n_other)
    return Column.of(mean_own - mean_other + influence_V, np.ones(len(hit_V)), own_V | other_V)


def _with_the_rest(pair_V: Codes, label_V: Floats, group_V: Codes) -> Floats:
    """For each decided vote, whether the other votes of its group on its pair lean its way (0.5 when split); NaN where there are none."""
    cell_V = pair_V * (int(group_V.max()) + 1) + group_V
    _, cell_V = np.unique(cell_V, return_inverse=True)
    lean_V = label_V - 0.5
    others_V = np.bincount(cell_V, lean_V)[cell_V] - lean_V
    count_V = np.bincount(cell_V)[cell_V] - 1
    agree_V = 0.5 + 0.5 * np.sign(np.round(others_V, 9)) * np.sign(lean_V)
    return np.where((count_V > 0) & (lean_V != 0), agree_V, np.nan)


def group_findings(rows: Sequence[GroupRow]) -> tuple[Finding, ...]:
    """One finding per group: the scorer's agreement with it minus that with all others, held against 0; only a group that is served worse
    is a finding, and its own ceiling is named beside it."""
    findings = []
    for row in rows:
        lost = row.minus_others
        verdict = "unknown" if np.isnan(lost.low) else "finding" if lost.high < 0 else "clear"
        ceiling = f"; its own votes agree with each other in {row.itself}" if not np.isnan(row.itself.value) else ""
        words = "less" if verdict == "finding" else "not less"
        summary = f"Agrees {words} with group {row.name} ({row.scorer}) than with the others: difference {lost}{ceiling}."
        severity = max(0.0, -10.0 * lost.value)
        findings.append(
            Finding("group_agreement", f"group {row.name}", lost, "0", verdict, summary, severity=severity, p_value=normal_p(lost))
        )
    return tuple(findings)
