"""`preferent train`: from a file of preferences to a reward model and its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from preferent.cli.inputs import Reading, all_data_options, repeats_option
from preferent.cli.output import emit, emit_json, json_option, talk
from preferent.cli.scorers import refuse_unreachable_base
from preferent.cli.steps_train import StepRun, train_steps
from preferent.cli.train_data import read_training_data
from preferent.core.errors import ConfigError
from preferent.data.ratings import AnyFormat
from preferent.data.steps_read import holds_steps
from preferent.training.config import TrainConfig, load_config, options

if TYPE_CHECKING:
    from preferent.cli.pipeline import Done

EXIT_SIGTERM = 143


def setting_options(function: Any) -> Any:
    """Every setting of `TrainConfig` as an option of its dotted name."""
    for option in reversed(options()):
        dashed = f"--{option.name.replace('_', '-')}"
        names = [dashed] if dashed == f"--{option.name}" else [dashed, f"--{option.name}"]
        kinds = f" [{', '.join(option.kinds)}]" if option.kinds else ""
        function = click.option(
            *names,
            _parameter(option.name),
            metavar=option.type.upper() if len(option.type) < 24 else "VALUE",
            help=f"{option.help}{kinds} ({'required' if option.default == 'required' else f'default: {option.default}'})",
        )(function)
    return function


def _parameter(name: str) -> str:
    return f"set__{name.replace('.', '__')}"


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the reward model.")
@click.option("--held-out-file", "held_out_file", metavar="FILE", help="Hold this out instead of a share of the prompts.")
@click.option("--config", "toml", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings as TOML; options below win.")
@click.option("--comparisons", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Texts of judgments that carry none: id, prompt, response_a, response_b.")  # fmt: skip
@repeats_option("merge")
@all_data_options
@click.option("--resume", is_flag=True, help="Go on with the run in the folder from its last saved state.")
@click.option("--force", is_flag=True, help="Remove an earlier run in the folder first.")
@json_option
@setting_options
def command(
    sources: Sequence[str],
    output: Path,
    held_out_file: str | None,
    toml: Path | None,
    comparisons: Path | None,
    repeats: Literal["refuse", "merge"],
    data_format: AnyFormat,
    strict: bool,
    resume: bool,
    force: bool,
    as_json: bool,
    **settings: str | None,
) -> int:
    """Train a reward model on the preferences and ratings in FILE and evaluate it on prompts held out of it.

    FILE is JSONL (plain, .gz, .zst), Parquet, a local data-set folder or a hub data-set id, in any of the shapes that
    `preferent check` knows; or judgments (comparison_id, annotator_id, choice, and the texts), which are aggregated to soft
    preferences first or, with --votes.kind joint, train the rewards and the annotators' skills together. Ratings, and preferences that
    name an objective, give each objective a head of its own; --combination.kind says how they become one reward. A file of step labels
    (prompt, steps, labels) trains a process reward model, which scores every step; half of what is held out chooses its threshold
    and how steps become one reward, the other half measures it.

    Start it under `accelerate launch -m preferent train ...` to use many devices.
    """
    config = _config(toml, settings)
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other")
    from preferent.cli.pipeline import REPORT, clear, is_main_process, train_and_evaluate

    if force and is_main_process():
        clear(output)
    if comparisons is None and data_format == "auto" and holds_steps(list(sources)):
        return train_steps(config, StepRun(sources, output, held_out_file, strict, resume, as_json))
    reading = Reading(output, held_out_file, comparisons, data_format, strict, repeats)
    data = read_training_data(sources, config, reading, main=is_main_process())
    ledger = data.ledger.to_dict()
    if is_main_process():
        talk(data.ledger.render())
        for note in data.notes:
            talk(note)
    done = train_and_evaluate(data.records, data.held_out, config, output, ledger=ledger, resume=resume)
    if done.result.stopped == "signal":
        talk(f"interrupted after step {done.result.steps}; its state is saved: run the same command with --resume to go on")
        return EXIT_SIGTERM
    if done.model is None:
        return 0
    if done.has_report:
        _report(output / REPORT, sources, config, done, ledger)
    _say(done, output, as_json=as_json)
    return 0


def _say(done: Done, output: Path, *, as_json: bool) -> None:
    """The result on stdout, and on stderr where things are."""
    skills = done.result.skills
    if as_json:
        people = {"annotators": [skill.to_dict() for skill in skills]} if skills else {}
        emit_json({"output": output, "steps": done.result.steps, "evaluation": done.evaluation, **people, **done.objectives()})
    else:
        if done.evaluation is not None:
            emit(done.evaluation.render())
        if done.study is not None:
            from preferent.audits.objectives_report import render

            emit(render(done.study))
    for skill in skills:
        for flag in skill.flags:
            talk(f"annotator {skill.annotator_id}: {flag} (slope {skill.slope:.2f} [{skill.slope_low:.2f}, {skill.slope_high:.2f}])")
    talk(f"reward model: {output}")
    if done.has_report:
        from preferent.cli.pipeline import REPORT

        talk(f"report: {output / REPORT}")


def _config(toml: Path | None, settings: dict[str, str | None]) -> TrainConfig:
    names = {_parameter(option.name): option.name for option in options()}
    given = {names[key]: value for key, value in settings.items() if value is not None}
    if toml is None and "base" not in given:
        raise ConfigError("no base model is named", hint="--base minilm (offline), --base tiny, a folder, or a hub id")
    config = load_config(toml, given)
    refuse_unreachable_base(config.base)
    return config


def _report(path: Path, sources: Sequence[str], config: TrainConfig, done: Any, ledger: dict[str, Any]) -> None:
    from preferent.audits.report import write_report
    from preferent.training.metrics_log import read_metrics

    title = f"{config.base} on {', '.join(Path(source).name for source in sources)}"
    rest: dict[str, Any] = {
        "ledger": ledger,
        "curves": read_metrics(path.parent),
        "config": config.model_dump(mode="json"),
        "force": True,
    }
    if done.evaluation is not None:
        write_report(path, title=title, evaluation=done.evaluation, extra=done.sections, **rest)
        return
    from preferent.audits.objectives_report import verdict_lines, write_objectives_report

    write_objectives_report(path, title=title, scorer=done.model.name, found=done.sections, verdict=verdict_lines(done.study), **rest)
