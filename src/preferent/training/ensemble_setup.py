"""What an ensemble changes in a run: how it starts, and what its heads are told when it has ended.

Legend: R responses, K members.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from preferent.core.errors import ConfigError
from preferent.models.ensembles import EnsembleSpec, Member, MemberHeads, correlations, measured
from preferent.models.reward_model import RewardModel
from preferent.training.batches import split_micro
from preferent.training.config import HeadsEnsemble, NoEnsemble, OneMember, TrainConfig
from preferent.training.ensemble import Draw, resampled
from preferent.training.groups import Group
from preferent.training.heads import Plan
from preferent.training.held_out import scored
from preferent.training.loop import Run

# Values looked at of each weight: enough to tell two random starts apart.
SAMPLE = 1024
OWN_WEIGHTS = {
    "heads": "the mean reward of all heads, on their common scale",
    "adapters": "adapter 0 merged into the backbone: one member, not the ensemble",
    "members": "member 0: one member, not the ensemble",
}


def refuse_ensemble(config: TrainConfig, plan: Plan, *, steps: bool) -> None:
    """Raise ConfigError for an ensemble that these records, or these other settings, do not go with."""
    kind = config.ensemble.kind
    if isinstance(config.ensemble, NoEnsemble):
        return
    if steps:
        raise ConfigError(f"ensemble.kind is {kind!r}, and step labels train a process reward model", hint="set ensemble.kind = 'none'")
    one_reward = isinstance(config.ensemble, HeadsEnsemble) or (isinstance(config.ensemble, OneMember) and config.ensemble.own_head)
    if one_reward and plan.spec is not None:
        raise ConfigError(
            "ensembles of heads or adapters are for one reward, and this run has heads for objectives",
            hint="ensemble.kind = 'members' trains several models with all their objectives",
        )


def start_seed(config: TrainConfig) -> int:
    """What the new weights of a run are drawn from."""
    own = config.ensemble.start_seed if isinstance(config.ensemble, OneMember) else None
    return config.seed if own is None else own


def start(model: RewardModel, config: TrainConfig) -> None:
    """Give a fresh model the heads or the last layer that its place in an ensemble asks for, before anything is trained or wrapped."""
    if isinstance(config.ensemble, OneMember) and config.ensemble.own_head:
        _redraw(model, config.seed)
    model.card = model.card.model_copy(update={"initial": fingerprint(model)})
    if isinstance(config.ensemble, HeadsEnsemble):
        members = (Member(),) * config.ensemble.size
        spec = EnsembleSpec(kind="heads", members=members, bootstrap=config.ensemble.bootstrap, own_weights=OWN_WEIGHTS["heads"])
        model.add_members(spec, seed=config.seed)


@torch.no_grad()
def _redraw(model: RewardModel, seed: int) -> None:
    """A last layer from `seed`, of the size that the base draws its own in."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.module.linear.parameters():
        if parameter.dim() == 2:
            fresh = torch.randn(parameter.shape, generator=generator) * getattr(model.module.model.config, "initializer_range", 0.02)
            parameter.copy_(fresh.to(parameter))


def fingerprint(model: RewardModel) -> str:
    """A digest of all weights, of evenly spaced values of each, so that it costs nothing: two models that start from the same backbone
    and the same head have the same one."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.module.model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // SAMPLE)].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()


def own_sample(groups: list[Group], config: TrainConfig) -> list[Group]:
    """The training groups of one member: its own resample; of any other run, all of them."""
    if not isinstance(config.ensemble, OneMember):
        return groups
    return resampled(groups, Draw(config.ensemble.bootstrap, config.seed))


def settle_members(run: Run) -> None:
    """Measure K heads on the held-out responses (the training ones where none are), so that their mean is taken on one scale; every
    process must call it."""
    heads = run.model.module.heads
    if not isinstance(heads, MemberHeads):
        return
    prepared, on = (run.train, "training") if run.held_out is None else (run.held_out, "held-out")
    batches = split_micro(range(len(prepared.groups)), prepared.tokens_G, run.micro_tokens)
    values, _ = scored(run.trainee, prepared, batches, run.pack, rank=run.accelerator.process_index, world=run.accelerator.num_processes)
    raw_RK = np.concatenate(values)[:, :-1]
    spec = measured(heads.spec, raw_RK, f"{len(raw_RK)} {on} responses")
    set_ensemble(run.model, spec)
    run.observer.noted(f"{len(spec.members)} heads measured on {spec.measured_on}: their rewards correlate {correlations(raw_RK)}")


def set_ensemble(model: RewardModel, spec: EnsembleSpec) -> None:
    """Give heads and card of a model the same spec."""
    if isinstance(model.module.heads, MemberHeads):
        model.module.heads.spec = spec
    model.card = model.card.model_copy(update={"ensemble": spec})
