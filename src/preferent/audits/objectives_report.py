"""The objectives of a model as sections of a report, and a page of their own where no overall preference was held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from preferent.audits.figures import BASELINE, MUTED, SCORER, draw
from preferent.audits.objectives import ObjectiveStudy
from preferent.audits.objectives_front import Front
from preferent.audits.page import Section, printed_section, render_page, transcript, write_page
from preferent.audits.plots import curves_plot
from preferent.audits.tables import Table, flat, parts_of, printed
from preferent.core.errors import MissingExtraError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats, Prompt

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SHOWN_PROMPTS = 2
SHOWN_POINTS = 30


def sections(
    study: ObjectiveStudy,
    *,
    weights: Table | None = None,
    before: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Section]:
    """Heads, matrix, weights and front. `weights`: see `weights_table`; `before`: per objective `before` and `after`, the correlation with
    length of what labels were compared with and of the head that is left, where length was decorrelated."""
    found = [_heads(study), _length(study, before or {}), _between(study)]
    if weights is not None:
        found.append(Section("How the objectives become one reward", (_WEIGHTS,), table=weights))
    found.append(_front(study.front, study.names))
    return found


_WEIGHTS = "Weights of the objectives on one scale: each in standard deviations of its training ratings."


def weights_table(names: Sequence[str], weights_NK: Floats, prompts: Sequence[Prompt], groups: Sequence[str], *, by_prompt: bool) -> Table:
    """Mean weights for each group of prompts; with `by_prompt` (a gate) also the prompts where each objective weighs most.

    weights_NK: of each prompt, shape (N, K); groups: one name for each, such as its source.
    """
    rows: list[list[Any]] = []
    order = {group: [row for row, other in enumerate(groups) if other == group] for group in dict.fromkeys(groups)}
    for group, own in order.items():
        rows.append([group, len(own), *weights_NK[own].mean(0).tolist()])
    if len(order) > 1:
        rows.insert(0, ["all prompts", len(prompts), *weights_NK.mean(0).tolist()])
    if by_prompt:
        for k, name in enumerate(names):
            for row in np.argsort(-weights_NK[:, k])[:SHOWN_PROMPTS]:
                text = transcript(prompts[row]).replace("\n", " ")
                shown = text if len(text) <= 80 else f"{text[:77]}..."
                rows.append([f"most weight on {name}: {shown}", 1, *weights_NK[row].tolist()])
    return Table(("prompts", "n", *names), rows)


def _heads(study: ObjectiveStudy) -> Section:
    others = list(study.heads[0].beside)
    rows = [
        (head.name, head.with_ratings.n, head.with_ratings, *(head.beside[other] for other in others), head.accuracy)
        for head in study.heads
    ]
    said = (
        f"Spearman's correlation of each head with people's ratings, over {study.n_responses:,} held-out responses to "
        f"{study.n_prompts:,} prompts, beside what else can be compared with the same ratings. Intervals: 95 %, over prompts."
    )
    headers = ("objective", "rated", "head", *others, "accuracy on its comparisons")
    return Section("Each objective and what people said", (said,), table=Table(headers, rows))


def _length(study: ObjectiveStudy, before: Mapping[str, Mapping[str, float]]) -> Section:
    rows: list[tuple[Any, ...]] = []
    for head in study.heads:
        change = before.get(head.name, {})
        extra = (change.get("before"), change.get("after")) if before else ()
        rows.append((head.name, head.with_length, head.people_with_length, *extra))
    rows.append(("the reward", study.reward_with_length, None, *((None, None) if before else ())))
    headers = ("", "head with length", "people with length", *(("Pearson, before", "Pearson, after") if before else ()))
    said = ["Correlation with the length of the response in characters. A head may follow length as far as people's ratings do."]
    if before:
        said.append(
            "Decorrelation: before is what the labels were compared with, the head together with its length head; after is the head alone, "
            "which is the reward. Pearson's correlation with length in tokens."
        )
    return Section("Length", said, table=Table(headers, rows))


def _between(study: ObjectiveStudy) -> Section:
    rows = []
    for k, name in enumerate(study.names):
        cells = [_pair(study.between_KK[k, other], study.people_KK[k, other]) if other != k else "1" for other in range(len(study.names))]
        rows.append((name, *cells))
    said = "Spearman's correlation between heads; in brackets that between people's ratings, '-' where too few responses have both."
    return Section("Objectives among each other", (said,), table=Table(("", *study.names), rows))


def _pair(heads: float, people: float) -> str:
    one, other = ("-" if np.isnan(value) else f"{value:.2f}" for value in (heads, people))
    return f"{one} ({other})"


def _front(front: Front | None, names: Sequence[str]) -> Section:
    title = "What can be had at once"
    if front is None:
        return Section(title, ("No front: it needs two prompts or more with several responses that are rated on every objective.",))
    left_out = [name for name in names if name not in front.names]
    said = (
        f"{len(front.weights_SK)} choices of weights; each picks one response for {front.n_prompts:,} prompts, and the ratings of the "
        "picked responses say what it gets: standard deviations of the ratings above a random pick.",
        f"Hypervolume between a random pick and the front: {front.hypervolume}; {front.oracle:.3g} if the ratings themselves chose.",
        *([f"Without {', '.join(left_out)}, which nobody rated."] if left_out else []),
    )
    best = np.flatnonzero(front.efficient_S)
    rows = [(_words(front.names, front.weights_SK[s]), *front.points_SK[s].tolist()) for s in best[:SHOWN_POINTS]]
    note = "Choices that no other beats on every objective." + (f" {len(best) - len(rows)} more." if len(best) > len(rows) else "")
    try:
        svg = front_plot(front)
    except MissingExtraError:
        svg = None
    return Section(title, said, svg=svg, table=Table(("weights", *front.names), rows, note=note))


def _words(names: Sequence[str], weights_K: Floats) -> str:
    return ", ".join(f"{name} {weight:.2g}" for name, weight in zip(names, weights_K, strict=True) if weight > 0)


def front_plot(front: Front) -> str:
    """Every choice of weights on the first objective and each of the others; those on the front are filled."""

    def paint(figure: Canvas) -> None:
        count = len(front.names) - 1
        for place, axes in enumerate(np.atleast_1d(figure.subplots(1, count, sharey=False)), start=1):
            best = front.efficient_S
            axes.axhline(0.0, color=MUTED, linewidth=0.8)
            axes.axvline(0.0, color=MUTED, linewidth=0.8)
            axes.plot(front.points_SK[~best, 0], front.points_SK[~best, place], "o", color=MUTED, markerfacecolor="none", markersize=4)
            axes.plot(front.points_SK[best, 0], front.points_SK[best, place], "o", color=SCORER, markersize=4)
            axes.plot([0], [0], "D", color=BASELINE, markersize=5)
            axes.set(xlabel=front.names[0], ylabel=front.names[place])

    wide = min(9.0, 3.2 * max(1, len(front.names) - 1))
    return draw("front", "Gain over a random pick, by choice of weights", paint, width=max(4.0, wide), height=3.0)


def write_objectives_report(
    path: str | Path,
    *,
    title: str,
    scorer: str,
    found: Sequence[Section],
    verdict: Sequence[str],
    ledger: Mapping[str, Any] | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """The report of a model whose held-out records are ratings, or comparisons on objectives, alone."""
    parts = parts_of(ledger, "counts") if ledger else []
    resolved = printed(Table(("setting", "value"), flat(config))) if config else None
    shown = list(found)
    if curves:
        try:
            shown.append(Section("Training", (), svg=partial(curves_plot, curves)()))
        except MissingExtraError as error:
            shown.append(Section("Training", (f"The plot is left out: {error.message}",)))
    anchors = [(f"extra-{k}", section.title) for k, section in enumerate(shown, start=1)]
    anchors += ([("data", "Data")] if parts else []) + ([("config", "Configuration")] if resolved else [])
    page = render_page(
        "objectives.html.j2",
        title=title,
        subtitle=scorer,
        verdict=list(verdict),
        contents=anchors,
        extra=[printed_section(section) for section in shown],
        ledger=parts,
        config=resolved,
    )
    return write_page(path, page, force=force)


def verdict_lines(study: ObjectiveStudy) -> list[str]:
    """The first lines of the page: how each head does against the ratings and against length."""
    lines = []
    for head in study.heads:
        if np.isnan(head.with_ratings.value):
            lines.append(f"{head.name}: accuracy {head.accuracy} on its held-out comparisons.")
            continue
        bar = head.beside["length"]
        lines.append(f"{head.name}: {head.with_ratings} with people's ratings, {_against(head.with_ratings, bar)}")
    return lines


def _against(head: Estimate, bar: Estimate) -> str:
    if head.low > bar.high:
        return f"above length ({bar.value:.3f})."
    return f"not clearly above length ({bar.value:.3f})."


def render(study: ObjectiveStudy) -> str:
    """Plain text for a terminal: one line per objective."""
    width = max(len(name) for name in study.names)
    lines = [f"Objectives, on {study.n_responses:,} held-out responses to {study.n_prompts:,} prompts (Spearman, 95 % over prompts)"]
    for head in study.heads:
        # What was never rated has nothing to stand beside.
        others = ", ".join(f"{name} {estimate.value:.3f}" for name, estimate in head.beside.items())
        said = f"with ratings {head.with_ratings}; beside: {others}" if head.with_ratings.n else f"accuracy {head.accuracy}"
        lines.append(f"  {head.name:<{width}}  {said}; with length {head.with_length}")
    if study.front is not None:
        lines.append(f"  hypervolume of the front {study.front.hypervolume}, of the ratings themselves {study.front.oracle:.3g}")
    return "\n".join(lines)
