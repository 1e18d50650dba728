"""`preferent agree`: how far annotators agree, and the ceiling that sets for any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from preferent.cli.inputs import repeats_option
from preferent.cli.output import emit, emit_json, json_option


@click.command()
@click.argument("judgments", type=click.Path(path_type=Path))
@click.option("--by", type=click.Choice(["objective", "source"]), help="One block for each value of this field.")
@click.option("--pairs", is_flag=True, help="Also every pair of annotators with enough comparisons in common.")
@click.option("--min-shared", type=click.IntRange(2), default=10, show_default=True, help="Comparisons in common that --pairs asks for.")
@click.option("--level", type=click.Choice(["nominal", "ordinal", "interval"]), default="nominal", show_default=True, help="Of the alpha.")
@repeats_option("merge")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@json_option
def command(judgments: Path, by: str | None, pairs: bool, min_shared: int, level: Any, repeats: Any, seed: int, as_json: bool) -> None:
    """Agreement of the annotators in JUDGMENTS, with intervals from resampling comparisons.

    JUDGMENTS is JSONL (plain, .gz, .zst) or Parquet with the fields comparison_id, annotator_id and choice; objective and source
    where known. `ceiling` is how often one annotator gives the majority of the others: no model can be expected to do better by
    these people.
    """
    import numpy as np

    from preferent.annotators.agreement import agreement_report
    from preferent.annotators.agreement_pairs import pairwise_agreement
    from preferent.annotators.table_columns import Policies
    from preferent.annotators.table_read import read_votes

    table = read_votes(judgments, policies=Policies(repeats=repeats))
    parts = {"": table} if by is None else table.by(by)
    found = {name: agreement_report(part, np.random.default_rng(seed), level=level) for name, part in parts.items()}
    shared = {name: pairwise_agreement(part, min_shared=min_shared) for name, part in parts.items()} if pairs else {}
    if as_json:
        rows = [{"by": name or None, "agreement": report} for name, report in found.items()]
        for row, name in zip(rows, found, strict=True):
            if pairs:
                row["pairs"] = [{"first": p.first, "second": p.second, "shared": p.shared, "kappa": p.kappa} for p in shared[name]]
        emit_json(rows)
        return
    for name, report in found.items():
        part = parts[name]
        emit(f"{f'{by} {name}: ' if by else ''}{len(part.item_V)} votes, {part.n_items} comparisons, {part.n_annotators} annotators")
        for coefficient, estimate in report.items():
            emit(f"  {coefficient.replace('_', ' '):20} {estimate}")
        for pair in shared.get(name, [])[:20]:
            emit(f"    {pair.first} and {pair.second}: {pair.shared} shared, Cohen's kappa {pair.kappa}")
        for note in part.notes:
            emit(f"  note: {note}")
