"""More text that says no more."""

from __future__ import annotations

import numpy as np

from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.phrases import phrase_edit
from preferent.audits.edits.text import one, sentences

FILLER_FIRST = (
    "There are many things that could be said about this, and it is worth taking a moment to look at the matter as a whole.",
    "This is a topic that comes up quite often, and there is more than one way in which one might begin to talk about it.",
    "Before going any further, it makes sense to keep in mind that every situation has several sides that play a part.",
    "As with so many things in life, a great deal depends on the circumstances and on how one looks at them.",
)
FILLER_LAST = (
    "All in all, these are some of the points that one may want to keep in mind when thinking about it further.",
    "Of course, much more could be said about this, and there will always be further aspects to consider in due course.",
    "In the end, it comes down to a number of factors, each of which has its own part to play in the larger picture.",
    "Taking everything into account, that is the general picture, although the details can always be looked at again.",
)


def _repeat(text: str, rng: np.random.Generator) -> str | None:
    """A sentence (two, in texts of five or more) is said twice in a row."""
    parts = [part for part in sentences(text) if part.rstrip('*_"”’)')[-1:] in ".!?" and not part[0].islower()]
    if not parts:
        return None
    for part in sorted({one(parts, rng) for _ in range(1 if len(parts) < 5 else 2)}):
        text = text.replace(part, f"{part} {part}", 1)
    return text


def _once(text: str, rng: np.random.Generator) -> str:
    """Sentences said twice in a row are said once."""
    for part in dict.fromkeys(sentences(text)):
        while f"{part} {part}" in text:
            text = text.replace(f"{part} {part}", part)
    return text


def _double(text: str, rng: np.random.Generator) -> str:
    return f"{text}\n\n{text}"


def _half(text: str, rng: np.random.Generator) -> str:
    """A text that is the same thing twice, once."""
    size = (len(text) - 2) // 2
    return text[:size] if size > 0 and text == f"{text[:size]}\n\n{text[:size]}" else text


EDITS = (
    phrase_edit("length.filler", "gains two sentences of filler that say nothing", first=FILLER_FIRST, last=FILLER_LAST),
    Edit("length.repeat", "says one or two of its sentences twice in a row", on_response(_repeat), bias="up", undo=on_response(_once)),
    Edit("length.duplicate", "is given twice over", on_response(_double), bias="up", undo=on_response(_half)),
)
