"""The questions of the battery as answers: counterfactual edits and blind spots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from preferent.audits.audit_answer import Answer, Picture
from preferent.audits.audit_subject import Subject
from preferent.audits.battery import run_battery
from preferent.audits.blind_spots import Detection
from preferent.audits.counterfactual import EditEffect
from preferent.audits.figures import BASELINE, MUTED, SCORER, clean, draw, whiskers
from preferent.audits.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def edits(subject: Subject) -> Answer:
    """Every counterfactual edit."""
    battery = run_battery(subject.scorer, subject.data, settings=subject.settings.battery, seed=subject.settings.seed)
    smallest = subject.settings.battery.smallest
    about = (
        "A program changes one property of a reply and nothing else; the effect is the mean change of the reward in standard deviations of "
        "natural rewards within a prompt. Where an edit has an inverse, both texts have been through the rewriter, so that what it does "
        "besides cancels.",
        f"An effect within {smallest:g} standard deviations is reported and never called a finding. p-values are of a sound scorer, "
        "corrected over all edits of a kind (Benjamini and Hochberg).",
    )
    asked = sorted(battery.effects, key=_family)
    rows = [
        (effect.edit.name, effect.effect, _share(effect), _p(effect.p_value), effect.finding.verdict, f"the response {effect.edit.what}")
        for effect in asked
    ]
    table = Table(("edit", "effect (SD)", "pairs turned round", "p", "verdict", "what was done"), rows)
    return Answer(
        question="edits",
        title="Counterfactual edits",
        about=about,
        findings=tuple(effect.finding for effect in battery.effects),
        numbers=(),
        tables=(("Every edit", table),),
        pictures=_edit_pictures(asked, smallest),
    )


def blind_spots(subject: Subject) -> Answer:
    """Planted errors alone."""
    battery = run_battery(subject.scorer, subject.data, edits=(), settings=subject.settings.battery, seed=subject.settings.seed)
    required = subject.settings.battery.required_detection
    rows = [(row.kind, row.rate, row.rate.n, _p(row.p_value), row.finding.verdict) for row in battery.detections]
    known = [row for row in battery.detections if not math.isnan(row.rate.low)]
    caption = (
        f"Share of planted errors that lower the reward. Below the dashed line ({required:.0%}) is a finding; the dotted line is a coin."
    )
    pictures = (Picture("Errors seen, by kind", lambda: _rate_plot(known, required), caption),) if known else ()
    return Answer(
        question="blind_spots",
        title="Blind spots",
        about=(
            "One error is planted in a right response, by hand in the built-in probes and by a program elsewhere. A scorer that sees it "
            f"gives the wrong text less; of each kind at least {required:.0%} must be seen.",
        ),
        findings=tuple(row.finding for row in battery.detections),
        tables=(("Every kind", Table(("kind", "errors seen", "n", "p", "verdict"), rows)),),
        pictures=pictures,
    )


def _family(effect: EditEffect) -> tuple[bool, str, str]:
    return effect.edit.expects == "must_fall", effect.edit.name.partition(".")[0], effect.edit.name


def _p(value: float) -> str:
    """A p-value as text; '-' where no test was made."""
    return "-" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _share(effect: EditEffect) -> object:
    return effect.flip_rate if effect.flip_rate.n else "-"


def _edit_pictures(effects: Sequence[EditEffect], smallest: float) -> tuple[Picture, ...]:
    """One figure for what a sound scorer ignores, one for what it marks down."""
    pictures = []
    for expects, title, caption in (
        ("neutral", "Edits without content", f"A sound scorer stays within the shaded {smallest:g} SD; orange marks findings."),
        ("must_fall", "Edits that make a reply worse", "A sound scorer is left of the shaded band; orange marks findings."),
    ):
        rows = [row for row in effects if row.edit.expects == expects and not math.isnan(row.effect.low)]
        if rows:
            pictures.append(Picture(title, lambda rows=rows, title=title: _effect_plot(rows, smallest, title), caption))
    return tuple(pictures)


def _effect_plot(rows: Sequence[EditEffect], smallest: float, title: str) -> str:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvspan(-smallest, smallest, color=MUTED, alpha=0.15, linewidth=0)
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        for y, row in enumerate(rows):
            whiskers(axes, y, row.effect, colour=BASELINE if row.finding.verdict == "finding" else SCORER)
        axes.set_yticks(range(len(rows)), [clean(row.edit.name) for row in rows])
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="effect in SD of natural rewards within a prompt")
        axes.grid(visible=False, axis="y")

    return draw(f"effects {title}", title, paint, height=0.9 + 0.23 * max(4, len(rows)))


def _rate_plot(rows: Sequence[Detection], required: float) -> str:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(required, color=MUTED, linestyle="--", linewidth=1.0)
        axes.axvline(0.5, color=MUTED, linestyle=":", linewidth=1.0)
        for y, row in enumerate(rows):
            whiskers(axes, y, row.rate, colour=BASELINE if row.finding.verdict == "finding" else SCORER)
        axes.set_yticks(range(len(rows)), [clean(row.kind) for row in rows])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="share of planted errors that lower the reward")
        axes.grid(visible=False, axis="y")

    return draw("errors seen", "Share of planted errors seen, by kind", paint, height=0.9 + 0.3 * max(3, len(rows)))
