"""The `Scorer` protocol: what audits, best-of-n and serving speak to, and a scorer with a rule one can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from preferent.core.records import Exchange, Scores


@runtime_checkable
class Scorer(Protocol):
    """Anything that gives rewards to exchanges: a reward model, an endpoint, a judge, a heuristic."""

    @property
    def name(self) -> str: ...

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        """Rewards in the order given, shape (n,), higher is better; an empty sequence gives empty scores."""
        ...


class FakeScorer:
    """A scorer whose reward is a function of one exchange: for tests, documentation and baselines."""

    def __init__(self, rule: Callable[[Exchange], float], *, name: str = "fake") -> None:
        self.name = name
        self._rule = rule

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        return Scores(reward=np.array([self._rule(exchange) for exchange in exchanges], dtype=np.float64))


def length_scorer() -> FakeScorer:
    """The baseline every reward model must beat: the longer response (in characters) wins."""
    return FakeScorer(lambda exchange: float(len(exchange.response)), name="length")
