"""From judgments to soft preferences by share of the vote: the simplest rule, which believes everybody equally."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from preferent.core.errors import DataError
from preferent.core.records import Comparison, Judgment, Preference

VOTE = {"a": 1.0, "tie": 0.5, "b": 0.0}


def soft_preferences(comparisons: Sequence[Comparison], judgments: Iterable[Judgment]) -> list[Preference]:
    """One preference per comparison, in their order; `p_a` is the mean vote: a counts 1, tie 1/2, b 0, and skips do not vote.

    Everybody has one vote: an annotator who judged a comparison several times votes with the mean of those answers. `votes` holds
    the votes in the order in which the annotators first appear, `n_judgments` the judgments counted. Raises DataError when a
    judgment names an unknown comparison, two comparisons share an id, objectives are mixed, or a comparison has no vote (see
    `without_votes`).
    """
    known = _by_id(comparisons)
    answers: dict[str, dict[str, list[float]]] = {id: {} for id in known}
    objectives: set[str | None] = set()
    for judgment in judgments:
        if judgment.comparison_id not in known:
            raise DataError(f"a judgment of {judgment.annotator_id!r} is about an unknown comparison {judgment.comparison_id!r}")
        if judgment.choice != "skip":
            objectives.add(judgment.objective)
            answers[judgment.comparison_id].setdefault(judgment.annotator_id, []).append(VOTE[judgment.choice])
    if len(objectives) > 1:
        raise DataError(
            f"judgments of different objectives cannot be counted together: {sorted(map(str, objectives))}",
            hint="count each objective by itself",
        )
    empty = [id for id, by_annotator in answers.items() if not by_annotator]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(known)} comparisons have no vote: {empty[:5]!r}{' ...' if len(empty) > 5 else ''}",
            hint="leave out those that annotators.votes.without_votes names, or ask for more judgments",
        )
    objective = next(iter(objectives), None)
    return [_preference(comparison, answers[comparison.id], objective) for comparison in comparisons]


def without_votes(comparisons: Sequence[Comparison], judgments: Iterable[Judgment]) -> list[str]:
    """Ids of the comparisons that nobody voted on (no judgment, or skips only), in their order."""
    voted = {judgment.comparison_id for judgment in judgments if judgment.choice != "skip"}
    return [comparison.id for comparison in comparisons if comparison.id not in voted]


def _by_id(comparisons: Sequence[Comparison]) -> dict[str, Comparison]:
    known: dict[str, Comparison] = {}
    for comparison in comparisons:
        if comparison.id in known:
            raise DataError(f"two comparisons have the id {comparison.id!r}")
        known[comparison.id] = comparison
    return known


def _preference(comparison: Comparison, answers: dict[str, list[float]], objective: str | None) -> Preference:
    votes = tuple(sum(own) / len(own) for own in answers.values())
    return Preference(
        prompt=comparison.prompt,
        response_a=comparison.response_a,
        response_b=comparison.response_b,
        p_a=sum(votes) / len(votes),
        objective=objective,
        n_judgments=sum(len(own) for own in answers.values()),
        votes=votes,
        source=comparison.source,
        id=comparison.id,
        meta=comparison.meta,
    )
