"""`preferent evaluate`: a scorer on preferences, with intervals and baselines."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click

from preferent.audits.evaluation import Evaluation
from preferent.audits.objectives import ObjectiveStudy
from preferent.audits.page import Section
from preferent.cli.inputs import all_data_options
from preferent.cli.output import Progress, emit, emit_json, json_option, talk
from preferent.cli.scorers import reduction_option
from preferent.core.errors import DataError, ExistsError
from preferent.core.records import Rating
from preferent.core.scorer import Scorer
from preferent.data.ratings import AnyFormat, CheckedAll, check_all


@click.command()
@click.argument("model")
@click.argument("source")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@all_data_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the HTML report here.")
@click.option("--force", is_flag=True, help="Overwrite the report.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@reduction_option
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@json_option
def command(
    model: str,
    source: str,
    split: str,
    data_format: AnyFormat,
    strict: bool,
    output: Path | None,
    force: bool,
    seed: int,
    reduction: str,
    threads: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Evaluate MODEL on the preferences or ratings in SOURCE, or a step model on step labels.

    MODEL is a checkpoint folder of preferent, anyone's sequence classifier with one output (folder or hub id), or the word
    `length`: the baseline that prefers the longer response. A model with named objectives is also held against ratings, and against
    preferences on one objective, head by head. A step model on a file of step labels is held against the best constant and
    the best length rule: first-error F1 (as ProcessBench has it) at the threshold of the checkpoint, and AUROC per step; the report
    shows the worst solutions step by step.
    """
    from preferent.cli.steps_evaluation import Asked, evaluate_step_model, is_for_steps

    if is_for_steps(model, source, split):
        loading = {"threads": threads, "trust_remote_code": trust_remote_code}
        evaluate_step_model(model, source, Asked(split, strict, seed, as_json, output, force), loading=loading)
        return
    from preferent.cli.scorers import load_scorer

    if output is not None and output.exists() and not force:
        raise ExistsError(f"{output} exists", hint="--force overwrites it")
    scorer, temperature = load_scorer(model, threads=threads, trust_remote_code=trust_remote_code, reduction=reduction)
    checked = check_all(source, format=data_format, strict=strict, split=split)
    found = _evaluate(scorer, checked, temperature, seed)
    ledger = checked.ledger.to_dict()
    if as_json:
        named = {} if found.study is None else {"objectives": found.study.to_dict()}
        emit_json({"evaluation": found.evaluation, **named, "ledger": ledger})
    else:
        found.print()
    if checked.ledger.refused:
        talk(f"{checked.ledger.refused} rows were refused: see `preferent check {source}`")
    if output is not None:
        found.write(output, f"{scorer.name} on {Path(source).name}", ledger, force)
        talk(f"report: {output}")


@dataclass(frozen=True)
class Found:
    """What was found: of the reward, of the single objectives, or both."""

    scorer: str
    evaluation: Evaluation | None
    study: ObjectiveStudy | None
    sections: tuple[Section, ...]

    def print(self) -> None:
        if self.evaluation is not None:
            emit(self.evaluation.render())
        if self.study is not None:
            from preferent.audits.objectives_report import render

            emit(render(self.study))

    def write(self, path: Path, title: str, ledger: dict[str, Any], force: bool) -> None:
        from preferent.audits.objectives_report import verdict_lines, write_objectives_report
        from preferent.audits.report import write_report

        if self.evaluation is not None:
            write_report(path, title=title, evaluation=self.evaluation, ledger=ledger, extra=self.sections, force=force)
        elif self.study is not None:
            verdict = verdict_lines(self.study)
            write_objectives_report(path, title=title, scorer=self.scorer, found=self.sections, verdict=verdict, ledger=ledger, force=force)


def _evaluate(scorer: Scorer, checked: CheckedAll, temperature: float, seed: int) -> Found:
    """The reward on overall preferences, each head on what speaks of it; a scorer without named objectives on all preferences.

    Raises DataError when nothing in the file speaks about what the scorer gives.
    """
    from preferent.audits.evaluate import evaluate
    from preferent.cli.scorers import WithProgress

    with Progress("scoring", None, "responses") as progress:
        watched = WithProgress(scorer, progress)
        if getattr(getattr(scorer, "card", None), "heads", None) is None:
            pairs = (record for record in checked.records() if not isinstance(record, Rating))
            first = next(pairs, None)
            if first is None:
                raise DataError(f"{scorer.name} gives one reward, and every row rates single objectives",
                                hint="evaluate it on preferences or rankings, or train a model with a head per objective")  # fmt: skip
            return Found(scorer.name, evaluate(watched, chain([first], pairs), temperature=temperature, seed=seed), None, ())
        from preferent.cli.objectives import part, report_sections, study

        model: Any = scorer
        records = list(checked.records())
        parts = part(model, records)
        evaluation = evaluate(watched, parts.overall, temperature=parts.temperature, seed=seed) if parts.overall else None
        of_heads = study(model, watched, parts.named, seed=seed)
        if evaluation is None and of_heads is None:
            known = ", ".join(model.card.heads.names)
            raise DataError(f"no row is about the reward or one of the objectives of {scorer.name}: {known}")
        sections = () if of_heads is None else tuple(report_sections(model, of_heads, records))
        return Found(scorer.name, evaluation, of_heads, sections)
