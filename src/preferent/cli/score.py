"""`preferent score`: rewards for every row of a file."""

from __future__ import annotations

from pathlib import Path

import click

from preferent.cli.output import Progress, emit_json, json_option, talk
from preferent.cli.scorers import reduction_option


@click.command()
@click.argument("model")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSONL (also .gz) or Parquet, by its ending.")
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Rows scored and written at a time.")
@click.option("--force", is_flag=True, help="Overwrite the output, and forget a part of it that an earlier run left.")
@reduction_option
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@json_option
def command(
    model: str,
    source: Path,
    output: Path,
    batch: int,
    force: bool,
    reduction: str,
    threads: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Score every row of SOURCE with MODEL, in the order of the file.

    Rows are `id, prompt, response` or `id, prompt, responses` (the prompt as text or as messages) and are answered with
    `id, reward` or `id, rewards`. A run that was cut off goes on where it stopped. A row that cannot be scored is answered with a
    null reward and the reason.
    """
    from preferent.cli.scorers import load_scorer
    from preferent.data.score_file import score_file

    scorer, _ = load_scorer(model, threads=threads, trust_remote_code=trust_remote_code, reduction=reduction)
    with Progress("scoring", None, "rows") as progress:
        done = score_file(scorer, source, output, batch=batch, force=force, progress=progress)
    if as_json:
        emit_json(done)
    else:
        talk(done.render())
