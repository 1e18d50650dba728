"""How many votes a pair still needs, and who gives them.

Legend: Q candidate pairs, B batch, A annotators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, ndtri

from preferent.annotators.graph import Ints
from preferent.core.errors import ConfigError
from preferent.core.records import Floats


def votes_needed(mean_Q: ArrayLike, sd_Q: ArrayLike, *, width: float = 0.2, confidence: float = 0.95, decide: bool = False) -> Ints:
    """Votes (of slope 1) that a pair still needs, shape (Q,): 0 says stop.

    Until the interval of p_a at `confidence` is at most `width` wide; or, with `decide`, until it leaves 1/2 on one side, if that comes
    first. A vote adds p (1 - p) to the precision of the gap, votes on other pairs come on top and are not counted.
    """
    if not (0.0 < width < 1.0 and 0.0 < confidence < 1.0):
        raise ConfigError(f"votes_needed: width={width!r}, confidence={confidence!r}, allowed are numbers in (0, 1)")
    mean, sd = np.asarray(mean_Q, dtype=np.float64), np.asarray(sd_Q, dtype=np.float64)
    z, p = float(ndtri(0.5 + confidence / 2)), expit(mean)
    target = _sd_for_width(mean, width, z)
    if decide:
        target = np.maximum(target, np.abs(mean) / z)
    target = np.maximum(target, 1e-6)
    missing = np.maximum(target**-2 - sd**-2, 0.0) / (p * (1.0 - p))
    return np.ceil(np.minimum(missing, 1e9) - 1e-9).astype(np.int64)


def _sd_for_width(mean_Q: Floats, width: float, z: float) -> Floats:
    """The sd of the gap at which sigma(mean + z sd) - sigma(mean - z sd) equals `width`, by bisection."""
    low, high = np.zeros_like(mean_Q), np.full_like(mean_Q, 50.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        wide = expit(mean_Q + z * middle) - expit(mean_Q - z * middle) > width
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return low


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who is asked what: (candidate, annotator) in asking order, and the candidates nobody could take."""

    asked: tuple[tuple[int, int], ...]
    left_over: tuple[int, ...]


def assign(chosen_B: Sequence[int] | Ints, budget_A: ArrayLike, *, seen: set[tuple[int, int]] | None = None, each: int = 1) -> Assignment:
    """Deal candidates to annotators: `each` different annotators per candidate, none over budget, none asked again what they have `seen`
    ((candidate, annotator) pairs). Whoever has most budget left comes first, by number among equals."""
    budget = np.asarray(budget_A, dtype=np.int64).copy()
    if each < 1 or (budget < 0).any():
        raise ConfigError(f"assign: each={each!r} (at least 1), budgets {budget.tolist()!r} (at least 0)")
    seen = set(seen or ())
    asked, left_over = [], []
    for candidate in map(int, chosen_B):
        free = [a for a in np.argsort(-budget, kind="stable").tolist() if budget[a] > 0 and (candidate, a) not in seen][:each]
        for a in free:
            budget[a] -= 1
            seen.add((candidate, a))
            asked.append((candidate, a))
        if len(free) < each:
            left_over.append(candidate)
    return Assignment(tuple(asked), tuple(left_over))
