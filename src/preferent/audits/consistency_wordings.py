"""The same sentence in other words, by a table: changes that no reader would mind and that a program can make without reading.

Only swaps that hold in any sentence: contractions that can be spelled out one way, connectives and phrases that mean the same.
"""

from __future__ import annotations

import re

import numpy as np

# Each row's phrases stand for each other.
SAME = (
    ("do not", "don't"),
    ("does not", "doesn't"),
    ("did not", "didn't"),
    ("is not", "isn't"),
    ("are not", "aren't"),
    ("was not", "wasn't"),
    ("were not", "weren't"),
    ("cannot", "can't"),
    ("could not", "couldn't"),
    ("should not", "shouldn't"),
    ("would not", "wouldn't"),
    ("will not", "won't"),
    ("have not", "haven't"),
    ("has not", "hasn't"),
    ("I am", "I'm"),
    ("you are", "you're"),
    ("we are", "we're"),
    ("they are", "they're"),
    ("you will", "you'll"),
    ("for example", "for instance"),
    ("in order to", "to"),
    ("such as", "like"),
    ("a lot of", "many"),
    ("as well as", "and"),
    ("however", "still"),
    ("therefore", "so"),
    ("additionally", "also"),
    ("furthermore", "also"),
    ("approximately", "about"),
    ("begin", "start"),
    ("begins", "starts"),
    ("large", "big"),
    ("quickly", "fast"),
    ("usually", "normally"),
    ("purchase", "buy"),
    ("receive", "get"),
    ("required", "needed"),
    ("provide", "give"),
    ("assist", "help"),
    ("entire", "whole"),
    ("perhaps", "maybe"),
)
# "to" -> "in order to" would break infinitives after verbs, and the like: the second of these rows is only ever written, never replaced.
ONE_WAY = {"to", "like", "many", "and", "still", "so", "also", "about", "get", "give", "fast", "big", "help"}


def _others() -> dict[str, tuple[str, ...]]:
    """What may stand in a phrase's place."""
    table: dict[str, tuple[str, ...]] = {}
    for first, second in SAME:
        table[first.lower()] = (*table.get(first.lower(), ()), second)
        if second not in ONE_WAY:
            table[second.lower()] = (*table.get(second.lower(), ()), first)
    return table


OTHERS = _others()
PATTERN = re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, OTHERS), key=len, reverse=True)) + r")\b(?!['’])", re.IGNORECASE)


def reworded(text: str, rng: np.random.Generator) -> str | None:
    """`text` with each known phrase replaced with chance one half (at least one is); None where there is none."""
    found = list(PATTERN.finditer(text))
    if not found:
        return None
    change = rng.random(len(found)) < 0.5
    change[int(rng.integers(len(found)))] = True
    parts, at = [], 0
    for match, swap in zip(found, change, strict=True):
        parts.append(text[at : match.start()])
        parts.append(_other(match[0], rng) if swap else match[0])
        at = match.end()
    return "".join([*parts, text[at:]])


def _other(phrase: str, rng: np.random.Generator) -> str:
    choices = OTHERS[phrase.lower()]
    other = choices[int(rng.integers(len(choices)))]
    if phrase[:1].isupper() and not phrase.startswith("I"):
        return other[:1].upper() + other[1:]
    return other if other.startswith("I") else other[:1].lower() + other[1:]
