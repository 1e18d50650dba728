"""The held-out figures that steer a run: NLL, accuracy and errors of ratings over samples, never means of batch means.

Legend: E edges, M ratings, R responses of a group, C columns of values.
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
from preferent.training.objective import edges_of, ratings_of
from preferent.training.prepare import Prepared, TokenGroup
from preferent.training.step_targets import targets_of


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Every held-out comparison: the difference of its column, i minus j, with what people said, its prompt, its record, its column (-1:
    the reward) and the scale on which it is compared, all shape (E,). Every held-out rating: value less rating on the scale of its
    objective, its column and its record, shape (M,).

    Of solutions in steps: every labelled step is compared with 0, so that margin_E is its logit and p_E the label, the probability that
    it is right; NLL, accuracy and temperature mean the same there.
    """

    margin_E: NDArray[np.float64]
    p_E: NDArray[np.float64]
    weight_E: NDArray[np.float64]
    prompt_E: NDArray[np.int64]
    record_E: NDArray[np.int64]
    objective_E: NDArray[np.int64]
    scale_E: NDArray[np.float64]
    error_M: NDArray[np.float64]
    objective_M: NDArray[np.int64]
    record_M: NDArray[np.int64]

    @property
    def nll(self) -> float:
        """Weighted mean of -p log sigma(d) - (1 - p) log sigma(-d), d on the scale of its comparison; NaN without comparisons."""
        return float(np.average(self._loss_E, weights=self.weight_E)) if len(self.p_E) else float("nan")

    @property
    def _loss_E(self) -> NDArray[np.float64]:
        d_E = self.margin_E * self.scale_E
        return np.logaddexp(0.0, -d_E) + (1.0 - self.p_E) * d_E

    @property
    def rating_rmse(self) -> float:
        """Root of the mean squared error of the ratings, in standard deviations of the training ratings; NaN without ratings."""
        return float(np.sqrt(np.mean(self.error_M**2))) if len(self.error_M) else float("nan")

    def loss(self, rating_weight: float) -> float:
        """Mean over all labels as training counts them: what early stopping looks at. The NLL where there are no ratings."""
        total = float(self._loss_E @ self.weight_E) + rating_weight * float(self.error_M @ self.error_M)
        return total / (float(self.weight_E.sum()) + rating_weight * len(self.error_M))

    @property
    def bad_records(self) -> list[int]:
        """Records whose difference or error is not a finite number."""
        bad = {*self.record_E[~np.isfinite(self.margin_E)].tolist(), *self.record_M[~np.isfinite(self.error_M)].tolist()}
        return sorted(bad)

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
    """All held-out comparisons and ratings beside the model's values, the same on every process, in the order of the groups."""
    values, log_scale_C = scored(model, prepared, batches, pack, rank=rank, world=world)
    return _compare(prepared, values, log_scale_C)


def scored(
    model: torch.nn.Module,
    prepared: Prepared,
    batches: Sequence[Sequence[int]],
    pack: Callable[[Sequence[TokenGroup]], PackedBatch],
    *,
    rank: int = 0,
    world: int = 1,
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64] | None]:
    """(values of every group, each shape (R, C), in evaluation mode; log scales of the columns or None), the same on every process.

    The batches are shared out over processes. All make equally many passes, which keeps sharded models in step.
    """
    mine = [batches[number] for number in range(rank, len(batches), world)]
    idle = -(-len(batches) // world) - len(mine)
    was_training = model.training
    model.eval()
    values_of: dict[int, NDArray[np.float64]] = {}
    log_scale_C = None
    try:
        with torch.no_grad():
            for numbers in [*mine, *[batches[0]] * idle]:
                groups = [prepared.groups[number] for number in numbers]
                outputs = model(pack(groups))
                log_scale_C = outputs.log_scale_C
                values_RC = outputs.values_RC.double().cpu().numpy()
                ends = np.cumsum([item.n_values for item in groups])
                values_of |= dict(zip(numbers, np.split(values_RC, ends[:-1]), strict=True))
    finally:
        model.train(was_training)
    together = _gathered(values_of, world)
    scales = None if log_scale_C is None else log_scale_C.double().cpu().numpy()
    return [together[number] for number in range(len(prepared.groups))], scales


def _gathered(values_of: dict[int, NDArray[np.float64]], world: int) -> dict[int, NDArray[np.float64]]:
    """All processes' values on every one of them; of a group that two have scored the first one's."""
    if world == 1:
        return values_of
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, values_of)
    together: dict[int, NDArray[np.float64]] = {}
    for part in parts:
        together = part | together
    return together


def _of_steps(prepared: Prepared, values: Sequence[NDArray[np.float64]]) -> HeldOut:
    targets = targets_of(item.steps for item in prepared.groups)
    code: dict[str, int] = {}
    prompt_G = [code.setdefault(item.group.prompt_key, len(code)) for item in prepared.groups]
    one_S, none = np.ones(len(targets.label_S)), np.empty(0, dtype=np.int64)
    return HeldOut(
        margin_E=np.concatenate(values)[:, -1],
        p_E=targets.label_S,
        weight_E=one_S,
        prompt_E=np.repeat(prompt_G, [item.n_values for item in prepared.groups]),
        record_E=targets.record_S,
        objective_E=np.full(len(one_S), -1),
        scale_E=one_S,
        error_M=np.empty(0),
        objective_M=none,
        record_M=none,
    )


def _compare(prepared: Prepared, values: Sequence[NDArray[np.float64]], log_scale_C: NDArray[np.float64] | None) -> HeldOut:
    if prepared.groups[0].steps is not None:
        return _of_steps(prepared, values)
    edges, ratings = edges_of(prepared.groups), ratings_of(prepared.groups)
    values_RC = np.concatenate(values)
    column_E = edges.objective_E.numpy()
    code: dict[str, int] = {}
    prompt_G = [code.setdefault(item.group.prompt_key, len(code)) for item in prepared.groups]
    return HeldOut(
        margin_E=values_RC[edges.i_E.numpy(), column_E] - values_RC[edges.j_E.numpy(), column_E],
        p_E=np.concatenate([item.group.p_E for item in prepared.groups]),
        weight_E=np.concatenate([item.group.weight_E for item in prepared.groups]),
        prompt_E=np.repeat(prompt_G, [item.group.n_edges for item in prepared.groups]),
        record_E=edges.record_E.numpy(),
        objective_E=column_E,
        scale_E=np.ones(len(column_E)) if log_scale_C is None else np.exp(log_scale_C[column_E]),
        error_M=values_RC[ratings.response_M, ratings.objective_M] - ratings.value_M,
        objective_M=ratings.objective_M,
        record_M=ratings.record_M,
    )
