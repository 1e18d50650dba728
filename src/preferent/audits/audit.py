"""The audit of one scorer: every question, one after another, on one set of texts.

    from preferent.audits.audit import audit
    found = audit(scorer)                                  # the probe texts that come with the package
    found = audit(scorer, audit_data(preferences))         # the caller's own
    for finding in found.worst: print(finding.summary)

The order of the questions is that of the report; each draws from its own stream, so asking fewer changes no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from preferent.audits.audit_answer import Answer
from preferent.audits.audit_battery import blind_spots, edits
from preferent.audits.audit_labels import calibration, groups, length_style
from preferent.audits.audit_rewards import consistency, hackability, shape
from preferent.audits.audit_subject import AuditSettings, Memo, Subject, Votes
from preferent.audits.blind_spots import plan_errors
from preferent.audits.counterfactual import plan_edits
from preferent.audits.edits.all import standard_edits
from preferent.audits.hackability import TiltMaths
from preferent.audits.probe import AuditData, built_in_probes
from preferent.core.errors import ConfigError
from preferent.core.findings import Finding
from preferent.core.records import Exchange
from preferent.core.scorer import Scorer

QUESTIONS: dict[str, Callable[[Subject], Answer]] = {
    "edits": edits,
    "blind_spots": blind_spots,
    "length_style": length_style,
    "calibration": calibration,
    "shape": shape,
    "consistency": consistency,
    "groups": groups,
    "hackability": hackability,
}
RANK = {"finding": 0, "unknown": 1, "clear": 2}


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found. n_scored: distinct texts that were scored, in `seconds` of scoring. within_std: the unit of effects, in
    reward points; NaN for a judge of pairs, whose unit is the probability and whose `n_scored` are comparisons."""

    scorer: str
    source: str
    n_prompts: int
    n_left_out: int
    n_pairs: int
    seed: int
    temperature: float
    answers: tuple[Answer, ...]
    n_scored: int
    seconds: float
    within_std: float
    overall_std: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every line, the worst first."""
        lines = [finding for answer in self.answers for finding in answer.findings]
        return tuple(sorted(lines, key=lambda line: (RANK[line.verdict], -line.severity)))

    @property
    def bad(self) -> tuple[Finding, ...]:
        """Those with the verdict 'finding', the worst first."""
        return tuple(line for line in self.findings if line.verdict == "finding")

    @property
    def worst(self) -> tuple[Finding, ...]:
        """The three worst findings, one of a kind: an edit's family, or a question, is shown once while there are others."""
        first: dict[str, Finding] = {}
        for line in self.bad:
            first.setdefault(f"{line.audit} {line.name.partition('.')[0] if '.' in line.name else ''}", line)
        rest = [line for line in self.bad if line not in first.values()]
        return tuple([*first.values(), *rest][:3])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = ("scorer", "source", "n_prompts", "n_left_out", "n_pairs", "seed", "temperature", "n_scored", "within_std", "overall_std")
        values = {name: getattr(self, name) for name in names}
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()} | {
            "findings": [line.to_dict() for line in self.findings],
            "answers": [answer.to_dict() for answer in self.answers],
        }


def audit(
    scorer: Scorer | Memo,
    data: AuditData | None = None,
    *,
    only: Sequence[str] = (),
    settings: AuditSettings | None = None,
    temperature: float = 1.0,
    gold: Scorer | None = None,
    maths: TiltMaths | None = None,
    votes: Votes | None = None,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Ask `scorer` the questions named in `only` (default: all of QUESTIONS).

    `maths` is `preferent.optimize.best_of_n`, for the best-of-n question; `gold` a stronger scorer for it. `progress` is called with the
    number of texts just scored (a Memo has its own).
    Raises ConfigError for a question that does not exist, ModelError for a reward that is no number.
    """
    asked = chosen_questions(only)
    memo = scorer if isinstance(scorer, Memo) else Memo(scorer, progress=progress)
    subject = Subject(memo, data or built_in_probes(), settings or AuditSettings(), temperature, gold, maths, votes)
    answers = tuple(settled(QUESTIONS[name](subject)) for name in asked)
    return Audit(
        scorer=scorer.name,
        source=subject.data.source,
        n_prompts=subject.data.n_prompts,
        n_left_out=subject.data.n_left_out,
        n_pairs=len(subject.data.preferences),
        seed=subject.settings.seed,
        temperature=temperature,
        answers=answers,
        n_scored=memo.n_scored,
        seconds=memo.seconds,
        within_std=subject.scale.within,
        overall_std=subject.scale.overall,
    )


def settled(answer: Answer) -> Answer:
    """Only a finding is severe."""
    lines = tuple(line if line.verdict == "finding" else replace(line, severity=0.0) for line in answer.findings)
    return replace(answer, findings=lines)


def chosen_questions(only: Sequence[str]) -> tuple[str, ...]:
    """The questions to ask, in the order of the report. Raises ConfigError for an unknown one."""
    unknown = [name for name in only if name not in QUESTIONS]
    if unknown:
        raise ConfigError(f"there is no question {unknown[0]!r}; allowed are {', '.join(QUESTIONS)}")
    return tuple(name for name in QUESTIONS if not only or name in only)


def texts_to_score(data: AuditData, settings: AuditSettings, only: Sequence[str] = ()) -> int:
    """About how many distinct texts an audit scores: exact for the battery, an upper bound for the searches and rewordings."""
    asked = chosen_questions(only)
    wanted: set[Exchange] = set(data.exchanges)
    if "edits" in asked:
        plans = plan_edits(data, standard_edits(data.exchanges), per_edit=settings.battery.per_edit, seed=settings.seed)
        wanted.update(side for cells in plans for cell in cells for side in (cell.without, cell.edited))
    if {"edits", "blind_spots"} & set(asked):
        planted = plan_errors(data, per_kind=settings.battery.per_edit, seed=settings.seed)
        wanted.update(error.wrong for errors in planted.values() for error in errors)
    n = len(wanted)
    if "consistency" in asked:
        n += min(data.n_prompts, settings.style_prompts) * (3 + 2 + 4)
    if "hackability" in asked:
        n += 2 * min(data.n_prompts, settings.attack_prompts) * (settings.rounds * settings.width)
    return n
