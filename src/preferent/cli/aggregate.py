"""`preferent aggregate`: judgments in, soft preferences with intervals out, and who to believe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from preferent.cli.output import emit, emit_json, json_option, talk

LABEL_MODELS = ("majority", "wawa", "dawid-skene", "dawid-skene-ml", "dawid-skene-map", "one-coin", "mace", "glad")
GRAPH_MODELS = ("bradley_terry", "davidson", "annotator_slope", "crowd_bt")
HIDDEN = "hidden_context"
CHOICES = ("a", "b", "tie", "both_good", "both_bad")
SPOKEN = 20  # flags and notes spelt out before a count of the rest


@click.command()
@click.argument("judgments", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="JSONL of comparison_id, p_a, low, high, n_judgments, and warnings where there are any.")  # fmt: skip
@click.option(
    "--comparisons",
    type=click.Path(path_type=Path),
    help="File of the comparisons themselves (id, prompt, response_a, response_b): the output is then rows that `preferent train` reads.",
)
@click.option("--responses", type=click.Path(path_type=Path),
              help="JSONL to write: a score with an interval per response (of models over responses; hidden_context: mean, variance).")  # fmt: skip
@click.option("--annotators", type=click.Path(path_type=Path),
              help="JSONL to write: one row per annotator with reliability, biases, ties, speed and flags.")  # fmt: skip
@click.option("--model", type=click.Choice(["auto", *LABEL_MODELS, *GRAPH_MODELS, HIDDEN]), default="auto", show_default=True,
              help="auto chooses by votes left out, and says why.")  # fmt: skip
@click.option("--repeats", type=click.Choice(["refuse", "merge", "share", "keep"]), default="refuse", show_default=True,
              help="What to do with several votes of one annotator on one comparison.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the votes left out and of random starts.")
@click.option("--force", is_flag=True, help="Overwrite the outputs.")
@json_option
def command(judgments: Path, output: Path, comparisons: Path | None, **options: Any) -> None:
    """Aggregate JUDGMENTS into soft preferences.

    JUDGMENTS is JSONL (plain, .gz, .zst) or Parquet with the fields comparison_id, annotator_id and choice (a, b, tie, both_good,
    both_bad, skip), and where known shown_first (a or b), seconds and weight. p_a is the chance that a is preferred, ties counting half.

    Label models know a comparison by its own votes. Models over responses (bradley_terry, davidson, annotator_slope, crowd_bt) need to
    know which responses were compared, from the fields prompt, response_a and response_b or response_a_id and response_b_id of the rows,
    or from --comparisons, and learn of a comparison from all that share a response with it. auto tries both kinds where it can.
    hidden_context is one that knows no annotators: everybody who votes sees utilities of their own, and each response has a mean and a
    variance of utility (wide: people disagree about it).
    """
    import numpy as np

    from preferent.annotators.profiles import profiles
    from preferent.annotators.table import VoteTable
    from preferent.core.errors import ConfigError
    from preferent.data.write import refuse_overwrite, write_jsonl

    model, force = options["model"], options["force"]
    written = [path for path in (output, options["responses"], options["annotators"]) if path is not None]
    for path in written:
        refuse_overwrite(path, force=force)
    table: VoteTable
    table, texts = _read(judgments, comparisons, model, options["repeats"])
    result, reason = fit(model, table, np.random.default_rng(options["seed"]))
    if options["annotators"] is not None and result.annotators is None:
        raise ConfigError(f"--annotators: {result.method!r} knows nothing of annotators", hint="take another --model")
    if options["responses"] is not None:
        write_jsonl(options["responses"], _responses(result, texts), force=force)
    rows = _rows(result)
    write_jsonl(output, rows if comparisons is None else _with_texts(rows, comparisons), force=force)
    people = [] if result.annotators is None else profiles(table, result)
    if options["annotators"] is not None:
        write_jsonl(options["annotators"], (one.to_dict() for one in people), force=force)
    notes = list(dict.fromkeys((*table.notes, *result.notes)))
    if options["as_json"]:
        emit_json({"model": result.method, "reason": reason, "converged": result.converged, "iterations": result.iterations,
                   "log_likelihood": result.log_likelihood, "annotators": [_row(one) for one in people],
                   "flags": [{"annotator": flag.annotator, "kind": flag.kind, "says": flag.says} for one in people for flag in one.flags],
                   "notes": notes, "written": written})  # fmt: skip
        return
    emit(f"{len(result.items)} comparisons by {result.method}{'' if result.converged else ' (NOT CONVERGED)'}: {output}")
    if reason:
        emit(reason)
    flagged = [f"  {one.annotator}: {flag.kind}: {flag.says}" for one in people for flag in one.flags]
    for line in flagged[:SPOKEN]:
        emit(line)
    if len(flagged) > SPOKEN:
        emit(f"  ... and {len(flagged) - SPOKEN} more flags{'' if options['annotators'] else '; --annotators FILE writes them all'}")
    for note in notes:
        talk(f"note: {note}")


def _read(judgments: Path, comparisons: Path | None, model: str, repeats: Any) -> tuple[Any, Any]:
    """(votes, texts of the responses or None); the texts are looked at where the model, or auto, can make use of them."""
    from preferent.annotators.graph_read import with_texts
    from preferent.annotators.table_columns import Policies
    from preferent.annotators.table_read import read_votes

    table = read_votes(judgments, labels=CHOICES, policies=Policies(repeats=repeats)).without_unused_labels(("a", "b"))
    if model in LABEL_MODELS:
        return table, None
    return with_texts(table, judgments if comparisons is None else comparisons)


def fit(model: str, table: Any, rng: Any) -> tuple[Any, str]:
    """(result, why) of one model by its name on the command line."""
    from preferent.annotators.choose import choose
    from preferent.annotators.dawid_skene import dawid_skene
    from preferent.annotators.glad import glad
    from preferent.annotators.graph_models import graph_model
    from preferent.annotators.hidden_labels import hidden_context
    from preferent.annotators.mace import mace
    from preferent.annotators.majority import majority, wawa

    if model == "auto":
        choice = choose(table, rng)
        return choice.result, choice.reason
    if model in GRAPH_MODELS:
        return graph_model(table, model), ""  # type: ignore[arg-type]
    fits: dict[str, Callable[[], Any]] = {
        "majority": lambda: majority(table),
        "wawa": lambda: wawa(table),
        "dawid-skene": lambda: dawid_skene(table),
        "dawid-skene-ml": lambda: dawid_skene(table, "ml"),
        "dawid-skene-map": lambda: dawid_skene(table, "map"),
        "one-coin": lambda: dawid_skene(table, "one-coin"),
        "mace": lambda: mace(table, rng=rng),
        "glad": lambda: glad(table),
        HIDDEN: lambda: hidden_context(table),
    }
    return fits[model](), ""


def _rows(result: Any) -> Iterator[dict[str, Any]]:
    p_I, low_I, high_I = result.p_a()
    for row, item in enumerate(result.items.tolist()):
        warnings = result.warnings(row)
        p, low, high = (float(column[row]) for column in (p_I, low_I, high_I))
        fields = {
            "comparison_id": item,
            "p_a": min(max(round(p, 6), low), high),
            "low": low,
            "high": high,
            "n_judgments": int(result.votes_I[row]),
        }
        yield fields | ({"warnings": warnings} if warnings else {})


def _responses(result: Any, texts: Any) -> Iterator[dict[str, Any]]:
    from preferent.annotators.graph_models import GraphResult
    from preferent.annotators.hidden_labels import HiddenResult
    from preferent.core.errors import ConfigError

    if not isinstance(result, GraphResult | HiddenResult):
        raise ConfigError(
            f"--responses: {result.method!r} has soft labels of comparisons and no scores of responses",
            hint=f"scores come from --model {', '.join((*GRAPH_MODELS, HIDDEN))}",
        )
    own = result.responses
    for row, name in enumerate(own.names.tolist()):
        fields: dict[str, Any] = {"response_id": name}
        if texts is not None and name in texts.texts:
            fields["prompt"], fields["response"] = texts.texts[name]
        ends = {"score": own.score_R, "low": own.low_R, "high": own.high_R, "prior_share": own.prior_R}
        if isinstance(result, HiddenResult):
            wide = result.variance_R
            ends |= {"variance": wide.value, "variance_low": wide.low, "variance_high": wide.high}
        fields |= {key: float(values[row]) for key, values in ends.items()}
        fields |= {"n_judgments": int(own.votes_R[row]), "component": int(own.graph.component_I[row]), "warnings": own.warnings(row)}
        yield fields


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
        told = {name: row[name] for name in ("low", "high", "warnings") if name in row}
        yield {
            "id": known.id,
            "prompt": [message.model_dump() for message in known.prompt],
            "response_a": known.response_a,
            "response_b": known.response_b,
            "p_a": row["p_a"],
            "n_judgments": row["n_judgments"],
            "source": known.source,
            "meta": {**known.meta, **told},
        }


def _row(one: Any) -> dict[str, Any]:
    """An annotator on one level: reliability is a number with low and high beside it."""
    row = one.to_dict()
    return {"annotator_id": row["annotator_id"], "votes": row["n_judgments"], "reliability": one.reliability.value,
            "low": one.reliability.low, "high": one.reliability.high, **{key: row[key] for key in row if key.endswith("_share")},
            "median_seconds": row["median_seconds"], "traits": row["traits"]}  # fmt: skip
