"""Length calibration as a checkpoint keeps it: the curve, what the gate found, and whether it is applied.

The curve is of the mean reward over log(1 + characters of the response): characters, since they are the same for every tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from preferent.core.length_calibration import LengthCurve
from preferent.core.records import Exchange, Finite, Floats, Record


class LengthSpec(Record):
    """mode: what was asked for; "auto" leaves it to the gate, "on" applies the curve whatever the gate found. applied: whether rewards
    are calibrated. reason: why, in a sentence. gate: its figures with their intervals. length, reward, mean: the curve."""

    mode: Literal["auto", "on"]
    applied: bool
    reason: str
    gate: dict[str, Any] = {}
    length: tuple[Finite, ...]
    reward: tuple[Finite, ...]
    mean: Finite
    n_responses: int

    @property
    def curve(self) -> LengthCurve:
        return LengthCurve(self.length, self.reward, self.mean)


def log_length(exchanges: Sequence[Exchange]) -> Floats:
    """log(1 + characters) of each response, shape (N,)."""
    return np.log1p(np.array([len(exchange.response) for exchange in exchanges], dtype=np.float64))


def without_length(spec: LengthSpec | None, reward_N: Floats, exchanges: Sequence[Exchange]) -> Floats:
    """The rewards, less what length predicts where the card says so, shape (N,)."""
    if spec is None or not spec.applied or not len(reward_N):
        return reward_N
    return spec.curve.calibrate(reward_N, log_length(exchanges))
