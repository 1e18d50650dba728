"""`preferent calibrate`: what labelled pairs say of a finished model, kept in its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from preferent.cli.inputs import data_options
from preferent.cli.output import emit_json, json_option, talk
from preferent.data.formats.detect import Format

# What a card may hold already, and --force replaces.
KEPT = ("length", "laplace", "intervals")


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("source")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@data_options
@click.option("--length-calibration", "length", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
              help="Take what length predicts out of the reward; auto: only if the pairs say that length is spurious.")  # fmt: skip
@click.option("--laplace", "training", metavar="FILE", help="Fit how sure the last layer is on the training comparisons in FILE.")
@click.option("--prior-precision", type=click.FloatRange(0, min_open=True), help="Of the Laplace head; default: the highest evidence.")
@click.option("--interval", "level", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Fit intervals that hold this share of labels of new prompts, such as 0.9.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Write a copy here instead of changing MODEL.")
@click.option("--force", is_flag=True, help="Replace what was fitted before, or what stands in the output folder.")
@click.option("--seed", default=0, show_default=True, help="Of the gate's halves and its bootstrap.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@json_option
def command(
    model: Path,
    source: str,
    split: str,
    data_format: Format,
    strict: bool,
    length: Literal["auto", "on", "off"],
    training: str | None,
    prior_precision: float | None,
    level: float | None,
    output: Path | None,
    force: bool,
    seed: int,
    threads: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Fit on the labels in SOURCE what MODEL, a checkpoint folder of preferent, says beside its rewards.

    The prompts in SOURCE must not have been trained on, and their labels should be trusted: labels that favour length themselves vote for
    keeping it. Fitted are the temperature, length calibration behind its gate, and, if asked for, intervals and a Laplace head.
    """
    import torch

    from preferent.core.errors import ExistsError, ModelError
    from preferent.data.gate import check
    from preferent.models.checkpoint import read_card, write_card
    from preferent.models.reward_model import RewardModel
    from preferent.training.refine import Asked, refine

    card = read_card(model)
    if card is None or card.steps is not None:
        raise ModelError(f"{model}: no reward model of preferent", hint="`preferent train` makes one")
    before = [name for name in KEPT if getattr(card, name)]
    if output is None and before and not force:
        raise ExistsError(f"{model} holds {', '.join(before)} fitted before", hint="--force replaces them; -o writes a copy")
    if output is not None and output.exists() and any(output.iterdir()) and not force:
        raise ExistsError(f"{output}: the folder is not empty", hint="--force overwrites it")
    checked = check(source, format=data_format, strict=strict, split=split)
    trained_on = list(check(training, format=data_format, strict=strict).records()) if training else []
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = RewardModel.load(model, trust_remote_code=trust_remote_code)
    asked = Asked(length=length, laplace=training is not None, level=level, prior_precision=prior_precision)
    told = refine(loaded, list(checked.records()), trained_on, asked, seed=seed)
    if output is None:
        write_card(model, loaded.card, laplace=loaded.laplace)
    else:
        loaded.save(output)
    for sentence in told:
        talk(sentence)
    if checked.ledger.refused:
        talk(f"{checked.ledger.refused} of {checked.ledger.rows} rows were refused: see `preferent check {source}`")
    if as_json:
        emit_json(_found(loaded.card, output or model))
    talk(f"reward model: {output or model}")


def _found(card: Any, folder: Path) -> dict[str, Any]:
    """What the card now says, as JSON."""
    names = ("calibration", "length", "laplace")
    parts = {name: None if getattr(card, name) is None else getattr(card, name).model_dump(mode="json") for name in names}
    return {"output": folder, **parts, "intervals": [spec.model_dump(mode="json") for spec in card.intervals]}
