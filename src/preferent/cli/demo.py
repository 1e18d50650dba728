"""`preferent demo`: the whole way once, in a world whose true reward is a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from preferent.cli.output import Progress, emit, emit_json, json_option, talk
from preferent.core.records import Preference
from preferent.lab.replies import OBJECTIVES

if TYPE_CHECKING:
    from preferent.cli.demo_truth import Truth
    from preferent.cli.pipeline import Done
    from preferent.lab.demo_data import DemoData

# What the annotators compare is a head of its own beside the five objectives, and it is the reward.
PREFERRED = "preferred"
NS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SETTINGS = {
    "base": "tiny",
    "epochs": "4",
    "learning_rate": "1e-3",
    "max_length": "512",
    "combination.kind": "fixed",
    "combination.weights": ",".join([f"{PREFERRED}=1", *(f"{name}=0" for name in OBJECTIVES)]),
    "evaluate_every": "75",
    "threads": "1",
}


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-run"), show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the world, the annotators and the training.")
@click.option("--force", is_flag=True, help="Remove an earlier demo in the folder first.")
@json_option
def command(output: Path, seed: int, force: bool, as_json: bool) -> None:
    """Make judgments and ratings in a small world, train on them, evaluate, and compare what was learned with the truth.

    Needs no network and no files. Simulated annotators judge pairs of replies with noise and one planted fault: they pay for length.
    Simulated raters give some of the replies a number for each of five objectives. The report shows every objective's head beside the
    true objective, and what the fault costs when replies are chosen by the learned reward.
    """
    import torch

    from preferent.audits.report import write_report
    from preferent.cli import demo_truth
    from preferent.cli.pipeline import REPORT, clear, train_and_evaluate
    from preferent.data.ratings import check_all
    from preferent.lab.demo_data import make_demo_data
    from preferent.training.config import load_config
    from preferent.training.metrics_log import read_metrics

    if force:
        clear(output)
    # Scoring too: a second thread only slows so small a model down, and many times where the cores are shared.
    torch.set_num_threads(1)
    talk("making requests, replies, judgments and ratings ...")
    data = make_demo_data(seed)
    inputs = output.with_name(f"{output.name}-data")
    _write(data, inputs)
    checked = check_all([inputs / "train.jsonl", inputs / "ratings.jsonl"])
    talk(checked.ledger.render())
    config = load_config(None, {**SETTINGS, "seed": str(seed)})
    held_out = list(check_all([inputs / "held_out.jsonl", inputs / "held_out_ratings.jsonl"]).records())
    # The same judgments test the reward and the head that it is.
    held_out += [named(row) for row in data.held_out]
    done = train_and_evaluate(list(checked.records()), held_out, config, output, ledger=checked.ledger.to_dict())
    if done.model is None or done.evaluation is None:
        talk("interrupted; start again with --force")
        return
    with Progress("scoring the pool for best-of-n", data.pool_gold_PM.size, "replies") as progress:
        truth = demo_truth.compare(done.model, data, NS, seed=seed, progress=progress)
    (output / "truth.json").write_text(json.dumps(truth.to_dict(), indent=2) + "\n", encoding="utf-8")
    report = write_report(
        output / REPORT,
        title="preferent demo: what was learned beside the truth",
        evaluation=done.evaluation,
        ledger=checked.ledger.to_dict(),
        curves=read_metrics(output),
        config=config.model_dump(mode="json"),
        extra=[*demo_truth.sections(truth), *done.sections],
    )
    if as_json:
        emit_json({"evaluation": done.evaluation, **done.objectives(), "truth": truth, "report": report})
    else:
        _show(done, truth)
    talk(f"report: {report.resolve()}")


def named(preference: Preference) -> Preference:
    """The judgment of a pair as one on the objective `preferred`."""
    return preference.model_copy(update={"objective": PREFERRED})


def _write(data: DemoData, inputs: Path) -> None:
    """Everything the simulated people said, as the files that real ones would leave."""
    from preferent.data.write import write_jsonl, write_preferences

    write_preferences(inputs / "train.jsonl", (named(row) for row in data.train), force=True)
    write_preferences(inputs / "held_out.jsonl", data.held_out, force=True)
    for name, rows in (
        ("judgments.jsonl", data.judgments),
        ("comparisons.jsonl", data.comparisons),
        ("ratings.jsonl", data.ratings),
        ("held_out_ratings.jsonl", data.held_out_ratings),
    ):
        write_jsonl(inputs / name, (row.model_dump(exclude_none=True) for row in rows), force=True)
    talk(
        f"{len(data.judgments)} judgments of {len(data.comparisons)} comparisons by {len(data.annotators)} annotators, "
        f"{len(data.ratings) + len(data.held_out_ratings)} replies rated: {inputs}"
    )


def _show(done: Done, truth: Truth) -> None:
    from preferent.audits.objectives_report import render

    assert done.evaluation is not None
    emit(done.evaluation.render())
    if done.study is not None:
        emit(render(done.study))
    emit(truth.render())
