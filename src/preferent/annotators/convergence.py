"""How every iterative fit of this room ends: one test, one result.

A fit is settled when its objective moves by no more than `tolerance` times (1 + its size). The objective is the quantity that the
method maximises (log-likelihood plus log prior, or a lower bound of it), so it must never fall; `falls` says whether it did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from preferent.core.errors import FitError

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Convergence:
    """How a fit ended. `log_likelihood` is the data's (nats, without the prior); `trace` is the objective after every iteration."""

    converged: bool
    iterations: int
    log_likelihood: float
    trace: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"converged": self.converged, "iterations": self.iterations, "log_likelihood": self.log_likelihood}


CLOSED_FORM = Convergence(converged=True, iterations=0, log_likelihood=float("nan"))


def settled(before: float, now: float, tolerance: float) -> bool:
    """The shared test: the relative change of the objective is within `tolerance`."""
    return abs(now - before) <= tolerance * (1.0 + abs(now))


def falls(trace: Sequence[float], *, slack: float = 1e-9) -> float:
    """The deepest fall of an objective along its trace, relative to its size; 0 where it never falls by more than rounding."""
    values = np.asarray(trace, dtype=np.float64)
    if len(values) < 2:
        return 0.0
    drops = -np.diff(values) / (1.0 + np.abs(values[1:]))
    worst = float(drops.max())
    return worst if worst > slack else 0.0


def iterate(
    step: Callable[[State], tuple[State, float, float]], start: State, *, tolerance: float, max_iterations: int
) -> tuple[State, Convergence]:
    """Repeat `step` (state -> state, objective, log-likelihood) until the objective settles.

    Raises FitError when the objective is no longer a number.
    """
    state, likelihood, trace = start, float("nan"), []
    del start  # large, and not needed any more
    for _ in range(max_iterations):
        state, objective, likelihood = step(state)
        if not np.isfinite(objective):
            raise FitError(f"the objective is {objective!r} after {len(trace) + 1} iterations", hint="check the votes for extreme weights")
        trace.append(float(objective))
        if len(trace) > 1 and settled(trace[-2], trace[-1], tolerance):
            return state, Convergence(True, len(trace), float(likelihood), tuple(trace))
    return state, Convergence(False, len(trace), float(likelihood), tuple(trace))
