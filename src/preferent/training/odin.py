"""Decorrelation in the loop: sums over the whole step first, then every pass its part of the gradient.

Legend: R responses, C columns, K objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from preferent.core.errors import ConfigError
from preferent.models.packing import PackedBatch
from preferent.training.config import Lora, Odin, TrainConfig
from preferent.training.decorrelation import correlation, moments, orthogonality_penalty, surrogate
from preferent.training.prepare import TokenGroup
from preferent.training.trainee import Outputs

# Of fewer responses in a step a correlation is mostly chance: its standard error is 1 / sqrt(n - 1).
FEW = 64


def refuse_dropout(config: TrainConfig) -> None:
    """ConfigError where two passes over one response would give two values: the sums are of the pass that is not trained on."""
    if isinstance(config.decorrelation, Odin) and (config.dropout or (isinstance(config.adapter, Lora) and config.adapter.dropout > 0.0)):
        raise ConfigError("decorrelation.kind 'odin' goes without dropout", hint="set dropout = false and adapter.dropout = 0")


def few_responses(groups: Sequence[TokenGroup], steps: int) -> str | None:
    """A warning where steps are small, else None."""
    mean = sum(len(item.ids) for item in groups) / max(1, steps)
    if mean >= FEW:
        return None
    chance = 1.0 / np.sqrt(max(1.0, mean - 1.0))
    return (
        f"decorrelation: a step has {mean:.0f} responses on average, where correlations of {chance:.2f} arise by chance; "
        f"more comparisons in a step (batch.pairs) make it work better"
    )


def collected(
    trainee: torch.nn.Module,
    passes: Sequence[Sequence[TokenGroup]],
    pack: Callable[[Sequence[TokenGroup]], PackedBatch],
    *,
    idle: TokenGroup,
    reduce: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The moments of a step, shape (6, C), summed over its passes and, by `reduce`, over processes. `idle` is scored and left out where a
    pass holds nothing, so that all processes make equally many."""
    total: torch.Tensor | None = None
    with torch.no_grad():
        for groups in passes:
            outputs = trainee(pack(groups or [idle]))
            part = moments(_columns(outputs), lengths_of(groups or [idle]))
            part = part if groups else 0.0 * part
            total = part if total is None else total + part
    assert total is not None
    return reduce(total)


def step_part(
    outputs: Outputs, groups: Sequence[TokenGroup], total_6C: torch.Tensor | None, settings: Odin, *, share: float
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(what to add to the loss before the backward pass, what it adds to the loss that is reported, the largest |correlation|).

    total_6C: of the step; None when this pass is all of it. share: of the step's passes, of which each carries its part of what is the
    same for all.
    """
    assert outputs.quality_RK is not None
    assert outputs.cosine_K is not None
    squared = settings.penalty == "squared"
    orthogonal = share * settings.orthogonal_weight * orthogonality_penalty(outputs.cosine_K, squared=squared)
    if not groups:
        return orthogonal, orthogonal.detach(), 0.0
    own_6C = moments(_columns(outputs), lengths_of(groups))
    count = outputs.quality_RK.shape[1]
    whole_6C = own_6C.detach() if total_6C is None else total_6C
    along, penalty = surrogate(own_6C, whole_6C, count, squared=squared)
    worst = float(correlation(whole_6C)[:count].abs().max())
    reported = share * settings.length_weight * penalty
    return settings.length_weight * along.float() + orthogonal, (reported + orthogonal).detach().float(), worst


def _columns(outputs: Outputs) -> torch.Tensor:
    assert outputs.quality_RK is not None
    assert outputs.length_RC is not None
    return torch.cat([outputs.quality_RK, outputs.length_RC], dim=-1)


def lengths_of(groups: Sequence[TokenGroup]) -> torch.Tensor:
    """Tokens of every response of these groups without its prompt, shape (R,)."""
    parts = [item.length_R for item in groups if item.length_R is not None]
    return torch.from_numpy(np.concatenate(parts))
