"""Edits that add a set phrase before or after a response, and take such phrases away again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preferent.audits.edits.base import Direction, Edit, on_response
from preferent.audits.edits.text import Change, one


def phrase_edit(
    name: str, what: str, *, first: Sequence[str] = (), last: Sequence[str] = (), bias: Direction = "up", gap: str = " "
) -> Edit:
    """An edit that puts one of `first` before and one of `last` after the response, `gap` between. Its inverse removes them all, whoever
    put them there."""
    return Edit(name, what, apply=on_response(_adder(first, last, gap)), undo=on_response(_stripper((*first, *last))), bias=bias)


def _adder(first: Sequence[str], last: Sequence[str], gap: str) -> Change:
    def add(text: str, rng: np.random.Generator) -> str:
        head = one(first, rng) + gap if first else ""
        # A closing phrase after code or a list stands on a line of its own.
        join = "\n" if gap == " " and text.rstrip().endswith(("```", "|")) else gap
        tail = join + one(last, rng) if last else ""
        return f"{head}{text}{tail}"

    return add


def _stripper(phrases: Sequence[str]) -> Change:
    def strip(text: str, rng: np.random.Generator) -> str | None:
        left = text
        for phrase in phrases:
            left = left.replace(f"{phrase}\n\n", "").replace(f"{phrase} ", "").replace(f"\n\n{phrase}", "").replace(f" {phrase}", "")
            left = left.replace(f"\n{phrase}", "")
        return left if left.strip() else None

    return strip
