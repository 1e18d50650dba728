"""Intervals that hold a stated share of what people say, as a checkpoint keeps them.

They are split-conformal: fitted on held-out prompts, and right for new prompts that are exchangeable with those (see
`training.conformal`). Nothing is promised for single prompts, for groups of them, or for responses that were chosen by the reward.

Legend: N responses or pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from preferent.core.errors import ModelError
from preferent.core.records import Floats, Record, Scores, Weight


class IntervalSpec(Record):
    """kind: "rating" of a response on objective `name`, or "preference": the share of people who prefer a. level: the share of targets
    inside. half_width: in units of the rating, or of probability. n, n_prompts: what it was fitted on."""

    kind: Literal["rating", "preference"]
    name: str
    level: Annotated[float, Field(gt=0.0, lt=1.0)]
    half_width: Weight
    n: int
    n_prompts: int


def find_interval(specs: Iterable[IntervalSpec], kind: str, name: str) -> IntervalSpec:
    """The interval of this kind and name. Raises ModelError when the model has none."""
    found = list(specs)
    for spec in found:
        if (spec.kind, spec.name) == (kind, name):
            return spec
    known = ", ".join(f"{spec.kind} {spec.name}" for spec in found) or "none"
    raise ModelError(f"no interval of {kind} {name!r}; this model has: {known}", hint="preferent calibrate --interval 0.9 fits them")


def rating_interval(spec: IntervalSpec, scores: Scores) -> tuple[Floats, Floats]:
    """(low, high) of the rating that people would give, each of shape (N,)."""
    center_N = scores.objectives[spec.name]
    return center_N - spec.half_width, center_N + spec.half_width


def preference_interval(spec: IntervalSpec, margin_N: Floats, temperature: float) -> tuple[Floats, Floats]:
    """(low, high) of the share of people who prefer a, each of shape (N,); margin_N: reward of a minus reward of b."""
    p_N = expit(margin_N / temperature)
    return np.clip(p_N - spec.half_width, 0.0, 1.0), np.clip(p_N + spec.half_width, 0.0, 1.0)


def margin_interval(spec: IntervalSpec, margin_N: Floats, temperature: float) -> tuple[Floats, Floats]:
    """The same interval as a difference of rewards: temperature x logit of the shares; infinite where a share is 0 or 1."""
    low_N, high_N = preference_interval(spec, margin_N, temperature)
    with np.errstate(divide="ignore"):
        return temperature * np.asarray(logit(low_N)), temperature * np.asarray(logit(high_N))
