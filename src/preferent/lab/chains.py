"""Chains of small operations as text: a problem to be done step by step, steps read back from their words, and what is true of them.

Two kinds. Arithmetic keeps only the last digit, so values are 0 to 9; logic has the values true and false. Every operation is one to
one on the values, so a wrong value never becomes right by right work: only a correction brings a solution back, and the chance of that
can be computed.

A step can be judged by two rules:
- "state" (the default): right where the value that it states is the true value at that place;
- "local": right where it does the operation asked for, on the value stated before (or on the true one, put right), without a slip.
The first wrong step is the same under both.

Legend: T steps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from preferent.core.errors import DataError
from preferent.core.records import Prompt, user
from preferent.lab.draw import one

Kind = Literal["arithmetic", "logic"]
Rule = Literal["state", "local"]
LEADS = ("Then", "Next,", "Now", "So", "After that,", "Here")
VERBS = ("makes", "gives", "is")
WAITS = ("Wait,", "No,", "One moment,")
OPENINGS = ("Start with", "Begin with", "The first value is")
ASKS = ("What is the last value?", "Which value do you end with?", "What comes out at the end?")
RULES: dict[Kind, str] = {
    "arithmetic": "Keep only the last digit of every result.",
    "logic": "Every value is true or false.",
}
# Operation -> (kind, how a problem asks for it, how a step does it). Multipliers share no factor with 10.
OPERATIONS: dict[str, tuple[Kind, str, str]] = {
    "add": ("arithmetic", "add {n}", "{a} plus {n}"),
    "subtract": ("arithmetic", "subtract {n}", "{a} minus {n}"),
    "multiply": ("arithmetic", "multiply by {n}", "{a} times {n}"),
    "opposite": ("logic", "take the opposite", "the opposite of {a}"),
    "same": ("logic", "say whether it is the same as {n}", "{a} the same as {n}"),
    "differs": ("logic", "say whether it differs from {n}", "{a} different from {n}"),
}
_OPERANDS = {"add": range(1, 10), "subtract": range(1, 10), "multiply": (3, 7, 9), "opposite": (0,), "same": (0, 1), "differs": (0, 1)}
_VALUE = r"(\d|true|false)"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation with its operand (0 where it takes none)."""

    name: str
    operand: int

    def apply(self, value: int) -> int:
        """The true result."""
        results = {
            "add": (value + self.operand) % 10,
            "subtract": (value - self.operand) % 10,
            "multiply": (value * self.operand) % 10,
            "opposite": 1 - value,
            "same": int(value == self.operand),
            "differs": int(value != self.operand),
        }
        return results[self.name]


@dataclass(frozen=True, slots=True)
class Chain:
    """A problem: a first value and T operations. `values`: the true value after each."""

    kind: Kind
    start: int
    operations: tuple[Operation, ...]

    @property
    def values(self) -> tuple[int, ...]:
        found = [self.start]
        for operation in self.operations:
            found.append(operation.apply(found[-1]))
        return tuple(found[1:])

    @property
    def n_values(self) -> int:
        return 10 if self.kind == "arithmetic" else 2


@dataclass(frozen=True, slots=True)
class ChainStep:
    """What a step says: the operation, the value it starts from, the value it states, and whether it puts the value before right."""

    operation: Operation
    before: int
    value: int
    corrects: bool


def draw_chain(kind: Kind, length: int, rng: np.random.Generator) -> Chain:
    """A chain of `length` operations, no two neighbours alike in name and operand."""
    names = [name for name, (of, _, _) in OPERATIONS.items() if of == kind]
    operations: list[Operation] = []
    while len(operations) < length:
        name = one(names, rng)
        operation = Operation(name, int(one(tuple(_OPERANDS[name]), rng)))
        if not operations or operation != operations[-1]:
            operations.append(operation)
    return Chain(kind, int(rng.integers(10 if kind == "arithmetic" else 2)), tuple(operations))


def value_word(kind: Kind, value: int) -> str:
    """How a value is written."""
    return str(value) if kind == "arithmetic" else ("false", "true")[value]


def write_chain(chain: Chain, rng: np.random.Generator) -> Prompt:
    """The problem as a prompt; `rng` chooses among wordings that mean the same."""
    asked = [OPERATIONS[op.name][1].format(n=value_word(chain.kind, op.operand)) for op in chain.operations]
    asked[0] = asked[0][0].upper() + asked[0][1:]
    first = f"{one(OPENINGS, rng)} {value_word(chain.kind, chain.start)}."
    return user(f"{RULES[chain.kind]} {first} {', then '.join(asked)}. {one(ASKS, rng)}")


def write_step(kind: Kind, step: ChainStep, rng: np.random.Generator) -> str:
    """A step in words."""
    before = value_word(kind, step.before)
    done = OPERATIONS[step.operation.name][2].format(a=before, n=value_word(kind, step.operation.operand))
    lead = f"{one(WAITS, rng)} it was {before}, so" if step.corrects else one(LEADS, rng)
    return f"{lead} {done} {one(VERBS, rng)} {value_word(kind, step.value)}."


# ---- reading ----


@lru_cache(maxsize=4096)
def read_chain(prompt: Prompt) -> Chain:
    """The chain that a prompt asks for. Raises DataError when the prompt is not one of this world."""
    text = prompt[-1].content if prompt else ""
    kind: Kind = "logic" if text.startswith(RULES["logic"]) else "arithmetic"
    opening = "|".join(OPENINGS)
    found = re.fullmatch(rf"{re.escape(RULES[kind])} (?:{opening}) {_VALUE}\. (.+)\. (?:{'|'.join(map(re.escape, ASKS))})", text)
    if found is None:
        raise DataError(f"not a problem of the steps world: {text[:60]!r}", hint="its prompts come from StepsWorld.problems")
    operations = []
    for part in found[2].split(", then "):
        operation = _read_operation(part[0].lower() + part[1:], 1)
        if operation is None:
            raise DataError(f"not an operation of the steps world: {part!r}")
        operations.append(operation[0])
    return Chain(kind, _value(found[1]), tuple(operations))


@lru_cache(maxsize=65536)
def read_step(text: str) -> ChainStep | None:
    """What a step says, None where it cannot be read."""
    line = text.strip()
    corrected = re.match(rf"(?:{'|'.join(WAITS)}) it was {_VALUE}, so ", line)
    lead = corrected or re.match(rf"(?:{'|'.join(LEADS)}) ", line)
    end = re.search(rf" (?:{'|'.join(VERBS)}) {_VALUE}\.$", line)
    if lead is None or end is None or end.start() <= lead.end():
        return None
    done = _read_operation(line[lead.end() : end.start()], 2)
    if done is None:
        return None
    operation, before = done
    if corrected is not None and _value(corrected[1]) != before:
        return None
    return ChainStep(operation, before, _value(end[1]), corrected is not None)


@lru_cache(maxsize=4)
def _patterns(column: int) -> list[tuple[str, re.Pattern[str]]]:
    """Operation names with a pattern of the wording in that column of OPERATIONS."""
    fill = {"a": rf"(?P<a>{_VALUE[1:-1]})", "n": rf"(?P<n>{_VALUE[1:-1]})"}
    return [(name, re.compile(words[column].format(**fill))) for name, words in OPERATIONS.items()]


def _read_operation(text: str, column: int) -> tuple[Operation, int] | None:
    for name, pattern in _patterns(column):
        found = pattern.fullmatch(text)
        if found is not None:
            groups = found.groupdict()
            return Operation(name, _value(groups.get("n") or "0")), _value(groups.get("a") or "0")
    return None


def _value(word: str) -> int:
    return int(word) if word.isdigit() else int(word == "true")


# ---- truth ----


def chain_labels(prompt: Prompt, steps: Sequence[str], *, rule: Rule = "state") -> tuple[float, ...]:
    """1 for a right step and 0 for a wrong one, shape (T,), from the texts alone. A step that cannot be read, or that is one too many, is
    wrong. Raises DataError for a prompt of another world."""
    chain = read_chain(prompt)
    values, labels = chain.values, []
    stated: int | None = chain.start
    for t, text in enumerate(steps):
        step = read_step(text)
        if step is None or t >= len(values):
            right = False
        elif rule == "state":
            right = step.value == values[t]
        else:
            true_before = chain.start if t == 0 else values[t - 1]
            follows = step.before == (true_before if step.corrects else stated)
            right = follows and step.operation == chain.operations[t] and step.value == step.operation.apply(step.before)
        labels.append(float(right))
        stated = None if step is None else step.value
    return tuple(labels)


def first_error(labels: Sequence[float]) -> int:
    """The place of the first wrong step, -1 where all are right."""
    return next((t for t, label in enumerate(labels) if label < 0.5), -1)


def chain_answer(prompt: Prompt) -> str:
    """The true answer, as it is written in a step."""
    chain = read_chain(prompt)
    return value_word(chain.kind, chain.values[-1])


def stated_answer(text: str) -> str | None:
    """The value that the last line of a solution states, None where it cannot be read."""
    lines = [line for line in text.splitlines() if line.strip()]
    step = read_step(lines[-1]) if lines else None
    if step is None:
        return None
    return value_word(OPERATIONS[step.operation.name][0], step.value)


def vocabulary() -> set[str]:
    """Every word of the world, as it stands between spaces, without punctuation."""
    words = [*LEADS, *VERBS, *WAITS, *OPENINGS, *ASKS, *RULES.values(), "it was so then", *map(str, range(10)), "true false"]
    words += [part for _, asked, done in OPERATIONS.values() for part in (asked, asked.capitalize(), done)]
    return {word for text in words for word in re.findall(r"[A-Za-z]+|\d", re.sub(r"\{.\}", "", text))}
