"""A one-file HTML page: no script, no external resource, and every text in it treated as hostile.

Texts are escaped by the template; figures are our own SVG, and a caller's SVG is refused if it holds anything that could act; a
Content-Security-Policy forbids scripts and loads on top. Every report of this room extends `templates/page.html.j2` and takes its
tables, figures and pairs of texts from `templates/parts.html.j2`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from preferent.audits.tables import Printed, Table, printed
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
class PrintedSection:
    """A section as the template `section` takes it: its figure checked, its table as texts."""

    title: str
    paragraphs: Sequence[str]
    svg: Markup | None
    table: Printed | None


def render_page(template: str, **context: Any) -> str:
    """The page of a template of `audits/templates`, every text of `context` escaped.

    A template that extends `page.html.j2` needs `title`, `subtitle`, `verdict` (lines; the first is set large) and `contents`
    (anchor, name). A name that the context lacks is an error.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_template)
    )
    return environment.get_template(template).render(**context)


def _template(name: str) -> str:
    return files("preferent.audits").joinpath("templates", name).read_text(encoding="utf-8")


def write_page(path: str | Path, page: str, *, force: bool = False) -> Path:
    """Write `page` to `path`, whole or not at all, and return it. Raises ExistsError if the file exists and not `force`."""
    path = Path(path)
    refuse_page(path, force=force)
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


def refuse_page(path: Path, *, force: bool) -> None:
    """Raises ExistsError if the file exists and not `force`: to be asked before the work, too."""
    if path.exists() and not force:
        raise ExistsError(f"{path} exists", hint="--force overwrites it")


def painted(painters: Iterable[tuple[str, Callable[[], str], str]]) -> tuple[list[Figure], str]:
    """The figures of (title, painter, caption), and a sentence if there are none and why (matplotlib is not installed)."""
    try:
        return [Figure(name, Markup(paint()), caption) for name, paint, caption in painters], ""
    except MissingExtraError as error:
        return [], f"The plots are left out: {error.message}; {error.hint}"


def printed_section(section: Section) -> PrintedSection:
    """Raises DataError for a figure that could act."""
    svg = None if section.svg is None else safe_svg(section.svg, section.title)
    return PrintedSection(section.title, section.paragraphs, svg, None if section.table is None else printed(section.table))


def transcript(prompt: Prompt) -> str:
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
