"""The audit as one HTML file: the verdict, the three worst findings with texts side by side, every line, then tables and plots."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from preferent.audits.audit import Audit
from preferent.audits.audit_answer import Answer
from preferent.audits.audit_words import VERDICTS, display_name, method_lines, sides_of, verdict_lines
from preferent.audits.page import cut, painted, refuse_page, render_page, write_page
from preferent.audits.tables import Part, Table, cell, printed
from preferent.audits.text import number
from preferent.core.findings import Example, Finding

SHOWN_EXAMPLES = 2
SHOWN_SUMMARIES = 6
MARKABLE = 2000  # words; marking is quadratic at worst
ALIKE = 0.3  # texts that share less are read as two texts, not as one with changes


def write_audit(path: str | Path, found: Audit, *, title: str, force: bool = False) -> Path:
    """Write the report to `path` (whole or not at all) and return it. Raises ExistsError if the file exists and not `force`."""
    refuse_page(Path(path), force=force)
    return write_page(path, render_audit_page(found, title=title), force=force)


def render_audit_page(found: Audit, *, title: str) -> str:
    """The page of `write_audit` as a string."""
    asked = [answer for answer in found.answers if not answer.skipped]
    shown = {id(line) for line in found.worst}
    anchors = [("worst", "Worst findings")] if found.worst else []
    unit = "probability" if np.isnan(found.within_std) else "reward"
    anchors += [("all", "Every check"), *((answer.question, answer.title) for answer in asked), ("how", "How")]
    return render_page(
        "audit.html.j2",
        title=title,
        subtitle=f"{found.scorer} on {found.source}: {found.n_prompts:,} prompts",
        verdict=verdict_lines(found),
        contents=anchors,
        worst=[_finding(line, unit) for line in found.worst],
        told=_lines([line for line in found.findings if line.verdict == "finding"]),
        clear=_lines([line for line in found.findings if line.verdict == "clear"]),
        unknown=_lines([line for line in found.findings if line.verdict == "unknown"]),
        answers=[_answer(answer, shown, unit) for answer in asked],
        how=method_lines(found),
    )


def _lines(lines: Sequence[Finding]) -> Any:
    """Every check as one row; None where there are none."""
    if not lines:
        return None
    rows = [
        (
            display_name(line),
            line.estimate.method if np.isnan(line.estimate.value) else line.estimate,
            line.compared_with,
            "-" if line.p_value is None else "< 0.001" if line.p_value < 0.001 else f"{line.p_value:.3f}",
            f"{line.severity:.2f}" if line.verdict == "finding" else "",
        )
        for line in lines
    ]
    headers = ["check", "estimate", "held against", "p", "severity"]
    keep = 5 if lines[0].verdict == "finding" else 4
    return printed(Table(headers[:keep], [row[:keep] for row in rows]))


def _finding(line: Finding, unit: str) -> dict[str, Any]:
    """A finding as the template takes it. unit: what the number beside a text is."""
    return {
        "name": display_name(line),
        "summary": line.summary,
        "estimate": cell(line.estimate),
        "method": line.estimate.method,
        "compared": line.compared_with,
        "verdict": VERDICTS[line.verdict],
        "examples": [_example(line, example, unit) for example in line.examples[:SHOWN_EXAMPLES]],
    }


def _example(line: Finding, example: Example, unit: str) -> dict[str, Any]:
    heads = sides_of(line)
    left, right = marked(cut(example.left), cut(example.right))
    return {
        "prompt": cut(example.prompt),
        "where": example.id,
        "one": {"head": heads[0], "tail": f", {unit} {number(example.reward_left)}", "text": left or "(empty)"},
        "two": {"head": heads[1], "tail": f", {unit} {number(example.reward_right)}", "text": right or "(empty)"},
    }


def marked(left: str, right: str) -> tuple[Markup, Markup]:
    """Both texts escaped, with the words that only one of them has in <mark>; texts that share little are left unmarked."""
    pieces = [re.findall(r"\S+\s*|\s+", text) for text in (left, right)]
    if max(map(len, pieces)) > MARKABLE:
        return escape(left), escape(right)
    words = [[piece.strip() for piece in side] for side in pieces]
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    if matcher.ratio() < ALIKE:
        return escape(left), escape(right)
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        for side, part in zip(sides, ("".join(pieces[0][a0:a1]), "".join(pieces[1][b0:b1])), strict=True):
            marked_part = part.rstrip()
            side.append(escape(part) if kind == "equal" or not marked_part else _mark(marked_part) + part[len(marked_part) :])
    return Markup("").join(sides[0]), Markup("").join(sides[1])


def _mark(text: str) -> Markup:
    return Markup("<mark>{}</mark>").format(text)


def _answer(answer: Answer, shown: set[int], unit: str) -> dict[str, Any]:
    """One question's section; findings of the top of the page are not shown twice."""
    figures, no_figures = painted([(picture.title, picture.paint, picture.caption) for picture in answer.pictures])
    told = sorted((line for line in answer.findings if line.verdict == "finding"), key=lambda line: -line.severity)
    own = [line for line in told if line.examples and id(line) not in shown]
    tables = [Part(title, printed(table)) for title, table in answer.tables]
    if answer.numbers:
        tables.insert(0, Part("Numbers", printed(Table(("", "value", "n"), [(name, e, e.n) for name, e in answer.numbers]))))
    return {
        "anchor": answer.question,
        "title": answer.title,
        "about": answer.about,
        "summaries": [line.summary for line in told[:SHOWN_SUMMARIES]],
        "more": max(0, len(told) - SHOWN_SUMMARIES),
        "tables": tables,
        "figures": figures,
        "no_figures": no_figures,
        "findings": [_finding(line, unit) for line in own],
    }
