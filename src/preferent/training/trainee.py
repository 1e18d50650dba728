"""What is trained: the reward module and, for losses with ties, one number more; and the parts of it that training switches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from preferent.core.errors import ModelError
from preferent.models.module import RewardModule
from preferent.models.objectives import Heads, orthogonality
from preferent.models.packing import PackedBatch
from preferent.models.reward_model import RewardModel
from preferent.training.config import Davidson, RaoKupper, TrainConfig


class Outputs(NamedTuple):
    """values_RC: shape (R, C), the last column is the reward; what labels are compared with. log_nu: the tie parameter of losses that
    have one. annotator_A2: slope - 1 and position of every annotator, where they are fitted along. log_scale_C: comparisons on a column
    are made on exp of this times its values. Under decorrelation, in training: quality_RK, the values without their length heads;
    length_RC, the values of these; cosine_K between the two heads of each objective."""

    values_RC: torch.Tensor
    log_nu: torch.Tensor | None = None
    annotator_A2: torch.Tensor | None = None
    log_scale_C: torch.Tensor | None = None
    quality_RK: torch.Tensor | None = None
    length_RC: torch.Tensor | None = None
    cosine_K: torch.Tensor | None = None

    @property
    def reward_R(self) -> torch.Tensor:
        return self.values_RC[:, -1]


class Trainee(nn.Module):
    """The reward module with whatever else a loss has to learn; forward(batch) -> Outputs."""

    scaled_C: torch.Tensor

    def __init__(self, reward: RewardModule, *, ties: bool, n_annotators: int = 0, scaled: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.reward = reward
        self.log_nu = nn.Parameter(torch.zeros(1)) if ties else None
        self.annotator_A2 = nn.Parameter(torch.zeros(n_annotators, 2)) if n_annotators else None
        count = len(reward.heads.spec.objectives) + 1 if isinstance(reward.heads, Heads) else 1
        self.log_scale_C = nn.Parameter(torch.zeros(count)) if scaled else None
        self.register_buffer("scaled_C", torch.tensor([float(c in scaled) for c in range(count)]), persistent=False)
        # What FSDP wraps, each as one unit.
        self._no_split_modules = getattr(reward.model, "_no_split_modules", None)

    def forward(self, batch: PackedBatch) -> Outputs:
        # Handed out by forward, since a sharded parameter is whole only there.
        annotator_A2 = None if self.annotator_A2 is None else self.annotator_A2 * 1.0
        log_scale_C = None if self.log_scale_C is None else self.log_scale_C * self.scaled_C
        values_RC = self.reward(batch)
        outputs = Outputs(values_RC, None if self.log_nu is None else self.log_nu[0] * 1.0, annotator_A2, log_scale_C)
        heads = self.reward.heads
        return _with_lengths(outputs, heads) if isinstance(heads, Heads) and heads.lengths is not None and heads.training else outputs


def _with_lengths(outputs: Outputs, heads: Heads) -> Outputs:
    """The values of K objectives, K + 1 length heads and the reward, told apart: labels see each value with its length head."""
    assert heads.lengths is not None
    count = len(heads.spec.objectives)
    quality_RK, length_RC = outputs.values_RC[:, :count], outputs.values_RC[:, count:-1]
    own_RC = torch.cat([quality_RK, outputs.values_RC[:, -1:]], dim=-1)
    cosine_K = orthogonality(heads.objectives.weight, heads.lengths.weight[:count])
    return outputs._replace(values_RC=own_RC + length_RC, quality_RK=quality_RK, length_RC=length_RC, cosine_K=cosine_K)


def trainee_of(model: RewardModel, config: TrainConfig, *, n_annotators: int = 0, scaled: tuple[int, ...] = ()) -> Trainee:
    """The trainee of a reward model under these settings; the traits of `n_annotators`, and the scales on which the columns `scaled` are
    compared, are fitted along."""
    return Trainee(model.module, ties=isinstance(config.loss, Davidson | RaoKupper), n_annotators=n_annotators, scaled=scaled)


def silence_dropout(module: nn.Module) -> None:
    """Every dropout to 0, layers and functional ones alike: two responses must be compared by the same network."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in vars(part).items():
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def checkpoint_activations(module: RewardModule) -> None:
    """Recompute activations in the backward pass: less memory, about a third more time. Raises ModelError where a base cannot."""
    # Renamed in transformers 5.23; the old name warns from then on.
    renamed = getattr(module.model, "activation_checkpointing_enable", None)
    try:
        if renamed is not None:
            renamed(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            module.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise ModelError(str(error), hint="set gradient_checkpointing = false; a lower micro_tokens saves memory too") from error
