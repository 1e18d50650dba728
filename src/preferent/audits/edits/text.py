"""Small readings of a text that several edits share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Change = Callable[[str, np.random.Generator], str | None]
FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LIST_LINE = re.compile(r"^\s*(?:[-*•+]|\d{1,2}[.)])\s+")
_END = re.compile(r"[.!?][*_\"”’)]*\s+(?=[^a-z\s])")
_HEADER = re.compile(r"^\s{0,3}#{1,6}\s+")


def one(choices: Sequence[T], rng: np.random.Generator) -> T:
    """A random one of the choices."""
    return choices[int(rng.integers(len(choices)))]


def sentences(text: str) -> list[str]:
    """Sentences of at least two words outside code, lists and headers, as they stand in the text: no two overlap, each is a substring."""
    prose = [line for line in FENCE.sub("\n", text).split("\n") if not is_list_line(line) and not is_header(line)]
    parts = [part for line in prose for part in _split(line)]
    return [part for part in parts if len(part.split()) >= 2]


def _split(line: str) -> list[str]:
    """A line cut after each full stop, question or exclamation mark (and what closes with it) before a capital, a digit or a mark."""
    cuts = [0, *(end.end() for end in _END.finditer(line)), len(line)]
    return [line[start:end].strip() for start, end in pairwise(cuts)]


def is_list_line(line: str) -> bool:
    """Whether a line is a list item."""
    return bool(_LIST_LINE.match(line))


def list_body(line: str) -> str:
    """A list item without its mark."""
    return _LIST_LINE.sub("", line)


def is_header(line: str) -> bool:
    """Whether a line is a markdown header."""
    return bool(_HEADER.match(line))


def on_prose(text: str, change: Callable[[str], str]) -> str:
    """The text with `change` made to every stretch outside fenced code."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])
