"""The held-out figures that steer a run: NLL and accuracy over samples, never means of batch means.

Legend: E edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray

from preferent.models.packing import PackedBatch
from preferent.training.objective import edges_of
from preferent.training.prepare import Prepared, TokenGroup


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Reward differences of every held-out comparison, i minus j, with what people said, its prompt and its record: all shape (E,)."""

    margin_E: NDArray[np.float64]
    p_E: NDArray[np.float64]
    weight_E: NDArray[np.float64]
    prompt_E: NDArray[np.int64]
    record_E: NDArray[np.int64]

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
    *,
    rank: int = 0,
    world: int = 1,
) -> HeldOut:
    """Reward differences of all held-out comparisons, the same on every process, in the order of the groups.

    The batches are shared out over processes. All make equally many passes, which keeps sharded models in step.
    """
    mine = [batches[number] for number in range(rank, len(batches), world)]
    idle = -(-len(batches) // world) - len(mine)
    was_training = model.training
    model.eval()
    reward_of: dict[int, NDArray[np.float64]] = {}
    try:
        with torch.no_grad():
            for numbers in [*mine, *[batches[0]] * idle]:
                groups = [prepared.groups[number] for number in numbers]
                reward_R = model(pack(groups)).reward_R.double().cpu().numpy()
                ends = np.cumsum([len(item.ids) for item in groups])
                reward_of |= dict(zip(numbers, np.split(reward_R, ends[:-1]), strict=True))
    finally:
        model.train(was_training)
    return _compare(prepared, _gathered(reward_of, world))


def _gathered(reward_of: dict[int, NDArray[np.float64]], world: int) -> dict[int, NDArray[np.float64]]:
    """All processes' rewards on every one of them; of a group that two have scored the first one's."""
    if world == 1:
        return reward_of
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, reward_of)
    together: dict[int, NDArray[np.float64]] = {}
    for part in parts:
        together = part | together
    return together


def _compare(prepared: Prepared, reward_of: dict[int, NDArray[np.float64]]) -> HeldOut:
    edges = edges_of(prepared.groups)
    reward_R = np.concatenate([reward_of[number] for number in range(len(prepared.groups))])
    code: dict[str, int] = {}
    prompt_G = [code.setdefault(item.group.prompt_key, len(code)) for item in prepared.groups]
    return HeldOut(
        margin_E=reward_R[edges.i_E.numpy()] - reward_R[edges.j_E.numpy()],
        p_E=np.concatenate([item.group.p_E for item in prepared.groups]),
        weight_E=np.concatenate([item.group.weight_E for item in prepared.groups]),
        prompt_E=np.repeat(prompt_G, prepared.pairs_G),
        record_E=edges.record_E.numpy(),
    )
