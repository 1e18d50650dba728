"""`preferent check`: the data gate on its own."""

from __future__ import annotations

from typing import Any

import click

from preferent.cli.inputs import over_long_counter
from preferent.cli.output import emit, emit_json, json_option
from preferent.data.formats.steps_detect import STEP_SHAPES
from preferent.data.ratings import ALL_SHAPES


@click.command()
@click.argument("source")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@click.option(
    "--format",
    "data_format",
    type=click.Choice(["auto", *ALL_SHAPES, *STEP_SHAPES]),
    default="auto",
    show_default=True,
    help="The shape of the rows; auto looks at the keys of every row.",
)
@click.option("--strict", is_flag=True, help="Any refused row is an error.")
@click.option("--base", help="Count rows that are too long for this base's tokenizer (a checkpoint, folder, hub id or 'minilm').")
@click.option("--max-length", type=click.IntRange(8), help="The limit in tokens for --base; default: the base's own.")
@json_option
def command(source: str, split: str, data_format: Any, strict: bool, base: str | None, max_length: int | None, as_json: bool) -> None:
    """Pass SOURCE through the data gate and print its ledger.

    SOURCE is a JSONL file (plain, .gz, .zst), a Parquet file, a local data-set folder, or a hub data-set id. Every row that is
    refused is listed with its place and the reason; nothing is changed. Pairs, rankings and ratings may stand in one file; solutions whose
    steps are labelled are told by the keys of the first rows.
    """
    from preferent.data.formats.steps_detect import is_step_format
    from preferent.data.ratings import check_all
    from preferent.data.steps_gate import check_steps
    from preferent.data.steps_read import holds_steps

    counter, limit = over_long_counter(base, max_length)
    steps = is_step_format(data_format) or (data_format == "auto" and holds_steps(source, split=split))
    checked = (check_steps if steps else check_all)(
        source, format=data_format, strict=strict, split=split, count_tokens=counter, max_length=limit
    )
    if as_json:
        emit_json(checked.ledger.to_dict())
    else:
        emit(checked.ledger.render())
