"""The loop: plans become steps, steps become weights. Mathematics, plans and state live next door; here they are only called.

Legend: R responses, G groups.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftModel

from preferent.core.errors import FitError
from preferent.core.records import StepLabels
from preferent.models.packing import PackedBatch
from preferent.models.reward_model import RewardModel
from preferent.models.steps import StepRewardModel
from preferent.training import state
from preferent.training.batches import plan_epoch, split_micro, split_ranks
from preferent.training.config import (
    HeadsEnsemble,
    Joint,
    Odin,
    TrainConfig,
    resolved_learning_rate,
    resolved_micro_tokens,
    schedule_factor,
)
from preferent.training.ensemble import Draw, members_loss
from preferent.training.heads import Plan
from preferent.training.held_out import HeldOut, measure
from preferent.training.losses import annotator_prior
from preferent.training.metrics_log import MetricsLog
from preferent.training.objective import NonFiniteError, summed_loss, weight_of
from preferent.training.observer import Observer
from preferent.training.odin import collected, step_part
from preferent.training.prepare import Prepared, TokenGroup
from preferent.training.signals import StopRequest
from preferent.training.steps import pack_steps
from preferent.training.trainee import Outputs

# Without `save_every`, a run saves its state this often (seconds), so that a crash costs minutes.
SAVE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; everything here is saved with the state. `best_nll`: the lowest held-out loss, which is the NLL where nothing
    but comparisons is held out."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    best_nll: float | None = None
    best_step: int | None = None
    without_better: int = 0
    stopped: str | None = None


@dataclass(slots=True)
class Run:
    """A run that has been set up: what `fit` needs and changes."""

    config: TrainConfig
    model: RewardModel
    trainee: torch.nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    train: Prepared
    held_out: Prepared | None
    checkpoints: Path
    log: MetricsLog | None
    observer: Observer
    # What must be the same for this run to be resumed.
    identity: dict[str, Any]
    adapter: PeftModel | None
    # Whose traits are fitted along, and the weight of all that is trained on, which their prior is held against.
    annotators: tuple[str, ...]
    total_weight: float
    # The heads, and held-out labels that none of them can be measured on.
    plan: Plan
    left_out: int
    # Builds the model as it was before the first step, for gathering sharded weights.
    rebuild: Callable[[], tuple[RewardModel, PeftModel | None]]
    # Held-out solutions in steps, on which threshold and aggregation are chosen at the end.
    validation: tuple[StepLabels, ...] = ()

    @property
    def micro_tokens(self) -> int:
        return resolved_micro_tokens(self.config, self.accelerator.device.type)

    def pack(self, groups: Sequence[TokenGroup]) -> PackedBatch:
        if isinstance(self.model, StepRewardModel):
            return pack_steps(self.model, groups).to(self.accelerator.device)
        prompts = [item.prompt.tolist() for item in groups if item.prompt is not None]
        batch = self.model.pack([[ids.tolist() for ids in item.ids] for item in groups], prompts or None)
        return batch.to(self.accelerator.device)


def fit(run: Run, progress: Progress, stop: StopRequest) -> Progress:
    """Train from `progress` to the end, an early stop, or a stop request (then the state has been saved)."""
    config = run.config
    steps = plan(run, progress.epoch)
    total = planned_steps(run)
    run.observer.started(total_steps=total, done_steps=progress.step)
    saved_at = time.monotonic()
    run.trainee.train()
    # A run that was killed after its early stop has only its end left to do.
    while progress.step < total and progress.stopped is None:
        if progress.index >= len(steps):
            progress = replace(progress, epoch=progress.epoch + 1, index=0)
            steps = plan(run, progress.epoch)
        row = train_step(run, steps[progress.index], progress, total)
        progress = replace(progress, step=progress.step + 1, index=progress.index + 1)
        report(run, row, run.observer.stepped)
        at_end = progress.step == total
        if run.held_out is not None and (at_end or due(config.evaluate_every, progress, len(steps))):
            progress = evaluate(run, progress)
        stop_now, save_now = agree(run.accelerator, stop.requested, time.monotonic() - saved_at > SAVE_SECONDS)
        every = config.save_every
        if stop_now or (save_now if every is None else progress.step % every == 0) or progress.stopped:
            save(run, progress)
            saved_at = time.monotonic()
        if stop_now:
            return replace(progress, stopped="signal")
    return progress


def plan(run: Run, epoch: int) -> list[tuple[int, ...]]:
    return plan_epoch(run.train.tokens_G, run.train.pairs_G, run.config, seed=run.config.seed, epoch=epoch)


def planned_steps(run: Run) -> int:
    """Optimiser steps of the whole run. Epochs need not have equally many: `epochs` passes are that many passes over every group."""
    if run.config.max_steps is not None:
        return run.config.max_steps
    whole = math.floor(run.config.epochs)
    share = run.config.epochs - whole
    steps = sum(len(plan(run, epoch)) for epoch in range(whole))
    # 0.1 of 30 steps is 3.0000000000000004.
    return steps + (math.ceil(share * len(plan(run, whole)) - 1e-9) if share else 0)


def due(every: int | None, progress: Progress, steps_per_epoch: int) -> bool:
    """Whether an evaluation is due: every so many steps, or at the end of each epoch."""
    return progress.index == steps_per_epoch if every is None else progress.step % every == 0


def train_step(run: Run, step: Sequence[int], progress: Progress, total: int) -> dict[str, Any]:
    """One optimiser step over the groups of `step`, shared out over processes and cut into forward passes."""
    started = time.perf_counter()
    accelerator, config, train = run.accelerator, run.config, run.train
    peak = resolved_learning_rate(config)
    rate = peak * schedule_factor(progress.step, total, config.schedule)
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
    weight = weight_of([train.groups[number] for number in step], config.loss, rating_weight=config.ratings.weight)
    torch.manual_seed(step_seed(config.seed, progress.step, accelerator.process_index))
    loss = torch.zeros((), device=accelerator.device)
    bad: list[tuple[int, str]] = []
    micros = shares(run, step)
    whole = Whole(weight, 1.0 / (len(micros) * accelerator.num_processes), _moments(run, micros))
    for number, micro in enumerate(micros):
        with accelerator.no_sync(run.trainee) if number < len(micros) - 1 else nullcontext():
            loss += backward(run, micro, whole, bad)
    norm = accelerator.clip_grad_norm_(run.trainee.parameters(), config.clip or math.inf)
    loss = cast(torch.Tensor, accelerator.reduce(loss, reduction="sum"))
    refuse_non_finite(run, step, progress, norm, bad)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    correlations = {} if whole.correlation is None else {"length_correlation": whole.correlation}
    return {
        "step": progress.step + 1,
        "epoch": progress.epoch,
        "loss": float(loss),
        "learning_rate": rate,
        "grad_norm": None if norm is None else float(norm),
        "pairs": int(train.pairs_G[list(step)].sum()),
        "tokens": int(train.tokens_G[list(step)].sum()),
        "seconds": time.perf_counter() - started,
        **correlations,
    }


def shares(run: Run, step: Sequence[int]) -> list[tuple[int, ...]]:
    """This process's forward passes for a step. All processes make equally many, an empty one where there is nothing left to do."""
    accelerator, tokens_G = run.accelerator, run.train.tokens_G
    by_rank = [split_micro(part, tokens_G, run.micro_tokens) for part in split_ranks(step, tokens_G, accelerator.num_processes)]
    most = max(len(micros) for micros in by_rank)
    mine = by_rank[accelerator.process_index]
    return mine + [()] * (most - len(mine))


def step_seed(seed: int, step: int, process: int) -> int:
    """What dropout draws from in one step: a function of the step, so that there is no random state to save."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0])


@dataclass(slots=True)
class Whole:
    """What a pass must know of its step. weight: that the summed loss is divided by. share: one over the passes of all processes, each of
    which carries that part of what is the same for all. moments: of the step, for decorrelation; None where one pass is the step.
    correlation: the largest one with length, once it is known."""

    weight: float
    share: float
    moments: torch.Tensor | None = None
    correlation: float | None = None


def _moments(run: Run, micros: Sequence[Sequence[int]]) -> torch.Tensor | None:
    if not isinstance(run.config.decorrelation, Odin) or (len(micros) == 1 and run.accelerator.num_processes == 1):
        return None
    groups = run.train.groups
    passes = [[groups[number] for number in micro] for micro in micros]
    idle = groups[int(np.argmin(run.train.tokens_G))]
    return collected(
        run.trainee, passes, run.pack, idle=idle, reduce=lambda x: cast(torch.Tensor, run.accelerator.reduce(x, reduction="sum"))
    )


def backward(run: Run, micro: Sequence[int], whole: Whole, bad: list[tuple[int, str]]) -> torch.Tensor:
    """Forward and backward of one pass; returns its part of the step's mean loss, and adds to `bad` the records where it has none."""
    accelerator = run.accelerator
    groups = [run.train.groups[number] for number in micro]
    if not groups:
        smallest = run.train.groups[int(np.argmin(run.train.tokens_G))]
        outputs = run.trainee(run.pack([smallest]))
        loss = nothing(outputs)
    else:
        outputs = run.trainee(run.pack(groups))
        try:
            loss = summed(outputs, groups, run.config) / whole.weight + nothing(outputs)
        except NonFiniteError as error:
            bad += zip(error.records, names_of(groups, error.records), strict=True)
            # Goes on, since the other processes would wait for ever; the gradient takes the news to them.
            loss = outputs.values_RC.sum() * math.nan
    if outputs.annotator_A2 is not None:
        loss = loss + whole.share / run.total_weight * prior(outputs.annotator_A2, run.config)
    told = loss.detach()
    if isinstance(run.config.decorrelation, Odin):
        term, reported, correlation = step_part(outputs, groups, whole.moments, run.config.decorrelation, share=whole.share)
        loss, told = loss + term, told + reported
        whole.correlation = max(correlation, whole.correlation or 0.0)
    # Gradients are averaged over processes; the loss was divided by the weight of all of them.
    accelerator.backward(loss * accelerator.num_processes)
    return told


def summed(outputs: Outputs, groups: Sequence[TokenGroup], config: TrainConfig) -> torch.Tensor:
    """The summed loss of the reward, or the mean of those of K heads, each on its own resample."""
    if isinstance(config.ensemble, HeadsEnsemble):
        return members_loss(outputs, groups, config.loss, draw=Draw(config.ensemble.bootstrap, config.seed, config.ensemble.size))
    return summed_loss(outputs, groups, config.loss, rating_weight=config.ratings.weight)


def prior(annotator_A2: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    assert isinstance(config.votes, Joint)
    return annotator_prior(annotator_A2, torch.tensor([config.votes.slope_sd, config.votes.position_sd], device=annotator_A2.device))


def nothing(outputs: Outputs) -> torch.Tensor:
    """A loss of 0 that every output takes part in, as wrapped models want it."""
    return torch.stack([0.0 * part.sum() for part in outputs if part is not None]).sum()


def refuse_non_finite(run: Run, step: Sequence[int], progress: Progress, norm: Any, bad: Sequence[tuple[int, str]]) -> None:
    """Stop before the weights are touched: FitError that names the rows whose loss, or gradient, is not a number."""
    hint = "lower the learning rate or look at these rows; the last saved state is untouched"
    if bad:
        names = [name for _, name in sorted(bad)]
        raise FitError(f"step {progress.step + 1}: the loss is not a finite number on {len(names)} rows: {listed(names)}", hint=hint)
    if norm is not None and not bool(torch.isfinite(torch.as_tensor(norm))):
        rows = names_of([run.train.groups[number] for number in step])
        raise FitError(f"step {progress.step + 1}: the gradient is not finite, in the rows {listed(rows)}", hint=hint)


def names_of(groups: Sequence[TokenGroup], records: Sequence[int] | None = None) -> list[str]:
    """What to call the records of these groups, or those of them that are in `records`."""
    named: dict[int, str] = {}
    for item in groups:
        named |= item.group.names
    return [named[record] for record in (sorted(named) if records is None else records)]


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def evaluate(run: Run, progress: Progress) -> Progress:
    """Measure the held-out loss, note the best, and say when it has stopped falling."""
    assert run.held_out is not None
    held_out = measure_held_out(run)
    bad = held_out.bad_records
    if bad:
        names = names_of(run.held_out.groups, bad)
        raise FitError(
            f"step {progress.step}: the held-out loss is not a finite number on {len(names)} held-out rows: {listed(names)}",
            hint="lower the learning rate or look at these rows; the last saved state is untouched",
        )
    row: dict[str, Any] = {"step": progress.step}
    if len(held_out.p_E):
        row |= {"held_out_nll": held_out.nll, "held_out_accuracy": held_out.accuracy}
    if len(held_out.error_M):
        row |= {"held_out_rating_rmse": held_out.rating_rmse}
    loss = held_out.loss(run.config.ratings.weight)
    report(run, row, run.observer.evaluated)
    rule = run.config.early_stopping
    if rule is None:
        return progress
    if progress.best_nll is None or loss < progress.best_nll - rule.min_delta:
        tensors = state.capture(run.trainee, run.optimizer)
        if run.accelerator.is_main_process:
            weights = {name: tensor for name, tensor in tensors.items() if name.startswith("model/")}
            state.write_state(state.best_folder(run.checkpoints, progress.step), weights, {"step": progress.step})
        return replace(progress, best_nll=loss, best_step=progress.step, without_better=0)
    without = progress.without_better + 1
    if without < rule.patience:
        return replace(progress, without_better=without)
    run.observer.noted(f"stopped early at step {progress.step}: no better held-out loss in {without} evaluations")
    return replace(progress, without_better=without, stopped="early")


def measure_held_out(run: Run) -> HeldOut:
    assert run.held_out is not None
    batches = split_micro(range(len(run.held_out.groups)), run.held_out.tokens_G, run.micro_tokens)
    world = run.accelerator.num_processes
    return measure(run.trainee, run.held_out, batches, run.pack, rank=run.accelerator.process_index, world=world)


def save(run: Run, progress: Progress) -> None:
    """Write the state of the run after `progress.step` steps; every process must call it."""
    tensors = state.capture(run.trainee, run.optimizer)
    if run.accelerator.is_main_process:
        fields = {name: getattr(progress, name) for name in Progress.__dataclass_fields__}
        state.save_step(run.checkpoints, progress.step, tensors, {**fields, "identity": run.identity})
    run.accelerator.wait_for_everyone()


def agree(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Flags that are true on any process, the same on all."""
    if accelerator.num_processes == 1:
        return list(flags)
    counts = torch.tensor([float(flag) for flag in flags], device=accelerator.device)
    totals = cast(torch.Tensor, accelerator.reduce(counts, reduction="sum"))
    return [bool(total > 0) for total in totals.tolist()]


def report(run: Run, row: dict[str, Any], tell: Any) -> None:
    if not run.accelerator.is_main_process:
        return
    if run.log is not None:
        run.log.write(row)
    tell(row)
    if run.config.trackers:
        run.accelerator.log({key: value for key, value in row.items() if isinstance(value, float)}, step=row["step"])
