"""The figures of a page on a step scorer, each a function from results to an `<svg>` string. Needs matplotlib, the `plots` extra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from preferent.audits.figures import BASELINE, GOLD, MUTED, SCORER, clean, draw, whiskers
from preferent.audits.metrics import Reliability
from preferent.audits.steps_best_of_n import MAJORITY, ORACLE, RANDOM
from preferent.audits.steps_evaluate import StepEvaluation
from preferent.audits.steps_study import BestOfN, HitRow
from preferent.core.estimates import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"scorer": "scorer", "length": "best length rule", "constant": "best constant"}


def beside_plot(evaluation: StepEvaluation) -> str:
    """F1 of the first error and AUROC per step, of the scorer and of what it must beat."""
    coin = Estimate(0.5, 0.5, 0.5, 0, "a constant")
    f1 = {name: found.f1 for name, found in evaluation.first_error.items()}
    auroc = {name: found.auroc for name, found in evaluation.auroc.items()} | {"constant": coin}

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, numbers, title in ((left, f1, "first-error F1"), (right, auroc, "AUROC per step")):
            for place, name in enumerate(NAMES):
                if name in numbers and not math.isnan(numbers[name].value):
                    whiskers(
                        axes, place, numbers[name], colour=SCORER if name == "scorer" else BASELINE, marker="o" if name == "scorer" else "D"
                    )
            axes.set(title=title, ylim=(len(NAMES) - 0.5, -0.5))
            axes.grid(visible=False, axis="y")
        left.set_yticks(range(len(NAMES)), list(NAMES.values()))
        left.set_xlim(left=min(0.0, left.get_xlim()[0]))
        right.axvline(0.5, color=MUTED, linestyle="--", linewidth=1.0)

    return draw("steps beside", "First-error F1 and AUROC per step beside what knows nothing of the steps", paint, height=2.1)


def step_reliability_plot(found: Reliability) -> str:
    """Labels of steps against their scores with 95 % intervals, and below it how many steps each bin holds."""

    def paint(figure: Figure) -> None:
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0.0, 1.0], [0.0, 1.0], "--", color=MUTED, linewidth=1.0, label="perfectly calibrated")
        for row in found.bins:
            whiskers(top, row.confidence, row.observed, colour=SCORER, across=False)
        top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), ylabel="steps that are right")
        top.legend(loc="upper left")
        below.vlines([row.confidence for row in found.bins], 0, [row.n for row in found.bins], colors=SCORER, linewidth=5)
        below.set(ylim=(0, 1.15 * max(row.n for row in found.bins)), ylabel="steps", xlabel="score: chance that the step is right")
        below.locator_params(axis="y", nbins=2)

    return draw("steps reliability", "Reliability: share of right steps against their score", paint, height=3.9)


def hits_plot(rows: Sequence[HitRow], title: str) -> str:
    """Share of solutions named exactly by the scorer (dot) and by the length rule (hollow diamond), per row; n on the right."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            axes.annotate(f"n={row.n:,}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
            if math.isnan(row.scorer.value):
                axes.text(0.0, y, row.scorer.method, va="center", fontsize=8.5, style="italic")
                continue
            whiskers(axes, y + 0.16, row.length, colour=BASELINE, marker="D")
            whiskers(axes, y - 0.16, row.scorer, colour=SCORER)
        axes.plot([], [], "o", color=SCORER, label="scorer")
        axes.plot([], [], "D", color=BASELINE, markerfacecolor="none", label="best length rule")
        axes.set_yticks(range(len(rows)), [clean(row.name) for row in rows])
        axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.45, -0.55), xlabel="named exactly")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper right", ncols=2)

    return draw(f"steps {title}", f"First errors named exactly, by {title}", paint, height=1.15 + 0.36 * max(2, len(rows)))


def best_of_n_plot(found: BestOfN) -> str:
    """Share of problems solved against n: every aggregation, and beside them majority vote, a random pick and the oracle."""
    plain = {ORACLE: (GOLD, "--"), MAJORITY: (BASELINE, "-"), RANDOM: (MUTED, "--")}
    rules = [name for name in found.rows if name not in plain and " " not in name]
    dashes = dict(zip(rules, ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))), strict=False))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = range(len(found.ns))
        for name in (*(name for name in plain if name in found.rows), *rules):
            colour, dash = plain.get(name, (SCORER, dashes.get(name, "-")))
            values = [estimate.value for estimate in found.rows[name]]
            axes.plot(places, values, color=colour, linestyle=dash, marker=".", linewidth=1.5, label=name)
        axes.set_xticks(places, [str(n) for n in found.ns])
        axes.set(xlabel="n solutions to pick from", ylabel="problems solved")
        figure.legend(loc="outside right center")

    return draw("steps best of n", "Best of n by aggregation, beside majority vote, a random pick and the oracle", paint, height=3.4)
