"""`preferent compare`: two scorers on the same texts."""

from __future__ import annotations

from typing import Any

import click

from preferent.cli.inputs import data_options
from preferent.cli.output import Progress, emit, emit_json, json_option
from preferent.cli.scorers import WithProgress, load_scorer


@click.command()
@click.argument("first")
@click.argument("second")
@click.argument("source", required=False)
@click.option("--prompts", type=click.IntRange(10), default=500, show_default=True, help="At most so many prompts of SOURCE.")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@data_options
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with a model.")
@json_option
def command(
    first: str,
    second: str,
    source: str | None,
    prompts: int,
    split: str,
    data_format: Any,
    strict: bool,
    seed: int,
    threads: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Compare the scorers FIRST and SECOND on SOURCE, or on the probe texts that come with preferent.

    Both are what `preferent audit` takes as MODEL. Accuracy, the effect of every edit and the detection of every kind of planted error
    are compared pair by pair, with intervals of the difference; where it may be 0, neither is called better.
    """
    from preferent.audits.audit import texts_to_score
    from preferent.audits.audit_subject import AuditSettings, Memo
    from preferent.audits.compare import compare
    from preferent.audits.compare_words import headline, render_comparison
    from preferent.cli.audit_inputs import audit_texts, say_how_long

    settings = AuditSettings(seed=seed)
    data, ledger = audit_texts(source, split=split, data_format=data_format, strict=strict, prompts=prompts, seed=seed)
    total = texts_to_score(data, settings, ("edits", "blind_spots"))
    memos = []
    with Progress("scoring", 2 * total, "texts") as progress:
        for word in (first, second):
            scorer, _ = load_scorer(word, threads=threads, trust_remote_code=trust_remote_code)
            memos.append(Memo(WithProgress(scorer, progress), name=word))  # two folders may end in the same name: their words differ
        for memo in memos:
            say_how_long(memo, data, total)
        found = compare(memos[0], memos[1], data, settings=settings)
    if as_json:
        emit_json(found.to_dict() | {"headline": headline(found), "ledger": ledger})
    else:
        emit(render_comparison(found))
