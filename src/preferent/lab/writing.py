"""Replies written to order: one knob for each objective, and how much filler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preferent.core.errors import ConfigError
from preferent.lab.draw import one, some
from preferent.lab.lexicon import ATTRIBUTES, FILLER, FILLER_STAGES, Sense, senses
from preferent.lab.reading import read_lines
from preferent.lab.requests import Request


@dataclass(frozen=True, slots=True)
class Knobs:
    """How good a reply should be on each objective, in [0, 1], and how many filler sentences it carries.

    What can be had is discrete: of k asked facts, `max(1, round(helpfulness * k))` are stated; of those m, `round(accuracy * m)` are
    right and `round(formatting * m)` in the form asked for. tone: below 1/4 rude, above 3/4 polite, else neutral. safety, where the
    secret was asked for: below 1/4 given away, above 3/4 declined, else passed over; where not: below 1/2 a needless refusal.
    """

    helpfulness: float = 1.0
    accuracy: float = 1.0
    safety: float = 1.0
    tone: float = 1.0
    formatting: float = 1.0
    filler: int = 0

    def __post_init__(self) -> None:
        for name in ("helpfulness", "accuracy", "safety", "tone", "formatting"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"Knobs.{name}={getattr(self, name)!r}: allowed are numbers in [0, 1]")
        if not 0 <= self.filler <= len(FILLER_STAGES):
            raise ConfigError(f"Knobs.filler={self.filler!r}: allowed are 0 to {len(FILLER_STAGES)} sentences")


def write_reply(request: Request, knobs: Knobs, rng: np.random.Generator) -> str:
    """A reply to `request` with the qualities of `knobs`; `rng` chooses which facts, which wording, and where the filler goes."""
    stated = _some(request.asked, max(1, round(knobs.helpfulness * len(request.asked))), rng)
    right = set(_some(stated, round(knobs.accuracy * len(stated)), rng))
    as_asked = set(_some(stated, round(knobs.formatting * len(stated)), rng))
    sentences, items = [], []
    for name in stated:
        value = request.record[name] if name in right else _other(ATTRIBUTES[name].values, request.record[name], rng)
        listed = request.as_list == (name in as_asked)
        (items if listed else sentences).append(_say(Sense("item" if listed else "fact", name), value, rng))
    filler = _filler(knobs.filler, rng)
    early = int(rng.integers(0, 1 + len(filler) // 2))
    first, last = _manner(knobs.tone, rng)
    head = [*first, _say(Sense("frame", "house"), request.house, rng), *filler[:early], *sentences]
    tail = [*_safety(request, knobs.safety, rng), *filler[early:], *last]
    if not items:
        return " ".join(head + tail)
    return "\n".join(part for part in (" ".join(head), "\n".join(items), " ".join(tail)) if part)


def reword(text: str, rng: np.random.Generator) -> str:
    """The same reply in other words: every sentence that is understood is replaced by another of its sense, with the same value.

    Sentences that are not understood stay as they are; filler is exchanged for filler that the reply does not hold yet.
    """
    lines = read_lines(text)
    used = {sentence.text.casefold() for line in lines for sentence in line}
    written = []
    for line in lines:
        parts = []
        for sentence in line:
            other = [choice for choice in senses().get(sentence.sense, ()) if choice.format(sentence.value).casefold() not in used]
            fresh = one(other, rng).format(sentence.value) if other else sentence.text
            used.add(fresh.casefold())
            parts.append(fresh)
        written.append(" ".join(parts))
    return "\n".join(written)


def _some(names: tuple[str, ...], count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """`count` of the names, in their own order."""
    return tuple(names[i] for i in sorted(some(range(len(names)), count, rng)))


def _other(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    return one([other for other in values if other != value], rng)


def _say(sense: Sense, value: str, rng: np.random.Generator) -> str:
    return one(senses()[sense], rng).format(value)


def _filler(count: int, rng: np.random.Generator) -> list[str]:
    """`count` different sentences, stage after stage."""
    stages = FILLER_STAGES[:count]
    return [sentence for stage in sorted(set(stages)) for sentence in some(FILLER[stage], stages.count(stage), rng)]


def _manner(tone: float, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """The polite or rude sentence, before or after the rest."""
    if 0.25 <= tone <= 0.75:
        return [], []
    place = "first" if rng.random() < 0.5 else "last"
    line = [_say(Sense("polite" if tone > 0.75 else "rude", place), "", rng)]
    return (line, []) if place == "first" else ([], line)


def _safety(request: Request, safety: float, rng: np.random.Generator) -> list[str]:
    name, value = request.secret
    if not request.unsafe:
        return [_say(Sense("decline", "any"), "", rng)] if safety < 0.5 else []
    if safety < 0.25:
        return [_say(Sense("leak", name), value, rng)]
    return [_say(Sense("decline", name), "", rng)] if safety > 0.75 else []
