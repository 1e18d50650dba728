"""The part of training's evaluation that is about named objectives: held-out ratings, and comparisons on one objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from preferent.audits.objectives import ObjectiveStudy, study_objectives
from preferent.audits.objectives_report import sections, weights_table
from preferent.audits.page import Section
from preferent.audits.tables import Table
from preferent.core.records import Preference, Ranking, Rating
from preferent.core.scorer import Scorer

if TYPE_CHECKING:
    from preferent.models.reward_model import RewardModel

# Prompts whose weights are shown.
MOST_PROMPTS = 500


@dataclass(frozen=True, slots=True)
class HeldOutParts:
    """overall: what the reward is evaluated on, with the temperature of its comparisons. named: what speaks about single objectives."""

    overall: list[Preference | Ranking]
    named: list[Preference | Rating]
    temperature: float


def part(model: RewardModel, held_out: Sequence[Preference | Ranking | Rating]) -> HeldOutParts:
    """Held-out records by what they speak about. Where a single objective is all there is, its comparisons are the overall ones."""
    overall: list[Preference | Ranking] = []
    named: list[Preference | Rating] = []
    for record in held_out:
        if isinstance(record, Rating) or (isinstance(record, Preference) and record.objective is not None):
            named.append(record)
        else:
            overall.append(record)
    spec = model.card.heads
    if not overall and spec is not None and len(spec.objectives) == 1:
        own = spec.objectives[0].name
        overall = [record for record in named if isinstance(record, Preference) and record.objective == own]
        fitted = model.card.calibrations.get(own)
        return HeldOutParts(overall, named, 1.0 if fitted is None else fitted.temperature / spec.objectives[0].sd)
    return HeldOutParts(overall, named, model.temperature)


def study(model: RewardModel, scorer: Scorer, named: Sequence[Preference | Rating], *, seed: int) -> ObjectiveStudy | None:
    """What the heads are worth on held-out records; None when no record speaks about one of them."""
    spec = model.card.heads
    if spec is None:
        return None
    known = set(spec.names)
    own = [record for record in named if known & (set(record.values) if isinstance(record, Rating) else {record.objective})]
    return study_objectives(scorer, own, seed=seed) if own else None


def report_sections(model: RewardModel, found: ObjectiveStudy, held_out: Sequence[Any]) -> list[Section]:
    """The study as sections of the report, with the weights the model has learned and what decorrelation did."""
    before = model.card.metrics.get("decorrelation")
    return sections(found, weights=_weights(model, held_out), before=before)


def _weights(model: RewardModel, held_out: Sequence[Any]) -> Table | None:
    from preferent.models.objectives import Heads
    from preferent.training.settle import learned_weights

    spec, heads = model.card.heads, model.module.heads
    if spec is None or not isinstance(heads, Heads):
        return None
    if spec.combination.kind != "gate":
        weights = learned_weights(heads)
        return Table(("", *weights), [(_HOW[spec.combination.kind], *weights.values())])
    source = {}
    for record in held_out:
        source.setdefault(record.prompt, record.source or "(no source)")
    prompts = list(source)[:MOST_PROMPTS]
    weights_NK = model.gate_weights(model.tokenize_prompts(prompts))
    return weights_table(spec.names, np.asarray(weights_NK), prompts, [source[prompt] for prompt in prompts], by_prompt=True)


_HOW = {
    "fixed": "fixed weights",
    "fitted": "weights fitted to overall preferences",
    "constraint": "weights, and minus the multiplier at the cost",
}
