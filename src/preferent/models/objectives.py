"""One head per objective on the features of one backbone, and the ways to one number.

Inside, every objective lives on a scale of its own on which the training ratings have mean 0 and variance 1 (a *standard* value z);
`Objective.mean` and `Objective.sd` lead back to the units of the ratings. An objective that was only ever compared has mean 0 and
sd 1, and its z is a Bradley-Terry utility.

Legend: R sequences, W width of the features, K objectives, C columns of values.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import linear, softplus

from preferent.core.errors import ModelError
from preferent.core.records import Finite, Record, Weight


class Objective(Record):
    """A named quality. mean, sd: of its training ratings, in their units. n_ratings, n_pairs: the labels it was trained on."""

    name: str
    mean: Finite = 0.0
    sd: Weight = 1.0
    n_ratings: int = 0
    n_pairs: int = 0


class FixedWeights(Record):
    """reward = sum of weight_k z_k. `weights` are for standard values; one per objective."""

    kind: Literal["fixed"] = "fixed"
    weights: tuple[Finite, ...]


class FittedWeights(Record):
    """reward = sum of w_k z_k with w learned from overall preferences; `signs` "positive": w = softplus(raw), "free": any number."""

    kind: Literal["fitted"] = "fitted"
    signs: Literal["positive", "free"] = "positive"


class PromptGate(Record):
    """reward = sum of g_k z_k, g = softmax over the objectives of a function of the prompt's own features (ArmoRM, Wang et al. 2024).

    hidden: width of one hidden layer, 0 for a linear gate. mean_weights: of g over the training prompts, None before they are known.
    """

    kind: Literal["gate"] = "gate"
    hidden: int = 0
    mean_weights: tuple[Finite, ...] | None = None


class CostConstraint(Record):
    """reward = sum of weight_k z_k - multiplier z_cost (Dai et al. 2023, Safe RLHF, the Lagrangian before its 1 / (1 + multiplier)).

    weights: for standard values, 0 at the cost. budget: highest mean cost, in the units of the cost's ratings. multiplier >= 0: for the
    standard cost; 0 until dual ascent has found it. expected_cost: what it leads to, in those units.
    """

    kind: Literal["constraint"] = "constraint"
    weights: tuple[Finite, ...]
    cost: str
    budget: Finite
    multiplier: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    expected_cost: Finite | None = None
    feasible: bool | None = None


Combination = Annotated[FixedWeights | FittedWeights | PromptGate | CostConstraint, Field(discriminator="kind")]


class HeadsSpec(Record):
    """What the heads of a model are, as its card keeps it. `lengths` adds a second, length head to each column while training (ODIN);
    they are never read outside training and never saved."""

    kind: Literal["objectives"] = "objectives"
    objectives: tuple[Objective, ...]
    combination: Combination
    lengths: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(objective.name for objective in self.objectives)


class Heads(nn.Module):
    """Features (R, W) to values (R, C), all in fp32: the standard value of each objective, then the reward.

    While training with `spec.lengths`, the values of the length heads stand between the two: one for each objective and one for the
    reward, C = 2 K + 2; otherwise C = K + 1. With `needs_prompts` the features of each sequence's prompt alone, (R, W), must be given.
    With `shape` off, nothing that the reward is compared on changes the objectives: it trains the weights or the gate alone.
    """

    def __init__(self, spec: HeadsSpec, width: int, *, seed: int = 0, shape: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.shape = shape
        count = len(spec.objectives)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.objectives = _linear(width, count)
            self.lengths = _linear(width, count + 1) if spec.lengths else None
            self.gate: nn.Module | None = None
            self.raw_weights: nn.Parameter | None = None
            if isinstance(spec.combination, PromptGate):
                self.gate = _gate(width, count, spec.combination.hidden)
            elif isinstance(spec.combination, FittedWeights):
                start = math.log(math.expm1(1.0 / count)) if spec.combination.signs == "positive" else 1.0 / count
                self.raw_weights = nn.Parameter(torch.full((count,), start))

    @property
    def columns(self) -> int:
        return len(self.spec.objectives) + 1

    @property
    def needs_prompts(self) -> bool:
        return self.gate is not None

    def forward(self, features_RW: torch.Tensor, prompts_RW: torch.Tensor | None = None) -> torch.Tensor:
        z_RK = self.objectives(features_RW)
        read_RK = z_RK if self.shape else z_RK.detach()
        reward_R1 = (read_RK * self.weights(prompts_RW)).sum(-1, keepdim=True)
        if self.training and self.lengths is not None:
            return torch.cat([z_RK, self.lengths(features_RW), reward_R1], dim=-1)
        return torch.cat([z_RK, reward_R1], dim=-1)

    def weights(self, prompts_RW: torch.Tensor | None = None) -> torch.Tensor:
        """What the standard values are multiplied with: shape (K,), or (R, K) for a gate."""
        combination = self.spec.combination
        if self.gate is not None:
            if prompts_RW is None:
                raise ModelError("this model weighs its objectives by the prompt, and the batch does not hold the prompts alone")
            return torch.softmax(self.gate(prompts_RW), dim=-1)
        if self.raw_weights is not None:
            assert isinstance(combination, FittedWeights)
            return softplus(self.raw_weights) if combination.signs == "positive" else self.raw_weights
        assert isinstance(combination, FixedWeights | CostConstraint)
        return self._stated(combination)

    def _stated(self, combination: FixedWeights | CostConstraint) -> torch.Tensor:
        weight_K = torch.tensor(combination.weights, dtype=torch.float32, device=self.objectives.weight.device)
        if isinstance(combination, CostConstraint) and combination.multiplier:
            weight_K[self.spec.names.index(combination.cost)] -= combination.multiplier
        return weight_K

    def scalar_weight(self) -> torch.Tensor:
        """The one linear head, shape (1, W), that gives the reward; for a gate, the reward under its mean weights."""
        combination = self.spec.combination
        if isinstance(combination, PromptGate):
            count = len(self.spec.objectives)
            mean_K = combination.mean_weights or (1.0 / count,) * count
            weight_K = torch.tensor(mean_K, dtype=torch.float32, device=self.objectives.weight.device)
        else:
            weight_K = self.weights().detach()
        return weight_K.unsqueeze(0) @ self.objectives.weight.detach()

    def kept(self) -> dict[str, torch.Tensor]:
        """The tensors a checkpoint holds: all but the length heads."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items() if not name.startswith("lengths.")}


def orthogonality(weight_KW: torch.Tensor, lengths_KW: torch.Tensor) -> torch.Tensor:
    """Cosine between each head and its length head, shape (K,): the term that ODIN drives to 0 (Chen et al. 2024, eq. 7)."""
    return torch.nn.functional.cosine_similarity(weight_KW, lengths_KW, dim=-1)


class _Linear(nn.Module):
    """A bias-free linear map that is computed in fp32 whatever it is given."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, width) * 0.02)

    def forward(self, features_RW: torch.Tensor) -> torch.Tensor:
        return linear(features_RW.float(), self.weight)


def _linear(width: int, count: int) -> _Linear:
    return _Linear(width, count)


def _gate(width: int, count: int, hidden: int) -> nn.Module:
    """Starts with all weights equal: its last layer is 0."""
    last = nn.Linear(hidden or width, count)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), last) if hidden else nn.Sequential(last)
