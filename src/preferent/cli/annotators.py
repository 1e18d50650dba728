"""`preferent annotators`: who to believe, how much, and where people really disagree, on one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preferent.cli.inputs import repeats_option
from preferent.cli.output import emit, emit_json, json_option, talk

if TYPE_CHECKING:
    from preferent.annotators.pair_ends import Pair
    from preferent.audits.annotator_study import AnnotatorStudy

SHOWN = 20


@click.command()
@click.argument("judgments", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the HTML report here.")
@click.option(
    "--comparisons",
    type=click.Path(path_type=Path),
    help="File of the comparisons (id, prompt, response_a, response_b), where the judgments do not carry the texts.",
)
@click.option("--groups", type=click.IntRange(0), help="Fit so many groups of annotators; 0 for none. Without it: as many as beat noise.")
@click.option(
    "--attributes",
    type=click.Path(path_type=Path),
    help="What is known of the annotators (age, region, expertise): JSONL, CSV or Parquet of annotator_id and any columns.",
)
@click.option("--worst", type=click.IntRange(0), default=10, show_default=True, help="Disagreements to show side by side.")
@click.option("--objective", help="Of judgments on several objectives: which.")
@repeats_option("merge")
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--force", is_flag=True, help="Overwrite the report.")
@json_option
def command(
    judgments: Path, output: Path | None, comparisons: Path | None, groups: int | None, attributes: Path | None, worst: int,
    objective: str | None, repeats: Any, seed: int, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Report on the annotators in JUDGMENTS: agreement, reliability and bias with flags, confusion, groups, attributes, disagreements,
    coverage.

    JUDGMENTS is JSONL (plain, .gz, .zst) or Parquet with comparison_id, annotator_id and choice (a, b, tie, skip); shown_first,
    seconds, source, rationale, response_a_id and response_b_id, or prompt, response_a and response_b, where known. What the data
    cannot support is left out with the reason.
    """
    from preferent.audits.annotator_report import annotator_verdict, write_annotator_report
    from preferent.audits.annotator_study import StudySettings, study_annotators
    from preferent.audits.page import refuse_page
    from preferent.cli.attribute_rows import read_attributes
    from preferent.cli.next import read_table
    from preferent.cli.pair_rows import read_pairs

    if output is not None:
        refuse_page(output, force=force)
    table = read_table(judgments, objective, repeats)
    rows = read_pairs(judgments, once=False)
    pairs = rows.pairs if comparisons is None else _with_texts(rows.pairs, comparisons, {str(name) for name in table.items.tolist()})
    settings = StudySettings(groups=groups, worst=worst, seed=seed)
    known = None if attributes is None else read_attributes(attributes, table.annotators.tolist())
    study = study_annotators(table, pairs, settings, rationales=rows.rationales, attributes=known)
    if output is not None:
        write_annotator_report(output, title=f"Annotators of {judgments.name}", study=study, force=force)
    if as_json:
        emit_json(study.to_dict())
    else:
        for line in annotator_verdict(study):
            emit(line)
        _flags(study)
        _attributes(study)
        for part, why in study.skipped.items():
            talk(f"left out: {part}: {why}")
        for note in study.notes:
            talk(f"note: {note}")
    if output is not None:
        talk(f"report: {output}")


def _with_texts(own: dict[str, Pair], comparisons: Path, judged: set[str]) -> dict[str, Pair]:
    """The pairs with texts of a file of comparisons; names of responses that the judgments give are kept."""
    from preferent.cli.pair_rows import read_pairs
    from preferent.core.errors import DataError

    given = read_pairs(comparisons, once=True).pairs
    if not judged & set(given):
        raise DataError(f"{comparisons}: no comparison that was judged is here", hint="a row has id, prompt, response_a, response_b")
    unknown = len(judged - set(given))
    if unknown:
        talk(f"note: {comparisons} has no texts of {unknown:,} of {len(judged):,} judged comparisons")
    out = {name: pair for name, pair in given.items() if name in judged}
    for name, pair in own.items():
        out[name] = pair if name not in out else replace(out[name], a=pair.a, b=pair.b)
    return out


def _attributes(study: AnnotatorStudy) -> None:
    """What each level is worth, of attributes that matter; what was made of the columns."""
    found = study.attributes
    if found is None:
        return
    for name, test in found.tests.items():
        emit(f"  {name}: gain {test.gain} nats per annotator, p {_small(test.p_value)}{'' if test.accepted else ': no more than noise'}")
    for row in found.levels:
        if found.tests[row.attribute].accepted:
            emit(f"  {row.attribute}, {row.level}: {row.annotators:,} annotators, p_a {row.distance} away from the average annotator's")
    for name, why in found.left_out.items():
        talk(f"left out: {name}: {why}")
    for note in found.notes:
        talk(f"note: {note}")


def _small(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _flags(study: AnnotatorStudy) -> None:
    for person in study.flagged[:SHOWN]:
        for flag in person.flags:
            emit(f"  {person.name}: {flag}")
    if len(study.flagged) > SHOWN:
        emit(f"  (+ {len(study.flagged) - SHOWN:,} more: in the report and the JSON)")
