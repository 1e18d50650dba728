"""What every benchmark is made of: items read from located rows, with errors that say where and what is allowed.

Legend: K responses of an item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from preferent.core.errors import DataError
from preferent.core.records import ROLES, Exchange, Message, Prompt, user

# (`path:line`, the row)
Rows = Iterable[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark: the first `n_correct` of its K responses are right. `meta` holds what only its benchmark reads."""

    id: str
    where: str
    subset: str
    prompt: Prompt
    responses: tuple[str, ...]
    n_correct: int = 1
    meta: Mapping[str, Any] = field(default_factory=dict)

    def exchanges(self) -> list[Exchange]:
        """The K things to score, in order."""
        return [Exchange(prompt=self.prompt, response=response) for response in self.responses]


def key(row: Mapping[str, Any], where: str, *names: str) -> Any:
    """The value of the first of `names` that the row has. Raises DataError when it has none."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    wanted = " or ".join(map(repr, names))
    raise DataError(f"{where}: no {wanted} in this row; it has {', '.join(map(repr, row)) or 'no keys'}")


def text(value: Any, where: str, name: str) -> str:
    """A text. A list of one text, or messages that end in the assistant's turn, are taken for that text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[-1], Mapping) and isinstance(value[-1].get("content"), str):
        return value[-1]["content"]
    raise DataError(f"{where}: {name} must be a text, found {_short(value)}")


def texts(value: Any, where: str, name: str, *, least: int = 1) -> tuple[str, ...]:
    """At least `least` texts; one text alone counts as a list of it."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or len(values) < least or not all(isinstance(item, str) for item in values):
        raise DataError(f"{where}: {name} must be a list of at least {least} texts, found {_short(value)}")
    return tuple(values)


def prompt(value: Any, where: str, name: str = "prompt") -> Prompt:
    """A prompt from a text, or from messages with `role` and `content` (other keys of a message are not read)."""
    if isinstance(value, str):
        return user(value)
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: {name} must be a text or a list of messages, found {_short(value)}")
    turns = []
    for turn in value:
        if not isinstance(turn, Mapping) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
            raise DataError(f"{where}: {name}: a message has a role ({', '.join(ROLES)}) and a text content, found {_short(turn)}")
        turns.append(Message(role=turn["role"], content=turn["content"]))
    return tuple(turns)


def meta(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the common shape keeps apart; empty where the row has none."""
    value = row.get("meta")
    return value if isinstance(value, Mapping) else {}


def subset(row: Mapping[str, Any], where: str, *names: str) -> str:
    """The first of `names` in the row or its meta, as text."""
    for name in names:
        for source in (row, meta(row)):
            if isinstance(source.get(name), str) and source[name]:
                return source[name]
    raise DataError(f"{where}: no {' or '.join(map(repr, names))} in this row, which says the part of the benchmark it belongs to")


def one_of(value: Any, allowed: Iterable[Any], where: str, name: str) -> Any:
    """`value`, which must be one of `allowed`."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise DataError(f"{where}: {name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
    return value


def identity(row: Mapping[str, Any], where: str, *names: str) -> str:
    """The row's own id where it has one, else its place."""
    for name in names:
        if isinstance(row.get(name), str | int):
            return str(row[name])
    return where


def need_items(items: list[Item], benchmark: str) -> list[Item]:
    """`items`, of which there must be some."""
    if not items:
        raise DataError(f"{benchmark}: no rows", hint="the file is empty")
    return items


def _short(value: Any, limit: int = 60) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
