"""The one-file HTML report on annotators, and its short form for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from preferent.audits.annotator_attributes_block import attributes_block, attributes_line
from preferent.audits.annotator_block import Block
from preferent.audits.annotator_blocks import agreement_block, annotators_block, confusion_block, coverage_block, method_block
from preferent.audits.annotator_groups import Groups
from preferent.audits.annotator_splits import disagreements_block, groups_block
from preferent.audits.annotator_study import AnnotatorStudy
from preferent.audits.page import refuse_page, render_page, write_page
from preferent.audits.text import interval_text, number


def write_annotator_report(path: str | Path, *, title: str, study: AnnotatorStudy, force: bool = False) -> Path:
    """Write the report to `path` (whole or not at all) and return it. Raises ExistsError if the file exists and not `force`."""
    refuse_page(Path(path), force=force)
    return write_page(path, render_annotator_report(title=title, study=study), force=force)


def render_annotator_report(*, title: str, study: AnnotatorStudy) -> str:
    """The page of `write_annotator_report` as a string."""
    blocks = list(_blocks(study))
    subtitle = f"{study.votes:,} votes of {len(study.people):,} annotators on {study.comparisons:,} comparisons"
    contents = [(block.anchor, block.title) for block in blocks]
    return render_page(
        "annotators.html.j2", title=title, subtitle=subtitle, verdict=annotator_verdict(study), contents=contents, blocks=blocks
    )


def annotator_verdict(study: AnnotatorStudy) -> list[str]:
    """What a reader should know first, in sentences."""
    lines = []
    alpha, ceiling = study.agreement["krippendorff_alpha"], study.agreement["ceiling"]
    if np.isnan(alpha.value):
        lines.append(f"Agreement cannot be told: {alpha.method}.")
    else:
        level = "firm" if alpha.low >= 0.8 else "tentative" if alpha.value >= 0.667 else "weak" if alpha.value >= 0.2 else "hardly any"
        lines.append(f"Agreement is {level}: Krippendorff's alpha {number(alpha.value)} {interval_text(alpha)}.")
        lines.append(f"One annotator gives what most others gave {ceiling.value:.1%} of the time: a model is not expected to do better.")
    kinds: dict[str, int] = {}
    for person in study.flagged:
        for kind in dict.fromkeys(flag.partition(":")[0] for flag in person.flags):
            kinds[kind] = kinds.get(kind, 0) + 1
    share = sum(person.votes for person in study.flagged) / max(study.votes, 1)
    said = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items(), key=lambda row: (-row[1], row[0])))
    lines.append(
        f"{len(study.flagged):,} of {len(study.people):,} annotators are flagged ({said}); they gave {share:.1%} of the votes."
        if study.flagged
        else "No annotator is flagged."
    )
    if study.groups is not None:
        lines.append(_groups_line(study.groups))
    if study.attributes is not None:
        lines.append(attributes_line(study.attributes))
    one = int((study.coverage.votes_I == 1).sum())
    if one:
        lines.append(f"{one:,} of {study.comparisons:,} comparisons have one vote only.")
    return lines


def _groups_line(found: Groups) -> str:
    k = found.mixture.n_groups
    if k == 1 and found.mixture.tests:
        return "Disagreement is noise as far as these votes can tell: one group foretells held-out votes as well as two."
    if k == 1:
        return "All annotators were taken as one group, as asked."
    said = f"{k} groups of annotators foretell held-out votes better than {k - 1}" if found.mixture.tests else f"{k} groups, as asked"
    if not found.n_conflicts:
        return f"{said}, but on no pair do they surely want opposite sides."
    return f"{said}; on {found.n_conflicts:,} pairs they surely want opposite sides."


def _blocks(study: AnnotatorStudy) -> Iterator[Block]:
    yield agreement_block(study)
    yield annotators_block(study)
    yield confusion_block(study)
    yield groups_block(study)
    if study.attributes is not None or "attributes" in study.skipped:
        yield attributes_block(study)
    yield disagreements_block(study)
    yield coverage_block(study)
    yield method_block(study)
