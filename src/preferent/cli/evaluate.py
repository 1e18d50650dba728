"""`preferent evaluate`: a scorer on preferences, with intervals and baselines."""

from __future__ import annotations

from pathlib import Path

import click

from preferent.cli.inputs import data_options
from preferent.cli.output import Progress, emit, emit_json, json_option, talk
from preferent.cli.scorers import reduction_option
from preferent.data.formats.detect import Format


@click.command()
@click.argument("model")
@click.argument("source")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@data_options
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
    data_format: Format,
    strict: bool,
    output: Path | None,
    force: bool,
    seed: int,
    reduction: str,
    threads: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Evaluate MODEL on the preferences in SOURCE, or a step model on step labels.

    MODEL is a checkpoint folder of preferent, anyone's sequence classifier with one output (folder or hub id), or the word
    `length`: the baseline that prefers the longer response. A step model on a file of step labels is held against the best constant and
    the best length rule: first-error F1 (as ProcessBench has it) at the threshold of the checkpoint, and AUROC per step.
    """
    from preferent.cli.steps_evaluation import evaluate_step_model, is_for_steps

    if is_for_steps(model, source, split):
        if output is not None:
            raise click.UsageError("--output: there is no HTML page for step labels; --json prints every number")
        loading = {"threads": threads, "trust_remote_code": trust_remote_code}
        evaluate_step_model(model, source, (split, strict), seed=seed, as_json=as_json, loading=loading)
        return
    from preferent.audits.evaluate import evaluate
    from preferent.audits.report import write_report
    from preferent.cli.scorers import WithProgress, load_scorer
    from preferent.core.errors import ExistsError
    from preferent.data.gate import check

    if output is not None and output.exists() and not force:
        raise ExistsError(f"{output} exists", hint="--force overwrites it")
    checked = check(source, format=data_format, strict=strict, split=split)
    scorer, temperature = load_scorer(model, threads=threads, trust_remote_code=trust_remote_code, reduction=reduction)
    with Progress("scoring", None, "responses") as progress:
        found = evaluate(WithProgress(scorer, progress), checked.records(), temperature=temperature, seed=seed)
    ledger = checked.ledger.to_dict()
    if as_json:
        emit_json({"evaluation": found.to_dict(), "ledger": ledger})
    else:
        emit(found.render())
    if checked.ledger.refused:
        talk(f"{checked.ledger.refused} of {checked.ledger.rows} rows were refused: see `preferent check {source}`")
    if output is not None:
        write_report(output, title=f"{scorer.name} on {Path(source).name}", evaluation=found, ledger=ledger, force=force)
        talk(f"report: {output}")
