"""What the heads of a run are told when the run has ended: the mean weights of a gate, the multiplier of a cost, temperatures.

Legend: R responses, K objectives.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from preferent.core.errors import FitError
from preferent.models.checkpoint import Calibration
from preferent.models.objectives import CostConstraint, Heads, HeadsSpec, PromptGate
from preferent.models.reward_model import RewardModel
from preferent.training.batches import split_micro
from preferent.training.calibration import fit_temperature
from preferent.training.config import Constraint, Odin
from preferent.training.constraint import dual_ascent
from preferent.training.decorrelation import correlation, moments
from preferent.training.held_out import HeldOut, scored
from preferent.training.loop import Run
from preferent.training.odin import lengths_of

# Training prompts that the mean weights of a gate are taken over.
MOST_PROMPTS = 2000


def settle_multiplier(run: Run) -> None:
    """Find the multiplier of a constraint on the training responses and give it to the heads; every process must call it."""
    heads, kind = run.model.module.heads, run.config.combination
    if not isinstance(heads, Heads) or not isinstance(kind, Constraint):
        return
    found = heads.spec.combination
    assert isinstance(found, CostConstraint)
    batches = split_micro(range(len(run.train.groups)), run.train.tokens_G, run.micro_tokens)
    values, _ = scored(run.trainee, run.train, batches, run.pack, rank=run.accelerator.process_index, world=run.accelerator.num_processes)
    values_RC = np.concatenate(values)
    code: dict[str, int] = {}
    prompt_R = np.concatenate(
        [np.full(len(item.ids), code.setdefault(item.group.prompt_key, len(code)), dtype=np.int64) for item in run.train.groups]
    )
    place = heads.spec.names.index(kind.cost)
    cost = heads.spec.objectives[place]
    # Without a multiplier yet, the last column is the reward alone.
    solved = dual_ascent(
        values_RC[:, -1],
        values_RC[:, place],
        prompt_R,
        budget=(kind.budget - cost.mean) / cost.sd,
        temperature=kind.temperature,
    )
    expected, before, least = (
        value * cost.sd + cost.mean for value in (solved.expected_cost, solved.unconstrained_cost, solved.least_cost)
    )
    run.observer.noted(
        f"mean {kind.cost} of responses chosen by the reward: {before:.4g} without a constraint, {expected:.4g} with the multiplier "
        f"{solved.value:.4g} (budget {kind.budget:g}, {solved.steps} steps of dual ascent over {len(code)} prompts)"
    )
    if not solved.feasible:
        run.observer.noted(f"the budget {kind.budget:g} cannot be met: always choosing the cheapest response costs {least:.4g}")
    settled = {"multiplier": solved.value, "expected_cost": expected, "feasible": solved.feasible}
    set_spec(run.model, heads.spec.model_copy(update={"combination": found.model_copy(update=settled)}))


def settle_gate(run: Run, model: RewardModel) -> None:
    """Tell the heads of a gate their mean weights over the training prompts, which the scalar head is folded with."""
    heads = model.module.heads
    if not isinstance(heads, Heads) or not isinstance(heads.spec.combination, PromptGate):
        return
    prompts = {item.group.prompt_key: item.prompt.tolist() for item in run.train.groups if item.prompt is not None}
    model.module.eval()
    weights_NK = model.gate_weights(list(prompts.values())[:MOST_PROMPTS])
    combination = heads.spec.combination.model_copy(update={"mean_weights": tuple(weights_NK.mean(0).tolist())})
    set_spec(model, heads.spec.model_copy(update={"combination": combination}))


def length_correlations(run: Run) -> dict[str, dict[str, float]]:
    """By objective, the correlation with length (tokens of the response) of what labels were compared with, `before`, and of the head that
    is left, `after`, over the held-out responses (the training responses without any); empty without decorrelation. Every process must
    call it."""
    if not isinstance(run.config.decorrelation, Odin) or run.plan.spec is None:
        return {}
    part = run.train if run.held_out is None else run.held_out
    was_training = run.trainee.training
    run.trainee.train()
    total: torch.Tensor | None = None
    with torch.no_grad():
        # Length heads speak in training mode only; without dropout nothing else differs.
        for numbers in split_micro(range(len(part.groups)), part.tokens_G, run.micro_tokens):
            groups = [part.groups[number] for number in numbers]
            outputs = run.trainee(run.pack(groups))
            both = torch.cat([outputs.values_RC[:, :-1], outputs.quality_RK], dim=-1)
            found = moments(both, lengths_of(groups))
            total = found if total is None else total + found
    run.trainee.train(was_training)
    assert total is not None
    before, after = correlation(total).split(len(run.plan.spec.objectives))
    return {name: {"before": float(before[k]), "after": float(after[k])} for k, name in enumerate(run.plan.spec.names)}


def set_spec(model: RewardModel, spec: HeadsSpec) -> None:
    """Give heads and card of a model the same spec."""
    assert isinstance(model.module.heads, Heads)
    model.module.heads.spec = spec
    model.card = model.card.model_copy(update={"heads": spec})


def calibrations(run: Run, held_out: HeldOut | None) -> tuple[Calibration | None, dict[str, Calibration]]:
    """(temperature of the reward, temperatures of the objectives by name), where held-out comparisons allow one."""
    if held_out is None:
        return None, {}
    spec = run.plan.spec
    names = () if spec is None else spec.objectives
    reward = calibrate(run, held_out, -1, "the reward", 1.0) if not names or (held_out.objective_E == -1).any() else None
    found: dict[str, Calibration] = {}
    for column, item in enumerate(names):
        if (held_out.objective_E == column).any():
            fitted = calibrate(run, held_out, column, item.name, item.sd)
            found |= {} if fitted is None else {item.name: fitted}
    return reward, found


def calibrate(run: Run, held_out: HeldOut, column: int, name: str, unit: float) -> Calibration | None:
    """The temperature of the comparisons on one column, whose values are `unit` times as large where they are given out."""
    own = held_out.objective_E == column
    clusters = held_out.prompt_E[own]
    said = "no temperature" if name == "the reward" else f"no temperature of {name}"
    try:
        fitted = fit_temperature(held_out.margin_E[own] * unit, held_out.p_E[own], held_out.weight_E[own], clusters_N=clusters)
    except FitError as error:
        run.observer.noted(f"{said}: {error.message}")
        return None
    if fitted.at_bound:
        run.observer.noted(f"{said}: {fitted.method}")
        return None
    return Calibration(
        temperature=fitted.value,
        low=None if math.isnan(fitted.low) else fitted.low,
        high=None if math.isnan(fitted.high) else fitted.high,
        n_pairs=fitted.n,
        nll_before=fitted.nll_before,
        nll_after=fitted.nll_after,
    )


def learned_weights(heads: Heads) -> dict[str, float]:
    """The weights of the standard values by objective; of a gate, their mean over the training prompts."""
    combination = heads.spec.combination
    if isinstance(combination, PromptGate):
        weights = combination.mean_weights or ()
    else:
        with torch.no_grad():
            weights = heads.weights().tolist()
    return dict(zip(heads.spec.names, weights, strict=False))
