"""The parts that shapes share: texts, messages, numbers, and what a shape returns. A value that is wrong raises `Refused`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from preferent.core.records import ROLES, Message, Preference, Prompt, Ranking
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

Row = dict[str, Any]
# What was done to a row that is no refusal, and how often; the ledger adds them up.
Notes = tuple[tuple[str, int], ...]
COMMON = frozenset({"id", "source", "meta"})
SMALL = 500
# Columns that other tools put into the conversation.
UNSEEN = frozenset({"system", "system_prompt", "tools", "images", "chat_template_kwargs"})


class Refused(ValueError):
    """Raised by a shape for a row that it cannot honestly read; the reader adds the location."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Parsed:
    """A row as a record. notes: what was done to it that the ledger counts. inverted: whether the preferred side has the lower
    score, None where there are no two scores."""

    record: Preference | Ranking
    notes: Notes = ()
    inverted: bool | None = None


def need(row: Row, *keys: str) -> None:
    """Refuse a row that lacks a key of its shape."""
    missing = [key for key in keys if key not in row]
    if missing:
        raise Refused(Reason.MISSING_KEYS, f"missing {', '.join(map(repr, missing))}; the row has {listed(row)}")


def listed(keys: Iterable[str]) -> str:
    """Keys for a message."""
    return ", ".join(short(key, 40) for key in keys) or "no keys"


def text(value: Any, name: str) -> str:
    """A text, as it is."""
    if not isinstance(value, str):
        raise Refused(Reason.WRONG_TYPE, f"{name} must be a text, found {type_name(value)}: {short(value)}")
    return value


def optional_text(row: Row, name: str) -> str | None:
    """A text or nothing; whole numbers are taken for `id`."""
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    if name == "id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Refused(Reason.WRONG_TYPE, f"{name} must be a text, found {type_name(value)}: {short(value)}")


def is_number(value: Any) -> bool:
    """A finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def number(value: Any, name: str, reason: Reason, *, allowed: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    if not is_number(value) or not low <= value <= high:
        raise Refused(reason, f"{name} must be {allowed}, found {type_name(value)}: {short(value)}")
    return float(value)


def probability(value: Any, name: str) -> float:
    return number(value, name, Reason.BAD_P_A, allowed="a number from 0 to 1", low=0.0, high=1.0)


def weight(row: Row) -> float:
    """`weight` > 0; 1 where it is absent or null."""
    value = row.get("weight")
    if value is None:
        return 1.0
    if not is_number(value) or value <= 0:
        raise Refused(Reason.BAD_WEIGHT, f"weight must be a number greater than 0, found {type_name(value)}: {short(value)}")
    return float(value)


def margin(row: Row) -> float | None:
    """`margin` >= 0, or nothing where it is absent or null."""
    value = row.get("margin")
    return None if value is None else number(value, "margin", Reason.BAD_MARGIN, allowed="a number >= 0 (or null)", low=0.0)


def votes(values: Any, name: str) -> tuple[float, ...]:
    """One probability per annotator."""
    if values is None:
        return ()
    if not isinstance(values, list | tuple):
        raise Refused(Reason.BAD_VOTES, f"{name} must be a list, found {type_name(values)}: {short(values)}")
    return tuple(number(vote, f"each of {name}", Reason.BAD_VOTES, allowed="a number from 0 to 1", low=0.0, high=1.0) for vote in values)


# ---- prompts ----


def is_messages(value: Any) -> bool:
    """A non-empty list whose first element is a chat message."""
    return isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], dict) and "role" in value[0]


def messages(value: Any, name: str) -> Prompt:
    """A list of `{role, content}`. Content given in parts is taken when all parts are text; a null key of a message counts as absent."""
    if not isinstance(value, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"{name} must be a text or a list of messages, found {type_name(value)}: {short(value)}")
    return tuple([_message(item, f"{name}[{i}]") for i, item in enumerate(value)])


def _message(item: Any, name: str) -> Message:
    if not isinstance(item, dict):
        raise Refused(Reason.BAD_MESSAGES, f"{name} must be an object with role and content, found {type_name(item)}: {short(item)}")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise Refused(Reason.BAD_MESSAGES, f"{name}.role must be one of {', '.join(ROLES)}, found {short(role)}")
    if isinstance(content, list) and content and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        content = "".join(part["text"] for part in content)
    if len(item) > 2:
        extra = [key for key, held in item.items() if key not in {"role", "content"} and held not in (None, [], {})]
        if extra:
            raise Refused(Reason.BAD_MESSAGES, f"{name} holds {listed(extra)} beside role and content, which a reward cannot see")
    return Message(role=role, content=text(content, f"{name}.content"))


def prompt(value: Any, name: str = "prompt") -> Prompt:
    """A prompt as a text (one user turn) or a list of messages."""
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    return messages(value, name)


# ---- what is carried along ----


def meta(row: Row, read: frozenset[str]) -> tuple[dict[str, Any], Notes]:
    """`meta` of a public row, with the small columns that its shape does not read; and notes on what a reward will not see.

    Small: text, numbers, true or false, lists and objects of at most 500 characters as JSON. Nulls and NaN are absent.
    """
    given = row.get("meta")
    others = row.keys() - read - COMMON
    if not others and (given is None or isinstance(given, dict)):
        return given or {}, ()
    kept: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    left_out = ["meta"] if given is not None and not isinstance(given, dict) else []
    for key in sorted(others):
        value = row[key]
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if key not in kept and _small(value):
            kept[key] = value
        else:
            left_out.append(key)
    notes = [f"columns not read: {short(', '.join(left_out), 200)[1:-1]}"] if left_out else []
    notes += [f"column {key!r} goes to meta; the reward does not see it" for key in sorted(UNSEEN & kept.keys() & others)]
    return kept, tuple((note, 1) for note in notes)


def _small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= SMALL
    if isinstance(value, bool | int | float):
        return True
    try:
        return len(json.dumps(value, allow_nan=False)) <= SMALL
    except (TypeError, ValueError, RecursionError):
        return False
