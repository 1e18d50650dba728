"""Checkers: whether a solution ends in the right answer, which stands in the record's `meta`."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from preferent.core.errors import DataError
from preferent.core.records import StepLabels

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(r"(?:####|answer is:?|answer:|solution:)\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)


def final_answer(text: str) -> str | None:
    """The answer that a solution states: the last `\\boxed{...}`, else what follows the last "####", "answer is", "Answer:" or
    "Solution:", else the last number of the last line, else its last word; None for an empty text."""
    boxed, said = _BOXED.findall(text), _SAID.findall(text)
    if boxed:
        return boxed[-1].strip()
    if said:
        return said[-1].rstrip(". ")
    lines = text.strip().splitlines() or [""]
    numbers = _NUMBER.findall(lines[-1])
    if numbers:
        return numbers[-1]
    words = lines[-1].split()
    return words[-1].strip(".,;:!?") if words else None


def same_answer(stated: str, expected: str) -> bool:
    """Equal as numbers where both are numbers (commas, signs of money and percent apart), else equal as texts without case, space and a
    closing point."""
    a, b = _as_number(stated), _as_number(expected)
    if a is not None and b is not None:
        return a == b
    return _plain(stated) == _plain(expected)


def answer_checker(key: str = "answer", extract: Callable[[str], str | None] = final_answer) -> Callable[[StepLabels, str], bool]:
    """A checker that compares the stated answer with `meta[key]` of the record.

    It raises DataError for a record without that key. It reads answers, it does not do algebra: 1/2 and 0.5 are different texts to it.
    """

    def check(record: StepLabels, solution: str) -> bool:
        expected = record.meta.get(key)
        if expected is None or isinstance(expected, bool | list | dict):
            where = "" if record.id is None else f" {record.id!r}"
            raise DataError(
                f"solution{where}: no right answer in meta[{key!r}], found {expected!r}; meta has {', '.join(record.meta) or 'no keys'}",
                hint="name the key that holds the right answer (on the command line --answer-key)",
            )
        stated = extract(solution)
        return stated is not None and same_answer(stated, str(expected))

    return check


def _as_number(text: str) -> Decimal | None:
    found = re.fullmatch(r"[^\w+\-.]*([-+]?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+)\s*[^\w]*", text.strip())
    try:
        return None if found is None else Decimal(found[1].replace(",", ""))
    except InvalidOperation:
        return None


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip().strip("$").rstrip(".").casefold())
