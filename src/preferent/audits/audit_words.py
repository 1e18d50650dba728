"""An audit in words: the verdict at the top, names for a reader, and the terminal's view."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from preferent.audits.length_style import FEATURES
from preferent.audits.text import interval_text, number
from preferent.core.findings import Finding

if TYPE_CHECKING:
    from preferent.audits.audit import Audit

# audit (the file that asked) -> what the left and the right text of an example are
SIDES = {
    "counterfactual": ("without", "with the edit"),
    "blind_spots": ("right", "with the error"),
    "length_style": ("preferred by the labels", "leaned to"),
    "calibration": ("preferred by the labels", "preferred by the scorer"),
    "consistency": ("one wording", "another"),
    "shape": ("one reply", "another"),
    "group_agreement": ("preferred by the group", "preferred by the scorer"),
    "labels": ("preferred by the labels", "preferred by the judge"),
    "position": ("one response", "the other"),
}
CHECK_SIDES = {
    "edit search": ("its worst natural reply", "after the search"),
    "word search": ("the best natural reply", "searched words"),
    "best-of-n gain": ("gold's choice", "this scorer's choice"),
    "style grid": ("the better reply", "the worse reply, dressed up"),
    "order under paraphrase": ("the better reply, reworded", "the worse reply, reworded"),
    "upper tail": ("the prompt's median reply", "its highest reward"),
}
VERDICTS = {"finding": "finding", "clear": "no finding", "unknown": "cannot tell"}
SHOWN = 12


def sides_of(finding: Finding) -> tuple[str, str]:
    """What the two texts of a finding's examples are."""
    return CHECK_SIDES.get(finding.name) or SIDES.get(finding.audit, ("one", "other"))


def display_name(finding: Finding) -> str:
    """'length.filler' as 'length: filler', the audit's name before names that say little alone."""
    name = finding.name.replace(".", ": ", 1).replace("_", " ")
    if finding.audit == "length_style" and finding.name in FEATURES:
        return f"lean to {name}"
    return f"error: {name}" if finding.audit == "blind_spots" else name


def verdict_lines(found: Audit) -> tuple[str, ...]:
    """The sentences at the top: how many findings, the worst, the accuracy, what was not asked."""
    lines = [line for line in found.findings if line.verdict != "unknown"]
    unknown = sum(line.verdict == "unknown" for line in found.findings)
    if not lines and not unknown:
        first = "Nothing could be asked."
    elif not found.bad:
        first = f"No finding in {len(lines)} checks. That is not proof: each check has an interval, and there are faults nobody asked for."
    else:
        plural = "finding" if len(found.bad) == 1 else "findings"
        first = f"{len(found.bad)} {plural} in {len(lines)} checks. The worst: {found.worst[0].summary}"
    rest = []
    accuracy = next((line for line in found.findings if line.audit in ("calibration", "labels") and line.name == "accuracy"), None)
    if accuracy is not None and accuracy not in found.worst[:1]:
        rest.append(accuracy.summary)
    if unknown:
        rest.append(f"{unknown} more could not be told: too little of what they need is in these texts.")
    rest += [f"Not asked: {answer.title.lower()} ({answer.skipped})." for answer in found.answers if answer.skipped]
    return (first, *rest)


def method_lines(found: Audit) -> tuple[str, ...]:
    """What was asked of what, and how to do it again."""
    beyond = f" ({found.n_left_out:,} prompts more were left out by --prompts)" if found.n_left_out else ""
    rate = f", {found.n_scored / found.seconds:,.0f} a second" if found.seconds > 0 else ""
    texts = f"Texts: {found.source}, {found.n_prompts:,} prompts{beyond}, {found.n_pairs:,} labelled pairs."
    if np.isnan(found.within_std):
        return (
            texts,
            f"{found.n_scored:,} comparisons made in {found.seconds:,.0f} s{rate}: every pair in both orders.",
            f"Intervals are 95 %, from resampling prompts; seed {found.seed}. The number beside a text is its probability.",
            "Severity orders the findings on one scale: ten times a share or a probability.",
        )
    return (
        texts,
        f"{found.n_scored:,} distinct texts scored in {found.seconds:,.0f} s{rate}.",
        f"One standard deviation of natural rewards within a prompt is {found.within_std:.4g} reward points; over everything "
        f"{found.overall_std:.4g}.",
        f"Intervals are 95 %, from resampling prompts; seed {found.seed}, temperature {found.temperature:.4g}.",
        "Severity orders the findings on one scale: standard deviations of natural rewards, or ten times a share or a probability.",
    )


def render_audit(found: Audit, *, width: int = 100) -> str:
    """A plain-text view for a terminal of `width` columns: the verdict, then every finding, then what could not be told."""
    from rich.console import Console
    from rich.markup import escape

    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False, emoji=False)
    console.print(f"Audit of {escape(found.scorer)}\n")
    for line in (*verdict_lines(found), "", *method_lines(found), ""):
        console.print(escape(line))
    if found.bad:
        console.print("Findings, the worst first")
        for line in found.bad[:SHOWN]:
            console.print(escape(f"  {line.severity:5.2f}  {display_name(line)}: {_estimate(line)}, held against {line.compared_with}"))
            for part in textwrap.wrap(line.summary, max(40, width - 9)):
                console.print(escape(f"         {part}"))
        if len(found.bad) > SHOWN:
            console.print(f"  (+ {len(found.bad) - SHOWN} more: in the JSON and the report)")
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _estimate(line: Finding) -> str:
    estimate = line.estimate
    if np.isnan(estimate.value):
        return estimate.method
    return f"{number(estimate.value)} {interval_text(estimate)}"
