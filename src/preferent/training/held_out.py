"""The held-out figures that steer a run: NLL and accuracy over samples, never means of batch means.

Legend: E edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from preferent.models.packing import PackedBatch
from preferent.training.objective import edges_of
from preferent.training.prepare import Prepared, TokenGroup


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Reward differences of every held-out comparison, i minus j, with what people said: all shape (E,)."""

    margin_E: NDArray[np.float64]
    p_E: NDArray[np.float64]
    weight_E: NDArray[np.float64]
    group_E: NDArray[np.int64]

    @property
    def nll(self) -> float:
        """Weighted mean of -p log sigma(d) - (1 - p) log sigma(-d)."""
        loss_E = np.logaddexp(0.0, -self.margin_E) + (1.0 - self.p_E) * self.margin_E
        return float(np.average(loss_E, weights=self.weight_E))

    @property
    def accuracy(self) -> float:
        """Share of decided comparisons that are ordered rightly; equal rewards count one half. NaN when all are ties."""
        decided = self.p_E != 0.5
        if not decided.any():
            return float("nan")
        agrees_E = (np.sign(self.margin_E) * np.sign(self.p_E - 0.5) + 1.0) / 2.0
        return float(np.average(agrees_E[decided], weights=self.weight_E[decided]))


def measure(
    model: torch.nn.Module,
    prepared: Prepared,
    batches: Sequence[Sequence[int]],
    pack: Callable[[Sequence[TokenGroup]], PackedBatch],
) -> HeldOut:
    """Rewards of all held-out groups. Every process runs all of `batches`, which keeps sharded models in step."""
    was_training = model.training
    model.eval()
    rows: list[tuple[np.ndarray, ...]] = []
    try:
        with torch.no_grad():
            for numbers in batches:
                groups = [prepared.groups[number] for number in numbers]
                reward_R = model(pack(groups))[0].double().cpu().numpy()
                edges = edges_of(groups)
                margin_E = reward_R[edges.i_E.numpy()] - reward_R[edges.j_E.numpy()]
                group_E = np.repeat(np.asarray(numbers), [item.group.n_edges for item in groups])
                rows.append((margin_E, edges.p_E.double().numpy(), edges.weight_E.double().numpy(), group_E))
    finally:
        model.train(was_training)
    return HeldOut(*(np.concatenate(column) for column in zip(*rows, strict=True)))
