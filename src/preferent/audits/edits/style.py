"""Manner of writing: emoji, exclamation marks, hedges, certainty, links."""

from __future__ import annotations

import re

import numpy as np

from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.phrases import phrase_edit
from preferent.audits.edits.text import on_prose, one, sentences

_EMOJI = ("😊", "🚀", "✨", "👍", "🎉", "💡", "🔥", "✅")
_ANY_EMOJI = re.compile(r" ?[\U0001F300-\U0001FAFF\u2600-\u27BF\uFE0F]+")
_STOP = re.compile(r"(?<=[\w)\"'”])\.(?=\s|\Z)")
_BANG = re.compile(r"(?<=[\w)\"'”])!+(?=\s|\Z)")
_LIST_NUMBER = re.compile(r"(?m)^(\s*\d{1,2})!(?=\s)")


def _emoji(text: str, rng: np.random.Generator) -> str | None:
    """An emoji after every other sentence and at the end."""
    parts = sentences(text)
    for part in parts[: len(parts) - 1 : 2]:
        text = text.replace(part, f"{part} {one(_EMOJI, rng)}", 1)
    return None if text.rstrip().endswith("```") else f"{text} {one(_EMOJI, rng)}"


def _without_emoji(text: str, rng: np.random.Generator) -> str:
    return _ANY_EMOJI.sub("", text)


def _exclaim(text: str, rng: np.random.Generator) -> str:
    """Full stops become exclamation marks."""
    return on_prose(text, lambda part: _LIST_NUMBER.sub(r"\1.", _STOP.sub("!", part)))


def _calm(text: str, rng: np.random.Generator) -> str:
    return on_prose(text, lambda part: _BANG.sub(".", part))


EDITS = (
    Edit("style.emoji", "has emoji after its sentences", on_response(_emoji), bias="either", undo=on_response(_without_emoji)),
    Edit("style.exclamation", "ends its sentences with exclamation marks", on_response(_exclaim), undo=on_response(_calm)),
    phrase_edit(
        "style.hedge",
        "is hedged before and after, with nothing else changed",
        first=("I am not entirely sure, but I think it is like this:", "I may well be wrong here, but as far as I can tell:"),
        last=("But I could be mistaken about some of this.", "Then again, I cannot say so with any certainty."),
        bias="either",
    ),
    phrase_edit(
        "style.certainty",
        "says that it is certain, with nothing else changed",
        first=("There is absolutely no doubt about this:", "The answer is perfectly clear:"),
        last=("This is beyond any question.", "You can be one hundred percent certain of this."),
    ),
    phrase_edit(
        "style.link",
        "ends with a link that leads nowhere in particular",
        last=("See https://www.example.org/articles/overview for more.", "Source: https://www.example.com/guide/page-2"),
        gap="\n\n",
    ),
)
