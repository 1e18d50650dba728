"""The figures of the annotator report, each a function from results to an `<svg>` string. Needs matplotlib, the `plots` extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from preferent.annotators.mixture import Mixture
from preferent.audits.annotator_people import Confusion, Person
from preferent.audits.figures import BASELINE, GOLD, INK, MUTED, SCORER, clean, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 1500  # points of one kind: a page with more is slow to open
FEW = 40  # annotators whose intervals are drawn and who are named


def thinned(rows: Sequence[Any]) -> list[Any]:
    """At most MOST of the rows, evenly spaced."""
    if len(rows) <= MOST:
        return list(rows)
    return [rows[k] for k in np.linspace(0, len(rows) - 1, MOST).round().astype(int).tolist()]


def reliability_plot(people: Sequence[Person]) -> str:
    """Reliability against the number of votes; flagged annotators are hollow diamonds."""
    known = [person for person in people if person.reliability is not None]
    flagged, others = [p for p in known if p.flags], [p for p in known if not p.flags]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for rows, colour, marker, label in ((others, SCORER, "o", "not flagged"), (flagged, BASELINE, "D", "flagged")):
            if not rows:
                continue
            shown = thinned(rows)
            x, y = [p.votes for p in shown], [p.reliability.value for p in shown if p.reliability is not None]
            if len(known) <= FEW:
                ends = [(p.reliability.low, p.reliability.high) for p in shown if p.reliability is not None]
                axes.vlines(x, [low for low, _ in ends], [high for _, high in ends], colors=colour, linewidth=1.2)
            axes.plot(
                x, y, marker, color=colour, markersize=5 if len(known) <= FEW else 3.5, alpha=1.0 if len(known) <= FEW else 0.55,
                markerfacecolor="none" if marker == "D" else colour, markeredgewidth=1.2 if marker == "D" else 0.0,
                label=f"{label} ({len(rows):,})",
            )  # fmt: skip
        for person in flagged[: FEW // 2] if len(known) <= FEW else []:
            assert person.reliability is not None
            place = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8.5}
            axes.annotate(clean(str(person.name), 16), (person.votes, person.reliability.value), **place)
        axes.set(xlabel="votes", ylabel="reliability", ylim=(-0.03, 1.03))
        if max((p.votes for p in known), default=1) > 20 * min((p.votes for p in known), default=1):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.xaxis.set_minor_formatter(lambda *_: "")
        figure.legend(loc="outside upper right", ncols=2)

    return draw("annotators", "Reliability of annotators against their number of votes", paint, height=3.6)


def confusion_plot(confusion: Confusion) -> str:
    """Shares of the votes on comparisons of each label, darker for more."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        n = len(confusion.labels)
        for k in range(n):
            for m in range(n):
                share = float(confusion.share_KL[k, m])
                if not np.isnan(share):
                    axes.fill([m - 0.5, m + 0.5, m + 0.5, m - 0.5], [k - 0.5, k - 0.5, k + 0.5, k + 0.5], color=SCORER, alpha=0.55 * share)
                    axes.text(m, k, f"{share:.2f}", ha="center", va="center", fontsize=10)
        names = [clean(label, 14) for label in confusion.labels]
        axes.set_xticks(range(n), [f"votes {name}" for name in names])
        axes.set_yticks(range(n), [f"label {name}" for name in names])
        axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
        axes.grid(visible=False)

    return draw(f"confusion {confusion.title}", f"Votes by label: {confusion.title}", paint, height=0.9 + 0.55 * len(confusion.labels))


def groups_plot(mixture: Mixture) -> str:
    """What the two largest groups say of each pair; pairs in conflict are hollow diamonds."""
    clash = {int(pair) for pair in mixture.conflicts.pair_C}
    plain = [p for p in range(len(mixture.lo_P)) if p not in clash]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0.5, color=MUTED, linestyle="--", linewidth=1.0)
        axes.axvline(0.5, color=MUTED, linestyle="--", linewidth=1.0)
        for rows, colour, marker, label in ((plain, SCORER, "o", "pairs"), (sorted(clash), BASELINE, "D", "in conflict")):
            if not rows:
                continue
            at = thinned(rows)
            axes.plot(
                mixture.p_a.value[0, at], mixture.p_a.value[1, at], marker, color=colour, markersize=3.5, alpha=0.55,
                markerfacecolor="none" if marker == "D" else colour, markeredgewidth=1.0 if marker == "D" else 0.0,
                label=f"{label} ({len(rows):,})",
            )  # fmt: skip
        axes.set(xlabel="group 1 prefers the first", ylabel="group 2 prefers the first", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        figure.legend(loc="outside upper right", ncols=2)

    return draw("groups", "Two groups on the same pairs", paint, height=3.6)


def counts_plot(counts: Mapping[str, int], what: str, of: str) -> str:
    """How many (`of`) have each number of something (`what`); beyond 40 different numbers in bins."""
    values = np.array([int(value) for value in counts])
    times = np.array(list(counts.values()), dtype=np.float64)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        if len(values) <= 40 and np.ptp(values) <= 60:
            axes.bar(values, times, width=0.8, color=SCORER)
        else:
            edges = np.unique(np.linspace(values.min(), values.max() + 1, 31).round())
            heights, _ = np.histogram(values, bins=edges, weights=times)
            axes.bar(edges[:-1], heights, width=np.diff(edges), align="edge", color=SCORER, edgecolor="none")
        if values.min() == 1 and times[values == 1].sum():
            axes.axvline(1, color=BASELINE, linestyle="--", linewidth=1.0)
        axes.set(xlabel=what, ylabel=of)
        axes.locator_params(axis="x", integer=True)

    return draw(f"counts {what}", f"{of} by {what}", paint, height=2.8)


def agreement_plot(rows: Mapping[str, Any]) -> str:
    """Coefficients of agreement with their intervals."""
    names = [name for name, estimate in rows.items() if not np.isnan(estimate.value)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, name in enumerate(names):
            estimate = rows[name]
            if not np.isnan(estimate.low):
                axes.hlines(y, estimate.low, estimate.high, colors=GOLD if name == "ceiling" else SCORER, linewidth=1.8)
            axes.plot([estimate.value], [y], "o", color=GOLD if name == "ceiling" else SCORER, markersize=6)
        axes.axvline(0.0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(min(-0.05, *(rows[name].value - 0.1 for name in names)), 1.02))
        axes.grid(visible=False, axis="y")

    return draw("agreement", "Agreement of annotators", paint, height=0.8 + 0.35 * len(names))
