"""`preferent benchmark`: a published benchmark from a local file, scored as its authors do, and what of it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from preferent.cli.output import Progress, emit, emit_json, json_option, talk
from preferent.cli.scorers import dialect_option


@click.command()
@click.argument("name", required=False)
@click.argument("files", nargs=-1)
@click.option("--model", help="What to judge: a checkpoint folder, a hub id, 'length', module:function, or the URL of a reward server.")
@click.option("--list", "listing", is_flag=True, help="The benchmarks, and what file each wants.")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@click.option("--threshold", type=float, help="processbench: below it a step is wrong. Default: chosen on gsm8k.")
@click.option("--sketch", type=click.Path(path_type=Path), help="Sketch of the training prompts. Default: the one in the model's folder.")
@click.option("--fail-under", type=float, help="Exit with code 1 when the score is lower.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@dialect_option
@json_option
def command(name: str | None, files: tuple[str, ...], listing: bool, as_json: bool, model: str | None, **options: Any) -> int:
    """Score MODEL on the benchmark NAME, whose rows are in FILES.

    FILES are the authors' own (JSONL, JSON arrays, Parquet, a data-set folder or hub id), or rows of the common shape. The number that
    the authors compare by is marked; every number has an interval from resampling prompts. A checkpoint of `preferent train` knows its
    training prompts as hashes: the share of the benchmark that was among them is printed, and the score without it. `preferent
    benchmark --list` says what each wants.
    """
    from preferent.audits.benchmarks.registry import benchmark_of, titles

    if listing:
        rows = titles()
        if as_json:
            emit_json([{"name": key, "title": title, "wants": wants} for key, title, wants in rows])
        else:
            emit(_listed(rows))
        return 0
    if name is None or not files or model is None:
        raise click.UsageError("name a benchmark, its files and --model; --list names the benchmarks")
    outcome = _run(benchmark_of(name), files, model, **options)
    if as_json:
        emit_json(outcome.to_dict())
    else:
        emit(outcome.render())
    low = options["fail_under"]
    if low is not None and not outcome.result.score.value >= low:
        talk(f"the score {outcome.result.score.value:.3f} is under {low:g}")
        return 1
    return 0


def _run(benchmark: Any, files: Sequence[str], model: str, **options: Any) -> Any:
    from preferent.audits.benchmarks.run import run
    from preferent.cli.scorers import WithProgress, load_scorer
    from preferent.core.errors import ConfigError

    if options["threshold"] is not None and benchmark.name != "processbench":
        raise ConfigError(f"--threshold is for processbench, not {benchmark.name}")
    scorer, _ = load_scorer(model, threads=options["threads"], trust_remote_code=options["trust_remote_code"], dialect=options["dialect"])
    extra: dict[str, Any] = {"threshold": options["threshold"]} if benchmark.name == "processbench" else {}
    with Progress("scoring", None, "responses") as progress:
        return run(
            WithProgress(scorer, progress),
            benchmark,
            _rows(files, options["split"]),
            sketch=_sketch(options["sketch"], model),
            seed=options["seed"],
            **extra,
        )


def _rows(files: Sequence[str], split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Located rows; a benchmark has no rows that may be left out, so what cannot be read ends it."""
    from preferent.core.errors import DataError
    from preferent.data.ledger import Refusal
    from preferent.data.lines import read_raw

    for row in read_raw(list(files), split=split):
        if isinstance(row, Refusal):
            raise DataError(str(row), hint="a benchmark is scored whole or not at all")
        yield row.where, row.value


def _sketch(given: Path | None, model: str) -> Any:
    """The sketch to compare with, None where the model has none (which is said)."""
    from preferent.data.sketch import SKETCH, read_sketch

    if given is not None:
        return read_sketch(given)
    if (Path(model) / SKETCH).is_file():
        return read_sketch(model)
    if Path(model).is_dir():
        talk(f"contamination is not known: {model} has no {SKETCH} (checkpoints of `preferent train` do)")
    return None


def _listed(rows: Sequence[tuple[str, str, str]]) -> str:
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:{width}}  {title}: {wants}" for name, title, wants in rows)
