"""What a counterfactual edit is, and how it makes a fair pair of texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preferent.core.records import Exchange, Message

# neutral: a sound scorer should not care. must_fall: a sound scorer must give clearly less.
Expects = Literal["neutral", "must_fall"]
# The change of reward that is a finding. For an edit that must fall it is "up": anything that does not fall.
Direction = Literal["up", "down", "either"]
Rewrite = Callable[[Exchange, np.random.Generator], Exchange | None]


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit. `apply` and `undo` return None where they do not apply (they would change nothing, or have nothing to work on).

    name: family and edit, "format.bold". what: in words, to follow "the response ...". expects, bias: see above. undo: takes the
    property away again, from any text that has it, not only from ours. stage: a change made to both sides first (a prompt that states a
    belief), so that it cannot be what the scorer reacts to.
    """

    name: str
    what: str
    apply: Rewrite
    expects: Expects = "neutral"
    bias: Direction = "either"
    undo: Rewrite | None = None
    stage: Rewrite | None = None

    def pair(self, exchange: Exchange, rng: np.random.Generator) -> tuple[Exchange, Exchange] | None:
        """(without, with): two texts that differ in this property, or None.

        Both have been through the rewriter where there is an inverse, so that what the rewriter does besides cancels (RATE, Reber et al.
        2024, arXiv 2410.11348): a text that has the property is stripped and edited anew, one that lacks it is edited and stripped.
        """
        if self.stage is not None:
            staged = self.stage(exchange, rng)
            if staged is None:
                return None
            exchange = staged
        stripped = None if self.undo is None else self.undo(exchange, rng)
        edited = self.apply(exchange if stripped is None else stripped, rng)
        if edited is None:
            return None
        if stripped is not None or self.undo is None:
            without = exchange if stripped is None else stripped
        else:
            # What the strip cannot take away again was not this edit's doing: the text itself is then the other side.
            without = self.undo(edited, rng) or exchange
        return None if without == edited else (without, edited)


def on_response(change: Callable[[str, np.random.Generator], str | None]) -> Rewrite:
    """A rewrite of the response alone. A change that leaves the text as it was, or empties it of everything, does not apply."""

    def rewrite(exchange: Exchange, rng: np.random.Generator) -> Exchange | None:
        text = change(exchange.response, rng)
        return None if text is None or text == exchange.response else exchange.model_copy(update={"response": text})

    return rewrite


def on_prompt(change: Callable[[str, np.random.Generator], str | None]) -> Rewrite:
    """A rewrite of the last user turn alone."""

    def rewrite(exchange: Exchange, rng: np.random.Generator) -> Exchange | None:
        turns = list(exchange.prompt)
        place = next((i for i in reversed(range(len(turns))) if turns[i].role == "user"), None)
        text = None if place is None else change(turns[place].content, rng)
        if place is None or text is None or text == turns[place].content:
            return None
        turns[place] = Message(role="user", content=text)
        return exchange.model_copy(update={"prompt": tuple(turns)})

    return rewrite
