"""The terminal's view of an evaluation: plain text, one line per number, every number with its interval or the reason why not."""

from __future__ import annotations

import io
import re
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from preferent.audits.slices import GROUPS, Slice
from preferent.audits.verdict import verdict
from preferent.audits.words import BLOCKS, TITLES
from preferent.core.estimates import Estimate

if TYPE_CHECKING:
    from preferent.audits.evaluation import Evaluation

SHOWN_SOURCES = 12


def number(value: float, *, sign: bool = False) -> str:
    """Three decimals, fewer for large numbers, more digits for tiny ones; '-' for NaN."""
    if np.isnan(value):
        return "-"
    plus = "+" if sign else ""
    if abs(value) >= 1000:
        return format(value, f"{plus},.0f") if abs(value) < 1e7 else format(value, f"{plus}.3g")
    return format(value, f"{plus}.1e") if 0 < abs(value) < 0.0005 else format(value, f"{plus}.3f")


def interval_text(estimate: Estimate, *, sign: bool = False) -> str:
    """'[low, high]', or why there is none."""
    if np.isnan(estimate.low):
        return estimate.method
    return f"[{number(estimate.low, sign=sign)}, {number(estimate.high, sign=sign)}]"


def counts_text(evaluation: Evaluation) -> tuple[str, ...]:
    """What was evaluated and what the numbers leave out, in sentences."""
    counts = evaluation.counts
    prompts = "1 prompt" if counts.prompts == 1 else f"{counts.prompts:,} prompts"
    seen = f"{counts.pairs:,} pairs on {prompts}, {counts.exchanges:,} distinct exchanges scored"
    lines = [f"{seen}, temperature {evaluation.temperature:.3g}."]
    lines.append(
        f"{counts.label_ties:,} label ties are left out of accuracy; {counts.reward_ties:,} pairs with equal rewards count one half."
    )
    if counts.rankings:
        flat = f"{counts.flat_rankings:,} with all ranks equal are left out of Spearman and top-1"
        lines.append(f"{counts.rankings:,} rankings were expanded to pairs; {flat}.")
    if counts.votes:
        split = f"{counts.undecided_votes:,} more are left out because the other votes were evenly split"
        lines.append(f"{counts.votes:,} held-out votes; {split}.")
    lines.append(f"Intervals: 95 %, {evaluation.n_resamples:,} resamples of whole prompts, seed {evaluation.seed}.")
    return tuple(lines)


def render(evaluation: Evaluation, *, width: int = 100) -> str:
    """See `Evaluation.render`."""
    from rich.console import Console
    from rich.markup import escape

    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False, emoji=False)
    console.print(f"Evaluation of {escape(evaluation.scorer)}\n")
    for line in (*verdict(evaluation), "", *counts_text(evaluation), ""):
        console.print(escape(line))
    console.print(_numbers(evaluation))
    for group, rows in groupby(evaluation.slices, key=lambda row: row.group):
        console.print(f"\nBy {GROUPS[group]}")
        console.print(_slices(list(rows)))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _numbers(evaluation: Evaluation):
    from rich.table import Table

    table = Table("", "value", "95 % interval", "n", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[1].justify = table.columns[3].justify = "right"
    for block, names in BLOCKS.items():
        present = [name for name in names if name in evaluation.numbers]
        if present:
            table.add_row(block)
        for name in present:
            estimate, sign = evaluation.numbers[name], name.startswith("minus_")
            table.add_row(f"  {TITLES[name]}", number(estimate.value, sign=sign), interval_text(estimate, sign=sign), f"{estimate.n:,}")
    return table


def short(estimate: Estimate, *, sign: bool = False) -> str:
    """'.659 [.617, .699]': a share without its leading zero, so that three of them fit one line."""
    text = f"{number(estimate.value, sign=sign)} {interval_text(estimate, sign=sign)}"
    return re.sub(r"(?<![\d.])0\.(?=\d)", ".", text)


def _slices(rows: list[Slice]):
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "n", "accuracy", "longer side", "difference", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[1].justify = "right"
    for row in rows[:SHOWN_SOURCES]:
        cells = (short(row.accuracy), short(row.longer_side), short(row.difference, sign=True))
        if np.isnan(row.accuracy.value):
            cells = (f"- {row.accuracy.method}", "", "")
        table.add_row(f"  {escape(row.name)}", f"{row.n:,}", *cells)
    if len(rows) > SHOWN_SOURCES:
        table.add_row(f"  (+ {len(rows) - SHOWN_SOURCES} more: in the JSON and the report)")
    return table
