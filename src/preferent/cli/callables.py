"""A Python function as a scorer: what it is called with, and what it must give back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from preferent.core.errors import DataError, ModelError
from preferent.core.records import Exchange, Scores


class CallableScorer:
    """Calls `function` once with a list and expects one finite number for each entry.

    The list holds `Exchange`s when the function's first parameter is called `exchanges` or annotated with Exchange; else pairs
    (prompt, response) of texts, a prompt of several turns written out with the role of each.
    """

    def __init__(self, function: Callable[[list[Any]], Any], *, name: str) -> None:
        self.name = name
        self._function = function
        self._wants_exchanges = _wants_exchanges(function)

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        """Rewards in the order given. Raises ModelError for an answer of the wrong form, DataError for a reward that is no number."""
        if not exchanges:
            return Scores(reward=np.zeros(0))
        asked = list(exchanges) if self._wants_exchanges else [_texts(exchange) for exchange in exchanges]
        answer = self._function(asked)
        try:
            reward_N = np.asarray(list(answer), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{self.name}: the answer is {type(answer).__name__}, not one number for each entry: {error}") from error
        if reward_N.shape != (len(exchanges),):
            raise ModelError(f"{self.name}: {len(exchanges)} entries were answered with rewards of shape {reward_N.shape}")
        bad = np.flatnonzero(~np.isfinite(reward_N))
        if len(bad):
            raise DataError(f"{self.name}: the reward of {exchanges[int(bad[0])].response[:60]!r} is {reward_N[bad[0]]!r}")
        return Scores(reward=reward_N)


def _wants_exchanges(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    return bool(parameters) and (parameters[0].name == "exchanges" or "Exchange" in str(parameters[0].annotation))


def _texts(exchange: Exchange) -> tuple[str, str]:
    from preferent.serving.dialects.dialect import prompt_text

    return prompt_text(exchange.prompt), exchange.response
