"""What a wire shape is: how to ask about some exchanges in one POST, and how to read the answer.

Legend: B exchanges of one request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from preferent.core.records import Exchange, Prompt

Render = Callable[[Exchange], str]


class AnswerError(ValueError):
    """An answer that is not of the shape; the client adds the address and what came."""


class Dialect(Protocol):
    """One wire shape. `path` is added to the address of the server; `most` exchanges fit one request."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def most(self) -> int: ...

    def batches(self, exchanges: Sequence[Exchange], size: int) -> list[list[int]]:
        """Places of the exchanges that go into one request each, at most `size` of them; every place once."""
        ...

    def body(self, exchanges: Sequence[Exchange]) -> dict[str, Any]:
        """The JSON that asks about these exchanges."""
        ...

    def read(self, answer: Any, n: int) -> list[float]:
        """The rewards in an answer about `n` exchanges, in their order. Raises AnswerError."""
        ...

    def speak(self, body: dict[str, Any], reward: Callable[[str], float]) -> Any:
        """The server's half: the answer to `body` when a text is worth `reward(text)`. What the contract's server says."""
        ...


def prompt_text(prompt: Prompt) -> str:
    """A prompt as plain text: one user turn is its own text, several turns are named."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def plain_text(exchange: Exchange) -> str:
    """Prompt and response with a blank line between: for servers that take text and no messages, where nobody gave a template."""
    return f"{prompt_text(exchange.prompt)}\n\n{exchange.response}"


def chunks(n: int, size: int) -> list[list[int]]:
    """0..n-1 in runs of at most `size`."""
    return [list(range(start, min(start + size, n))) for start in range(0, n, size)]


def number(value: Any, what: str) -> float:
    """A number, or a list that holds nothing but one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AnswerError(f"{what} is {short(value)}, not a number")
    return float(value)


def listed(value: Any, n: int, what: str) -> list[Any]:
    """A list of exactly `n`."""
    if not isinstance(value, list):
        raise AnswerError(f"{what} is {short(value)}, not a list")
    if len(value) != n:
        raise AnswerError(f"{what} has {len(value)} entries for {n} exchanges")
    return value


def field(value: Any, name: str, what: str) -> Any:
    """A key of an object."""
    if not isinstance(value, dict) or name not in value:
        raise AnswerError(f"{what} has no {name!r}: {short(value)}")
    return value[name]


def by_index(entries: list[Any], what: str) -> list[Any]:
    """Entries in the order of their `index`, which must be 0..n-1."""
    order = [field(entry, "index", f"an entry of {what}") for entry in entries]
    if sorted(order, key=str) != sorted(range(len(entries)), key=str):
        raise AnswerError(f"the indices of {what} are {short(order)}, not 0 to {len(entries) - 1}, each once")
    return [entry for _, entry in sorted(zip(order, entries, strict=True), key=lambda pair: pair[0])]


def short(value: Any, limit: int = 80) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
