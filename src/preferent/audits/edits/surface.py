"""The surface of the text: whitespace, typing errors, case."""

from __future__ import annotations

import re

import numpy as np

from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.text import on_prose

_WORD = re.compile(r"(?<![\w`/\\.@-])[A-Za-z]{5,}(?![\w`/@-])")


def _loose(text: str, rng: np.random.Generator) -> str:
    """Two spaces for one within lines, and empty lines at the end."""
    return on_prose(text, lambda part: re.sub(r"(?<=\S) (?=\S)", "  ", part)) + "\n\n\n"


def _tight(text: str, rng: np.random.Generator) -> str:
    """One space within lines, no more than one empty line, none at the end."""
    closed = on_prose(text, lambda part: re.sub(r"(?<=\S) {2,}(?=\S)", " ", re.sub(r"[ \t]+(?=\n)", "", part)))
    return re.sub(r"\n{3,}", "\n\n", closed).rstrip()


def _typos(text: str, rng: np.random.Generator) -> str | None:
    """Two neighbouring letters within one word in twelve (at least one) change places."""
    words = [match for match in _WORD.finditer(text) if any(match[0][i] != match[0][i + 1] for i in range(1, len(match[0]) - 2))]
    if not words:
        return None
    chosen = rng.permutation(len(words))[: max(1, len(text.split()) // 12)]
    for place in sorted(chosen, reverse=True):
        match = words[place]
        spots = [i for i in range(1, len(match[0]) - 2) if match[0][i] != match[0][i + 1]]
        i = match.start() + spots[int(rng.integers(len(spots)))]
        text = f"{text[:i]}{text[i + 1]}{text[i]}{text[i + 2 :]}"
    return text


def _lower(text: str, rng: np.random.Generator) -> str:
    return on_prose(text, str.lower)


def _upper(text: str, rng: np.random.Generator) -> str:
    return on_prose(text, str.upper)


EDITS = (
    Edit("surface.whitespace", "has doubled spaces and empty lines at its end", on_response(_loose), undo=on_response(_tight)),
    Edit("surface.typos", "has a typing error in one word in twelve", on_response(_typos), bias="either"),
    Edit("surface.lower_case", "is all in lower case", on_response(_lower), bias="either"),
    Edit("surface.upper_case", "is all in capitals", on_response(_upper), bias="up"),
)
