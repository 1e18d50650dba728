"""A comparison of two scorers in words, for a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from preferent.audits.compare import Comparison, Difference
from preferent.audits.text import interval_text, number

SHOWN = 10


def headline(found: Comparison) -> str:
    """One sentence: on how many lines each is better, and on how many nothing can be told."""
    first, second, same, open_ = (len(found.of(better)) for better in ("first", "second", "same", ""))
    better = f"{found.second} is better on {second}, {found.first} on {first}"
    return f"Of {len(found.lines)} lines, {better}; on {same} they are alike; on {open_} it cannot be told."


def render_comparison(found: Comparison, *, width: int = 110) -> str:
    """Plain text: the headline, accuracy, then where each is better, then how much was left open."""
    from rich.console import Console
    from rich.markup import escape

    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False, emoji=False)
    console.print(escape(f"{found.first} (first) and {found.second} (second)\n"))
    console.print(escape(headline(found)))
    console.print(escape(f"Texts: {found.source}, {found.n_prompts:,} prompts, {found.n_pairs:,} labelled pairs."))
    console.print("Gain: how much better the second is; paired, 95 % intervals from resampling prompts, p corrected over each group.\n")
    accuracy = [line for line in found.lines if line.group == "accuracy"]
    if accuracy:
        console.print("Accuracy")
        console.print(_table(accuracy))
    for better, name in (("second", found.second), ("first", found.first)):
        lines = [line for line in found.of(better) if line.group != "accuracy"]
        if lines:
            console.print(escape(f"\nWhere {name} is better"))
            console.print(_table(lines[:SHOWN]))
            if len(lines) > SHOWN:
                console.print(f"  (+ {len(lines) - SHOWN} more: in the JSON)")
    for better, words in (("same", "Alike"), ("", "Cannot be told")):
        names = [line.name for line in found.of(better) if line.group != "accuracy"]
        if names:
            console.print(escape(f"\n{words} ({len(names)}): {', '.join(names)}"))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _table(lines: Sequence[Difference]):
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "first", "second", "gain of the second", "p", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for line in lines:
        p = "-" if line.p_value is None else "< .001" if line.p_value < 0.001 else f"{line.p_value:.3f}"
        gain = f"{number(line.gain.value, sign=True)} {interval_text(line.gain, sign=True)}"
        table.add_row(f"  {escape(line.name)}", number(line.first.value), number(line.second.value), gain, p)
    return table
