"""Records as a scorer sees them: distinct exchanges, and the comparisons and ratings between them.

Legend: E comparisons, M ratings, N exchanges.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.core.records import Exchange, Floats, Preference, Ranking, Rating, Vote
from preferent.training.groups import group_records, prompt_key


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """Overall comparisons: i_E, j_E are places in `exchanges`; p_E the probability that i is preferred; prompt_E whose responses."""

    exchanges: tuple[Exchange, ...]
    i_E: NDArray[np.int64]
    j_E: NDArray[np.int64]
    p_E: Floats
    weight_E: Floats
    prompt_E: tuple[str, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """Of every exchange."""
        return tuple(prompt_key(exchange.prompt) for exchange in self.exchanges)

    def margins(self, reward_N: Floats) -> Floats:
        """Reward of i less reward of j, shape (E,)."""
        return reward_N[self.i_E] - reward_N[self.j_E]

    def nll(self, margin_E: Floats) -> float:
        """Weighted mean of -p log sigma(d) - (1 - p) log sigma(-d)."""
        return float(np.average(np.logaddexp(0.0, -margin_E) + (1.0 - self.p_E) * margin_E, weights=self.weight_E))

    def accuracy(self, margin_E: Floats) -> float | None:
        """Share of decided comparisons ordered rightly, equal rewards one half; None when all are ties."""
        decided = self.p_E != 0.5
        if not decided.any():
            return None
        right_E = (np.sign(margin_E) * np.sign(self.p_E - 0.5) + 1.0) / 2.0
        return float(np.average(right_E[decided], weights=self.weight_E[decided]))


def overall_pairs(records: Iterable[object]) -> LabelledPairs:
    """The comparisons that are about the reward: preferences, votes and rankings without an objective. Others are left out."""
    kept = [
        record for record in records if isinstance(record, Ranking) or (isinstance(record, Preference | Vote) and record.objective is None)
    ]
    groups = group_records(kept)
    starts = np.cumsum([0, *(len(group.exchanges) for group in groups)])
    none, nothing = np.empty(0, dtype=np.int64), np.empty(0)
    return LabelledPairs(
        exchanges=tuple(exchange for group in groups for exchange in group.exchanges),
        i_E=np.concatenate([none, *(group.i_E + start for group, start in zip(groups, starts, strict=False))]),
        j_E=np.concatenate([none, *(group.j_E + start for group, start in zip(groups, starts, strict=False))]),
        p_E=np.concatenate([nothing, *(group.p_E for group in groups)]),
        weight_E=np.concatenate([nothing, *(group.weight_E for group in groups)]),
        prompt_E=tuple(group.prompt_key for group in groups for _ in range(group.n_edges)),
    )


def ratings_by_objective(records: Iterable[object]) -> dict[str, list[tuple[Exchange, float]]]:
    """Every rating of every objective, with the exchange it is about."""
    found: dict[str, list[tuple[Exchange, float]]] = {}
    for record in records:
        if isinstance(record, Rating):
            exchange = Exchange(prompt=record.prompt, response=record.response)
            for name, value in record.values.items():
                found.setdefault(name, []).append((exchange, float(value)))
    return found
