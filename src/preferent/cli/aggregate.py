"""`preferent aggregate`: judgments in, soft preferences with intervals out, and who to believe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from preferent.annotators.names import CHOICES, GRAPH_MODELS, HIDDEN, LABEL_MODELS, MODELS
from preferent.cli.inputs import repeats_option
from preferent.cli.output import emit, emit_json, json_option, talk

RULES = ("utilitarian", "borda", "worst-off", "per-group")
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
@click.option(
    "--responses",
    type=click.Path(path_type=Path),
    help="JSONL to write: a score with an interval per response (models over responses); hidden_context: and a variance.",
)
@click.option("--annotators", type=click.Path(path_type=Path),
              help="JSONL to write: one row per annotator with reliability, biases, ties, speed and flags.")  # fmt: skip
@click.option("--model", type=click.Choice(MODELS), default="auto", show_default=True,
              help="auto chooses by votes left out, and says why.")  # fmt: skip
@click.option("--groups", metavar="K|auto", help="Groups of annotators who prefer different things: so many, or as many as beat noise.")
@click.option("--rule", type=click.Choice(RULES),
              help="How groups become labels: utilitarian (mean of scores), borda (mean of win rates), worst-off (smallest win rate), "
              "per-group (a row for each group, its objective).")  # fmt: skip
@repeats_option("merge", "share", "keep")
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

    With --rule, groups of annotators are found (--groups) and made into labels by that rule, and what each group loses is told; per-group
    writes a row for each group with the group as its objective, so that `preferent train` gives every group a head.
    """
    import numpy as np

    from preferent.annotators.profiles import profiles
    from preferent.annotators.table import VoteTable
    from preferent.cli.aggregate_groups import by_groups, refuse_rules
    from preferent.cli.comparison_rows import with_comparisons
    from preferent.core.errors import ConfigError
    from preferent.data.write import refuse_overwrite, write_jsonl

    model, force = options["model"], options["force"]
    written = [path for path in (output, options["responses"], options["annotators"]) if path is not None]
    for path in written:
        refuse_overwrite(path, force=force)
    table: VoteTable
    if options["groups"] is not None or options["rule"] is not None:
        refuse_rules(options)
    table, texts = _read(judgments, comparisons, model, options["repeats"])
    if options["rule"] is not None:
        by_groups(table, texts, output, {**options, "comparisons": comparisons})
        return
    result, reason = fit(model, table, np.random.default_rng(options["seed"]))
    if options["annotators"] is not None and result.annotators is None:
        raise ConfigError(f"--annotators: {result.method!r} knows nothing of annotators", hint="take another --model")
    if options["responses"] is not None:
        write_jsonl(options["responses"], _responses(result, texts), force=force)
    rows = _rows(result)
    write_jsonl(output, rows if comparisons is None else with_comparisons(rows, comparisons), force=force)
    people = [] if result.annotators is None else profiles(table, result)
    if options["annotators"] is not None:
        write_jsonl(options["annotators"], (one.to_dict() for one in people), force=force)
    _tell(table, result, reason, people, (written, options))


def _tell(table: Any, result: Any, reason: str, people: list[Any], asked: tuple[list[Path], dict[str, Any]]) -> None:
    """The result on stdout, as text or JSON; notes on stderr."""
    written, options = asked
    notes = list(dict.fromkeys((*table.notes, *result.notes)))
    if options["as_json"]:
        emit_json({"model": result.method, "reason": reason, "converged": result.converged, "iterations": result.iterations,
                   "log_likelihood": result.log_likelihood, "annotators": [_row(one) for one in people],
                   "flags": [{"annotator": flag.annotator, "kind": flag.kind, "says": flag.says} for one in people for flag in one.flags],
                   "notes": notes, "written": written})  # fmt: skip
        return
    emit(f"{len(result.items)} comparisons by {result.method}{'' if result.converged else ' (NOT CONVERGED)'}: {written[0]}")
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
    """(result, why) of one model by its name."""
    from preferent.annotators.aggregate import aggregate
    from preferent.annotators.choose import choose

    if model == "auto":
        choice = choose(table, rng)
        return choice.result, choice.reason
    return aggregate(table, model, rng=rng), ""


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


def _row(one: Any) -> dict[str, Any]:
    """An annotator on one level: reliability is a number with low and high beside it."""
    row = one.to_dict()
    return {"annotator_id": row["annotator_id"], "votes": row["n_judgments"], "reliability": one.reliability.value,
            "low": one.reliability.low, "high": one.reliability.high, **{key: row[key] for key in row if key.endswith("_share")},
            "median_seconds": row["median_seconds"], "traits": row["traits"]}  # fmt: skip
