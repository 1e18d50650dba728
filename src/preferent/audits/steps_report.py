"""The one-file HTML page on a step scorer: what it beats, where it finds first errors, and the solutions it is most wrong about, step by
step. Texts are hostile input: the template escapes every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from preferent.audits import plots, steps_plots
from preferent.audits.page import Section, cut, painted, printed_section, refuse_page, render_page, transcript, write_page
from preferent.audits.steps_evaluate import StepEvaluation
from preferent.audits.steps_study import Disagreement, HitRow, StepStudy
from preferent.audits.tables import Part, Table, flat, parts_of, printed
from preferent.audits.text import number
from preferent.audits.verdict import brief
from preferent.core.estimates import Estimate

MAX_STEPS = 30
LEGEND = "The bar is the score, orange where it is below the threshold {}. At most one solution of a problem; long ones are cut."
COIN = Estimate(0.5, 0.5, 0.5, 0, "a constant")


@dataclass(frozen=True)
class StepPage:
    """What the page says. about: (name, words) of what it was measured and chosen on. aggregation: of the checkpoint."""

    title: str
    scorer: str
    evaluation: StepEvaluation
    study: StepStudy
    about: Sequence[tuple[str, str]] = ()
    aggregation: str | None = None


def write_steps_report(
    path: str | Path,
    page: StepPage,
    *,
    ledger: Mapping[str, Any] | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write the page to `path` (whole or not at all) and return it. Raises ExistsError if the file exists and not `force`.

    ledger, curves, config: as `report.write_report` takes them. Without matplotlib the page has no figures and says so.
    """
    refuse_page(Path(path), force=force)
    return write_page(path, render_steps_page(page, ledger=ledger, curves=curves, config=config), force=force)


def render_steps_page(
    page: StepPage,
    *,
    ledger: Mapping[str, Any] | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
) -> str:
    """The page of `write_steps_report` as a string."""
    figures, no_figures = _figures(page, curves)
    parts = parts_of(ledger, "counts") if ledger else []
    resolved = printed(Table(("setting", "value"), flat(config))) if config else None
    anchors = [("numbers", "Numbers"), *([("plots", "Plots")] if figures else []), ("where", "First errors"), ("whole", "Whole solutions")]
    anchors += [
        ("worst", "Worst disagreements"),
        *([("data", "Data")] if parts else []),
        *([("config", "Configuration")] if resolved else []),
    ]
    threshold = page.evaluation.threshold.value
    return render_page(
        "steps.html.j2",
        title=page.title,
        subtitle=page.scorer,
        verdict=step_verdict(page.evaluation),
        contents=anchors,
        numbers=_numbers(page),
        figures=figures,
        no_figures=no_figures,
        where=_where(page.study),
        whole=[printed_section(section) for section in _whole(page)],
        legend=LEGEND.format(number(threshold)),
        worst=[
            {"title": title, "rows": [_solution(k, row, threshold) for k, row in enumerate(rows, start=1)]}
            for title, rows in (
                ("Errors that it does not see", page.study.missed),
                ("Right steps that it takes for errors", page.study.alarms),
            )
        ],
        ledger=parts,
        config=resolved,
    )


# ---- in words ----


def step_verdict(found: StepEvaluation) -> tuple[str, ...]:
    """The sentences at the top: what is beaten in both measures, then each measure beside its baselines, as far as intervals allow."""
    f1, auroc = found.first_error, found.auroc
    beaten = [f"the best {_title(name)}" for name, better in found.beats.items() if better]
    rest = [f"the best {_title(name)}" for name, better in found.beats.items() if not better]
    head = " ".join(
        filter(None, [f"Beats {' and '.join(beaten)}." if beaten else "", f"Does not beat {' or '.join(rest)}." if rest else ""])
    )
    errors, right = f1["scorer"].error_accuracy, f1["scorer"].right_accuracy
    return (
        head,
        "Beaten is what lies below both in first-error F1 and in AUROC per step, with intervals that do not overlap.",
        f"First-error F1 {brief(f1['scorer'].f1)} {_against(f1['scorer'].f1, f1['constant'].f1, 'the best constant')} and "
        f"{_against(f1['scorer'].f1, f1['length'].f1, 'the best length rule')}.",
        f"It names the step of the first error in {brief(errors)} of {f1['scorer'].n_error:,} solutions with one, and none in "
        f"{brief(right)} of {f1['scorer'].n_right:,} without.",
        f"AUROC per step {brief(auroc['scorer'].auroc)} {_against(auroc['scorer'].auroc, COIN, 'a constant')} and "
        f"{_against(auroc['scorer'].auroc, auroc['length'].auroc, 'the best length rule')}.",
    )


def _title(name: str) -> str:
    return {"length": "length rule"}.get(name, name)


def _against(estimate: Estimate, other: Estimate, name: str) -> str:
    """'is above X (its number)', 'is below', or that the intervals overlap, or why nothing can be said."""
    told = f"{name} (0.5)" if other is COIN else f"{name} ({brief(other)})"
    if np.isnan(estimate.low) or np.isnan(other.low):
        return f"cannot be compared with {told}: {(estimate if np.isnan(estimate.low) else other).method}"
    if estimate.low > other.high:
        return f"is above {told}"
    return f"is below {told}" if estimate.high < other.low else f"is not distinguishable from {told}: the intervals overlap"


# ---- tables and figures ----


def _numbers(page: StepPage) -> list[Part]:
    found = page.evaluation
    rows = []
    for name, first in found.first_error.items():
        auroc = found.auroc[name].auroc if name in found.auroc else "0.500"
        rows.append((steps_plots.NAMES[name], first.f1, first.error_accuracy, first.right_accuracy, auroc))
    headers = ("", "first-error F1", "place, with an error", "none, without", "AUROC per step")
    counted = found.auroc["scorer"]
    note = (
        f"{found.first_error['scorer'].n_error:,} solutions with an error and {found.first_error['scorer'].n_right:,} without; "
        f"{counted.n_right:,} right steps and {counted.n_wrong:,} wrong ones, {counted.n_left_out:,} without a label."
    )
    chosen: list[tuple[str, Any]] = [
        ("threshold of the scorer", number(found.threshold.value)),
        ("F1 where the threshold was chosen", "not kept" if np.isnan(found.threshold.f1) else number(found.threshold.f1)),
        ("aggregation of the checkpoint", page.aggregation or "none chosen"),
        ("best constant", f"no error with chance {number(found.constant.share_right)}, else step {found.constant.place + 1}"),
        ("best length rule for F1", _rule(found)),
        ("best length rule for AUROC", found.auroc_rule),
        ("solutions whose first error the labels do not tell", found.n_unknown),
    ]
    chosen = [*page.about, *chosen]
    return [
        Part("Beside what knows nothing of the steps", printed(Table(headers, rows, note))),
        Part("What was measured, and what was chosen", printed(Table((), chosen))),
    ]


def _rule(found: StepEvaluation) -> str:
    rule = found.length_rule
    if rule.place is None:
        return f"{rule.name}, threshold {rule.threshold:.4g}"
    at = f"step {rule.place + 1}" if rule.place >= 0 else f"step {-rule.place} from the end"
    return f"{rule.name}: {at}, above {rule.threshold:.4g} characters"


def _where(study: StepStudy) -> list[Part]:
    groups = (("place of the first error", study.by_place), ("number of steps", study.by_count), ("source", study.by_source))
    return [
        Part(f"By {title}", printed(Table(("", "n", "scorer", "best length rule"), [_hit(row) for row in rows])))
        for title, rows in groups
        if rows
    ]


def _hit(row: HitRow) -> tuple[Any, ...]:
    return (row.name, row.n, *(e.method if np.isnan(e.value) else e for e in (row.scorer, row.length)))


def _whole(page: StepPage) -> list[Section]:
    study = page.study
    rows = [(row.how, row.within_problem, row.overall) for row in study.aggregations]
    note = "Chance that a right solution's reward is above a wrong one's. Weights were fitted on the other half of these problems in turn."
    table = Table(("aggregation", "of the same problem", "of any problem"), rows, note) if rows else None
    stored = f"The checkpoint takes: {page.aggregation or 'none'}."
    sections = [Section("Aggregations", [stored, *([study.no_aggregation] if study.no_aggregation else [])], table=table)]
    best = study.best_of_n
    if best is None:
        return [*sections, Section("Best of n", [f"None: {study.no_best_of_n}."])]
    lines = [
        f"One of n solutions is picked; {best.n_problems:,} problems with {best.ns[-1]} solutions. Right: the labels know of no wrong step."
    ]
    if not best.voted:
        lines.append("No majority vote: most solutions state no answer that could be read.")
    headers = ("rule", *(f"n = {n}" for n in best.ns))
    return [*sections, Section("Best of n", lines, table=Table(headers, [(name, *row) for name, row in best.rows.items()]))]


def _figures(page: StepPage, curves: Sequence[Mapping[str, Any]] | None) -> tuple[list[Any], str]:
    found, study = page.evaluation, page.study
    painters: list[Any] = [
        (
            "Beside what knows nothing",
            partial(steps_plots.beside_plot, found),
            "Bars are 95 % intervals over problems; the dashed line is a coin flip.",
        )
    ]
    if study.reliability is not None:
        ece, noise = study.reliability.ece, study.reliability.noise
        caption = f"Points on the dashed line are calibrated. Calibration error {brief(ece)}; chance alone would show {brief(noise)}."
        painters.append(("Reliability of step scores", partial(steps_plots.step_reliability_plot, study.reliability), caption))
    for title, rows in (("place of the first error", study.by_place), ("number of steps", study.by_count)):
        if rows:
            caption = "Share of solutions whose first error, or lack of one, is named exactly; bars are 95 % intervals."
            painters.append((f"By {title}", partial(steps_plots.hits_plot, rows, title), caption))
    if study.best_of_n is not None:
        painters.append(("Best of n", partial(steps_plots.best_of_n_plot, study.best_of_n), "Intervals are in the table below."))
    if curves:
        painters.append(("Training", partial(plots.curves_plot, curves), "Cross-entropy per labelled step."))
    return painted(painters)


# ---- solutions ----


def _solution(place: int, row: Disagreement, threshold: float) -> dict[str, Any]:
    """A solution as the template takes it; of a long one the steps around the one that is wrong."""
    record = row.record
    n = len(record.steps)
    start = max(0, min(row.step - MAX_STEPS // 2, n - MAX_STEPS))
    shown = range(start, min(n, start + MAX_STEPS))
    left_out = f"{n - len(shown)} of {n} steps are not shown; the first shown is step {start + 1}." if len(shown) < n else ""
    true = "cannot be told" if row.true is None else "none" if row.true < 0 else f"step {row.true + 1}"
    label = record.labels[row.step] or 0.0
    said = "none" if row.predicted < 0 else f"step {row.predicted + 1}"
    return {
        "number": place,
        "head": f"step {row.step + 1} scores {number(float(row.score_T[row.step]))}, labelled {_word(label)}; first error: "
        f"{true} by the labels, {said} by the scorer",
        "where": " ".join(filter(None, [record.source, record.id])),
        "prompt": cut(transcript(record.prompt)),
        "steps": [_step(row, t, threshold) for t in shown],
        "left_out": left_out,
    }


def _step(row: Disagreement, t: int, threshold: float) -> dict[str, Any]:
    score, label = float(row.score_T[t]), row.record.labels[t]
    if label is None:
        badges = [{"kind": "none", "text": "not labelled"}]
    else:
        badges = [{"kind": "right" if label >= 0.5 else "wrong", "text": _word(label)}]
    if t == row.true:
        badges[0] = {"kind": "wrong", "text": "first error"}
    if t == row.predicted:
        badges.append({"kind": "model", "text": "the scorer's first error"})
    return {
        "number": t + 1,
        "text": cut(row.record.steps[t]) or "(empty)",
        "score": number(score),
        "width": f"{100.0 * min(1.0, max(0.0, score)):.1f}",
        "below": score < threshold,
        "worst": t == row.step,
        "badges": badges,
    }


def _word(label: float) -> str:
    """A label in a word, a soft one as the chance that the step is right."""
    return {1.0: "right", 0.0: "wrong"}.get(label, f"right with {number(label)}")
