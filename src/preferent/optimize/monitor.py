"""When to stop optimising without knowing the truth: signs that a policy has left the ground on which its reward model stands.

A reference is frozen from responses of the policy that one starts from; each later batch is held against it. Nothing decays and
nothing is learned on the way: a statistic that follows the policy would follow it off the cliff.

Legend: N responses of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.errors import ConfigError
from preferent.core.records import Floats


@dataclass(frozen=True, slots=True)
class Reference:
    """Mean and standard deviation of each signal over responses of the starting policy. disagreement: the members' standard deviation
    on one scale; None without an ensemble. length: log characters."""

    reward: tuple[float, float]
    length: tuple[float, float]
    disagreement: tuple[float, float] | None
    n: int

    @classmethod
    def of(cls, reward_N: ArrayLike, length_N: ArrayLike, disagreement_N: ArrayLike | None = None) -> Reference:
        """The reference of these responses; raises ConfigError with fewer than two, unequal shapes, or numbers that are not finite."""
        reward_N, length_N, disagreement_N = _batch(reward_N, length_N, disagreement_N)
        if len(reward_N) < 2:
            raise ConfigError(f"monitor: a reference needs 2 responses or more, got {len(reward_N)}")
        return cls(_moments(reward_N), _moments(length_N), None if disagreement_N is None else _moments(disagreement_N), len(reward_N))


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too far. disagreement_ratio: mean disagreement over the reference's. length_shift: change of mean log length, in standard
    deviations of the reference, either way. spread_ratio: standard deviation of the rewards over the reference's, below which the
    reward no longer tells responses apart (0: never)."""

    disagreement_ratio: float = 1.25
    length_shift: float = 1.0
    spread_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not (self.disagreement_ratio > 1.0 and self.length_shift > 0.0 and 0.0 <= self.spread_ratio < 1.0):
            raise ConfigError(f"monitor: {self!r}: allowed are disagreement_ratio > 1, length_shift > 0, 0 <= spread_ratio < 1")


@dataclass(frozen=True, slots=True)
class Reading:
    """One batch against the reference. alarms: what is beyond its limit, in words; empty: go on."""

    reward_gain: float
    length_shift: float
    spread_ratio: float
    disagreement_ratio: float | None
    alarms: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__} | {"alarms": list(self.alarms)}


def read(
    reference: Reference,
    reward_N: ArrayLike,
    length_N: ArrayLike,
    disagreement_N: ArrayLike | None = None,
    *,
    limits: Limits | None = None,
) -> Reading:
    """Hold a batch against the reference.

    length_N: log characters, like the reference's. `reward_gain` is in standard deviations of the reference; it is told and never an
    alarm, since a gain is what one wants. Raises ConfigError when the batch is empty or one of the two has disagreement and the other
    has not.
    """
    limits = Limits() if limits is None else limits
    reward_N, length_N, disagreement_N = _batch(reward_N, length_N, disagreement_N)
    if len(reward_N) == 0:
        raise ConfigError("monitor: an empty batch says nothing")
    if (disagreement_N is None) != (reference.disagreement is None):
        raise ConfigError("monitor: disagreement must be given for the reference and the batch, or for neither")
    gain = _shift(float(reward_N.mean()), reference.reward)
    longer = _shift(float(length_N.mean()), reference.length)
    spread = float(reward_N.std()) / reference.reward[1] if reference.reward[1] > 0 else 1.0
    ratio = None
    if disagreement_N is not None and reference.disagreement is not None:
        ratio = float(disagreement_N.mean()) / reference.disagreement[0] if reference.disagreement[0] > 0 else 1.0
    alarms = []
    if ratio is not None and ratio > limits.disagreement_ratio:
        alarms.append(f"the members disagree {ratio:.2f} times as much as on the reference (limit {limits.disagreement_ratio:g})")
    if abs(longer) > limits.length_shift:
        word = "longer" if longer > 0 else "shorter"
        alarms.append(f"responses are {abs(longer):.2f} standard deviations {word} than the reference (limit {limits.length_shift:g})")
    if len(reward_N) > 1 and spread < limits.spread_ratio:
        alarms.append(f"rewards spread {spread:.2f} times as much as on the reference (limit {limits.spread_ratio:g})")
    return Reading(gain, longer, spread, ratio, tuple(alarms))


def last_quiet(readings: Sequence[Reading], *, patience: int = 1) -> int:
    """Index of the last reading before `patience` readings in a row with an alarm; the last of all if that never happens, 0 at least."""
    if not readings:
        raise ConfigError("monitor: no readings")
    loud = 0
    for k, reading in enumerate(readings):
        loud = loud + 1 if reading.alarms else 0
        if loud >= patience:
            return max(0, k - patience)
    return len(readings) - 1


Batch = tuple[ArrayLike, ArrayLike, ArrayLike | None]


def stop(reference: Batch, batches: Sequence[Batch], *, limits: Limits | None = None, patience: int = 1) -> tuple[int, list[Reading]]:
    """(index of the batch to stop at, all readings). Batches are (reward_N, length_N, disagreement_N or None), in the order of the run."""
    frozen = Reference.of(*reference)
    readings = [read(frozen, *batch, limits=limits) for batch in batches]
    return last_quiet(readings, patience=patience), readings


def _batch(reward_N: ArrayLike, length_N: ArrayLike, disagreement_N: ArrayLike | None) -> tuple[Floats, Floats, Floats | None]:
    arrays = [np.asarray(array, dtype=np.float64) for array in (reward_N, length_N)]
    arrays += [] if disagreement_N is None else [np.asarray(disagreement_N, dtype=np.float64)]
    if any(array.shape != arrays[0].shape or array.ndim != 1 for array in arrays):
        raise ConfigError(f"monitor: needs arrays of one shape (N,), got {[array.shape for array in arrays]}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ConfigError("monitor: rewards, lengths and disagreement must be finite")
    return arrays[0], arrays[1], arrays[2] if len(arrays) > 2 else None


def _moments(values_N: Floats) -> tuple[float, float]:
    return float(values_N.mean()), float(values_N.std())


def _shift(mean: float, reference: tuple[float, float]) -> float:
    gap = mean - reference[0]
    return gap / reference[1] if reference[1] > 0 else (0.0 if gap == 0 else float(np.copysign(np.inf, gap)))
