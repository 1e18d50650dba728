"""From what the network says to `Scores`: members to one reward, their spread, the last layer's doubt, length taken out.

Legend: N exchanges, C columns of values, M members, W width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preferent.core.errors import ModelError
from preferent.core.records import Exchange, Floats, Scores
from preferent.models.checkpoint import Card
from preferent.models.ensembles import MEAN, Reduction, on_one_scale, reduced, spread
from preferent.models.laplace import Laplace
from preferent.models.length import without_length


@dataclass(frozen=True, slots=True)
class Readings:
    """values: the columns of each network that was asked, (N, C) each. features_NW: of the first, where they were asked for."""

    values: tuple[Floats, ...]
    features_NW: Floats | None = None


@dataclass(frozen=True, slots=True)
class Readout:
    """How readings become scores, beside what the card says."""

    reduction: Reduction = MEAN
    laplace: Laplace | None = None

    def scores(self, card: Card, readings: Readings, exchanges: Sequence[Exchange]) -> Scores:
        """Rewards, standard deviations (where the model knows any) and objectives, in the order given."""
        variance_N = None
        if self.laplace is not None and readings.features_NW is not None:
            variance_N = self.laplace.std(readings.features_NW) ** 2
        if card.ensemble is None:
            reward_N = readings.values[0][:, -1].copy()
            if self.reduction.kind == "penalised" and variance_N is not None:
                reward_N = reward_N - self.reduction.weight * variance_N
        else:
            member_NM = on_one_scale(card.ensemble, raw_members(card, readings))
            reward_N = reduced(member_NM, self.reduction)
            variance_N = spread(member_NM) ** 2 + (0.0 if variance_N is None else variance_N)
        return Scores(
            reward=without_length(card.length, reward_N, exchanges),
            std=None if variance_N is None else np.sqrt(variance_N),
            objectives=_objectives(card, readings),
        )


def raw_members(card: Card, readings: Readings) -> Floats:
    """Each member's reward as it comes, shape (N, M)."""
    assert card.ensemble is not None
    if card.ensemble.kind == "heads":
        return readings.values[0][:, :-1]
    return np.stack([value_NC[:, -1] for value_NC in readings.values], axis=1)


def refuse_reduction(reduction: Reduction, card: Card, laplace: Laplace | None, name: str) -> None:
    """Raise ModelError for a reduction that this model has nothing to reduce with."""
    fine = reduction.kind == "mean" or card.ensemble is not None or (reduction.kind == "penalised" and laplace is not None)
    if not fine:
        raise ModelError(
            f"reduction {str(reduction)!r}, and {name} is one model that states no uncertainty",
            hint="train an ensemble (--ensemble.kind heads), or fit --laplace for mean-<number>var",
        )


def _objectives(card: Card, readings: Readings) -> dict[str, Floats]:
    """In the units of their ratings; of several members their mean."""
    if card.heads is None:
        return {}
    mean_NC = np.mean(readings.values, axis=0)
    return {item.name: mean_NC[:, k] * item.sd + item.mean for k, item in enumerate(card.heads.objectives)}
