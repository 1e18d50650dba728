"""`train`: preferences in, a checkpoint folder out. Sets a run up, lets the loop run, and writes what it made.

OUTPUT/   model.safetensors, config.json, tokenizer files, preferent.json   the checkpoint
          adapter/            with LoRA: the adapter and its head, as peft loads it
          config.toml         the settings with every default filled in
          metrics.jsonl       one line per step and evaluation
          annotators.jsonl    with joint training: what was learned of each annotator
          checkpoints/        while it runs: the state to resume from
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from peft import PeftModel

from preferent.core.errors import ConfigError, DataError, ExistsError
from preferent.core.records import Preference, Ranking, Rating, StepLabels, Vote
from preferent.core.settings import to_toml
from preferent.models.checkpoint import CARD
from preferent.models.lora import add_lora
from preferent.models.reward_model import RewardModel
from preferent.models.steps import StepRewardModel
from preferent.training import state
from preferent.training.config import (
    AdaptersEnsemble,
    BradleyTerry,
    Joint,
    Lora,
    MembersEnsemble,
    Odin,
    TrainConfig,
    resolved_head_rate,
    resolved_learning_rate,
)
from preferent.training.ensemble_run import train_members
from preferent.training.ensemble_setup import own_sample, refuse_ensemble, start, start_seed
from preferent.training.finish import TrainResult, finish
from preferent.training.first_batch import PathCheck, choose_path
from preferent.training.groups import group_records, split_groups
from preferent.training.heads import Plan, leave_out_unknown, plan_heads
from preferent.training.identity import identity_of, refuse_other
from preferent.training.loop import Progress, Run, fit
from preferent.training.loop import plan as plan_steps
from preferent.training.metrics_log import MetricsLog
from preferent.training.objective import weight_of
from preferent.training.observer import Observer
from preferent.training.odin import few_responses, refuse_dropout
from preferent.training.prepare import prepare, sizes
from preferent.training.refine_run import refined
from preferent.training.session import session
from preferent.training.signals import stop_on_sigterm
from preferent.training.skills import annotators_of
from preferent.training.steps import only_steps, prepare_steps, step_notes, without_steps
from preferent.training.trainee import Trainee, checkpoint_activations, silence_dropout, trainee_of

Record = Preference | Ranking | Rating | StepLabels | Vote


PairRecord = Preference | Ranking | Rating | Vote
# A single number has to go a long way: from 1 to the scale that a comparison is made on, say.
SCALAR_FACTOR = 10.0


def train(
    records: Sequence[Record],
    held_out: Sequence[Record],
    config: TrainConfig,
    output: str | Path,
    *,
    data: dict[str, Any] | None = None,
    resume: bool = False,
    observer: Observer | None = None,
) -> TrainResult:
    """Train a reward model on `records` and write it to the folder `output`.

    Votes need `votes.kind = "joint"`: then the traits of their annotators are fitted together with the rewards. Ratings, and preferences
    with an objective, give every objective a head (see `heads.plan_heads`). Step labels, which go with no other records, train a process
    reward model; its threshold and aggregation are chosen on `held_out`.

    `held_out` steers early stopping and fits the temperature; it may be empty, and then neither happens. `data` (the ledger) is
    kept in the checkpoint. With `resume` the run goes on from its last saved state, to the same weights as without the stop.
    Under `accelerate launch` or torchrun every process calls this with the same arguments.

    Raises ExistsError (the folder holds something and `resume` is not set), DataError, ConfigError, ModelError, and FitError when
    the loss stops being a number (naming the rows).
    """
    output = Path(output)
    if isinstance(config.ensemble, AdaptersEnsemble | MembersEnsemble):
        how = (train, partial(_fresh, records=records))
        observer = observer or Observer()
        result = train_members(how, (records, held_out), config, output, data=data or {}, resume=resume, observer=observer)
        return refined(result, (records, held_out), config, observer)
    _refuse_overwrite(output, resume=resume)
    if not records:
        raise DataError("there is nothing to train on: no records", hint="look at the ledger of `preferent check`")
    annotators = _annotators(without_steps(records), config)
    with session(config, output) as accelerator:
        run = _set_up(accelerator, config, (records, held_out), output, observer or Observer(), annotators)
        checked = _check_first_batch(run)
        progress = _resume(run) if resume else Progress()
        if accelerator.is_main_process:
            _note(run, checked)
            _open(run, output, progress)
        try:
            with stop_on_sigterm() as stop:
                progress = fit(run, progress, stop)
        finally:
            if run.log is not None:
                run.log.close()
        result = finish(run, progress, output, path=checked.path, data=data or {})
    return refined(result, (records, held_out), config, observer or Observer())


def _set_up(
    accelerator: Accelerator,
    config: TrainConfig,
    data: tuple[Sequence[Record], Sequence[Record]],
    output: Path,
    observer: Observer,
    annotators: tuple[str, ...],
) -> Run:
    """A run before its first step. `data` is (training records, held-out records)."""
    refuse_dropout(config)
    solutions, validation = only_steps(data[0], data[1], config)
    pairs, held_pairs = without_steps(data[0]), without_steps(data[1])
    plan = plan_heads(pairs, config)
    refuse_ensemble(config, plan, steps=bool(solutions))
    kept, left_out = leave_out_unknown(held_pairs, plan)
    model, adapter = _model(config, data[0], plan)
    lengths = isinstance(config.decorrelation, Odin)
    groups_of = partial(group_records, annotators=annotators, columns=plan.columns)
    train_part, held_out_part = (
        prepare(model, split_groups(groups, max_responses=config.max_responses, seed=config.seed), lengths=lengths)
        for groups in (own_sample(groups_of(pairs), config), groups_of(kept))
    )
    if isinstance(model, StepRewardModel):
        train_part, held_out_part = (prepare_steps(model, part, most=config.max_responses) for part in (solutions, validation))
    held_out = held_out_part if held_out_part.groups else None
    trainee = trainee_of(model, config, n_annotators=len(annotators), scaled=plan.scaled)
    identity = identity_of(config, train_part, held_out, trainee, precision=accelerator.mixed_precision)
    trainee, optimizer = _prepared_for(accelerator, trainee, config)
    return Run(
        config=config,
        model=model,
        trainee=trainee,
        optimizer=optimizer,
        accelerator=accelerator,
        train=train_part,
        held_out=held_out,
        checkpoints=output / "checkpoints",
        log=None,
        observer=observer if accelerator.is_main_process else Observer(),
        identity=identity,
        adapter=adapter,
        annotators=annotators,
        total_weight=weight_of(train_part.groups, config.loss, rating_weight=config.ratings.weight),
        plan=plan,
        left_out=left_out,
        rebuild=lambda: _model(config, data[0], plan),
        validation=validation,
    )


def _annotators(records: Sequence[PairRecord], config: TrainConfig) -> tuple[str, ...]:
    """Whose traits are fitted; ConfigError for settings that make nothing of votes."""
    annotators = annotators_of(records)
    if annotators and not isinstance(config.votes, Joint):
        raise ConfigError("votes of single annotators, and votes.kind is 'aggregated'",
                          hint="aggregate them to preferences first, as `preferent train` does, or set votes.kind = 'joint'")  # fmt: skip
    if isinstance(config.votes, Joint) and not annotators:
        raise ConfigError("votes.kind is 'joint', and no record says whose vote it is",
                          hint="joint training needs judgments: comparison_id, annotator_id, choice and the texts")  # fmt: skip
    if annotators and not isinstance(config.loss, BradleyTerry):
        raise ConfigError(f"votes.kind 'joint' goes with loss.kind 'bradley_terry', got {config.loss.kind!r}")
    return annotators


def _open(run: Run, output: Path, progress: Progress) -> None:
    """The output folder with what is written while the run goes on."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.toml").write_text(to_toml(run.config), encoding="utf-8")
    run.log = MetricsLog(output, keep_until=progress.step)
    if run.config.trackers:
        settings = run.config.model_dump()
        flat = {key: value if isinstance(value, int | float | str | bool) else str(value) for key, value in settings.items()}
        run.accelerator.init_trackers("preferent", config=flat)


def _refuse_overwrite(output: Path, *, resume: bool) -> None:
    if resume:
        if (output / CARD).exists():
            raise ExistsError(f"{output}: this run has finished; there is nothing to resume", hint="choose another folder for a new run")
        if not state.step_folders(output / "checkpoints"):
            raise DataError(f"{output}: no saved state to resume from", hint="leave out --resume to start the run")
    elif output.exists() and any(output.iterdir()):
        left = state.step_folders(output / "checkpoints") and not (output / CARD).exists()
        hint = "--resume goes on with the run in it; --force starts over" if left else "choose another folder, or --force"
        raise ExistsError(f"{output}: the folder is not empty", hint=hint)


def _fresh(config: TrainConfig, records: Sequence[Record]) -> RewardModel:
    """A backbone with the heads of an ensemble, before adapters and objectives."""
    stated = config.max_length if "max_length" in config.model_fields_set else None
    how: dict[str, Any] = {"max_length": stated, "texts": _texts(records), "seed": start_seed(config)}
    how["trust_remote_code"] = config.trust_remote_code
    if isinstance(records[0], StepLabels):
        model = StepRewardModel.create(config.base, **how, separator=config.steps.separator, split=config.steps.split)
    else:
        model = RewardModel.create(config.base, **how)
    start(model, config)
    return model


def _model(config: TrainConfig, records: Sequence[Record], plan: Plan) -> tuple[RewardModel, PeftModel | None]:
    """The reward model as it is before the first step, the same for the same settings and data."""
    model = _fresh(config, records)
    if not config.share_prompts:
        model.module.share = False
    if not config.dropout:
        silence_dropout(model.module)
    adapter = None
    if isinstance(config.adapter, Lora):
        lora = config.adapter
        targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            adapter = add_lora(model.module, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=targets)
    if plan.spec is not None:
        model.add_heads(plan.spec, seed=start_seed(config), shape=plan.shape)
    if config.gradient_checkpointing:
        checkpoint_activations(model.module)
    return model, adapter


def _texts(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        yield from (message.content for message in record.prompt)
        if isinstance(record, Rating):
            yield record.response
        elif isinstance(record, StepLabels):
            yield from record.steps
        else:
            yield from record.responses if isinstance(record, Ranking) else (record.response_a, record.response_b)


def _prepared_for(accelerator: Accelerator, trainee: Trainee, config: TrainConfig) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """The trainee and its optimizer, wrapped for however many processes there are. Biases and norms are not decayed; the traits of
    annotators have a prior instead, and a learning rate of their own, as the heads of objectives have."""
    traits = trainee.annotator_A2
    heads, scalars = _of_heads(trainee)
    apart = {id(parameter) for parameter in (*heads, *scalars, *([] if traits is None else [traits]))}
    trainable = [parameter for parameter in trainee.parameters() if parameter.requires_grad and id(parameter) not in apart]
    groups = [
        {"params": [parameter for parameter in trainable if parameter.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trainable if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    rate = resolved_learning_rate(config)
    factor = resolved_head_rate(config) / rate
    groups += [
        {"params": heads, "weight_decay": config.weight_decay, "rate_factor": factor},
        {"params": scalars, "weight_decay": 0.0, "rate_factor": SCALAR_FACTOR * factor},
    ]
    if traits is not None and isinstance(config.votes, Joint):
        groups.append({"params": [traits], "weight_decay": 0.0, "rate_factor": config.votes.learning_rate / rate})
    fused = accelerator.distributed_type != DistributedType.FSDP
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, fused=fused)
    return accelerator.prepare(trainee, optimizer)


def _of_heads(trainee: Trainee) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """(matrices of heads and gate, single numbers: weights of objectives and scales of comparisons)."""
    heads = [] if trainee.reward.heads is None else list(trainee.reward.heads.parameters())
    alone = [] if trainee.log_scale_C is None else [trainee.log_scale_C]
    numbers = [parameter for parameter in heads if parameter is getattr(trainee.reward.heads, "raw_weights", None)]
    return [parameter for parameter in heads if all(parameter is not number for number in numbers)], [*numbers, *alone]


def _check_first_batch(run: Run) -> PathCheck:
    """Score the first few groups by every path; on all processes the same ones."""
    groups, tokens = [], 0
    for item, size in zip(run.train.groups, run.train.tokens_G, strict=True):
        if groups and tokens + size > min(run.micro_tokens, 4096):
            break
        groups.append(item)
        tokens += int(size)
    dtype = torch.bfloat16 if run.accelerator.mixed_precision == "bf16" else torch.float32
    shared = run.model.module.share
    checked = choose_path(run.trainee, run.accelerator.unwrap_model(run.trainee), run.pack(groups), dtype)
    if shared and not run.model.module.share:
        # Prompts are computed for every response after all, and a pass must be no larger for it.
        run.train = replace(run.train, tokens_G=sizes(run.train.groups, share=False))
        if run.held_out is not None:
            run.held_out = replace(run.held_out, tokens_G=sizes(run.held_out.groups, share=False))
    return checked


def _resume(run: Run) -> Progress:
    folder = state.step_folders(run.checkpoints)[-1]
    tensors, saved = state.read_state(folder)
    refuse_other(folder, saved.pop("identity", {}), run.identity)
    state.restore(run.trainee, run.optimizer, tensors)
    return Progress(**saved)


def _note(run: Run, checked: PathCheck) -> None:
    for note in (run.plan.note, checked.note):
        if note:
            run.observer.noted(note)
    if run.left_out:
        run.observer.noted(f"held out: {run.left_out} labels on objectives that are not in the training data are left out")
    if isinstance(run.config.decorrelation, Odin):
        warning = few_responses(run.train.groups, len(plan_steps(run, 0)))
        if warning is not None:
            run.observer.noted(warning)
    limit, part = run.model.card.render.max_length, run.train
    if part.over_long:
        cut = f", {part.response_cut} of them into the response" if part.response_cut else ""
        run.observer.noted(f"{part.over_long} responses are longer than {limit} tokens with their prompt and lost its beginning{cut}")
    if isinstance(run.model, StepRewardModel):
        for note in step_notes(run.model, run.validation):
            run.observer.noted(note)
    elif run.held_out is None:
        run.observer.noted("no held-out pairs: no early stopping, no temperature")
