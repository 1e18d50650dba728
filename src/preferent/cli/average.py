"""`preferent average`: one reward model from the mean of several models' weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from preferent.cli.output import emit_json, json_option, talk


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the averaged model.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the models.")
@json_option
def command(models: Sequence[Path], output: Path, trust_remote_code: bool, as_json: bool) -> None:
    """Average the weights of MODELs that were trained from the same start (WARM), or of one ensemble of members.

    Models that started from different weights, heads included, are refused: `preferent train --ensemble.kind members --ensemble.start
    shared` trains some that can be averaged. The result has no temperature until `preferent calibrate` fits one.
    """
    from preferent.models.warm import average

    found = average(models, output, trust_remote_code=trust_remote_code)
    count = found.card.metrics["averaged"]
    talk(f"{count} models averaged; no temperature yet: preferent calibrate {output} PAIRS")
    if as_json:
        emit_json({"output": output, "averaged": count})
    talk(f"reward model: {output}")
