"""`preferent augment`: rows beside the labelled ones that teach a reward model what not to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from preferent.cli.inputs import data_options
from preferent.cli.output import emit, emit_json, json_option, talk


@click.command()
@click.argument("source", metavar="FILE")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="JSONL (or .gz) of preferences.")
@click.option("--kind", type=click.Choice(["rrm", "neutral", "counterfactual"]), required=True, help="What is made; see above.")
@click.option("--ratio", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="New rows for one labelled pair.")
@click.option("--weight", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Of a new row, as a multiple of the weight of its pair.")  # fmt: skip
@click.option("--ties", type=click.FloatRange(0, 1), help="rrm: share of neutral ties among the new rows (default: 0.33).")
@click.option("--edits", metavar="NAME,...", help="counterfactual: edits, or families of them, such as length or style.hedge.")
@click.option("--from-audit", type=click.Path(path_type=Path, dir_okay=False), metavar="AUDIT.json",
              help="counterfactual: the edits that `preferent audit --json` found.")  # fmt: skip
@click.option("--labels", type=click.Choice(["both", "ties", "keep"]),
              help="counterfactual: a neutral edit makes ties, pairs that keep their label, or both in turn (default).")  # fmt: skip
@click.option("--group-key", metavar="KEY", help="rrm, neutral: records with one value of this key of `meta` lend each other nothing.")
@click.option("--only-new", is_flag=True, help="Write the new rows alone, not behind those of FILE.")
@data_options
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
@json_option
def command(source: str, output: Path, force: bool, as_json: bool, **given: Any) -> None:
    """Make rows from the preferences in FILE, which is training data: split first, and hold nothing made out.

    \b
    rrm             under a prompt its own responses beat responses to other prompts; two responses to another prompt tie
    neutral         the ties of rrm alone
    counterfactual  the audit's own edits: one that should not matter ties with the text as it was, or keeps the label of
                    the pair; one that must lower the reward loses to it

    Every new row has meta.augmented, which says what made it; `preferent train` never holds such rows out. `preferent train
    --augment.kind rrm` does the same to the training part of a run, after its split. Whether it helped is for `preferent audit` to
    say, before and after; and by edits that no row was made with, since a model may learn the phrases of an edit alone.
    """
    from preferent.cli.augmenting import augmented, pairs_of, refuse_augment, words
    from preferent.core.augmented import is_made
    from preferent.data.gate import check
    from preferent.data.write import refuse_overwrite, write_preferences

    refuse_overwrite(output, force=force)
    settings = _settings(given)
    refuse_augment(settings)
    checked = check(source, format=given["data_format"], strict=given["strict"])
    talk(checked.ledger.render())
    records = list(checked.records())
    made = augmented(records, settings, seed=given["seed"], group_key=given["group_key"])
    pairs = [] if given["only_new"] else [pair for record in records for pair in pairs_of(record)]
    n = write_preferences(output, [*pairs, *made.added], force=force)
    again = sum(is_made(record) for record in records)
    if again:
        talk(f"note: {again} rows of {source} were made by an augmentation already; nothing is made from those")
    if len(pairs) > len(records):
        talk("note: rankings are written as their pairs")
    if as_json:
        emit_json(made.to_dict() | {"given": len(records), "written": n, "output": output})
    else:
        emit("\n".join(words(made)))
    talk(f"{n:,} rows: {output}")


def _settings(given: dict[str, Any]) -> Any:
    """The settings of `preferent train --augment.*`. Options of another kind are an error."""
    from preferent.training.config import Counterfactual, NeutralTies, Rrm

    kind = given["kind"]
    own = {"rrm": ("ties", "group_key"), "neutral": ("group_key",), "counterfactual": ("edits", "from_audit", "labels")}
    foreign = [name for names in own.values() for name in names if given[name] is not None and name not in own[kind]]
    if foreign:
        raise click.UsageError(f"--{foreign[0].replace('_', '-')} does not go with --kind {kind}")
    common = {"ratio": given["ratio"], "weight": given["weight"]}
    if kind == "rrm":
        return Rrm(**common, **({} if given["ties"] is None else {"ties": given["ties"]}))
    if kind == "neutral":
        return NeutralTies(**common)
    names = tuple(name.strip() for name in (given["edits"] or "").split(",") if name.strip())
    audit = None if given["from_audit"] is None else str(given["from_audit"])
    return Counterfactual(**common, edits=names, audit=audit, **({} if given["labels"] is None else {"labels": given["labels"]}))
