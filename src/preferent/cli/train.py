"""`preferent train`: from a file of preferences to a reward model and its report."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from preferent.cli.inputs import data_options
from preferent.cli.judged import is_judgments, read_judged
from preferent.cli.output import emit, emit_json, json_option, talk
from preferent.core.errors import ConfigError
from preferent.data.formats.detect import Format
from preferent.data.gate import Checked, check
from preferent.training.config import Joint, TrainConfig, load_config, options

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
@data_options
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
    data_format: Format,
    strict: bool,
    resume: bool,
    force: bool,
    as_json: bool,
    **settings: str | None,
) -> int:
    """Train a reward model on the preferences in FILE and evaluate it on prompts held out of it.

    FILE is JSONL (plain, .gz, .zst), Parquet, a local data-set folder or a hub data-set id, in any of the shapes that
    `preferent check` knows; or judgments (comparison_id, annotator_id, choice, and the texts), which are aggregated to soft
    preferences first or, with --votes.kind joint, train the rewards and the annotators' skills together.

    Start it under `accelerate launch -m preferent train ...` to use many devices.
    """
    config = _config(toml, settings)
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other")
    from preferent.cli.pipeline import REPORT, clear, is_main_process, train_and_evaluate

    if force and is_main_process():
        clear(output)
    judged = None
    if is_judgments(sources):
        judged = read_judged(sources, comparisons, config, _beside(output, is_main_process()), strict=strict)
    elif comparisons is not None:
        raise click.UsageError("--comparisons goes with judgments (comparison_id, annotator_id, choice), and FILE holds none")
    checked = check(list(sources), format=data_format, strict=strict) if judged is None else judged.checked
    records, held_out, notes = _split(checked, held_out_file, config, data_format=data_format, strict=strict)
    ledger = checked.ledger
    if judged is not None:
        notes = [*judged.told, *notes]
        records = judged.votes_on(records) if isinstance(config.votes, Joint) else records
    if is_main_process():
        talk(ledger.render())
        for note in notes:
            talk(note)
    done = train_and_evaluate(records, held_out, config, output, ledger=ledger.to_dict(), resume=resume)
    if done.result.stopped == "signal":
        talk(f"interrupted after step {done.result.steps}; its state is saved: run the same command with --resume to go on")
        return EXIT_SIGTERM
    if done.model is None:
        return 0
    if done.evaluation is not None:
        _report(output / REPORT, sources, config, done, ledger.to_dict())
    if as_json:
        people = {"annotators": [skill.to_dict() for skill in done.result.skills]} if done.result.skills else {}
        emit_json({"output": output, "steps": done.result.steps, "evaluation": done.evaluation, **people})
    elif done.evaluation is not None:
        emit(done.evaluation.render())
    for skill in done.result.skills:
        for flag in skill.flags:
            talk(f"annotator {skill.annotator_id}: {flag} (slope {skill.slope:.2f} [{skill.slope_low:.2f}, {skill.slope_high:.2f}])")
    talk(f"reward model: {output}")
    if done.evaluation is not None:
        talk(f"report: {output / REPORT}")
    return 0


def _config(toml: Path | None, settings: dict[str, str | None]) -> TrainConfig:
    names = {_parameter(option.name): option.name for option in options()}
    given = {names[key]: value for key, value in settings.items() if value is not None}
    if toml is None and "base" not in given:
        raise ConfigError("no base model is named", hint="--base minilm (offline), --base tiny, a folder, or a hub id")
    return load_config(toml, given)


def _beside(output: Path, main: bool) -> Path:
    """Where the soft preferences made of judgments go: beside the folder of the run, for one process; elsewhere for the others."""
    name = f"{output.name}.preferences.jsonl"
    return output.with_name(name) if main else Path(tempfile.mkdtemp(), name)


def _split(checked: Checked, held_out_file: str | None, config: TrainConfig, *, data_format: Format, strict: bool) -> Any:
    """(training records, held-out records, notes)."""
    from preferent.data.splits import split_by_prompt

    records = list(checked.records())
    if held_out_file is not None:
        other = check(held_out_file, format=data_format, strict=strict)
        held_out = list(other.records())
        seen = {record.prompt for record in records}
        both = len({record.prompt for record in held_out} & seen)
        notes = [f"held out: {len(held_out)} records of {held_out_file}"]
        if both:
            notes.append(f"warning: {both} prompts of {held_out_file} are also in the training data; held-out figures will flatter")
        return records, held_out, notes
    if config.held_out == 0:
        return records, [], []
    groups = None if config.group_key is None else [_group(record, config.group_key) for record in records]
    out_N = split_by_prompt([record.prompt for record in records], held_out=config.held_out, seed=config.seed, groups=groups)
    kept = [record for record, out in zip(records, out_N, strict=True) if not out]
    held_out = [record for record, out in zip(records, out_N, strict=True) if out]
    note = f"held out: {len(held_out)} of {len(records)} records, by {config.group_key or 'prompt'}"
    return kept, held_out, [note]


def _group(record: Any, key: str) -> Any:
    if key not in record.meta:
        raise ConfigError(
            f"--group-key {key!r}: the record {record.id!r} has no such key in its meta; it has {sorted(record.meta)}",
            hint="every record needs the key, or the split would leak",
        )
    return str(record.meta[key])


def _report(path: Path, sources: Sequence[str], config: TrainConfig, done: Any, ledger: dict[str, Any]) -> None:
    from preferent.audits.report import write_report
    from preferent.training.metrics_log import read_metrics

    names = ", ".join(Path(source).name for source in sources)
    write_report(
        path,
        title=f"{config.base} on {names}",
        evaluation=done.evaluation,
        ledger=ledger,
        curves=read_metrics(path.parent),
        config=config.model_dump(mode="json"),
        force=True,
    )
