"""One model from several: the mean of their weights (Rame et al. 2024, "WARM: on the benefits of weight averaged reward models").

It is a model of its own, as cheap to run as one member. The mean of weights is worth something only where the members lie in one valley
of the loss, which they do when they start from the same weights, head included; from different ones the mean is noise. So members that
do not have the same start are refused. What members disagree about is lost: the result states no standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from preferent.core.errors import ConfigError, ExistsError, ModelError
from preferent.models.checkpoint import CARD, Card
from preferent.models.objectives import Heads
from preferent.models.reward_model import RewardModel


def average(folders: Sequence[str | Path], output: str | Path, *, trust_remote_code: bool = False) -> RewardModel:
    """Write the checkpoint whose weights are the mean of those in `folders`, all counted alike, and return it.

    One folder may be an ensemble of members: then they are averaged. The result has no temperature: its rewards are of another spread.
    Raises ConfigError for fewer than two models, ModelError for models that do not belong together, ExistsError for an output that
    exists.
    """
    output = Path(output)
    if (output / CARD).exists():
        raise ExistsError(f"{output} holds a model", hint="choose another folder")
    loaded = [RewardModel.load(folder, dtype=torch.float32, device="cpu", trust_remote_code=trust_remote_code) for folder in folders]
    members = [member for model in loaded for member in _alone(model)]
    if len(members) < 2:
        raise ConfigError(f"{len(members)} model to average, at least 2 are needed", hint="name several folders, or an ensemble of members")
    for member in members[1:]:
        _refuse_other(members[0], member)
    first = members[0]
    _average_into(first.module.model, [member.module.model for member in members])
    if isinstance(first.module.heads, Heads):
        _average_into(first.module.heads, [member.module.heads for member in members if member.module.heads is not None])
    card = Card(
        version=first.card.version,
        base=first.card.base,
        render=first.card.render,
        objectives=first.card.objectives,
        heads=first.card.heads,
        initial=first.card.initial,
        data=first.card.data,
        config=first.card.config,
        metrics={"averaged": len(members)},
    )
    first.laplace = None
    first.save(output, card)
    return RewardModel.load(output, trust_remote_code=trust_remote_code)


def _alone(model: RewardModel) -> list[RewardModel]:
    """The members of an ensemble of members, or the model itself, each as one model."""
    spec = model.card.ensemble
    if spec is not None and spec.kind != "members":
        raise ModelError(
            f"{model.name} is an ensemble of {spec.kind} on one backbone, and only whole models are averaged",
            hint="the weights in its folder are said in its card; K heads are averaged in them already" if spec.kind == "heads" else None,
        )
    others, model.others = model.others, ()
    model.card = model.card.model_copy(update={"ensemble": None})
    return [model, *others]


def _refuse_other(first: RewardModel, other: RewardModel) -> None:
    """Raise ModelError unless both began as the same weights and read the same text."""
    if first.card.initial is None or other.card.initial is None:
        lacking = first.name if first.card.initial is None else other.name
        raise ModelError(f"{lacking} does not say what weights it started from, so it cannot be averaged", hint="train it with preferent")
    if first.card.initial != other.card.initial:
        raise ModelError(
            f"{first.name} and {other.name} started from different weights: their mean would be noise",
            hint="members share a start with --ensemble.kind members --ensemble.start shared",
        )
    if first.card.render != other.card.render or first.tokenizer.chat_template != other.tokenizer.chat_template:
        raise ModelError(f"{first.name} and {other.name} render text differently")
    if _scales(first) != _scales(other):
        raise ModelError(f"{first.name} and {other.name} have other objectives, or other scales of them")


def _scales(model: RewardModel) -> object:
    heads = model.card.heads
    return None if heads is None else ([(item.name, item.mean, item.sd) for item in heads.objectives], heads.combination)


@torch.no_grad()
def _average_into(target: torch.nn.Module, parts: Sequence[torch.nn.Module]) -> None:
    """The mean of every parameter and buffer of floats, summed in double precision."""
    states = [part.state_dict() for part in parts]
    for name, tensor in target.state_dict().items():
        if tensor.is_floating_point():
            mean = torch.stack([state[name].double() for state in states]).mean(0)
            tensor.copy_(mean.to(tensor.dtype))
