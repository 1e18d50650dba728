"""The settings of a training run: one frozen model, read from a TOML file and `--a.b value` words, saved with the run.

A choice between kinds is a tagged union: `batch.kind = "tokens"` decides which other `batch.*` settings exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from preferent.core import settings
from preferent.core.settings import Option, Settings


class Pairs(Settings):
    kind: Literal["pairs"] = "pairs"
    pairs: int = Field(default=16, ge=1, description="comparisons in one optimiser step, at least; a prompt's group is never cut")


class Tokens(Settings):
    kind: Literal["tokens"] = "tokens"
    tokens: int = Field(default=16384, ge=1, description="packed tokens in one step, at most; a larger group is a step of its own")


class Cosine(Settings):
    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0, description="share of all steps in which the learning rate rises to its peak")
    floor: float = Field(default=0.1, ge=0.0, le=1.0, description="learning rate of the last step, as a share of the peak")


class Linear(Settings):
    kind: Literal["linear"] = "linear"
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0, description="share of all steps in which the learning rate rises to its peak")
    floor: float = Field(default=0.1, ge=0.0, le=1.0, description="learning rate of the last step, as a share of the peak")


class Constant(Settings):
    kind: Literal["constant"] = "constant"
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0, description="share of all steps in which the learning rate rises to its peak")


class BradleyTerry(Settings):
    kind: Literal["bradley_terry"] = "bradley_terry"
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5, description="probability that a label was flipped")
    centring: float = Field(default=0.0, ge=0.0, description="weight of (reward_i + reward_j)^2: holds rewards around 0; 0.01 is usual")
    margin: Literal["subtract", "scale"] = Field(
        default="subtract", description="a stated margin is subtracted from the difference, or multiplies the loss (scaled Bradley-Terry)"
    )


class Davidson(Settings):
    kind: Literal["davidson"] = "davidson"


class RaoKupper(Settings):
    kind: Literal["rao_kupper"] = "rao_kupper"


class PlackettLuce(Settings):
    kind: Literal["plackett_luce"] = "plackett_luce"


class Full(Settings):
    kind: Literal["full"] = "full"


class Lora(Settings):
    kind: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, description="rank of the LoRA matrices")
    alpha: float = Field(default=32.0, gt=0.0, description="LoRA scale; the update is multiplied by alpha / rank")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="dropout before the LoRA matrices")
    targets: str | tuple[str, ...] = Field(default="all-linear", description="'all-linear' or names of layers, comma-separated")


class Aggregated(Settings):
    kind: Literal["aggregated"] = "aggregated"
    model: str = Field(default="auto", min_length=1, description="the aggregation of `preferent aggregate --model` that makes soft labels")


class Joint(Settings):
    kind: Literal["joint"] = "joint"
    learning_rate: float = Field(default=0.05, gt=0.0, description="peak learning rate of the annotators' traits")
    slope_sd: float = Field(default=0.5, gt=0.0, description="prior standard deviation of an annotator's slope around 1")
    position_sd: float = Field(default=0.5, gt=0.0, description="prior standard deviation of an annotator's position bias, in logits")


class Grouped(Settings):
    kind: Literal["groups"] = "groups"
    groups: int | None = Field(default=None, ge=1, description="preference groups of annotators, a head each; none: by votes left out")


class Auto(Settings):
    kind: Literal["auto"] = "auto"


class Single(Settings):
    kind: Literal["single"] = "single"


class Fixed(Settings):
    kind: Literal["fixed"] = "fixed"
    weights: str | tuple[str, ...] = Field(
        default="", description="objective=weight in the units of its ratings, comma-separated; empty: all equal, on one scale"
    )


class Fitted(Settings):
    kind: Literal["fitted"] = "fitted"
    signs: Literal["positive", "free"] = Field(default="positive", description="weights are kept above 0, or may be any number")
    shape: bool = Field(default=False, description="overall preferences also change the objectives, not only how they are weighed")


class Gate(Settings):
    kind: Literal["gate"] = "gate"
    hidden: int = Field(default=0, ge=0, description="width of a hidden layer of the gate; 0: a linear gate")
    shape: bool = Field(default=False, description="overall preferences also change the objectives, not only how they are weighed")


class Constraint(Settings):
    kind: Literal["constraint"] = "constraint"
    cost: str = Field(min_length=1, description="the objective that is a cost: rated, and higher is worse")
    budget: float = Field(description="highest mean cost, in the units of its ratings, of responses chosen by the reward")
    weights: str | tuple[str, ...] = Field(
        default="", description="objective=weight in the units of its ratings, comma-separated; empty: all equal, on one scale"
    )
    temperature: float = Field(
        default=1.0, gt=0.0, description="of softmax(reward / temperature), which chooses among a prompt's responses"
    )


class Ratings(Settings):
    weight: float = Field(default=1.0, gt=0.0, description="one rating counts as this many comparisons")
    learning_rate: float | None = Field(
        default=None, gt=0.0, description="peak learning rate of heads and gate of the objectives; none: 1e-3, or the run's if higher"
    )


class Plain(Settings):
    kind: Literal["none"] = "none"


class Odin(Settings):
    kind: Literal["odin"] = "odin"
    length_weight: float = Field(
        default=1.0, ge=0.0, description="of the correlations with length: out of the quality, into the length head"
    )
    orthogonal_weight: float = Field(default=1.0, ge=0.0, description="of the cosine between a quality head and its length head")
    penalty: Literal["squared", "absolute"] = Field(default="squared", description="what is made of a correlation; the paper: absolute")


class NoEnsemble(Settings):
    kind: Literal["none"] = "none"


_SIZE: Any = Field(default=5, ge=2, description="members of the ensemble")
_BOOTSTRAP: Any = Field(default="prompts", description="what each member draws its own resample of; none: all learn from the same data")


class HeadsEnsemble(Settings):
    kind: Literal["heads"] = "heads"
    size: int = _SIZE
    bootstrap: Literal["prompts", "pairs", "none"] = _BOOTSTRAP


class AdaptersEnsemble(Settings):
    kind: Literal["adapters"] = "adapters"
    size: int = _SIZE
    bootstrap: Literal["prompts", "pairs", "none"] = _BOOTSTRAP


class MembersEnsemble(Settings):
    kind: Literal["members"] = "members"
    size: int = _SIZE
    bootstrap: Literal["prompts", "pairs", "none"] = _BOOTSTRAP
    start: Literal["own", "shared"] = Field(
        default="own", description="new weights of each member: its own, or the same for all, so that members can be averaged"
    )


class OneMember(Settings):
    kind: Literal["member"] = "member"
    number: int = Field(ge=0, description="which member of an ensemble this run is; set by the run of the whole")
    bootstrap: Literal["prompts", "pairs", "none"] = _BOOTSTRAP
    start_seed: int | None = Field(default=None, ge=0, description="seed of the weights before training; none: the run's own")
    own_head: bool = Field(default=False, description="a last layer drawn from the run's own seed")


class NoAugment(Settings):
    kind: Literal["none"] = "none"


class Rrm(Settings):
    kind: Literal["rrm"] = "rrm"
    ratio: float = Field(default=1.0, gt=0.0, description="new rows for one labelled pair")
    weight: float = Field(default=1.0, gt=0.0, description="a new row weighs this many times what the pair does that it is made from")
    ties: float = Field(default=0.33, ge=0.0, le=1.0, description="share of neutral ties: two responses to another prompt")


class NeutralTies(Settings):
    kind: Literal["neutral"] = "neutral"
    ratio: float = Field(default=1.0, gt=0.0, description="new rows for one labelled pair")
    weight: float = Field(default=1.0, gt=0.0, description="a new row weighs this many times what the pair does that it is made from")


class Counterfactual(Settings):
    kind: Literal["counterfactual"] = "counterfactual"
    edits: str | tuple[str, ...] = Field(default="", description="edits of the audit, or families of them, comma-separated")
    audit: str | None = Field(default=None, description="what `preferent audit --json` printed: take the edits that it found")
    labels: Literal["both", "ties", "keep"] = Field(
        default="both", description="a neutral edit makes ties, pairs that keep their label with the edit in one side, or both in turn"
    )
    ratio: float = Field(default=1.0, gt=0.0, description="new rows for one labelled pair")
    weight: float = Field(default=1.0, gt=0.0, description="a new row weighs this many times what the pair does that it is made from")


class Steps(Settings):
    separator: str | None = Field(
        default=None, min_length=1, description="text that ends every step; none: a blank line, or [MASK] where a tokenizer drops those"
    )
    split: Literal["auto", "blank_lines", "lines"] = Field(
        default="auto", description="what makes steps of a text; auto: its blank lines, or its lines where it has none"
    )
    aggregation: Literal["auto", "product", "minimum", "mean", "last"] = Field(
        default="auto", description="of step scores to one reward; auto: what orders held-out solutions best, fitted weights included"
    )


class Uncertainty(Settings):
    laplace: bool = Field(default=False, description="fit how sure the last layer is, on the training comparisons; scores get a std")
    interval: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="share of held-out labels that conformal intervals hold, such as 0.9; none: no intervals"
    )


class EarlyStopping(Settings):
    patience: int = Field(default=3, ge=1, description="evaluations in a row without a better held-out loss that end the run")
    min_delta: float = Field(default=0.0, ge=0.0, description="a held-out loss is better if it is lower by more than this")


Batch = Annotated[Pairs | Tokens, Field(discriminator="kind")]
Schedule = Annotated[Cosine | Linear | Constant, Field(discriminator="kind")]
Loss = Annotated[BradleyTerry | Davidson | RaoKupper | PlackettLuce, Field(discriminator="kind")]
Adapter = Annotated[Full | Lora, Field(discriminator="kind")]
Votes = Annotated[Aggregated | Joint | Grouped, Field(discriminator="kind")]
Combination = Annotated[Auto | Single | Fixed | Fitted | Gate | Constraint, Field(discriminator="kind")]
Ensemble = Annotated[NoEnsemble | HeadsEnsemble | AdaptersEnsemble | MembersEnsemble | OneMember, Field(discriminator="kind")]
Augment = Annotated[NoAugment | Rrm | NeutralTies | Counterfactual, Field(discriminator="kind")]
Decorrelation = Annotated[Plain | Odin, Field(discriminator="kind")]


class TrainConfig(Settings):
    """Everything that decides a training run besides its data."""

    base: str = Field(min_length=1, description="the model to start from: 'minilm', 'tiny', a folder or a hub id")
    max_length: int = Field(default=1024, ge=8, description="longest input in tokens; longer ones lose the start of the prompt")
    epochs: float = Field(default=1.0, gt=0.0, description="passes over the training data; may be a fraction")
    max_steps: int | None = Field(default=None, ge=1, description="optimiser steps of the run, in place of `epochs`")
    batch: Batch = Field(default=Pairs(), description="how much data makes one optimiser step")
    max_responses: int = Field(default=16, ge=2, description="prompts with more distinct responses than this are cut into parts")
    micro_tokens: int | None = Field(
        default=None, ge=1, description="tokens in one forward pass, lower when memory runs out; none: 16384 on a GPU, 1024 on a CPU"
    )
    learning_rate: float | None = Field(default=None, gt=0.0, description="peak learning rate; none: by base and adapter")
    schedule: Schedule = Field(default=Cosine(), description="how the learning rate changes over the run")
    weight_decay: float = Field(default=0.0, ge=0.0, description="AdamW's decoupled weight decay")
    clip: float = Field(default=1.0, ge=0.0, description="largest norm of the gradient; 0: no clipping")
    loss: Loss = Field(default=BradleyTerry(), description="what is minimised")
    adapter: Adapter = Field(default=Full(), description="train all weights, or LoRA adapters and the head")
    votes: Votes = Field(default=Aggregated(), description="judgments become soft labels, train with their annotators, or a head per group")
    combination: Combination = Field(default=Auto(), description="how named objectives become one reward; auto: by what the data hold")
    ratings: Ratings = Field(default=Ratings(), description="how ratings and their heads are trained")
    decorrelation: Decorrelation = Field(default=Plain(), description="keep the length of a response out of its reward")
    ensemble: Ensemble = Field(default=NoEnsemble(), description="several members that disagree where the reward is uncertain")
    augment: Augment = Field(default=NoAugment(), description="rows made from the training part, after the split, by `preferent train`")
    steps: Steps = Field(default=Steps(), description="how solutions in steps are read")
    length_calibration: Literal["auto", "on", "off"] = Field(
        default="off", description="take what length predicts out of the reward; auto: if a test on held-out pairs says it is spurious"
    )
    uncertainty: Uncertainty = Field(default=Uncertainty(), description="what the finished model states of its own doubt")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on GPUs that have it, else fp32")
    gradient_checkpointing: bool = Field(default=False, description="recompute activations in the backward pass: less memory, more time")
    dropout: bool = Field(default=False, description="keep the base's dropout; off, both responses are scored by the same network")
    order: Literal["shuffled", "given"] = Field(default="shuffled", description="order of the training data")
    share_prompts: bool = Field(default=True, description="compute a prompt once for all its responses (decoders)")
    held_out: float = Field(default=0.1, ge=0.0, lt=1.0, description="share of the prompts held out when no held-out file is given")
    group_key: str | None = Field(default=None, min_length=1, description="a key of `meta` whose values stay on one side of the split")
    early_stopping: EarlyStopping | None = Field(default=None, description="stop when the held-out loss no longer falls; none: never")
    evaluate_every: int | None = Field(default=None, ge=1, description="steps between evaluations; none: after every epoch")
    save_every: int | None = Field(default=None, ge=1, description="steps between saved states to resume from; none: every five minutes")
    seed: int = Field(default=0, ge=0, description="of the split, the order, the new weights and dropout")
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = Field(default=(), description="also log to these, comma-separated")
    trust_remote_code: bool = Field(default=False, description="run Python code that comes with the base model")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of torch; none: its default")


# Peak learning rates where none is set. Bases first: their size decides more than the adapter does.
LEARNING_RATES = {"tiny": 1e-3, "minilm": 5e-5, "full": 2e-5, "lora": 2e-4}


def resolved_learning_rate(config: TrainConfig) -> float:
    """The peak learning rate of a run: as set, or 1e-3 for `tiny`, 2e-4 for LoRA, 5e-5 for `minilm`, 2e-5 for any other base."""
    if config.learning_rate is not None:
        return config.learning_rate
    if config.base == "tiny" or isinstance(config.adapter, Lora):
        return LEARNING_RATES["tiny" if config.base == "tiny" else "lora"]
    return LEARNING_RATES["minilm" if config.base == "minilm" else "full"]


def resolved_head_rate(config: TrainConfig) -> float:
    """The peak learning rate of the heads of objectives: as set, or 1e-3, or that of the run where it is higher."""
    return config.ratings.learning_rate or max(1e-3, resolved_learning_rate(config))


def resolved_micro_tokens(config: TrainConfig, device: str) -> int:
    """Tokens in one forward pass: as set, or 16384 on a GPU and 1024 on a CPU, where larger passes cost memory and gain no speed."""
    if config.micro_tokens is not None:
        return config.micro_tokens
    return 1024 if device == "cpu" else 16384


def schedule_factor(step: int, total: int, schedule: Cosine | Linear | Constant) -> float:
    """The learning rate of 0-based `step` out of `total`, as a share of the peak.

    It rises linearly over ceil(warmup x total) steps, the first of which is not 0, and then falls to `floor` at the last step.
    Beyond the last step it stays there.
    """
    warm = math.ceil(schedule.warmup * total)
    if step < warm:
        return (step + 1) / warm
    if isinstance(schedule, Constant):
        return 1.0
    progress = min(1.0, (step - warm) / max(1, total - 1 - warm))
    share = 0.5 * (1.0 + math.cos(math.pi * progress)) if isinstance(schedule, Cosine) else 1.0 - progress
    return schedule.floor + (1.0 - schedule.floor) * share


def options() -> list[Option]:
    """Every dotted setting of `TrainConfig`, in its order."""
    return settings.options(TrainConfig)


def load_config(toml_path: str | Path | None = None, overrides: Mapping[str, str] | None = None) -> TrainConfig:
    """The config of a training run from a TOML file (if any) with dotted overrides on top; see `core.settings.load_settings`."""
    return settings.load_settings(TrainConfig, toml_path, overrides)
