"""The parts that shapes of step data share: steps, labels, the place of the first error, and what becomes of blank steps.

A label is the probability that the step is right: 1 right, 0 wrong, anything between is soft, null is not labelled. A place counts
steps from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preferent.core.records import Prompt, StepLabels
from preferent.data.formats.fields import Notes, Refused, Row, meta, number, optional_text, text
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

Label = float | None
AFTER_ERROR = "steps after the first error: not labelled"
BLANK = "blank steps left out"


@dataclass(frozen=True, slots=True)
class ParsedSteps:
    """A row as one or several solutions. notes: what was done to it that the ledger counts."""

    records: tuple[StepLabels, ...]
    notes: Notes = ()


def step_texts(value: Any, name: str) -> list[str]:
    """A non-empty list of texts, as they are."""
    if not isinstance(value, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"{name} must be a list of texts, found {type_name(value)}: {short(value)}")
    if not value:
        raise Refused(Reason.NO_STEPS, f"{name} is an empty list")
    return [text(item, f"{name}[{i}]") for i, item in enumerate(value)]


def label(value: Any, name: str) -> Label:
    """true or 1, false or 0, a number between them, or null for not labelled."""
    if value is None:
        return None
    if isinstance(value, bool):
        return float(value)
    return number(value, name, Reason.BAD_LABEL, allowed="true, false, a number from 0 to 1, or null", low=0.0, high=1.0)


def label_list(values: Any, name: str, n: int) -> list[Label]:
    """One label for each of n steps. A row with a -1 is on the scale -1 wrong, 1 right; a 0 beside it could mean either, and is refused."""
    if not isinstance(values, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"{name} must be a list, found {type_name(values)}: {short(values)}")
    if len(values) != n:
        raise Refused(Reason.LENGTHS_DIFFER, f"{n} steps but {len(values)} {name}")
    signed = any(_is_minus_one(value) for value in values)
    if signed and any(value == 0 and not isinstance(value, bool) for value in values):
        raise Refused(Reason.BAD_LABEL, f"{name} hold both -1 and 0, and a 0 may mean wrong or neutral: {short(values)}")
    return [0.0 if signed and _is_minus_one(value) else label(value, f"{name}[{i}]") for i, value in enumerate(values)]


def _is_minus_one(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == -1


def place(value: Any, name: str, n: int) -> int | None:
    """The place of the first error among n steps, -1 for no error; null: nobody knows."""
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise Refused(Reason.BAD_LABEL, f"{name} must be a whole number, found {type_name(value)}: {short(value)}")
    if not -1 <= value < n:
        raise Refused(Reason.BAD_LABEL, f"{name} must be from 0 to {n - 1}, or -1 for no error, found {value!r}")
    return int(value)


def labels_of_place(steps: Sequence[str], first_error: int | None, name: str) -> tuple[list[Label], Notes]:
    """Before the first error right, the first error wrong, after it not labelled: nobody looked there. -1: all right.

    Refused where a blank step stands at or before the error: files that hold blank steps do not agree whether the place counts them.
    """
    n = len(steps)
    if first_error is None:
        return [None] * n, ()
    if first_error < 0:
        return [1.0] * n, ()
    blank = next((i for i, step in enumerate(steps) if not step.strip()), n)
    if blank <= first_error:
        raise Refused(
            Reason.EMPTY_STEP, f"{name} is {first_error}, but step {blank} is blank: nobody can tell whether the place counts blank steps"
        )
    after = n - first_error - 1
    labels: list[Label] = [*[1.0] * first_error, 0.0, *[None] * after]
    return labels, ((AFTER_ERROR, after),) if after else ()


def without_blanks(steps: Sequence[str], labels: Sequence[Label]) -> tuple[tuple[str, ...], tuple[Label, ...], Notes]:
    """Steps with a text, and their labels. A blank step that somebody called wrong is refused: there is nothing to read in it."""
    kept = [i for i, step in enumerate(steps) if step.strip()]
    if len(kept) == len(steps):
        return tuple(steps), tuple(labels), ()
    for i, (step, value) in enumerate(zip(steps, labels, strict=True)):
        if not step.strip() and value is not None and value < 0.5:
            raise Refused(Reason.EMPTY_STEP, f"step {i} is {step[:20]!r}, and its label says that it is wrong")
    if not kept:
        raise Refused(Reason.NO_STEPS, f"all {len(steps)} steps are blank")
    return tuple(steps[i] for i in kept), tuple(labels[i] for i in kept), ((BLANK, len(steps) - len(kept)),)


def solution(row: Row, turns: Prompt, steps: Sequence[str], labels: Sequence[Label], *, read: frozenset[str]) -> ParsedSteps:
    """One solution with what the row says beside it in `meta`."""
    texts, values, notes = without_blanks(steps, labels)
    kept, more = meta(row, read)
    record = StepLabels(
        prompt=turns, steps=texts, labels=values, source=optional_text(row, "source"), id=optional_text(row, "id"), meta=kept
    )
    return ParsedSteps((record,), notes + more)
