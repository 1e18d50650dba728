"""Solutions in steps as the loop takes them, and what a step model is given at its end: a threshold and an aggregation.

Every labelled step is one observation; a step without a label is not read, so that it is no part of any loss. Solutions to one problem are
one group, which shares the problem and, on decoders, what solutions have in common with the one that has most in common with the others.

Legend: S labelled steps, N solutions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from preferent.core.errors import ConfigError, DataError, FitError
from preferent.core.records import Preference, Prompt, Ranking, Rating, StepLabels, Vote
from preferent.core.step_errors import choose_threshold, true_first_error
from preferent.core.step_rewards import Aggregation, Plain, choose_aggregation
from preferent.data.steps_split import problem_groups
from preferent.models.checkpoint import Calibration
from preferent.models.packing import PackedBatch
from preferent.models.steps import Solution, StepRewardModel, hub_first
from preferent.models.steps_render import Window
from preferent.models.steps_spec import split_steps
from preferent.training.config import TrainConfig
from preferent.training.groups import Group, empty_group
from preferent.training.prepare import Prepared, TokenGroup, sizes
from preferent.training.step_targets import StepTargets, targets_of

Pair = Preference | Ranking | Rating | Vote
# What has a meaning for comparisons and ratings only.
PAIRS_ONLY = tuple(
    name
    for name in ("loss", "combination", "decorrelation", "augment", "ensemble", "uncertainty", "length_calibration")
    if name in TrainConfig.model_fields
)
# Solutions looked at to see whether the rule of the checkpoint would split them as they are.
MOST_SPLIT = 1000


def only_steps(
    records: Sequence[Pair | StepLabels],
    held_out: Sequence[Pair | StepLabels],
    config: TrainConfig,
) -> tuple[tuple[StepLabels, ...], tuple[StepLabels, ...]]:
    """The solutions to train on and to hold out, both empty where the records are of other kinds.

    Raises DataError for step labels mixed with others, ConfigError for settings that make nothing of them.
    """
    solutions = tuple(record for record in records if isinstance(record, StepLabels))
    validation = tuple(record for record in held_out if isinstance(record, StepLabels))
    if not solutions and not validation:
        return (), ()
    if len(solutions) < len(records) or len(validation) < len(held_out):
        others = sorted({type(record).__name__ for record in (*records, *held_out)} - {"StepLabels"}) or ["no training record"]
        raise DataError(
            f"step labels together with {', '.join(others)}", hint="a step model is trained on step labels alone: train two models"
        )
    if not any(label is not None for record in solutions for label in record.labels):
        raise DataError("there is nothing to train on: no step is labelled")
    for name in PAIRS_ONLY:
        if getattr(config, name) != TrainConfig.model_fields[name].default:
            raise ConfigError(f"{name} is a setting for comparisons and ratings, and the data are step labels", hint="leave it out")
    return solutions, validation


def without_steps(records: Sequence[Pair | StepLabels]) -> list[Pair]:
    """The records that are of another kind than step labels."""
    return [record for record in records if not isinstance(record, StepLabels)]


def prepare_steps(model: StepRewardModel, records: Sequence[StepLabels], *, most: int) -> Prepared:
    """Tokenise every solution once; one group for each prompt, or several where it has more than `most` sequences.

    `over_long` counts solutions that do not fit into the length limit whole, `response_cut` those whose steps take several windows. A
    group counts as many labels as it has sequences, so that `batch.pairs` solutions are a step of the optimiser.
    """
    tokens = model.tokenize_solutions([Solution(record.prompt, record.steps) for record in records])
    by_prompt: dict[Prompt, list[tuple[int, Window]]] = {}
    digest = hashlib.sha256()
    for number, (record, item) in enumerate(zip(records, tokens, strict=True)):
        for window in item.windows:
            if any(record.labels[step] is not None for step in window.steps):
                by_prompt.setdefault(record.prompt, []).append((number, window))
        digest.update(repr((record.labels, [(window.ids, window.reads) for window in item.windows])).encode())
    groups = []
    for prompt, rows in by_prompt.items():
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            part = [part[row] for row in hub_first([window.ids for _, window in part])]
            names = {number: records[number].id or f"record {number + 1}" for number, _ in part}
            groups.append(_token_group(empty_group(prompt, names), part, records))
    return Prepared(
        groups=tuple(groups),
        tokens_G=sizes(groups, share=model.module.share),
        pairs_G=np.array([len(item.ids) for item in groups], dtype=np.int64),
        over_long=sum(item.dropped > 0 for item in tokens),
        response_cut=sum(item.response_cut for item in tokens),
        fingerprint=digest.hexdigest(),
    )


def _token_group(group: Group, rows: Sequence[tuple[int, Window]], records: Sequence[StepLabels]) -> TokenGroup:
    reads, labels, places = [], [], []
    for number, window in rows:
        known = [(offset, label) for step, offset in zip(window.steps, window.reads, strict=True)
                 if (label := records[number].labels[step]) is not None]  # fmt: skip
        reads.append(tuple(offset for offset, _ in known))
        labels += [label for _, label in known]
        places += [number] * len(known)
    targets = StepTargets(tuple(reads), np.array(labels, dtype=np.float64), np.array(places, dtype=np.int64))
    return TokenGroup(tuple(np.array(window.ids, dtype=np.int32) for _, window in rows), group, steps=targets)


def pack_steps(model: StepRewardModel, groups: Sequence[TokenGroup]) -> PackedBatch:
    """The packed batch of some groups, read at their labelled steps."""
    reads = targets_of(item.steps for item in groups).reads
    return model.pack_steps([[ids.tolist() for ids in item.ids] for item in groups], reads)


def step_notes(model: StepRewardModel, validation: Sequence[StepLabels]) -> list[str]:
    """What is to be said of a step model before it is trained."""
    notes = []
    if model.sees_later_steps:
        notes.append(
            "this base reads a whole solution at once: the score of a step is a judgment in hindsight, not for unfinished solutions"
        )
    if not validation:
        notes.append("no held-out solutions: no early stopping, no temperature, no threshold, no aggregation of steps unless one is stated")
    rule, looked = model.steps.split, validation[:MOST_SPLIT]
    other = sum(split_steps("\n\n".join(record.steps), rule) != tuple(step.strip() for step in record.steps) for record in looked)
    if other:
        notes.append(
            f"{other} of {len(looked)} held-out solutions would be split into other steps (steps.split = {rule!r}) when scored as text"
        )
    return notes


def settle_steps(
    model: StepRewardModel,
    validation: Sequence[StepLabels],
    calibration: Calibration | None,
    *,
    seed: int,
    asked: Plain | str = "auto",
) -> tuple[dict[str, Any], list[str]]:
    """Choose threshold and aggregation on held-out solutions and keep them in the card: (metrics for the card, notes).

    A solution is right where every step is labelled and none is wrong, wrong where its first error can be told; others have no part in it.
    asked: an aggregation that is taken whatever the solutions say, or "auto".
    """
    metrics: dict[str, Any] = {}
    notes: list[str] = []
    if asked != "auto":
        model.settle(aggregation=Aggregation(asked))  # type: ignore[arg-type]
    truth = true_first_error([record.labels for record in validation])
    kept = [record for record, place in zip(validation, truth, strict=True) if place is not None]
    true_N = np.array([place for place in truth if place is not None], dtype=np.int64)
    if not ((true_N >= 0).any() and (true_N < 0).any()):
        if validation:
            notes.append("no threshold and no aggregation: the held-out solutions are not of both kinds, with an error and without")
        return metrics, notes
    temperature = 1.0 if calibration is None else calibration.temperature
    logits = model.step_logits([Solution(record.prompt, record.steps) for record in kept])
    scores = [np.asarray(expit(logit_T / temperature), dtype=np.float64) for logit_T in logits]
    found = choose_threshold(scores, true_N)
    model.settle(threshold=found.value)
    metrics["step_threshold"] = {"value": found.value, "validation_f1": found.f1}
    try:
        choice = choose_aggregation(scores, true_N < 0, problem_groups(kept), rng=np.random.default_rng([seed, 7]))
    except FitError as error:
        notes.append(f"no aggregation: {error.message}")
        return metrics, notes
    if asked == "auto":
        model.settle(aggregation=choice.chosen)
    # A number without an interval has NaN for its ends, which JSON has not.
    metrics["step_aggregation"] = {
        how: {key: value if value == value else None for key, value in estimate.to_dict().items()}
        for how, estimate in choice.within_problem.items()
    }
    order = ", ".join(f"{how} {estimate.value:.3f}" for how, estimate in choice.within_problem.items())
    notes.append(f"aggregation of steps: {model.steps.aggregation and model.steps.aggregation.how} (right above wrong: {order})")
    return metrics, notes
