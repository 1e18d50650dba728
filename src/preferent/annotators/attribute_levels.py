"""Columns of what is known of annotators, made fit for `fit_attributes`: few levels, each with somebody in it.

Legend: A annotators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_LEVELS = 20  # of a text column: beyond, it names people rather than kinds of people
MAX_NUMBERS = 6  # different numbers that are levels as they stand; more are cut
PARTS = 3  # levels that a column of numbers is cut into


@dataclass(frozen=True, slots=True)
class Attributes:
    """columns: {name: level of each annotator (A,), None where missing}. left_out: column -> why it cannot be used. notes: what was made
    of the columns."""

    columns: dict[str, list[Any]]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def attribute_levels(values: Mapping[str, Sequence[Any]]) -> Attributes:
    """Columns as they were read (text, numbers, truth values, None for missing), one value for each annotator.

    More than 6 different numbers are cut into thirds of the annotators, which get the range as name. A column of one level, or of more
    than 20 texts, is left out.
    """
    columns: dict[str, list[Any]] = {}
    left_out, notes = {}, []
    for name, column in values.items():
        own: list[Any] = list(column)
        known = [value for value in own if value is not None]
        numbers = bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
        if numbers and len(set(known)) > MAX_NUMBERS:
            own, cuts = _cut(own)
            notes.append(f"{name}: numbers, cut into {len(cuts)} levels with as many annotators as can be: {', '.join(cuts)}")
        levels = {value if isinstance(value, str) else repr(value) for value in own if value is not None}
        missing = sum(value is None for value in own)
        if len(levels) + bool(missing) < 2:
            left_out[name] = "no annotator who voted has a value" if missing else f"everybody has the value {next(iter(levels))}"
        elif len(levels) > MAX_LEVELS:
            left_out[name] = f"{len(levels):,} different values of {len(own):,} annotators, allowed are {MAX_LEVELS}: no kinds of people"
        else:
            columns[name] = own
            if missing:
                notes.append(f'{name}: {missing:,} of {len(own):,} annotators have no value; they are a level of their own, "(missing)"')
    return Attributes(columns, left_out, tuple(notes))


def _cut(values: Sequence[Any]) -> tuple[list[str | None], list[str]]:
    """(the range that each number lies in, all ranges from the lowest)."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    inner = np.unique(np.quantile(known, np.arange(1, PARTS) / PARTS, method="higher"))
    inner = inner[inner > known.min()]
    part_of = np.searchsorted(inner, known, side="right")
    names = {}
    for part in np.unique(part_of).tolist():
        own = known[part_of == part]
        names[part] = f"{own.min():g} to {own.max():g}" if own.min() < own.max() else f"{own.min():g}"
    out = [None if value is None else names[int(np.searchsorted(inner, value, side="right"))] for value in values]
    return out, list(names.values())
