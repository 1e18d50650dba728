"""The figures of a report, each a function from results to an `<svg>` string. Needs matplotlib, the `plots` extra."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from preferent.audits.evaluation import Histogram
from preferent.audits.figures import BASELINE, GOLD, INK, MUTED, SCORER, clean, draw, whiskers
from preferent.audits.metrics import Reliability
from preferent.audits.slices import Slice
from preferent.core.errors import DataError
from preferent.core.estimates import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS_KEYS = ("loss", "train_loss", "train/loss")
HELD_OUT_KEYS = ("held_out_nll", "held_out/nll", "eval_nll", "eval_loss", "nll")
RATE_KEYS = ("learning_rate", "lr", "train/learning_rate")


def reliability_plot(reliability: Reliability, name: str = "reliability") -> str:
    """Observed preference against confidence with 95 % intervals, and below it how many pairs each bin holds.

    `name` must be the plot's own on its page.
    """

    def paint(figure: Figure) -> None:
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0.5, 1.0], [0.5, 1.0], "--", color=MUTED, linewidth=1.0, label="perfectly calibrated")
        for row in reliability.bins:
            whiskers(top, row.confidence, row.observed, colour=SCORER, across=False)
        lows = [row.observed.value if math.isnan(row.observed.low) else row.observed.low for row in reliability.bins]
        top.set(xlim=(0.49, 1.01), ylim=(min(0.45, *lows) - 0.02, 1.02), ylabel="labels agree")
        top.legend(loc="upper left")
        middles = [row.confidence for row in reliability.bins]
        below.vlines(middles, 0, [row.n for row in reliability.bins], colors=SCORER, linewidth=5)
        below.set(ylim=(0, 1.15 * max(row.n for row in reliability.bins)), ylabel="pairs", xlabel="confidence of the preferred side")
        below.locator_params(axis="y", nbins=2)

    return draw(name, "Reliability: observed preference against confidence", paint, height=3.9)


def slices_plot(rows: Sequence[Slice], title: str) -> str:
    """Accuracy per slice as dot and interval, with the longer-side baseline (hollow diamond) beside it; n on the right."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            axes.annotate(f"n={row.n:,}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
            if math.isnan(row.accuracy.value):
                axes.text(0.0, y, row.accuracy.method, va="center", fontsize=8.5, style="italic")
                continue
            whiskers(axes, y + 0.16, row.longer_side, colour=BASELINE, marker="D")
            whiskers(axes, y - 0.16, row.accuracy, colour=SCORER)
        axes.plot([], [], "o", color=SCORER, label="scorer")
        axes.plot([], [], "D", color=BASELINE, markerfacecolor="none", label="the longer side wins")
        axes.axvline(0.5, color=MUTED, linestyle="--", linewidth=1.0)
        axes.set_yticks(range(len(rows)), [clean(row.name) for row in rows])
        axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.45, -0.55), xlabel="accuracy")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper right", ncols=2)

    return draw(f"slices {title}", f"Accuracy by {title}", paint, height=1.15 + 0.36 * max(2, len(rows)))


def margins_plot(margins: Histogram) -> str:
    """Pairs by reward of the preferred side minus the other; mistakes lie left of 0 in the second colour."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        edges = np.asarray(margins.edges)
        middles = (edges[:-1] + edges[1:]) / 2
        colours = [BASELINE if middle < 0 else SCORER for middle in middles]
        axes.bar(middles, margins.counts, width=np.diff(edges) * 0.92, color=colours, linewidth=0)
        axes.axvline(0.0, color=INK, linewidth=0.8)
        axes.set(xlabel="margin: reward of the preferred side - the other", ylabel="pairs")
        axes.grid(visible=False, axis="x")
        handles = [axes.bar([0], [0], color=colour).patches[0] for colour in (BASELINE, SCORER)]
        figure.legend(handles, ["mistake", "right"], loc="outside upper right", ncols=2)

    return draw("margins", "Margins of the preferred side", paint, height=3.0)


def series(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> tuple[list[float], list[float]]:
    """(step, value) of the first of `keys` that the records carry, non-finite values left out; the step is `step` or the row's place."""
    key = next((key for key in keys if any(key in record for record in records)), None)
    points = [(record.get("step", place), record.get(key)) for place, record in enumerate(records)] if key else []
    kept = [(float(x), float(y)) for x, y in points if isinstance(y, (int, float)) and math.isfinite(y)]
    return [x for x, _ in kept], [y for _, y in kept]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Running mean over the last `window` values (fewer at the start)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return list((sums[ends] - sums[starts]) / (ends - starts))


def curves_plot(records: Sequence[Mapping[str, Any]]) -> str:
    """Training loss (thin: every record; thick: running mean), held-out NLL, and the learning rate below, from metric records."""
    loss, held_out, rate = (series(records, keys) for keys in (LOSS_KEYS, HELD_OUT_KEYS, RATE_KEYS))
    if not (loss[0] or held_out[0]):
        known = sorted({key for record in records for key in record})
        raise DataError(f"no training curve in these records: keys are {known!r}; a loss is one of {LOSS_KEYS!r} or {HELD_OUT_KEYS!r}")

    def paint(figure: Figure) -> None:
        panels = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]) if rate[0] else [figure.subplots()]
        top = panels[0]
        if loss[0]:
            window = max(1, len(loss[0]) // 30)
            top.plot(*loss, color=SCORER, linewidth=0.8, alpha=0.35 if window > 1 else 1.0, label="" if window > 1 else "training loss")
            if window > 1:
                top.plot(loss[0], smooth(loss[1], window), color=SCORER, linewidth=1.8, label=f"training loss (mean of {window})")
        if held_out[0]:
            top.plot(*held_out, "o-", color=BASELINE, linewidth=1.4, markersize=4, label="held-out NLL")
        top.axhline(math.log(2.0), color=MUTED, linestyle="--", linewidth=1.0, label="coin flip")
        top.set(ylabel="nats")
        top.legend(loc="best")
        if rate[0]:
            panels[1].plot(*rate, color=GOLD, linewidth=1.4)
            panels[1].set(ylabel="rate", ylim=(0, None))
            panels[1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
            panels[1].locator_params(axis="y", nbins=2)
        panels[-1].set(xlabel="step")

    return draw("curves", "Training curves", paint, height=3.9)


class CurvePoint(Protocol):
    """Best-of-n at one n: the KL bound in nats (log n - (n - 1)/n), and proxy and gold reward of the winner."""

    @property
    def n(self) -> int: ...
    @property
    def kl_bound(self) -> float: ...
    @property
    def proxy(self) -> Estimate: ...
    @property
    def gold(self) -> Estimate: ...


def best_of_n_plot(points: Sequence[CurvePoint]) -> str:
    """Proxy (left axis) and gold (right axis) reward of the best of n against KL, with 95 % bands; n along the top.

    The proxy is standardised by its own first point's value and the curve's spread, since its unit means nothing; gold keeps its unit.
    """
    if len(points) < 2:
        raise DataError(f"a best-of-n curve needs at least two points, got {len(points)}")
    points = sorted(points, key=lambda point: point.n)
    kl = [point.kl_bound for point in points]
    proxy = np.array([[point.proxy.value, point.proxy.low, point.proxy.high] for point in points])
    proxy = (proxy - proxy[0, 0]) / (np.ptp(proxy[:, 0]) or 1.0)
    gold = np.array([[point.gold.value, point.gold.low, point.gold.high] for point in points])

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for axes, rows, colour, name in ((left, proxy, SCORER, "proxy (start 0, spread 1)"), (right, gold, GOLD, "true reward")):
            axes.fill_between(kl, rows[:, 1], rows[:, 2], color=colour, alpha=0.2, linewidth=0)
            axes.plot(kl, rows[:, 0], "o-", color=colour, linewidth=1.6, markersize=4)
            axes.set(xlabel="KL bound (nats)", title=name)
        best = int(np.argmax(gold[:, 0]))
        right.axvline(kl[best], color=MUTED, linestyle="--", linewidth=1.0)
        side, gap = ("right", -4) if kl[best] > kl[-1] / 2 else ("left", 4)
        text = {"xytext": (gap, 6), "textcoords": "offset points", "ha": side, "fontsize": 9}
        right.annotate(f"best at n={points[best].n}", (kl[best], 0.0), xycoords=("data", "axes fraction"), **text)

    return draw("best of n", "Best of n: learned and true reward", paint, height=3.0)
