"""What a finished model is told by labelled data: how sure its last layer is, whether length must go, its temperature, its intervals.

In this order: the standard deviation comes first, length calibration changes the rewards, so the temperature is fitted after it, and
intervals are of the finished scores. Everything but the Laplace head needs prompts that were not trained on.

Legend: E comparisons, N exchanges, M ratings, W width of the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preferent.core.errors import ConfigError, DataError, FitError
from preferent.core.length_calibration import FEWEST, LengthGate, length_gate, lowess_calibration
from preferent.core.records import Exchange, Floats, Scores
from preferent.models.checkpoint import Calibration
from preferent.models.intervals import IntervalSpec
from preferent.models.laplace import fit_laplace
from preferent.models.length import LengthSpec, log_length
from preferent.models.objectives import Heads
from preferent.models.reward_model import RewardModel
from preferent.training.calibration import fit_temperature
from preferent.training.conformal import half_width
from preferent.training.pairs import LabelledPairs, overall_pairs, ratings_by_objective

LengthMode = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class Asked:
    """length: "off" takes an earlier calibration out, "auto" leaves it to the gate. laplace: fit the last layer's covariance. level: of
    intervals, None for none. prior_precision: of the Laplace head; None: by the evidence."""

    length: LengthMode = "off"
    laplace: bool = False
    level: float | None = None
    prior_precision: float | None = None


def refine(model: RewardModel, held_out: Sequence[object], training: Sequence[object], asked: Asked, *, seed: int = 0) -> list[str]:
    """Change the card of `model` (and its Laplace head) as asked; returns what was decided, in sentences. Nothing is written.

    `training` may be empty unless the Laplace head is asked for. Raises DataError without held-out comparisons where they are needed,
    FitError where there are too few of them, ConfigError for a model that cannot have what is asked.
    """
    told: list[str] = []
    if asked.laplace:
        told.append(_laplace(model, overall_pairs(training), asked))
    pairs = overall_pairs(held_out)
    if asked.length == "off":
        model.card = model.card.model_copy(update={"length": None})
    else:
        told.append(_length(model, pairs, asked.length, seed))
    scores = model.score(pairs.exchanges)
    told += _temperature(model, pairs, scores)
    if asked.level is not None:
        told += _intervals(model, held_out, (pairs, scores), asked.level)
    return told


def _laplace(model: RewardModel, pairs: LabelledPairs, asked: Asked) -> str:
    ensemble, heads = model.card.ensemble, model.module.heads
    if ensemble is not None and ensemble.kind != "heads":
        raise ConfigError(f"a Laplace head is for one last layer, and this is an ensemble of {ensemble.kind}")
    if isinstance(heads, Heads) and heads.needs_prompts:
        raise ConfigError("a Laplace head needs a reward that is linear in the features, and a gate weighs them by the prompt")
    if not len(pairs.p_E):
        raise DataError("the Laplace head is fitted on overall comparisons, and there are none", hint="give the training pairs")
    features_NW = model.readings(pairs.exchanges, features=True).features_NW
    assert features_NW is not None
    weight_W = _last_layer(model)
    temperature = model.temperature
    ends_E2 = np.stack([pairs.i_E, pairs.j_E], axis=1)
    found = fit_laplace(
        features_NW, ends_E2, weight_W, weight_E=pairs.weight_E, temperature=temperature, prior_precision=asked.prior_precision
    )
    model.laplace = found
    model.card = model.card.model_copy(update={"laplace": found.spec})
    spread = found.difference_std(features_NW[pairs.i_E], features_NW[pairs.j_E])
    return (
        f"Laplace head on {len(pairs.p_E)} comparisons, prior precision {found.spec.prior_precision:.3g} ({found.spec.chosen}): "
        f"a difference has a standard deviation of {np.median(spread):.3g} in the median pair"
    )


def _last_layer(model: RewardModel) -> Floats:
    heads = model.module.heads
    weight_1W = next(p for p in model.module.linear.parameters() if p.dim() == 2) if heads is None else heads.scalar_weight()  # pyright: ignore[reportCallIssue]
    return weight_1W.detach().double().cpu().numpy()[0]


def _length(model: RewardModel, pairs: LabelledPairs, mode: LengthMode, seed: int) -> str:
    if len(pairs.exchanges) < FEWEST:
        raise FitError(
            f"length calibration: {len(pairs.exchanges)} held-out responses, needs {FEWEST} or more", hint="hold out more, or switch it off"
        )
    model.card = model.card.model_copy(update={"length": None})
    reward_N, length_N = model.score(pairs.exchanges).reward, log_length(pairs.exchanges)
    curve = lowess_calibration(reward_N, length_N)
    gate = _gate(pairs, reward_N, length_N, seed)
    applied = mode == "on" or gate.apply
    reason = gate.reason if mode == "auto" else f"switched on; the gate says: {gate.reason}"
    spec = LengthSpec(
        mode="on" if mode == "on" else "auto",
        applied=applied,
        reason=reason,
        gate=gate.to_dict(),
        length=curve.length_J,
        reward=curve.reward_J,
        mean=curve.mean,
        n_responses=len(reward_N),
    )
    model.card = model.card.model_copy(update={"length": spec})
    return f"length calibration is {'applied' if applied else 'not applied'}: {reason} (gain {gate.gain} nats a pair)"


def _gate(pairs: LabelledPairs, reward_N: Floats, length_N: Floats, seed: int) -> LengthGate:
    """The gate on calibrated margins of prompts that their curve was not fitted on: two halves of the prompts, each judged by the curve of
    the other, where both are large enough."""
    rng = np.random.default_rng([seed, 7])
    names = sorted(set(pairs.prompts))
    second = set(rng.permutation(names)[: len(names) // 2].tolist())
    half_N = np.array([name in second for name in pairs.prompts])
    calibrated_N = np.empty(len(reward_N))
    if min(half_N.sum(), (~half_N).sum()) < FEWEST:
        calibrated_N = lowess_calibration(reward_N, length_N).calibrate(reward_N, length_N)
    else:
        for own in (half_N, ~half_N):
            curve = lowess_calibration(reward_N[~own], length_N[~own])
            calibrated_N[own] = curve.calibrate(reward_N[own], length_N[own])
    return length_gate(pairs.margins(reward_N), pairs.margins(calibrated_N), pairs.p_E, pairs.prompt_E, rng=rng)


def _temperature(model: RewardModel, pairs: LabelledPairs, scores: Scores) -> list[str]:
    if not len(pairs.p_E):
        return []
    try:
        found = temperature_of(pairs, pairs.margins(scores.reward))
    except FitError as error:
        model.card = model.card.model_copy(update={"calibration": None})
        return [f"no temperature: {error.message}"]
    model.card = model.card.model_copy(update={"calibration": found})
    return [f"temperature {found.temperature:.3g} on {found.n_pairs} pairs: NLL {found.nll_before:.4f} before, {found.nll_after:.4f} after"]


def temperature_of(pairs: LabelledPairs, margin_E: Floats) -> Calibration:
    """The temperature of these margins as a card keeps it. Raises FitError, also for one at a bound of its search."""
    found = fit_temperature(margin_E, pairs.p_E, pairs.weight_E, clusters_N=pairs.prompt_E)
    if found.at_bound:
        raise FitError(found.method)
    low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
    return Calibration(temperature=found.value, low=low, high=high, n_pairs=found.n, nll_before=found.nll_before, nll_after=found.nll_after)


def _intervals(model: RewardModel, held_out: Sequence[object], seen: tuple[LabelledPairs, Scores], level: float) -> list[str]:
    found: list[IntervalSpec] = []
    for name, rated in ratings_by_objective(held_out).items():
        if name in model.card.objectives and model.card.heads is not None:
            found.append(_of_ratings(model, name, rated, level))
    pairs, scores = seen
    if len(pairs.p_E):
        margin_E = pairs.margins(scores.reward)
        gap_E = np.abs(pairs.p_E - 1.0 / (1.0 + np.exp(-np.clip(margin_E / model.temperature, -700, 700))))
        fitted = half_width(gap_E, pairs.prompt_E, level=level)
        found.append(_spec("preference", "reward", fitted.value, level, (fitted.n, fitted.n_prompts)))
    if not found:
        raise DataError("intervals are fitted on held-out ratings or comparisons, and there are none")
    model.card = model.card.model_copy(update={"intervals": tuple(found)})
    return [
        f"{spec.level:g} interval of {'the rating of ' + spec.name if spec.kind == 'rating' else 'the share that prefers a'}: "
        f"+-{spec.half_width:.3g} ({spec.n} labels of {spec.n_prompts} exchangeable prompts)"
        for spec in found
    ]


def _of_ratings(model: RewardModel, name: str, rated: Sequence[tuple[Exchange, float]], level: float) -> IntervalSpec:
    exchanges = [exchange for exchange, _ in rated]
    value_M = model.score(exchanges).objectives[name]
    gap_M = np.abs(np.array([value for _, value in rated]) - value_M)
    fitted = half_width(gap_M, [exchange.prompt for exchange in exchanges], level=level)
    return _spec("rating", name, fitted.value, level, (fitted.n, fitted.n_prompts))


def _spec(kind: Literal["rating", "preference"], name: str, value: float, level: float, counts: tuple[int, int]) -> IntervalSpec:
    # A half width of 0 (every label hit exactly) would be no interval.
    return IntervalSpec(kind=kind, name=name, level=level, half_width=max(value, 1e-12), n=counts[0], n_prompts=counts[1])
