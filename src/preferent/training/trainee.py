"""What is trained: the reward module and, for losses with ties, one number more; and the parts of it that training switches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from preferent.core.errors import ModelError
from preferent.models.module import RewardModule
from preferent.models.packing import PackedBatch
from preferent.models.reward_model import RewardModel
from preferent.training.config import Davidson, RaoKupper, TrainConfig


class Outputs(NamedTuple):
    """values_RC: shape (R, C), the last column is the reward. log_nu: the tie parameter of losses that have one. annotator_A2: slope - 1
    and position of every annotator, where they are fitted along."""

    values_RC: torch.Tensor
    log_nu: torch.Tensor | None = None
    annotator_A2: torch.Tensor | None = None

    @property
    def reward_R(self) -> torch.Tensor:
        return self.values_RC[:, -1]


class Trainee(nn.Module):
    """The reward module with whatever else a loss has to learn; forward(batch) -> Outputs."""

    def __init__(self, reward: RewardModule, *, ties: bool, n_annotators: int = 0) -> None:
        super().__init__()
        self.reward = reward
        self.log_nu = nn.Parameter(torch.zeros(1)) if ties else None
        self.annotator_A2 = nn.Parameter(torch.zeros(n_annotators, 2)) if n_annotators else None
        # What FSDP wraps, each as one unit.
        self._no_split_modules = getattr(reward.model, "_no_split_modules", None)

    def forward(self, batch: PackedBatch) -> Outputs:
        # Handed out by forward, since a sharded parameter is whole only there.
        annotator_A2 = None if self.annotator_A2 is None else self.annotator_A2 * 1.0
        return Outputs(self.reward(batch), None if self.log_nu is None else self.log_nu[0] * 1.0, annotator_A2)


def trainee_of(model: RewardModel, config: TrainConfig, *, n_annotators: int = 0) -> Trainee:
    """The trainee of a reward model under these settings; the traits of `n_annotators` are fitted along."""
    return Trainee(model.module, ties=isinstance(config.loss, Davidson | RaoKupper), n_annotators=n_annotators)


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
