"""Replies read back from their text: which facts they state and how, their manner, what they decline or give away, how much they pad."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

from preferent.lab.lexicon import Sense, senses

UNIT_WORDS = 10  # an unknown or empty sentence counts as one unit of padding for each ten words, and at least one


class Sentence(NamedTuple):
    """A sentence (or list item) with its sense and value; `value` is empty where the sense takes none."""

    text: str
    sense: Sense
    value: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One attribute as the reply states it. `value` is None when the reply contradicts itself."""

    value: str | None
    as_list: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says. `padding` counts units: filler, repetitions, a second frame or polite word, and anything not understood."""

    facts: dict[str, Fact]
    polite: bool
    rude: bool
    declined: bool
    leaked: bool
    padding: int


def read_lines(text: str) -> list[list[Sentence]]:
    """The sentences of each non-empty line; a line that begins with `- ` is one list item."""
    lines = [line.strip() for line in text.splitlines()]
    return [[_read_sentence(part) for part in _split(line)] for line in lines if line]


def read_reply(text: str) -> Reading:
    """What `text` says; any text can be read, and what is not understood is padding."""
    facts: dict[str, Fact] = {}
    counts = dict.fromkeys(("frame", "polite", "rude", "decline", "leak"), 0)
    padding = 0
    for sentence in (sentence for line in read_lines(text) for sentence in line):
        kind, key = sentence.sense
        if kind == "padding":
            padding += max(1, len(sentence.text.split()) // UNIT_WORDS)
        elif kind in ("fact", "item"):
            earlier = facts.get(key)
            fact = Fact(sentence.value.casefold(), kind == "item")
            padding += earlier is not None
            facts[key] = fact if earlier is None else Fact(earlier.value if earlier.value == fact.value else None, earlier.as_list)
        else:
            counts[kind] += 1
            padding += counts[kind] > 1
    return Reading(facts, counts["polite"] > 0, counts["rude"] > 0, counts["decline"] > 0, counts["leak"] > 0, padding)


def _split(line: str) -> list[str]:
    return [line] if line.startswith("- ") else re.split(r"(?<=[.!?])\s+", line)


@lru_cache(maxsize=65536)
def _read_sentence(text: str) -> Sentence:
    known = _fixed().get(text.casefold())
    if known is not None:
        return Sentence(text, known, "")
    for sense, pattern in _slotted():
        if match := pattern.fullmatch(text):
            return Sentence(text, sense, match[1])
    return Sentence(text, Sense("padding", "other"), "")


@cache
def _fixed() -> dict[str, Sense]:
    return {template.casefold(): sense for sense, templates in senses().items() for template in templates if "{}" not in template}


@cache
def _slotted() -> list[tuple[Sense, re.Pattern[str]]]:
    """Patterns of the sentences with a value of one to four words, known to the lexicon or not."""
    slot = r"(\\w+(?: \\w+){0,3})"
    patterns = []
    for sense, templates in senses().items():
        for template in templates:
            if "{}" in template:
                source = re.sub(r"\\\{\\\}", slot, re.escape(template))
                patterns.append((sense, re.compile(source, re.IGNORECASE)))
    return patterns
