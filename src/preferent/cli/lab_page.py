"""An experiment's outcome as one HTML page, SVG files, CSV tables and words for a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from preferent.audits.figures import BASELINE, GOLD, INK, MUTED, SCORER, clean, draw, whiskers
from preferent.audits.page import Figure as PageFigure
from preferent.audits.page import Section, printed_section, render_page, safe_svg
from preferent.audits.tables import Table, cell, flat, printed
from preferent.core.estimates import Estimate
from preferent.lab.experiments.outcome import Check, Dots, Figure, Grid, Outcome, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, in an order in which neighbours differ in lightness too.
COLOURS = (SCORER, BASELINE, GOLD, "#cc79a7", "#e69f00", "#56b4e9")
MARK = {True: "held", False: "FAILED", None: "not told"}


def page_of(outcome: Outcome, drawings: dict[str, str], *, no_figures: str = "") -> str:
    """The page; `drawings` by figure name, empty where matplotlib is missing, and then `no_figures` says so."""
    claims = Table(("", "claim", "what came out"), [(MARK[check.passed], check.claim, check.says) for check in outcome.checks])
    tables = [Section(grid.title, table=Table(grid.headers, [_rounded(row) for row in grid.rows], grid.note)) for grid in outcome.tables]
    sections = [(f"part-{k}", printed_section(one)) for k, one in enumerate([Section("What was claimed", table=claims), *tables])]
    shown = [PageFigure(one.title, safe_svg(drawings[one.name], one.name), one.caption) for one in outcome.figures if one.name in drawings]
    held = sum(check.passed is True for check in outcome.checks)
    return render_page(
        "sections.html.j2",
        title=outcome.title,
        subtitle=f"{held} of {len(outcome.checks)} claims held",
        verdict=outcome.summary,
        contents=[("plots", "Plots"), *((anchor, section.title) for anchor, section in sections), ("config", "Settings")],
        figures=shown,
        no_figures=no_figures,
        sections=sections,
        config=printed(Table(("setting", "value"), flat(outcome.settings))),
    )


def _rounded(row: Sequence[Any]) -> tuple[Any, ...]:
    """A row for reading: plain numbers to four digits; the CSV beside the page has all of them."""
    return tuple(float(f"{cell:.4g}") if isinstance(cell, float) else cell for cell in row)


def svg(figure: Figure) -> str:
    """One figure as an `<svg>` element. Raises MissingExtraError without matplotlib."""

    def paint(canvas: Any) -> None:
        if isinstance(figure.panels[0], Dots):
            _dots(canvas.subplots(), figure.panels[0])
            return
        panels = [panel for panel in figure.panels if isinstance(panel, Panel)]
        row = canvas.subplots(1, len(panels), sharey=len(panels) > 1, squeeze=False)[0]
        labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
        colour = {label: COLOURS[k % len(COLOURS)] for k, label in enumerate(labels)}
        for axes, panel in zip(row, panels, strict=True):
            _panel(axes, panel, colour)
        # Few seeds have wide bands; the curves decide the scale, or they would be flat lines in the middle.
        values = [value for panel in panels for line in panel.lines for value in line.y]
        room = 0.4 * ((max(values) - min(values)) or 1.0)
        low, high = row[0].get_ylim()
        row[0].set_ylim(max(low, min(values) - room), min(high, max(values) + room))
        for axes in row[1:]:
            axes.set_ylabel("")
        handles, names = row[0].get_legend_handles_labels()
        canvas.legend(handles, [clean(name, 60) for name in names], loc="outside upper left", ncols=2)

    if isinstance(figure.panels[0], Dots):
        return draw(figure.name, figure.caption, paint, width=7.0, height=1.1 + 0.27 * len(figure.panels[0].rows))
    return draw(figure.name, figure.caption, paint, width=7.4 if len(figure.panels) > 1 else 5.6, height=3.8)


def _panel(axes: Axes, panel: Panel, colour: dict[str, str]) -> None:
    solid = {line.label for line in panel.lines if not line.dashed}
    for line in panel.lines:
        shade = colour[line.label]
        if line.dashed:
            axes.plot(line.x, line.y, "--", color=shade, linewidth=1.1, label="" if line.label in solid else line.label)
            continue
        if line.low:
            axes.fill_between(line.x, line.low, line.high, color=shade, alpha=0.15, linewidth=0)
        axes.plot(line.x, line.y, "o-", color=shade, linewidth=1.5, markersize=3.5, label=line.label)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)


def _dots(axes: Axes, dots: Dots) -> None:
    for y, (_, estimate) in enumerate(dots.rows):
        whiskers(axes, y, estimate, colour=_shade(estimate, dots.reference))
    if dots.reference is not None:
        axes.axvline(dots.reference, color=INK, linewidth=0.8)
        axes.annotate(
            dots.reference_label,
            (dots.reference, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    axes.set_yticks(range(len(dots.rows)), [clean(name, 48) for name, _ in dots.rows])
    axes.set(xlabel=dots.x_label, ylim=(len(dots.rows) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")


def _shade(estimate: Estimate, reference: float | None) -> str:
    """By the side of the reference on which the whole interval lies; grey where it holds the reference."""
    if reference is None or not (estimate.low > reference or estimate.high < reference):
        return MUTED
    return SCORER if estimate.low > reference else BASELINE


def csv_text(grid: Grid) -> str:
    """A table as CSV; an estimate becomes three columns: value, low, high."""
    wide = [any(isinstance(row[k], Estimate) for row in grid.rows if k < len(row)) for k in range(len(grid.headers))]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    heads = [[head, f"{head} low", f"{head} high"] if has else [head] for head, has in zip(grid.headers, wide, strict=True)]
    writer.writerow([head for group in heads for head in group])
    for row in grid.rows:
        writer.writerow([part for k, value in enumerate(row) for part in _parts(value, wide[k])])
    return stream.getvalue()


def _parts(value: Any, wide: bool) -> list[Any]:
    if isinstance(value, Estimate):
        return ["" if number != number else number for number in (value.value, value.low, value.high)]
    return [value, "", ""] if wide else [value]


def file_name(grid: Grid) -> str:
    """A table's title as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", grid.title.lower()).strip("-")[:60]


def words(outcome: Outcome) -> str:
    """The outcome for a terminal."""
    parts = [outcome.title, *outcome.summary]
    for grid in outcome.tables:
        parts += ["", grid.title, _text_table(grid)]
    return "\n".join([*parts, "", *map(_told, outcome.checks)])


def _told(check: Check) -> str:
    return f"{MARK[check.passed]}: {check.claim}: {check.says}"


def _text_table(grid: Grid) -> str:
    rows: Sequence[Sequence[str]] = [[str(head) for head in grid.headers], *[[_short(value) for value in row] for row in grid.rows]]
    widths = [max(len(row[k]) for row in rows) for k in range(len(grid.headers))]
    lines = ["  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([f"  {grid.note}"] if grid.note else [])])


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value) if isinstance(value, Estimate) else cell(value)
