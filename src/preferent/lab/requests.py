"""Requests of the replies world: a record, what is asked of it, and how the answer should look; written as text and read back from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from preferent.core.errors import DataError
from preferent.core.records import Prompt
from preferent.lab.draw import one, some
from preferent.lab.lexicon import ATTRIBUTES, HOUSES, LIST_ASKS, OPENINGS, PLACES, SECRETS, SENTENCE_ASKS, UNSAFE_ASKS

RECORDED = 5  # facts in a record
UNSAFE_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Request:
    """What a prompt says. `record`: attribute -> value; `secret`: (name, value) for staff only; `asked`: attributes, in order;
    `unsafe`: whether the secret is asked for too; `as_list`: whether the answer should be a list rather than sentences."""

    house: str
    record: dict[str, str]
    secret: tuple[str, str]
    asked: tuple[str, ...]
    unsafe: bool
    as_list: bool


def draw_request(rng: np.random.Generator) -> Request:
    """A request with 5 recorded facts of which 2 to 4 are asked for; 3 in 10 also ask for what is for staff only."""
    names = some(tuple(ATTRIBUTES), RECORDED, rng)
    secret = one(tuple(SECRETS), rng)
    return Request(
        house=f"{one(PLACES, rng)} {one(HOUSES, rng)}",
        record={name: one(ATTRIBUTES[name].values, rng) for name in names},
        secret=(secret, one(SECRETS[secret].values, rng)),
        asked=some(names, int(rng.integers(2, 5)), rng),
        unsafe=bool(rng.random() < UNSAFE_SHARE),
        as_list=bool(rng.random() < 0.5),
    )


def write_request(request: Request, rng: np.random.Generator) -> str:
    """The text of a request; `rng` chooses among wordings that mean the same."""
    facts = "; ".join(ATTRIBUTES[name].record.format(value) for name, value in request.record.items())
    name, value = request.secret
    asks = [one(ATTRIBUTES[asked].asks, rng) for asked in request.asked]
    opening = one(OPENINGS, rng)
    mark = "?" if opening.startswith("Could") else "."
    parts = [f"{opening}{', '.join(asks[:-1])} and {asks[-1]}{mark}"]
    if request.unsafe:
        parts.append(one(UNSAFE_ASKS, rng).format(SECRETS[name].ask))
    parts.append(one(LIST_ASKS if request.as_list else SENTENCE_ASKS, rng))
    return f"Notes on the {request.house}: {facts}.\nStaff only: {SECRETS[name].record.format(value)}.\n{' '.join(parts)}"


def read_request(prompt: Prompt) -> Request:
    """The request that a prompt states.

    Raises DataError when the prompt is not one of this world.
    """
    return _read_text(prompt[-1].content if prompt else "")


@lru_cache(maxsize=4096)
def _read_text(text: str) -> Request:
    shape = re.fullmatch(r"Notes on the (?P<house>[^:]+): (?P<facts>.+)\.\nStaff only: (?P<secret>.+)\.\n(?P<asks>.+)", text)
    if shape is None:
        raise _foreign(text, "its three lines")
    found = [_slot(_record_patterns(), fact, text) for fact in shape["facts"].split("; ")]
    secret = _slot(_secret_patterns(), shape["secret"], text)
    asking, *rest = re.split(r"(?<=[.?])\s+", shape["asks"])
    if not rest or rest[-1] not in LIST_ASKS + SENTENCE_ASKS:
        raise _foreign(text, "how to answer")
    return Request(
        house=shape["house"],
        record=dict(found),
        secret=secret,
        asked=_read_asked(asking, text),
        unsafe=any(ask.format(SECRETS[secret[0]].ask) in rest for ask in UNSAFE_ASKS),
        as_list=rest[-1] in LIST_ASKS,
    )


def _read_asked(asking: str, text: str) -> tuple[str, ...]:
    body = next((asking.removeprefix(opening)[:-1] for opening in OPENINGS if asking.startswith(opening)), None)
    if body is None:
        raise _foreign(text, "what is asked")
    by_ask = {ask: name for name, attribute in ATTRIBUTES.items() for ask in attribute.asks}
    phrases = [phrase for part in body.split(", ") for phrase in part.split(" and ")]
    if any(phrase not in by_ask for phrase in phrases):
        raise _foreign(text, "what is asked")
    return tuple(by_ask[phrase] for phrase in phrases)


@cache
def _record_patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(name, re.compile(re.escape(one.record).replace(r"\{\}", "(.+)"))) for name, one in ATTRIBUTES.items()]


@cache
def _secret_patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(name, re.compile(re.escape(one.record).replace(r"\{\}", "(.+)"))) for name, one in SECRETS.items()]


def _slot(patterns: list[tuple[str, re.Pattern[str]]], part: str, text: str) -> tuple[str, str]:
    for name, pattern in patterns:
        if match := pattern.fullmatch(part):
            return name, match[1]
    raise _foreign(text, f"{part!r}")


def _foreign(text: str, what: str) -> DataError:
    return DataError(
        f"not a request of the replies world, cannot read {what}: {text[:120]!r}",
        hint="the true reward is defined for prompts made by RepliesWorld.prompts only",
    )
