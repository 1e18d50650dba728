"""The one-file HTML report: no script, no external resource, and every text in it treated as hostile.

Texts are escaped by the template; figures are our own SVG, and a caller's SVG is refused if it holds anything that could act; a
Content-Security-Policy forbids scripts and loads on top.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from preferent.audits import plots
from preferent.audits.evaluation import Evaluation, Mistake
from preferent.audits.slices import GROUPS, Slice
from preferent.audits.tables import Part, Printed, Table, flat, parts_of, printed
from preferent.audits.text import counts_text, interval_text, number
from preferent.audits.verdict import verdict
from preferent.audits.words import BLOCKS, MEANINGS, TITLES
from preferent.core.errors import DataError, ExistsError, MissingExtraError
from preferent.core.records import Prompt

MAX_TEXT = 4000
ALLOWED_SVG = {
    "svg", "g", "defs", "path", "use", "text", "tspan", "rect", "circle", "line", "polyline", "polygon", "clipPath", "style", "title",
    "desc", "linearGradient", "stop",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the caller's own: paragraphs of plain text (escaped), one figure as an `<svg>` string, one table."""

    title: str
    paragraphs: Sequence[str] = ()
    svg: str | None = None
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with the sentence that says how to read it."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    paragraphs: Sequence[str]
    svg: Markup | None
    table: Printed | None


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
    if path.exists() and not force:
        raise ExistsError(f"{path} exists", hint="--force overwrites it")
    page = render_report(title=title, evaluation=evaluation, ledger=ledger, curves=curves, config=config, extra=extra)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(page.encode("utf-8", "backslashreplace"))  # a lone surrogate in a text is shown, not an error
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


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
    template = files("preferent.audits").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    figures, no_figures = _figures(evaluation, curves)
    parts = parts_of(ledger, "counts") if ledger else []
    resolved = printed(Table(("setting", "value"), flat(config))) if config else None
    anchors = [("numbers", "Numbers"), ("slices", "Slices"), ("mistakes", "Worst mistakes")]
    anchors[1:1] = [("plots", "Plots")] if figures else []
    anchors += [(f"extra-{k}", section.title) for k, section in enumerate(extra, start=1)]
    anchors += ([("data", "Data")] if parts else []) + ([("config", "Configuration")] if resolved else [])
    return environment.from_string(template).render(
        title=title,
        scorer=evaluation.scorer,
        verdict=verdict(evaluation),
        contents=anchors,
        blocks=_blocks(evaluation),
        counts=counts_text(evaluation),
        figures=figures,
        no_figures=no_figures,
        slices=_slices(evaluation.slices),
        mistakes=[_mistake(row) for row in evaluation.mistakes],
        extra=[_section(section) for section in extra],
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
    try:
        return [Figure(name, Markup(paint()), caption) for name, paint, caption in painters], ""
    except MissingExtraError as error:
        return [], f"The plots are left out: {error.message}; {error.hint}"


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


def _mistake(row: Mistake) -> dict[str, str]:
    """A mistake as texts, long ones cut with a count of what is missing."""
    return {
        "prompt": cut(_transcript(row.prompt)),
        "preferred": cut(row.preferred) or "(empty)",
        "other": cut(row.other) or "(empty)",
        "reward_preferred": number(row.reward_preferred),
        "reward_other": number(row.reward_other),
        "p_preferred": number(row.p_preferred),
        "confidence": number(row.confidence),
        "where": " ".join(filter(None, [row.source, row.id])),
    }


def _transcript(prompt: Prompt) -> str:
    """One user turn as it is; more turns with their roles."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def cut(text: str) -> str:
    """At most 4,000 characters: the start and the end, since both matter in a response."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[… {len(text) - MAX_TEXT:,} characters …]\n{text[-half:]}"


def _section(section: Section) -> _Section:
    svg = None if section.svg is None else safe_svg(section.svg, section.title)
    return _Section(section.title, section.paragraphs, svg, None if section.table is None else printed(section.table))


def safe_svg(svg: str, title: str) -> Markup:
    """`svg` if it is one well-formed `<svg>` element of plain drawing: no scripts, handlers, foreign content or outside references.

    Raises DataError naming what was found.
    """
    where = f"the figure of section {title!r}"
    if "<!" in svg:
        raise DataError(f"{where} holds a declaration or comment ('<!'); allowed: elements and text")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise DataError(f"{where} is not well-formed SVG: {error}") from error
    if _local(root.tag) != "svg":
        raise DataError(f"{where} begins with <{_local(root.tag)}>; allowed: <svg>")
    for element in root.iter():
        if _local(element.tag) not in ALLOWED_SVG:
            raise DataError(f"{where} holds <{_local(element.tag)}>; allowed: {', '.join(sorted(ALLOWED_SVG))}")
        for key, value in element.attrib.items():
            name = _local(key).lower()
            if name.startswith("on") or (name in {"href", "src"} and not value.startswith("#")):
                raise DataError(f"{where} holds {name}={value[:60]!r}; allowed: drawing attributes and '#' references")
    return Markup(svg)


def _local(name: str) -> str:
    """A tag or attribute name without its namespace."""
    return str(name).rpartition("}")[2]
