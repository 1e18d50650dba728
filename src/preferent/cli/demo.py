"""`preferent demo`: the whole way once, in a world whose true reward is a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from preferent.cli.output import Progress, emit, emit_json, json_option, talk

NS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SETTINGS = {"base": "tiny", "epochs": "4", "learning_rate": "1e-3", "max_length": "512", "evaluate_every": "50", "threads": "1"}


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-run"), show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the world, the annotators and the training.")
@click.option("--force", is_flag=True, help="Remove an earlier demo in the folder first.")
@json_option
def command(output: Path, seed: int, force: bool, as_json: bool) -> None:
    """Make judgments in a small world, train on them, evaluate, and compare the learned reward with the true one.

    Needs no network and no files. Simulated annotators judge replies with noise and one planted fault: they pay for length. The
    report shows what that costs when replies are chosen by the learned reward.
    """
    import torch

    from preferent.audits.report import write_report
    from preferent.cli import demo_truth
    from preferent.cli.pipeline import REPORT, clear, train_and_evaluate
    from preferent.data.gate import check
    from preferent.data.write import write_jsonl, write_preferences
    from preferent.lab.demo_data import make_demo_data
    from preferent.training.config import load_config
    from preferent.training.metrics_log import read_metrics

    if force:
        clear(output)
    # Scoring too: a second thread only slows so small a model down, and many times where the cores are shared.
    torch.set_num_threads(1)
    talk("making requests, replies and judgments ...")
    data = make_demo_data(seed)
    inputs = output.with_name(f"{output.name}-data")
    for name, rows in (("train.jsonl", data.train), ("held_out.jsonl", data.held_out)):
        write_preferences(inputs / name, rows, force=True)
    write_jsonl(inputs / "judgments.jsonl", (judgment.model_dump(exclude_none=True) for judgment in data.judgments), force=True)
    write_jsonl(inputs / "comparisons.jsonl", (comparison.model_dump() for comparison in data.comparisons), force=True)
    talk(f"{len(data.judgments)} judgments of {len(data.comparisons)} comparisons by {len(data.annotators)} annotators: {inputs}")
    checked = check(inputs / "train.jsonl")
    talk(checked.ledger.render())
    config = load_config(None, {**SETTINGS, "seed": str(seed)})
    held_out = list(check(inputs / "held_out.jsonl").records())
    done = train_and_evaluate(list(checked.records()), held_out, config, output, ledger=checked.ledger.to_dict())
    if done.model is None or done.evaluation is None:
        talk("interrupted; start again with --force")
        return
    with Progress("scoring the pool for best-of-n", data.pool_gold_PM.size, "replies") as progress:
        truth = demo_truth.compare(done.model, data, NS, seed=seed, progress=progress)
    (output / "truth.json").write_text(json.dumps(truth.to_dict(), indent=2) + "\n", encoding="utf-8")
    report = write_report(
        output / REPORT,
        title="preferent demo: a learned reward beside the true one",
        evaluation=done.evaluation,
        ledger=checked.ledger.to_dict(),
        curves=read_metrics(output),
        config=config.model_dump(mode="json"),
        extra=demo_truth.sections(truth),
    )
    if as_json:
        emit_json({"evaluation": done.evaluation, "truth": truth, "report": report})
    else:
        _show(done.evaluation, truth)
    talk(f"report: {report.resolve()}")


def _show(evaluation: Any, truth: Any) -> None:
    emit(evaluation.render())
    emit(truth.render())
