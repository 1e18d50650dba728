"""The audit of a judge of pairs.

    from preferent.audits.judge_audit import audit_judge
    found = audit_judge(judge)                              # the probe texts that come with the package
    found = audit_judge(judge, audit_data(preferences))     # the caller's own
    for finding in found.worst: print(finding.summary)

The result is that of a scorer's audit, and is written and printed by the same functions; its unit is the probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from preferent.audits.audit import Audit, settled
from preferent.audits.audit_answer import Answer
from preferent.audits.judge import AskedJudge, Duel, JudgeSettings, PairwiseJudge
from preferent.audits.judge_questions import JudgeSubject, blind_spots, circle_duels, circles, edits, labels, position
from preferent.audits.probe import AuditData, built_in_probes
from preferent.core.errors import ConfigError

# name -> (the pairs it needs, the answer)
JUDGE_QUESTIONS: dict[str, tuple[Callable[[JudgeSubject], Iterable[Duel]], Callable[[JudgeSubject], Answer]]] = {
    "position": (lambda subject: subject.natural, position),
    "circles": (circle_duels, circles),
    "labels": (lambda subject: subject.natural if len(subject.data.better_K) else (), labels),
    "edits": (lambda subject: (duel for _, duels in subject.edited for duel in duels), edits),
    "blind_spots": (lambda subject: (duel for duels in subject.planted.values() for duel in duels), blind_spots),
}


def audit_judge(
    judge: PairwiseJudge,
    data: AuditData | None = None,
    *,
    only: Sequence[str] = (),
    settings: JudgeSettings | None = None,
    started: Callable[[int], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Ask `judge` the questions named in `only` (default: all of JUDGE_QUESTIONS), each pair in both orders and once.

    `started` is called with the number of comparisons to come, `progress` with the number just made. Raises ConfigError for a question
    that does not exist, ModelError for an answer that is no probability.
    """
    asked = chosen_judge_questions(only)
    settings = settings or JudgeSettings()
    subject = JudgeSubject(AskedJudge(judge, progress=progress), data or built_in_probes(), settings)
    duels = [duel for name in asked for duel in JUDGE_QUESTIONS[name][0](subject)]
    if started is not None:
        started(2 * len({(frozenset((duel.left.response, duel.right.response)), duel.left.prompt) for duel in duels}))
    subject.judge.ask(duels)
    answers = tuple(settled(JUDGE_QUESTIONS[name][1](subject)) for name in asked)
    return Audit(
        scorer=judge.name,
        source=subject.data.source,
        n_prompts=subject.data.n_prompts,
        n_left_out=subject.data.n_left_out,
        n_pairs=len(subject.data.preferences),
        seed=settings.seed,
        temperature=1.0,
        answers=answers,
        n_scored=subject.judge.n_asked,
        seconds=subject.judge.seconds,
        within_std=float("nan"),
        overall_std=float("nan"),
    )


def chosen_judge_questions(only: Sequence[str]) -> tuple[str, ...]:
    """The questions to ask, in the order of the report. Raises ConfigError for an unknown one."""
    unknown = [name for name in only if name not in JUDGE_QUESTIONS]
    if unknown:
        raise ConfigError(f"there is no question {unknown[0]!r} for a judge of pairs; allowed are {', '.join(JUDGE_QUESTIONS)}")
    return tuple(name for name in JUDGE_QUESTIONS if not only or name in only)
