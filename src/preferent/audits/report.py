"""The one-file HTML report of an evaluation; `page` has the machinery that all reports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from preferent.audits import plots
from preferent.audits.evaluation import Evaluation, Mistake
from preferent.audits.page import (
    ALLOWED_SVG,
    MAX_TEXT,
    Figure,
    Section,
    cut,
    painted,
    printed_section,
    refuse_page,
    render_page,
    safe_svg,
    transcript,
    write_page,
)
from preferent.audits.slices import GROUPS, Slice
from preferent.audits.tables import Part, Table, flat, parts_of, printed
from preferent.audits.text import counts_text, interval_text, number
from preferent.audits.verdict import verdict
from preferent.audits.words import BLOCKS, MEANINGS, TITLES

__all__ = ["ALLOWED_SVG", "MAX_TEXT", "Figure", "Section", "cut", "render_report", "safe_svg", "write_report"]


def write_report(
    path: str | Path,
    *,
    title: str,
    evaluation: Evaluation,
    ledger: Mapping[str, Any] | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    extra: Sequence[Section] = (),
    force: bool = False,
) -> Path:
    """Write the report to `path` (whole or not at all) and return it.

    `ledger`: the data gate's `Ledger.to_dict()`; `curves`: the run's metric records (see `plots.curves_plot` for the keys); `config`: the
    resolved configuration. Raises ExistsError if the file exists and not `force`, DataError for an SVG in `extra` that could act. Without
    matplotlib the report is written without figures and says so.
    """
    path = Path(path)
    refuse_page(path, force=force)
    page = render_report(title=title, evaluation=evaluation, ledger=ledger, curves=curves, config=config, extra=extra)
    return write_page(path, page, force=force)


def render_report(
    *,
    title: str,
    evaluation: Evaluation,
    ledger: Mapping[str, Any] | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    extra: Sequence[Section] = (),
) -> str:
    """The page of `write_report` as a string."""
    figures, no_figures = _figures(evaluation, curves)
    parts = parts_of(ledger, "counts") if ledger else []
    resolved = printed(Table(("setting", "value"), flat(config))) if config else None
    anchors = [("numbers", "Numbers"), ("slices", "Slices"), ("mistakes", "Worst mistakes")]
    anchors[1:1] = [("plots", "Plots")] if figures else []
    anchors += [(f"extra-{k}", section.title) for k, section in enumerate(extra, start=1)]
    anchors += ([("data", "Data")] if parts else []) + ([("config", "Configuration")] if resolved else [])
    return render_page(
        "report.html.j2",
        title=title,
        subtitle=evaluation.scorer,
        verdict=verdict(evaluation),
        contents=anchors,
        blocks=_blocks(evaluation),
        counts=counts_text(evaluation),
        figures=figures,
        no_figures=no_figures,
        slices=_slices(evaluation.slices),
        mistakes=[_mistake(row) for row in evaluation.mistakes],
        extra=[printed_section(section) for section in extra],
        ledger=parts,
        config=resolved,
    )


def _blocks(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The numbers table: blocks of rows, in the order of BLOCKS, without the numbers that do not apply."""
    blocks = []
    for block, names in BLOCKS.items():
        rows = []
        for name in names:
            if name in evaluation.numbers:
                estimate, sign = evaluation.numbers[name], name.startswith("minus_")
                rows.append(
                    {
                        "title": TITLES[name],
                        "value": number(estimate.value, sign=sign),
                        "interval": interval_text(estimate, sign=sign),
                        "has_interval": estimate.low == estimate.low,
                        "n": f"{estimate.n:,}",
                        "method": estimate.method,
                        "meaning": MEANINGS[name],
                    }
                )
        if rows:
            blocks.append({"name": block, "rows": rows})
    return blocks


def _figures(evaluation: Evaluation, curves: Sequence[Mapping[str, Any]] | None) -> tuple[list[Figure], str]:
    """The figures, and a sentence if there are none and why."""
    painters = [
        (
            "Reliability",
            partial(plots.reliability_plot, evaluation.reliability),
            "Points on the dashed line are calibrated; bars are 95 % intervals. Bins hold about the same weight.",
        ),
        *(
            [
                (
                    "Reliability before the temperature",
                    partial(plots.reliability_plot, evaluation.uncalibrated, "uncalibrated"),
                    f"The rewards as they are. Above they are divided by the temperature {number(evaluation.temperature)}.",
                )
            ]
            if evaluation.uncalibrated is not None
            else []
        ),
        (
            "Margins",
            partial(plots.margins_plot, evaluation.margins),
            "Left of 0 the scorer is wrong. The outer bins hold all beyond.",
        ),
    ]
    for group, rows in groupby(evaluation.slices, key=lambda row: row.group):
        caption = "The dashed line is a coin flip; bars are 95 % intervals."
        painters.append((f"Accuracy by {group}", partial(plots.slices_plot, list(rows), group), caption))
    if curves:
        painters.append(("Training", partial(plots.curves_plot, curves), "A loss below the dashed line is better than a coin flip."))
    return painted(painters)


def _slices(rows: Sequence[Slice]) -> list[Part]:
    """One table per group; a slice that is too small says so instead of numbers."""
    parts = []
    for group, members in groupby(rows, key=lambda row: row.group):
        cells = []
        for row in members:
            if row.accuracy.value == row.accuracy.value:
                difference = f"{number(row.difference.value, sign=True)} {interval_text(row.difference, sign=True)}"
                cells.append((row.name, row.n, row.accuracy, row.longer_side, difference))
            else:
                cells.append((row.name, row.n, row.accuracy.method, "", ""))
        parts.append(Part(GROUPS[group], printed(Table(("", "n", "accuracy", "longer side wins", "difference"), cells))))
    return parts


def _mistake(row: Mistake) -> dict[str, Any]:
    """A mistake as texts, long ones cut with a count of what is missing."""
    return {
        "prompt": cut(transcript(row.prompt)),
        "one": _side("preferred by the labels", row.preferred, row.reward_preferred),
        "two": _side("preferred by the scorer", row.other, row.reward_other),
        "p_preferred": number(row.p_preferred),
        "confidence": number(row.confidence),
        "where": " ".join(filter(None, [row.source, row.id])),
    }


def _side(head: str, text: str, reward: float) -> dict[str, str]:
    return {"head": head, "tail": f", reward {number(reward)}", "text": cut(text) or "(empty)"}
