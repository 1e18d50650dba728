"""`preferent check`: the data gate on its own."""

from __future__ import annotations

import click

from preferent.cli.inputs import data_options, over_long_counter
from preferent.cli.output import emit, emit_json, json_option
from preferent.data.formats.detect import Format


@click.command()
@click.argument("source")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@data_options
@click.option("--base", help="Count rows that are too long for this base's tokenizer (a checkpoint, folder, hub id or 'minilm').")
@click.option("--max-length", type=click.IntRange(8), help="The limit in tokens for --base; default: the base's own.")
@json_option
def command(source: str, split: str, data_format: Format, strict: bool, base: str | None, max_length: int | None, as_json: bool) -> None:
    """Pass SOURCE through the data gate and print its ledger.

    SOURCE is a JSONL file (plain, .gz, .zst), a Parquet file, a local data-set folder, or a hub data-set id. Every row that is
    refused is listed with its place and the reason; nothing is changed.
    """
    from preferent.data.gate import check

    counter, limit = over_long_counter(base, max_length)
    checked = check(source, format=data_format, strict=strict, split=split, count_tokens=counter, max_length=limit)
    if as_json:
        emit_json(checked.ledger.to_dict())
    else:
        emit(checked.ledger.render())
