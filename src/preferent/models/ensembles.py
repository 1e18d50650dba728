"""Several rewards of one exchange: how they are put on one scale, what they say together, and K heads on one backbone.

Members trained apart differ in where their rewards lie and how far they spread, which says nothing about the exchange. Before any
minimum or variance is taken, each is brought to the mean and the spread that all of them have on the same responses (Coste et al.
2023, "Reward model ensembles help mitigate overoptimization", sec. 4). The mean over members is then

    mean_k(a_k r_k),  a_k = s / sd_k,  s the mean of the sd_k,

without any constant: a weighted sum of the raw rewards, which a linear head can hold.

Legend: N exchanges, R sequences, M or K members, W width of the features.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import linear

from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Finite, Floats, Record, Weight

REDUCTIONS = "'mean', 'worst', or 'mean-<number>var' as in 'mean-0.5var'"
_PENALISED = re.compile(r"mean-(\d+(?:\.\d*)?|\.\d+)\*?var(?:iance)?")
# A member whose rewards hardly differ would be blown up to noise.
SMALLEST_SD = 1e-8


class Reduction(Record):
    """From the members' rewards to one: their mean, the least of them (worst case), or the mean less `weight` times their variance (in
    squared units of the reward). Coste et al. 2023, eq. 2 to 4: mean, WCO, UWO."""

    kind: Literal["mean", "worst", "penalised"] = "mean"
    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0

    def __str__(self) -> str:
        return f"mean-{self.weight:g}var" if self.kind == "penalised" else self.kind


MEAN = Reduction()


def parse_reduction(text: str) -> Reduction:
    """`mean`, `worst`, or `mean-0.5var`. Raises ConfigError."""
    if text in ("mean", "worst"):
        return Reduction(kind=text)
    found = _PENALISED.fullmatch(text)
    if found is None:
        raise ConfigError(f"reduction {text!r}, allowed: {REDUCTIONS}")
    return Reduction(kind="penalised", weight=float(found[1]))


class Member(Record):
    """Mean and standard deviation of one member's raw rewards on the responses that the ensemble was measured on."""

    mean: Finite = 0.0
    sd: Weight = 1.0


class EnsembleSpec(Record):
    """What an ensemble is, as its card keeps it.

    kind: "heads" on one backbone (`heads.safetensors`), "adapters" on one backbone (the folder `adapters/`), or whole "members" (the
    folder `members/`). measured_on: which responses `members` were measured on. bootstrap: what was resampled for each member's
    training. own_weights: what the weights in the folder itself are, for those who load it without us.
    """

    kind: Literal["heads", "adapters", "members"]
    members: tuple[Member, ...]
    measured_on: str = ""
    bootstrap: Literal["prompts", "pairs", "none"] = "none"
    own_weights: str = ""

    @property
    def factors(self) -> Floats:
        """a_k, shape (M,)."""
        sd_M = np.array([member.sd for member in self.members])
        return sd_M.mean() / sd_M


def measured(spec: EnsembleSpec, raw_NM: Floats, on: str) -> EnsembleSpec:
    """The spec with each member's mean and spread on these rewards. A member that gives everything one reward, and so has no scale,
    raises ModelError."""
    sd_M = raw_NM.std(0)
    flat = [str(k) for k in np.flatnonzero(sd_M <= SMALLEST_SD)]
    if flat:
        raise ModelError(
            f"ensemble member {', '.join(flat)} gives all {len(raw_NM)} responses the same reward, so it has no scale",
            hint="it learned nothing: train longer, or with a higher learning rate",
        )
    members = tuple(Member(mean=float(mean), sd=float(sd)) for mean, sd in zip(raw_NM.mean(0), sd_M, strict=True))
    return spec.model_copy(update={"members": members, "measured_on": on})


def on_one_scale(spec: EnsembleSpec, raw_NM: Floats) -> Floats:
    """Every member's rewards with the common mean and spread, shape (N, M): a_k (r_k - mean_k) + mean_j(a_j mean_j)."""
    mean_M, factor_M = np.array([member.mean for member in spec.members]), spec.factors
    return factor_M * (raw_NM - mean_M) + float((factor_M * mean_M).mean())


def correlations(raw_NM: Floats) -> str:
    """The least and the greatest correlation between two members, as words."""
    apart = np.atleast_2d(np.corrcoef(raw_NM, rowvar=False))[np.triu_indices(raw_NM.shape[1], 1)]
    return f"{apart.min():.3f} to {apart.max():.3f}"


def spread(values_NM: Floats) -> Floats:
    """Standard deviation over members (divided by M - 1), shape (N,)."""
    return values_NM.std(1, ddof=1)


def reduced(values_NM: Floats, reduction: Reduction) -> Floats:
    """One reward from those of the members, which must be on one scale, shape (N,)."""
    if reduction.kind == "worst":
        return values_NM.min(1)
    mean_N = values_NM.mean(1)
    return mean_N - reduction.weight * spread(values_NM) ** 2 if reduction.kind == "penalised" else mean_N


class MemberHeads(nn.Module):
    """K linear heads on one backbone, fp32: features (R, W) to values (R, K + 1), the raw reward of each member and then their mean on
    one scale. Every head is drawn on its own from `seed`."""

    needs_prompts = False

    def __init__(self, spec: EnsembleSpec, width: int, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.weight = nn.Parameter(torch.randn(len(spec.members), width) * 0.02)

    @property
    def columns(self) -> int:
        return len(self.spec.members) + 1

    def forward(self, features_RW: torch.Tensor) -> torch.Tensor:
        raw_RK = linear(features_RW.float(), self.weight)
        return torch.cat([raw_RK, (raw_RK * self._share_K()).sum(-1, keepdim=True)], dim=-1)

    def _share_K(self) -> torch.Tensor:
        return torch.tensor(self.spec.factors / len(self.spec.members), dtype=torch.float32, device=self.weight.device)

    def scalar_weight(self) -> torch.Tensor:
        """The one linear head, shape (1, W), that gives the mean reward."""
        return self._share_K().unsqueeze(0) @ self.weight.detach()

    def kept(self) -> dict[str, torch.Tensor]:
        """The tensors a checkpoint holds."""
        return {"weight": self.weight.detach().cpu().contiguous()}
