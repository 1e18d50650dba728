"""What a page on a step scorer shows beside its figures: where it finds errors, how far its scores can be believed, what its
aggregations make of whole solutions, and the solutions it is most wrong about.

A solution is right where every step is labelled and none is wrong, wrong where its first error can be told; others count for the
reliability and the worst disagreements only.

Legend: N solutions, S labelled steps of all solutions, P problems, M solutions of a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.audits.metrics import Reliability, reliability
from preferent.audits.resample import Column, clustered_means, no_estimate
from preferent.audits.steps import Ints, predicted_first_error, step_auroc, true_first_error
from preferent.audits.steps_best_of_n import MAJORITY, VOTE, best_of_n_table
from preferent.audits.steps_evaluate import StepEvaluation
from preferent.core.errors import ConfigError, FitError
from preferent.core.estimates import Estimate, cluster_codes
from preferent.core.records import Floats, StepLabels
from preferent.core.step_rewards import PLAIN, Aggregation, How, choose_aggregation

# A row with fewer solutions has no number: its interval would be most of the way from 0 to 1.
LEAST = 10
POOLS = (16, 8, 4, 2)
LEAST_PROBLEMS = 10
SHOWN = 5
LAST_PLACE = 5
COUNTS = ((1, 2), (3, 4), (5, 7), (8, 11), (12, 16), (17, None))


@dataclass(frozen=True, slots=True)
class HitRow:
    """Some solutions, and the share of them whose first error (or whose lack of one) the scorer and the length rule name exactly."""

    name: str
    n: int
    scorer: Estimate
    length: Estimate


@dataclass(frozen=True, slots=True)
class AggregationRow:
    """within_problem: chance that a right solution's reward is above that of a wrong one to the same problem. overall: to any problem."""

    how: How
    within_problem: Estimate
    overall: Estimate


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Share of problems whose pick is right, one estimate for each of `ns`, by rule; picks among `ns[-1]` solutions of `n_problems`."""

    ns: tuple[int, ...]
    rows: dict[str, list[Estimate]]
    n_problems: int
    voted: bool


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A solution with the labelled step on which scorer and labels are furthest apart. predicted, true: first errors, -1 for none; true
    is None where the labels do not tell."""

    record: StepLabels
    score_T: Floats
    step: int
    predicted: int
    true: int | None


@dataclass(frozen=True)
class StepStudy:
    """missed: wrong steps with the highest scores. alarms: right steps with the lowest. no_best_of_n, no_aggregation: why there is none."""

    reliability: Reliability | None
    by_place: tuple[HitRow, ...]
    by_count: tuple[HitRow, ...]
    by_source: tuple[HitRow, ...]
    aggregations: tuple[AggregationRow, ...]
    no_aggregation: str
    best_of_n: BestOfN | None
    no_best_of_n: str
    missed: tuple[Disagreement, ...]
    alarms: tuple[Disagreement, ...]


@dataclass(frozen=True)
class Solved:
    """Solutions with their step scores (probabilities that a step is right), their problems, and the answers they state (None: none)."""

    records: Sequence[StepLabels]
    scores: Sequence[Floats]
    problems: Sequence[Hashable]
    answers: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.records), len(self.scores), len(self.problems), len(self.records if self.answers is None else self.answers)}
        if len(sizes) > 1 or any(len(s) != len(r.steps) for r, s in zip(self.records, self.scores, strict=True)):
            raise ConfigError("step study: needs one problem and one score array for each solution, and one score for each step")

    def of(self, rows: Sequence[int]) -> Solved:
        """Some of them."""
        answers = None if self.answers is None else [self.answers[i] for i in rows]
        return Solved([self.records[i] for i in rows], [self.scores[i] for i in rows], [self.problems[i] for i in rows], answers)


def study_steps(solved: Solved, evaluation: StepEvaluation, *, stored: Aggregation | None = None, seed: int = 0) -> StepStudy:
    """Study the solutions that `evaluation` measured. stored: the aggregation of the scorer, for best-of-n beside the plain ones.

    Raises ConfigError where scores, solutions and problems do not fit, or a score is no probability.
    """
    places = true_first_error([record.labels for record in solved.records])
    known = [i for i, place in enumerate(places) if place is not None]
    told, true_N = solved.of(known), np.array([place for place in places if place is not None], dtype=np.int64)
    rows = _hits(told, true_N, evaluation, seed)
    aggregations, no_aggregation = _aggregations(told, true_N < 0, seed)
    best, no_best = _best_of_n(told, true_N < 0, stored, seed)
    missed, alarms = _worst(solved, evaluation.threshold.value, places)
    return StepStudy(
        _reliability(solved, seed),
        *rows,
        aggregations=aggregations,
        no_aggregation=no_aggregation,
        best_of_n=best,
        no_best_of_n=no_best,
        missed=missed,
        alarms=alarms,
    )


def _reliability(solved: Solved, seed: int) -> Reliability | None:
    """Of the score of a step as the probability of its label; None where no step is labelled."""
    label_S = np.array([np.nan if label is None else label for record in solved.records for label in record.labels], dtype=np.float64)
    used_S = ~np.isnan(label_S)
    if not used_S.any():
        return None
    score_S = np.concatenate(list(solved.scores))
    problem_S = np.repeat(cluster_codes(solved.problems), [len(record.steps) for record in solved.records])
    codes_S = cluster_codes(problem_S[used_S])
    return reliability(score_S[used_S], label_S[used_S], np.ones(int(used_S.sum())), codes_S, rng=np.random.default_rng([seed, 1]))


# ---- where first errors are found ----


def _hits(told: Solved, true_N: Ints, evaluation: StepEvaluation, seed: int) -> tuple[tuple[HitRow, ...], ...]:
    """Rows by the place of the first error, by the number of steps, and by source where there are several."""
    if not len(true_N):
        return (), (), ()
    hit_N = predicted_first_error(told.scores, evaluation.threshold.value) == true_N
    by_rule_N = evaluation.length_rule.predict([record.steps for record in told.records]) == true_N
    codes_N = cluster_codes(told.problems)

    def rows(groups: Sequence[tuple[str, NDArray[np.bool_]]]) -> tuple[HitRow, ...]:
        columns = {(name, who): Column.of(hits.astype(np.float64), np.ones(len(hits)), where_N, share=True)
                   for name, where_N in groups for who, hits in (("scorer", hit_N), ("length", by_rule_N))}  # fmt: skip
        found = clustered_means({repr(key): column for key, column in columns.items()}, codes_N, rng=np.random.default_rng([seed, 2]))
        made = []
        for name, where_N in groups:
            n = int(where_N.sum())
            few = no_estimate(f"fewer than {LEAST} solutions", n) if n < LEAST else None
            made.append(HitRow(name, n, few or found[repr((name, "scorer"))], few or found[repr((name, "length"))]))
        return tuple(made)

    place_groups = [("no error", true_N < 0)]
    place_groups += [(f"step {place + 1}", true_N == place) for place in range(LAST_PLACE)]
    place_groups.append((f"after step {LAST_PLACE}", true_N >= LAST_PLACE))
    count_N = np.array([len(record.steps) for record in told.records])
    count_groups = [(_range(low, high), (count_N >= low) & (count_N <= (high or count_N.max()))) for low, high in COUNTS]
    source_N = np.array([record.source or "no source" for record in told.records], dtype=object)
    sources = list(dict.fromkeys(source_N.tolist()))
    source_groups = [(str(source), source_N == source) for source in sources] if len(sources) > 1 else []
    return tuple(rows([group for group in groups if group[1].any()]) for groups in (place_groups, count_groups, source_groups))


def _range(low: int, high: int | None) -> str:
    return f"{low} steps or more" if high is None else f"{low} to {high} steps"


# ---- whole solutions ----


def _aggregations(told: Solved, right_N: NDArray[np.bool_], seed: int) -> tuple[tuple[AggregationRow, ...], str]:
    try:
        choice = choose_aggregation(told.scores, right_N, told.problems, rng=np.random.default_rng([seed, 3]))
    except FitError as error:
        return (), error.message
    labels = [(1.0,) if right else (0.0,) for right in right_N]
    rows = []
    for how, estimate in choice.within_problem.items():
        if how == "weighted":
            overall = no_estimate("its weights differ between the halves", len(labels))
        else:
            reward_N1 = [np.array([reward]) for reward in Aggregation(how)(told.scores)]
            overall = step_auroc(reward_N1, labels, told.problems, rng=np.random.default_rng([seed, 4])).auroc
        rows.append(AggregationRow(how, estimate, overall))
    return tuple(rows), ""


def _best_of_n(told: Solved, right_N: NDArray[np.bool_], stored: Aggregation | None, seed: int) -> tuple[BestOfN | None, str]:
    """On the largest pool that enough problems have; of problems with more solutions, a random part."""
    rng = np.random.default_rng([seed, 5])
    of_problem: dict[Any, list[int]] = {}
    for row, record in enumerate(told.records):
        of_problem.setdefault(record.prompt, []).append(row)
    fit = ((pool, [rows for rows in of_problem.values() if len(rows) >= pool]) for pool in POOLS)
    both = [(pool, rows) for pool, rows in fit if sum(0 < right_N[part].sum() < len(part) for part in rows) >= LEAST_PROBLEMS]
    if not both:
        return None, f"fewer than {LEAST_PROBLEMS} problems have both a right solution and a wrong one"
    pool, problems = both[0]
    row_PM = np.array([rng.permutation(rows)[:pool] for rows in problems])
    rules: dict[str, Aggregation] = {how: Aggregation(how) for how in PLAIN}
    if stored is not None and stored.how == "weighted":
        rules["weighted"] = stored
    rewards = {name: rule(told.scores)[row_PM] for name, rule in rules.items()}
    said = [None] * len(told.records) if told.answers is None else told.answers
    voted = sum(said[row] is not None for row in row_PM.ravel()) * 2 >= row_PM.size
    ns = tuple(n for n in (1, *reversed(POOLS)) if n <= pool)
    table = best_of_n_table(rewards, right_N[row_PM], [[said[row] for row in rows] for rows in row_PM], ns, rng=rng)
    if not voted:
        table = {name: row for name, row in table.items() if name != MAJORITY and not name.startswith(VOTE.format(""))}
    return BestOfN(ns, table, len(problems), voted), ""


# ---- the worst ----


def _worst(solved: Solved, threshold: float, places: Sequence[int | None]) -> tuple[tuple[Disagreement, ...], tuple[Disagreement, ...]]:
    """(wrong steps with the highest scores, right steps with the lowest), at most one of a problem in each."""
    if not solved.records:
        return (), ()
    predicted_N = predicted_first_error(solved.scores, threshold)

    def furthest(kind: Callable[[float], bool]) -> tuple[Disagreement, ...]:
        gaps = [
            (abs(float(score_T[t]) - label), row, t)
            for row, (record, score_T) in enumerate(zip(solved.records, solved.scores, strict=True))
            for t, label in enumerate(record.labels)
            if label is not None and kind(label)
        ]
        found: dict[Hashable, Disagreement] = {}
        for gap, row, t in sorted(gaps, key=lambda item: (-item[0], item[1], item[2])):
            if len(found) == SHOWN or gap <= 0.5:
                break
            worst = Disagreement(solved.records[row], solved.scores[row], t, int(predicted_N[row]), places[row])
            found.setdefault(solved.problems[row], worst)
        return tuple(found.values())

    return furthest(lambda label: label < 0.5), furthest(lambda label: label > 0.5)
