"""The end of a run: the best or last weights gathered, the temperature fitted on the held-out pairs, the checkpoint written."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import DistributedType
from peft import PeftModel
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from preferent.models.checkpoint import Calibration
from preferent.models.lora import merge_lora, save_adapter
from preferent.models.objectives import Heads
from preferent.models.reward_model import RewardModel
from preferent.models.steps import StepRewardModel
from preferent.training import state
from preferent.training.batches import split_micro
from preferent.training.config import Joint
from preferent.training.ensemble_setup import set_ensemble, settle_members
from preferent.training.held_out import HeldOut, measure
from preferent.training.loop import Progress, Run, measure_held_out
from preferent.training.objective import edges_of
from preferent.training.settle import calibrations, learned_weights, length_correlations, set_spec, settle_gate, settle_multiplier
from preferent.training.skills import NAME as SKILLS
from preferent.training.skills import Skill, skills
from preferent.training.steps import settle_steps
from preferent.training.trainee import Trainee, trainee_of


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    `stopped`: None at its planned end, "early", or "signal" (then only its state was saved, to resume from). `path`: "shared",
    "packed" or "plain". `held_out_*` and `calibration` are None without held-out pairs. `skills`: of every annotator, after joint
    training. `over_long` responses lost the beginning of their prompt to the length limit, `response_cut` of them some of their own.
    """

    output: Path
    steps: int
    stopped: str | None
    path: str
    held_out_nll: float | None
    held_out_accuracy: float | None
    calibration: Calibration | None
    skills: tuple[Skill, ...]
    over_long: int
    response_cut: int


def finish(run: Run, progress: Progress, output: Path, *, path: str, data: dict[str, Any]) -> TrainResult:
    """Write the checkpoint, unless the run was only interrupted; every process must call it."""
    calibration = held_out = None
    learned: tuple[Skill, ...] = ()
    if progress.stopped != "signal":
        if run.config.early_stopping is not None and progress.best_step is not None:
            _load_best(run, progress.best_step)
        settle_multiplier(run)
        settle_members(run)
        held_out = None if run.held_out is None else measure_held_out(run)
        calibration, by_objective = calibrations(run, held_out)
        learned = _skills(run)
        correlations = length_correlations(run)
        model, adapter, trainee = _whole(run)
        if run.accelerator.is_main_process:
            settle_gate(run, model)
            if isinstance(model.module.heads, Heads):
                model.module.fold(model.module.heads.scalar_weight())
            if adapter is not None:
                save_adapter(adapter, output / "adapter")
                model.module.model = merge_lora(adapter)
            metrics = _metrics(progress, held_out, trainee)
            if correlations:
                metrics["decorrelation"] = correlations
            if model.card.heads is not None:
                # Length heads have done their work.
                set_spec(model, model.card.heads.model_copy(update={"lengths": False}))
            card = {
                "calibration": calibration,
                "calibrations": by_objective,
                "data": {"fingerprint": run.train.fingerprint, **data},
                "config": run.config.model_dump(mode="json"),
                "metrics": metrics,
            }
            if learned:
                rows = (json.dumps(skill.to_dict(), ensure_ascii=False) for skill in learned)
                (output / SKILLS).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
            if isinstance(model, StepRewardModel):
                chosen, notes = settle_steps(model, run.validation, calibration, seed=run.config.seed, asked=run.config.steps.aggregation)
                metrics |= chosen
                for note in notes:
                    run.observer.noted(note)
            model.module.eval()
            model.save(output, model.card.model_copy(update=card))
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        run.accelerator.wait_for_everyone()
    return TrainResult(
        output=output,
        steps=progress.step,
        stopped=progress.stopped,
        path=path,
        held_out_nll=None if held_out is None else held_out.nll,
        held_out_accuracy=None if held_out is None else held_out.accuracy,
        calibration=calibration,
        skills=learned,
        over_long=run.train.over_long,
        response_cut=run.train.response_cut,
    )


def _load_best(run: Run, step: int) -> None:
    tensors, _ = state.read_state(state.best_folder(run.checkpoints, step))
    state.restore_weights(run.trainee, tensors)


def _metrics(progress: Progress, held_out: HeldOut | None, trainee: Trainee) -> dict[str, Any]:
    metrics: dict[str, Any] = {"steps": progress.step, "stopped": progress.stopped}
    if progress.best_step is not None:
        metrics["best_step"] = progress.best_step
    if held_out is not None:
        figures = (held_out.nll, held_out.accuracy, held_out.rating_rmse)
        nll, accuracy, rmse = (None if math.isnan(figure) else figure for figure in figures)
        metrics |= {"held_out_nll": nll, "held_out_accuracy": accuracy}
        if rmse is not None:
            metrics["held_out_rating_rmse"] = rmse
    if isinstance(trainee.reward.heads, Heads):
        metrics["weights"] = learned_weights(trainee.reward.heads)
    if trainee.log_nu is not None:
        metrics["tie_parameter"] = float(trainee.log_nu.detach())
    return metrics


def _skills(run: Run) -> tuple[Skill, ...]:
    """The annotators as the finished model sees them; one more pass over the votes. Every process must call it."""
    if not isinstance(run.config.votes, Joint):
        return ()
    batches = split_micro(range(len(run.train.groups)), run.train.tokens_G, run.micro_tokens)
    world, rank = run.accelerator.num_processes, run.accelerator.process_index
    seen = measure(run.trainee, run.train, batches, run.pack, rank=rank, world=world)
    edges = edges_of(run.train.groups)
    who_E, first_E = edges.annotator_E.numpy(), edges.first_E.double().numpy()
    return skills(run.annotators, seen.margin_E, who_E, first_E, seen.p_E, run.config.votes)


def _whole(run: Run) -> tuple[RewardModel, PeftModel | None, Trainee]:
    """The model with all its weights; sharded ones are gathered into a model built anew on the main process."""
    if run.accelerator.distributed_type != DistributedType.FSDP:
        return run.model, run.adapter, run.accelerator.unwrap_model(run.trainee)
    weights = get_model_state_dict(run.trainee, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not run.accelerator.is_main_process:
        return run.model, run.adapter, run.accelerator.unwrap_model(run.trainee)
    model, adapter = run.rebuild()
    trainee = trainee_of(model, run.config, n_annotators=len(run.annotators), scaled=run.plan.scaled)
    trainee.load_state_dict(weights)
    if run.model.card.heads is not None:
        set_spec(model, run.model.card.heads)
    if run.model.card.ensemble is not None:
        set_ensemble(model, run.model.card.ensemble)
    return model, adapter, trainee
