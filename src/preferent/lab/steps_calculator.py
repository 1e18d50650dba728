"""Exact corruptions of solutions with calculator annotations (`48/2 = <<48/2=24>>24 clips`, as GSM8K has them; Cobbe et al. 2021).

One calculation of a right solution is spoiled; what follows is carried on from the wrong result where it uses it. Labels: the steps
before are right; the spoiled step is wrong, since its result is not the right one; a later step whose result has changed is wrong; a
later step that stayed as it was is not labelled (it still says something true, but after an error nobody agrees whether that counts).

Legend: T steps.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from preferent.lab.draw import one
from preferent.lab.steps_errors import Corrupted

Spoil = Literal["result", "operand", "operator"]
SPOILS: tuple[Spoil, ...] = ("result", "operand", "operator")
_NOTE = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\d)")
_AFTER = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)")
_SWAPPED = {"+": "-", "-": "+", "*": "/", "/": "*"}
# How a solution's words write an operator.
_WRITTEN = {"*": r"[*x×]", "/": r"[/÷]", "+": r"\+", "-": "-"}
_SIMPLE = re.compile(r"(\d+(?:\.\d+)?)([-+*/])(\d+(?:\.\d+)?)")
_TRIES = 20


@dataclass(frozen=True, slots=True)
class _Calculation:
    """One annotation: the step it stands in, its expression and its result."""

    step: int
    expression: str
    result: Fraction


def without_annotations(steps: Sequence[str]) -> tuple[str, ...]:
    """The steps as a person would write them: `<<...>>` removed."""
    return tuple(_NOTE.sub("", step) for step in steps)


def corrupt_calculation(
    steps: Sequence[str], rng: np.random.Generator, *, kind: Spoil | None = None, carry: bool = True
) -> Corrupted | None:
    """A right solution with one calculation spoiled, or None where it has none that can be spoiled in this way.

    kind: "result" (another result is stated), "operand" (a number is copied wrongly) or "operator" (plus for minus, times for divided by),
    drawn where not given; the result always differs from the right one. carry: later calculations that use the result use the wrong
    one. Annotations stay in the text, and stay true of it except for the kind "result"; see `without_annotations`.
    """
    found = _calculations(steps)
    if not found:
        return None
    for _ in range(_TRIES):
        wanted: Spoil = one(SPOILS, rng) if kind is None else kind
        calculation = one(found, rng)
        spoiled = _spoil(steps[calculation.step], calculation, wanted, rng)
        if spoiled is not None:
            return _finish(steps, calculation, spoiled, wanted, carry)
    return None


def _finish(steps: Sequence[str], calculation: _Calculation, spoiled: tuple[str, Fraction], kind: Spoil, carry: bool) -> Corrupted:
    at, (text, result) = calculation.step, spoiled
    changed = {calculation.result: result}
    made = [*steps[:at], text]
    labels: list[float | None] = [*[1.0] * at, 0.0]
    for step in steps[at + 1 :]:
        carried = _carry(step, changed) if carry else None
        made.append(step if carried is None else carried)
        labels.append(None if carried is None else 0.0)
    return Corrupted(tuple(made), tuple(labels), at, kind)


def _calculations(steps: Sequence[str]) -> list[_Calculation]:
    """Annotations that are true and followed by their result, one per step at most: the last, which is what the step is for."""
    found = []
    for t, step in enumerate(steps):
        notes = list(_NOTE.finditer(step))
        if not notes:
            continue
        expression, result = notes[-1][1].strip(), _evaluate(notes[-1][1])
        after = _AFTER.match(step, notes[-1].end())
        if result is not None and _short(result) and after is not None and Fraction(after[1].replace(",", "").rstrip(".")) == result:
            found.append(_Calculation(t, expression, result))
    return found


def _spoil(step: str, calculation: _Calculation, kind: Spoil, rng: np.random.Generator) -> tuple[str, Fraction] | None:
    """The step with this error, and its new result."""
    if kind == "result":
        result = _other_number(calculation.result, rng)
        return _with_result(step, calculation.expression, calculation.expression, result), result
    simple = _SIMPLE.fullmatch(calculation.expression)
    if simple is None:
        return None
    left, operator, right = simple.groups()
    if kind == "operator":
        expression = f"{left}{_SWAPPED[operator]}{right}"
    elif rng.random() < 0.5:
        expression = f"{_write(_other_number(Fraction(left), rng))}{operator}{right}"
    else:
        expression = f"{left}{operator}{_write(_other_number(Fraction(right), rng))}"
    result = _evaluate(expression)
    if result is None or result == calculation.result or result <= 0 or not _short(result):
        return None
    said = _in_words(step, calculation.expression, expression)
    return None if said is None else (_with_result(said, expression, expression, result), result)


def _in_words(step: str, old: str, new: str) -> str | None:
    """The step with a simple expression exchanged in its last annotation and in the words before it; None where the words lack it."""
    before, after = _SIMPLE.fullmatch(old), _SIMPLE.fullmatch(new)
    if before is None or after is None:
        return None
    a, operator, b = before.groups()
    c, other, d = after.groups()
    note = list(_NOTE.finditer(step))[-1]
    number = r"(?<![\d.]){}(?![\d.]*\d)"
    pattern = rf"{number.format(_commas(a))}(\s*){_WRITTEN[operator]}(\s*\$?){number.format(_commas(b))}"
    said = list(re.finditer(pattern, step[: note.start()]))
    if not said:
        return None
    last = said[-1]
    words = f"{c}{last[1]}{other}{last[2]}{d}"
    return f"{step[: last.start()]}{words}{step[last.end() : note.start()]}<<{new}={note[2]}>>{step[note.end() :]}"


def _commas(number: str) -> str:
    """A pattern for a number that may be written with commas and with more zeros."""
    whole, _, part = number.partition(".")
    digits = ",?".join(re.escape(digit) for digit in whole)
    return digits + (rf"\.{part}0*" if part else r"(?:\.0+)?")


def _with_result(step: str, old: str, new: str, result: Fraction) -> str:
    """The step with another result in its last annotation of this expression, and right after it."""
    note = [found for found in _NOTE.finditer(step) if found[1].strip() == old][-1]
    after = _AFTER.match(step, note.end())
    end = note.end() if after is None else after.end(1)
    lead = "" if after is None else step[note.end() : after.start(1)]
    written = _write(result)
    return f"{step[: note.start()]}<<{new}={written}>>{lead}{written}{step[end:]}"


def _carry(step: str, changed: dict[Fraction, Fraction]) -> str | None:
    """The step with changed numbers and the results that follow from them; None where nothing changes, or no number would be exact."""
    notes = list(_NOTE.finditer(step))
    if not notes:
        return None
    note = notes[-1]
    old = _evaluate(note[1])
    if old is None or not any(Fraction(number) in changed for number in _NUMBER.findall(note[1])):
        return None

    def exchange(found: re.Match[str]) -> str:
        value = Fraction(found[0].replace(",", ""))
        return _write(changed[value]) if value in changed else found[0]

    expression = _NUMBER.sub(exchange, note[1])
    result = _evaluate(expression)
    if result is None or result == old or result <= 0 or not _short(result):
        return None
    said = re.sub(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.]*\d)", exchange, step[: note.start()])
    made = _with_result(f"{said}<<{expression}={note[2]}>>{step[note.end() :]}", expression.strip(), expression, result)
    changed[old] = result
    return made


# ---- numbers ----


def _evaluate(expression: str) -> Fraction | None:
    """The exact value of sums, differences, products and quotients of plain numbers; None for anything else."""
    try:
        return _value(ast.parse(expression.strip().replace(",", ""), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return Fraction(str(node.value))
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError("not a plain calculation")


def _short(number: Fraction) -> bool:
    """Whether at most two decimals write it exactly."""
    return (number * 100).denominator == 1


def _write(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.2f}".rstrip("0").rstrip(".")


def _other_number(number: Fraction, rng: np.random.Generator) -> Fraction:
    """A positive number near this one, or ten times or a tenth of it, written as short."""
    unit = Fraction(1) if number.denominator == 1 else Fraction(1, 100)
    options = [number + shift * unit for shift in (-10, -2, -1, 1, 2, 10)] + [number * 10, number / 10]
    return one([option for option in options if option > 0 and option != number and _short(option)], rng)
