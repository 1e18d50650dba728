"""`preferent aggregate`: judgments in, soft preferences with intervals out, and who to believe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from preferent.cli.output import emit, emit_json, json_option, talk

MODELS = ("auto", "majority", "wawa", "dawid-skene", "dawid-skene-ml", "dawid-skene-map", "one-coin", "mace", "glad")


@click.command()
@click.argument("judgments", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSONL of comparison_id, p_a, low, high, n_judgments.")
@click.option(
    "--comparisons",
    type=click.Path(path_type=Path),
    help="File of the comparisons themselves (id, prompt, response_a, response_b): the output is then rows that `preferent train` reads.",
)
@click.option("--model", type=click.Choice(MODELS), default="auto", show_default=True, help="auto chooses by votes left out, and says why.")
@click.option("--repeats", type=click.Choice(["refuse", "merge", "share", "keep"]), default="refuse", show_default=True,
              help="What to do with several votes of one annotator on one comparison.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the votes left out and of random starts.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
@json_option
def command(
    judgments: Path, output: Path, comparisons: Path | None, model: str, repeats: Any, seed: int, force: bool, as_json: bool
) -> None:
    """Aggregate JUDGMENTS into soft preferences.

    JUDGMENTS is JSONL (plain, .gz, .zst) or Parquet with the fields comparison_id, annotator_id and choice (a, b, tie, skip). p_a is
    the chance that a is preferred, ties counting half. Annotators whose votes say little, or the opposite, are named with the
    evidence.
    """
    import numpy as np

    from preferent.annotators.reliability import flags
    from preferent.annotators.table import Policies
    from preferent.annotators.table_read import read_votes
    from preferent.data.write import write_jsonl

    table = read_votes(judgments, labels=("a", "b", "tie"), policies=Policies(repeats=repeats))
    result, reason = fit(model, table, np.random.default_rng(seed))
    rows = _rows(result)
    write_jsonl(output, rows if comparisons is None else _with_texts(rows, comparisons), force=force)
    known = result.annotators
    flagged = [] if known is None or known.alpha_ALL is None else flags(table, result)
    if as_json:
        emit_json({"model": result.method, "reason": reason, "converged": result.converged, "iterations": result.iterations,
                   "log_likelihood": result.log_likelihood, "annotators": _annotators(known),
                   "flags": [{"annotator": flag.annotator, "kind": flag.kind, "says": flag.says} for flag in flagged],
                   "notes": [*table.notes, *result.notes]})  # fmt: skip
        return
    emit(f"{len(result.items)} comparisons by {result.method}{'' if result.converged else ' (NOT CONVERGED)'}: {output}")
    if reason:
        emit(reason)
    for flag in flagged:
        emit(f"  {flag.kind}: {flag.says}")
    for note in (*table.notes, *result.notes):
        talk(f"note: {note}")


def fit(model: str, table: Any, rng: Any) -> tuple[Any, str]:
    """(result, why) of one model by its name on the command line."""
    from preferent.annotators.choose import choose
    from preferent.annotators.dawid_skene import dawid_skene
    from preferent.annotators.glad import glad
    from preferent.annotators.mace import mace
    from preferent.annotators.majority import majority, wawa

    if model == "auto":
        choice = choose(table, rng)
        return choice.result, choice.reason
    fits: dict[str, Callable[[], Any]] = {
        "majority": lambda: majority(table),
        "wawa": lambda: wawa(table),
        "dawid-skene": lambda: dawid_skene(table),
        "dawid-skene-ml": lambda: dawid_skene(table, "ml"),
        "dawid-skene-map": lambda: dawid_skene(table, "map"),
        "one-coin": lambda: dawid_skene(table, "one-coin"),
        "mace": lambda: mace(table, rng=rng),
        "glad": lambda: glad(table),
    }
    return fits[model](), ""


def _rows(result: Any) -> Iterator[dict[str, Any]]:
    p_I, low_I, high_I = result.p_a()
    for item, p, low, high, votes in zip(result.items.tolist(), p_I, low_I, high_I, result.votes_I, strict=True):
        yield {"comparison_id": item, "p_a": round(float(p), 6), "low": float(low), "high": float(high), "n_judgments": int(votes)}


def _with_texts(rows: Iterator[dict[str, Any]], comparisons: Path) -> Iterator[dict[str, Any]]:
    """Native preference rows; DataError for a comparison without texts or a line that is no comparison."""
    from pydantic import ValidationError

    from preferent.core.errors import DataError
    from preferent.core.records import Comparison
    from preferent.data.ledger import Refusal
    from preferent.data.lines import read_raw

    texts: dict[str, Comparison] = {}
    for row in read_raw(comparisons):
        if isinstance(row, Refusal):
            raise DataError(str(row))
        try:
            comparison = Comparison.model_validate(row.value)
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(f"{row.where}: not a comparison: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                            hint="a row has id, prompt (messages), response_a, response_b") from error  # fmt: skip
        texts[comparison.id] = comparison
    for row in rows:
        if row["comparison_id"] not in texts:
            raise DataError(f"{comparisons}: no comparison has the id {row['comparison_id']!r}, which was judged")
        known = texts[row["comparison_id"]]
        yield {
            "id": known.id,
            "prompt": [message.model_dump() for message in known.prompt],
            "response_a": known.response_a,
            "response_b": known.response_b,
            "p_a": row["p_a"],
            "n_judgments": row["n_judgments"],
            "source": known.source,
            "meta": {**known.meta, "low": row["low"], "high": row["high"]},
        }


def _annotators(known: Any) -> list[dict[str, Any]]:
    if known is None:
        return []
    columns = (known.names.tolist(), known.votes_A, known.reliability_A, known.low_A, known.high_A)
    return [
        {"annotator_id": name, "votes": int(votes), "reliability": float(value), "low": float(low), "high": float(high)}
        for name, votes, value, low, high in zip(*columns, strict=True)
    ]
