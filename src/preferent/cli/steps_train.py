"""`preferent train` on a file of step labels: a process reward model, and how it does on problems held out of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preferent.cli.output import emit, emit_json, talk
from preferent.cli.steps_evaluation import StepFindings, evaluate_on
from preferent.core.errors import ConfigError
from preferent.core.records import StepLabels
from preferent.data.sketch import write_sketch
from preferent.data.steps_gate import check_steps
from preferent.data.steps_split import GROUP_KEYS, split_by_problem
from preferent.training.config import TrainConfig

if TYPE_CHECKING:
    from preferent.training.finish import TrainResult

EXIT_SIGTERM = 143


@dataclass(frozen=True, slots=True)
class StepRun:
    """What the command line says beside the settings."""

    sources: Sequence[str]
    output: Path
    held_out_file: str | None
    strict: bool
    resume: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class StepData:
    """Solutions to train on, to choose on (early stopping, temperature, threshold, aggregation, rules to beat), and to measure on: never
    two of one problem on different sides. notes: said before the run."""

    train: tuple[StepLabels, ...]
    validation: tuple[StepLabels, ...]
    test: tuple[StepLabels, ...]
    ledger: dict[str, Any]
    words: str
    notes: tuple[str, ...]


def train_steps(config: TrainConfig, asked: StepRun) -> int:
    """Train, evaluate on the test half of what is held out, and say so; the exit code."""
    from preferent.cli.pipeline import Bar, is_main_process
    from preferent.training.run import train

    data = read_step_data(config, asked)
    if is_main_process():
        talk(data.words)
        for note in data.notes:
            talk(note)
    bar = Bar()
    try:
        summary = {key: value for key, value in data.ledger.items() if key != "refusals"}
        result = train(data.train, data.validation, config, asked.output, data=summary, resume=asked.resume, observer=bar)
    finally:
        bar.close()
    if not is_main_process():
        return 0
    _write_json(asked.output / "ledger.json", data.ledger)
    if result.stopped == "signal":
        talk(f"interrupted after step {result.steps}; its state is saved: run the same command with --resume to go on")
        return EXIT_SIGTERM
    write_sketch(asked.output, data.train)
    found = _evaluated(config, asked, data)
    if found is not None:
        _report(config, asked, found, data.ledger)
    _say(asked, result, found)
    return 0


def read_step_data(config: TrainConfig, asked: StepRun) -> StepData:
    """Read, check and split by problem. Of what is held out, half is for choosing and half for measuring."""
    checked = check_steps(list(asked.sources), strict=asked.strict)
    records = list(checked.records())
    keys = GROUP_KEYS if config.group_key is None else (config.group_key,)
    if config.group_key is not None and (without := sum(config.group_key not in record.meta for record in records)):
        raise ConfigError(f"--group-key {config.group_key!r}: {without} of {len(records)} solutions have no such key in their meta")
    ledger, words = checked.ledger.to_dict(), checked.ledger.render()
    if asked.held_out_file is not None:
        held_out = list(check_steps(asked.held_out_file, strict=asked.strict).records())
        kept, notes = records, _overlap(records, held_out, asked.held_out_file)
    elif config.held_out == 0:
        return StepData(tuple(records), (), (), ledger, words, ())
    else:
        out_N = split_by_problem(records, held_out=config.held_out, seed=config.seed, group_keys=keys)
        kept = [record for record, out in zip(records, out_N, strict=True) if not out]
        held_out = [record for record, out in zip(records, out_N, strict=True) if out]
        notes = [f"held out: {len(held_out)} of {len(records)} solutions, by problem"]
    test_N = split_by_problem(held_out, held_out=0.5, seed=config.seed, group_keys=keys)
    validation = tuple(record for record, test in zip(held_out, test_N, strict=True) if not test)
    test = tuple(record for record, test in zip(held_out, test_N, strict=True) if test)
    notes.append(f"of these {len(validation)} to choose on (temperature, threshold, aggregation) and {len(test)} to measure on")
    return StepData(tuple(kept), validation, test, ledger, words, tuple(notes))


def _overlap(records: Sequence[StepLabels], held_out: Sequence[StepLabels], name: str) -> list[str]:
    seen = {record.prompt for record in records}
    both = len({record.prompt for record in held_out} & seen)
    notes = [f"held out: {len(held_out)} solutions of {name}"]
    if both:
        notes.append(f"warning: {both} problems of {name} are also in the training data; held-out figures will flatter")
    return notes


def _evaluated(config: TrainConfig, asked: StepRun, data: StepData) -> StepFindings | None:
    from preferent.models.steps import StepRewardModel

    model = StepRewardModel.load(asked.output, trust_remote_code=config.trust_remote_code)
    if not data.test:
        return None
    try:
        found = evaluate_on(model, data.test, validation=data.validation, seed=config.seed)
    except ConfigError as error:
        talk(f"not evaluated: {error.message}")
        return None
    _write_json(asked.output / "evaluation.json", found.to_dict())
    return found


def _report(config: TrainConfig, asked: StepRun, found: StepFindings, ledger: dict[str, Any]) -> None:
    from preferent.cli.pipeline import REPORT
    from preferent.training.metrics_log import read_metrics

    title = f"{config.base} on {', '.join(Path(source).name for source in asked.sources)}"
    curves, settings = read_metrics(asked.output), config.model_dump(mode="json")
    found.write(asked.output / REPORT, title, ledger=ledger, curves=curves, config=settings, force=True)


def _say(asked: StepRun, result: TrainResult, found: StepFindings | None) -> None:
    if asked.as_json:
        emit_json({"output": asked.output, "steps": result.steps, "evaluation": found})
    elif found is not None:
        emit(found.render())
    talk(f"step model: {asked.output}")
    if found is not None:
        from preferent.cli.pipeline import REPORT

        talk(f"report: {asked.output / REPORT}")


def _write_json(path: Path, data: Any) -> None:
    from preferent.cli.output import plain_json

    path.write_text(json.dumps(plain_json(data), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
