"""From a word on the command line to a scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from preferent.core.records import Exchange, Scores
from preferent.core.scorer import Scorer, length_scorer


def load_scorer(model: str, *, threads: int | None = None, trust_remote_code: bool = False) -> tuple[Scorer, float]:
    """The scorer that a word names, and the temperature that makes its margins probabilities."""
    if model == "length":
        return length_scorer(), 1.0
    import torch

    from preferent.models.reward_model import RewardModel

    if threads is not None:
        torch.set_num_threads(threads)
    loaded = RewardModel.load(model, trust_remote_code=trust_remote_code)
    return loaded, loaded.temperature


class WithProgress:
    """A scorer that reports how far it has come, in slabs small enough to see."""

    def __init__(self, scorer: Any, progress: Callable[[int], None]) -> None:
        self.name = scorer.name
        self._scorer = scorer
        self._progress = progress

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        if hasattr(self._scorer, "module"):
            return self._scorer.score(exchanges, progress=self._progress)
        scores = self._scorer.score(exchanges)
        self._progress(len(exchanges))
        return scores
