"""`preferent triage`: which labels to ask people about again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click

from preferent.cli.inputs import data_options
from preferent.cli.output import emit, emit_json, json_option, talk

SHOWN = 20


@click.command()
@click.argument("source", metavar="FILE")
@click.option("--model", "models", multiple=True, help="A reward model that was not trained on FILE; several are an ensemble.")
@click.option("--folds", type=click.IntRange(2), help="Cross-fit instead: score each prompt by models trained on the other folds.")
@click.option("--base", help="With --folds: what to train, such as minilm.")
@click.option("--config", "toml", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="With --folds: settings of `train`.")
@click.option("--members", type=click.IntRange(1), default=1, show_default=True, help="With --folds: models per fold, by seeds.")
@click.option("--group-key", metavar="KEY", help="With --folds: values of this key of `meta` stay in one fold.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="JSONL of pairs to ask about.")
@click.option("-n", "n", type=click.IntRange(1), default=100, show_default=True, help="Pairs to ask about.")
@click.option("--random-share", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="Of these, drawn from the rest: they tell how good the labels are at large.")  # fmt: skip
@data_options
@click.option("--seed", default=0, show_default=True, help="Of folds, members, and everything that is drawn.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with a model.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
@json_option
def command(source: str, output: Path, force: bool, as_json: bool, **given: Any) -> None:
    """Rank the labels in FILE by how little reward models expected them, and write the first to be asked again.

    Nothing is flipped, dropped or reweighted: an ensemble finds wrong labels well, and its own word in their place is wrong too often.
    A row of the output has id, prompt, response_a and response_b, as `preferent next --pairs` and `preferent aggregate --comparisons`
    take it, in random order of sides, and under `triage` the label and the evidence against it: do not show that to annotators.

    The models must not know the labels. A model that was trained on FILE and fits it closely remembers the wrong labels too and
    contradicts few of them: give models of other data, or --folds K with --base, which trains K models (times --members), each
    scoring the prompts that it was not trained on.
    """
    import numpy as np

    from preferent.annotators.triage import triage
    from preferent.cli.augmenting import pairs_of
    from preferent.core.augmented import is_made
    from preferent.data.gate import check
    from preferent.data.write import refuse_overwrite, write_jsonl

    refuse_overwrite(output, force=force)
    _refuse(given)
    checked = check(source, format=given["data_format"], strict=given["strict"])
    talk(checked.ledger.render())
    records = [record for record in checked.records() if not is_made(record)]
    pairs = [pair for record in records for pair in pairs_of(record)]
    rng = np.random.default_rng([given["seed"], 21])
    margin_MN = _margins(records, pairs, given)
    found = triage([pair.p_a for pair in pairs], margin_MN, [pair.prompt for pair in pairs], n=given["n"],
                   random_share=given["random_share"], rng=rng)  # fmt: skip
    rows = _rows(found, pairs, rng)
    write_jsonl(output, rows, force=force)
    how = f"cross-fitted in {given['folds']} folds" if given["folds"] else "by the models given"
    if as_json:
        emit_json({"pairs": len(pairs), "members": found.members, "scores": how, "contradicted": found.contradicted,
                   "output": output, "questions": rows})  # fmt: skip
    else:
        emit(f"{found.contradicted} of {found.contradicted.n:,} decided labels are contradicted by {_members(found.members)} ({how}); "
             "models err too, so fewer are wrong")  # fmt: skip
        _show(rows)
    talk(f"{len(rows)} pairs to ask about: {output}")


def _members(n: int) -> str:
    return "the model" if n == 1 else f"the mean of {n} models"


def _refuse(given: dict[str, Any]) -> None:
    """UsageError for options that do not go together."""
    if bool(given["models"]) == bool(given["folds"]):
        raise click.UsageError("give --model (once or several times) or --folds, one of the two")
    if given["folds"] and not (given["base"] or given["toml"]):
        raise click.UsageError("--folds trains models: name what with --base (or a --config that has it)")
    if given["models"] and (given["base"] or given["toml"] or given["group_key"] or given["members"] != 1):
        raise click.UsageError("--base, --config, --members and --group-key go with --folds")


def _margins(records: Any, pairs: Any, given: dict[str, Any]) -> Any:
    """Reward of a minus reward of b in logits, shape (M, N)."""
    from preferent.cli.cross_fit import cross_fitted, margins, trained_on
    from preferent.cli.scorers import load_scorer

    if given["folds"]:
        return cross_fitted(records, given)
    rows = []
    for model in given["models"]:
        for note in trained_on(model, pairs):
            talk(note)
        scorer, temperature = load_scorer(model, threads=given["threads"], trust_remote_code=given["trust_remote_code"])
        rows.append(margins(scorer, pairs) / temperature)
    return rows


def _rows(found: Any, pairs: Any, rng: Any) -> list[dict[str, Any]]:
    """What is written: texts in random order of sides, and the evidence in that order."""
    from preferent.data.write import preference_row

    names: set[str] = set()
    rows = []
    for rank, suspect in enumerate(found.suspects, 1):
        pair = pairs[suspect.row]
        swap = bool(rng.random() < 0.5)
        turned = pair.swap() if swap else pair
        name = base = pair.id or f"pair {suspect.row + 1}"
        while name in names:
            name = f"{base}#{suspect.row + 1}" if name == base else f"{name}+"
        names.add(name)
        native = preference_row(turned)
        evidence = {
            "rank": rank,
            "reason": suspect.reason,
            "p_a": turned.p_a,
            "p_model": 1.0 - suspect.p_model if swap else suspect.p_model,
            "members": [1.0 - p if swap else p for p in suspect.members_M],
            "surprise": suspect.surprise,
            "spread": suspect.spread,
            "against": suspect.against,
            "n_judgments": pair.n_judgments,
            "sides_exchanged": swap,
        }
        texts = {key: native[key] for key in ("prompt", "response_a", "response_b")}
        rows.append({"id": name, **texts, **({} if pair.source is None else {"source": pair.source}), "triage": evidence})
    return rows


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("pair", "label p_a", "models' p_a", "surprise, nats", "against", "why"):
        table.add_column(head, justify="left" if head in ("pair", "why") else "right", overflow="fold")
    for row in rows[:SHOWN]:
        told = row["triage"]
        against = "-" if told["against"] is None else f"{told['against']:.0%}"
        cells = (row["id"], f"{told['p_a']:.3f}", f"{told['p_model']:.3f}", f"{told['surprise']:.3f}", against, told["reason"])
        table.add_row(*(escape(cell) for cell in cells))
    stream = io.StringIO()
    Console(file=stream, width=120, color_system=None, highlight=False, emoji=False).print(table)
    emit("\n".join(line.rstrip() for line in stream.getvalue().splitlines()))
    if len(rows) > SHOWN:
        emit(f"(+ {len(rows) - SHOWN} more in the file)")
