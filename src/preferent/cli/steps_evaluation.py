"""A step model on labelled solutions, as `preferent train` and `preferent evaluate` print it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from preferent.audits.steps_evaluate import StepEvaluation, evaluate_steps
from preferent.cli.output import Progress, emit, emit_json, talk
from preferent.core.errors import ConfigError
from preferent.core.records import Floats, StepLabels
from preferent.core.step_errors import Threshold
from preferent.core.step_rewards import Aggregation
from preferent.data.steps_gate import check_steps
from preferent.data.steps_read import holds_steps
from preferent.data.steps_split import problem_groups, split_by_problem

if TYPE_CHECKING:
    from preferent.models.steps import StepRewardModel

NAMES = {"constant": "constant", "length": "length rule"}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the evaluation was made from, for the report: the solutions, their scores and problems, the aggregation of the checkpoint."""

    records: Sequence[StepLabels]
    scores: Sequence[Floats]
    problems: Sequence[Hashable]
    stored: Aggregation | None
    seed: int


@dataclass(frozen=True, slots=True)
class StepFindings:
    """The evaluation, and on what threshold and rules were chosen, in words."""

    scorer: str
    evaluation: StepEvaluation
    n_solutions: int
    n_problems: int
    chosen_on: str
    aggregation: str | None
    measured: Measured = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        named = {name: getattr(self, name) for name in ("scorer", "n_solutions", "n_problems", "chosen_on", "aggregation")}
        return {"kind": "steps", **named, **self.evaluation.to_dict()}

    def render(self) -> str:
        """Text for a terminal."""
        beats = self.evaluation.beats
        words = ", ".join(f"{'beats' if better else 'does not beat'} the best {NAMES[name]}" for name, better in beats.items())
        lines = [
            f"{self.scorer}: {self.n_solutions} solutions of {self.n_problems} problems; 95 % intervals over problems",
            self.evaluation.render(),
            f"{self.chosen_on}; aggregation: {self.aggregation or 'none chosen'}",
            f"{words} (intervals of F1 and of AUROC that do not overlap)",
        ]
        return "\n".join(lines)

    def write(
        self,
        path: Path,
        title: str,
        *,
        ledger: Mapping[str, Any] | None = None,
        curves: Sequence[Mapping[str, Any]] | None = None,
        config: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        """Write the HTML report. Raises ExistsError if it exists and not `force`."""
        from preferent.audits.steps_report import StepPage, write_steps_report
        from preferent.audits.steps_study import Solved, study_steps
        from preferent.feedback.checkers import final_answer

        of = self.measured
        answers = [final_answer("\n".join(record.steps)) for record in of.records]
        solved = Solved(of.records, of.scores, of.problems, answers)
        study = study_steps(solved, self.evaluation, stored=of.stored, seed=of.seed)
        measured = f"{self.n_solutions:,} solutions of {self.n_problems:,} problems; intervals: 95 %, resamples of whole problems"
        about = (("measured on", measured), ("chosen on", self.chosen_on))
        page = StepPage(title, self.scorer, self.evaluation, study, about, self.aggregation)
        write_steps_report(path, page, ledger=ledger, curves=curves, config=config, force=force)


def evaluate_on(
    model: StepRewardModel, records: Sequence[StepLabels], *, validation: Sequence[StepLabels] = (), seed: int = 0
) -> StepFindings:
    """A step model on solutions, beside the best constant and the best length rule.

    The threshold is the one of the checkpoint. Constant and length rule are chosen on `validation` or, where there is none, on `records`
    themselves, which flatters them. A model without a threshold gets one on half of the problems and is measured on the other. Raises
    ConfigError where solutions with an error, or without, are missing.
    """
    threshold = model.steps.threshold
    rng = np.random.default_rng([seed, 11])
    if validation:
        chosen_on = f"constant and length rules chosen on {len(validation)} validation solutions"
    elif threshold is not None:
        validation = records
        chosen_on = "constant and length rules chosen on these very solutions, which flatters them"
    else:
        test_N = split_by_problem(records, held_out=0.5, seed=seed)
        validation = [record for record, test in zip(records, test_N, strict=True) if not test]
        records = [record for record, test in zip(records, test_N, strict=True) if test]
        chosen_on = f"threshold, constant and length rules chosen on {len(validation)} other solutions of the file"
    if threshold is not None:
        chosen_on = f"threshold of the checkpoint; {chosen_on}"
    scores = _scored(model, records)
    fit_scores = scores if validation is records else _scored(model, validation)
    problems = problem_groups(records)
    stored = None if threshold is None else Threshold(threshold, float("nan"))
    found = evaluate_steps((validation, fit_scores), (records, scores), problems, rng=rng, threshold=stored)
    aggregation = model.steps.aggregation
    name = None if aggregation is None else aggregation.how
    measured = Measured(records, scores, problems, aggregation, seed)
    return StepFindings(model.name, found, len(records), len(set(problems)), chosen_on, name, measured)


def _scored(model: StepRewardModel, records: Sequence[StepLabels]) -> tuple[Floats, ...]:
    from preferent.models.steps import Solution

    with Progress("scoring", len(records), "solutions") as progress:
        return model.score_steps([Solution(record.prompt, record.steps) for record in records], progress=progress)


def is_for_steps(model: str, source: str, split: str) -> bool:
    """Whether a step model is to be held against step labels. Raises ConfigError for step labels and another kind of model."""
    from preferent.models.steps_spec import is_step_model

    if not holds_steps(source, split=split):
        return False
    if not is_step_model(model):
        raise ConfigError(
            f"{source} holds step labels, and {model!r} is no step model",
            hint="`preferent train` on step labels makes one; other models are evaluated on preferences",
        )
    return True


@dataclass(frozen=True, slots=True)
class Asked:
    """How the command was called. output: where the HTML report goes, if anywhere."""

    split: str
    strict: bool
    seed: int
    as_json: bool
    output: Path | None = None
    force: bool = False


def evaluate_step_model(model: str, source: str, asked: Asked, *, loading: dict[str, Any]) -> None:
    """Print how a step model does on the labelled solutions of a file, and write the report where one is asked for."""
    from preferent.audits.page import refuse_page
    from preferent.cli.scorers import load_scorer
    from preferent.models.steps import StepRewardModel

    if asked.output is not None:
        refuse_page(asked.output, force=asked.force)
    checked = check_steps(source, split=asked.split, strict=asked.strict)
    loaded, _ = load_scorer(model, **loading)
    assert isinstance(loaded, StepRewardModel)
    found = evaluate_on(loaded, list(checked.records()), seed=asked.seed)
    if asked.as_json:
        emit_json({"evaluation": found, "ledger": checked.ledger})
    else:
        emit(found.render())
    if checked.ledger.refused:
        talk(f"{checked.ledger.refused} of {checked.ledger.rows} rows were refused: see `preferent check {source}`")
    if asked.output is not None:
        title = f"{loaded.name} on {Path(source).name}"
        found.write(asked.output, title, ledger=checked.ledger.to_dict(), force=asked.force)
        talk(f"report: {asked.output}")
