"""Annotators who answer without reading, or against what they read: one row each, with the evidence behind every flag.

Legend: A annotators, V votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from preferent.annotators.bradley_terry import Z95, PairFit
from preferent.annotators.graph import PairVotes
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

SURE = 1e-3  # chance of so one-sided a row of clicks from somebody who reads, over all annotators together
NEAR_ZERO = 0.35  # a slope whose whole interval is under this share of the mean slope carries almost nothing
OPPOSED = 0.8  # posterior chance of a negative slope from which an annotator is called an adversary ...
WRONG = 0.01  # ... while the expected number of such calls that are wrong stays within this share of the annotators
STRONG = 1.0  # logits: a bias that outweighs a clear difference


@dataclass(frozen=True, slots=True)
class AnnotatorRow:
    """first_share: share of decided votes for the side shown first, None where the display order is not known. traits: {name: (value,
    low, high)} of the fit. flags: sentences that start with the flag's name and go on with the evidence; empty for most people."""

    annotator: int
    n_votes: int
    first_share: float | None
    tie_share: float
    traits: dict[str, tuple[float, float, float]]
    flags: tuple[str, ...]


def annotator_rows(fit: PairFit, votes: PairVotes) -> list[AnnotatorRow]:
    """One row per annotator who voted, by number. Raises ConfigError when fit and votes are about different annotators."""
    sizes = {len(trait.value) for trait in fit.traits.values()}
    if sizes - {votes.n_annotators}:
        raise ConfigError(f"annotator_rows: the fit has {sizes} annotators, the votes {votes.n_annotators}")
    n = votes.n_annotators
    decided_V = votes.outcome_V != 0.5
    votes_A = np.bincount(votes.annotator_V, minlength=n)
    ties_A = np.bincount(votes.annotator_V[~decided_V], minlength=n)
    first_A, shown_A = np.zeros(n, np.int64), np.zeros(n, np.int64)
    if votes.first_V is not None:
        seen_V = decided_V & (votes.first_V != 0)
        took_V = seen_V & ((votes.first_V > 0) == (votes.outcome_V == 1.0))
        shown_A, first_A = np.bincount(votes.annotator_V[seen_V], minlength=n), np.bincount(votes.annotator_V[took_V], minlength=n)
    against_A = opposed(fit, votes_A > 0) if "slope" in fit.traits else np.zeros(n)
    rows = []
    for a in np.flatnonzero(votes_A).tolist():
        traits = {name: (float(t.value[a]), float(t.low[a]), float(t.high[a])) for name, t in fit.traits.items()}
        clicks = _clicks(int(first_A[a]), int(shown_A[a]), n) + _ties(int(ties_A[a]), int(votes_A[a]), fit.graph.tie_share, n)
        share = float(first_A[a] / shown_A[a]) if shown_A[a] else None
        flags = tuple(clicks + _read_from(traits, float(against_A[a])))
        rows.append(AnnotatorRow(a, int(votes_A[a]), share, float(ties_A[a] / votes_A[a]), traits, flags))
    return rows


def _clicks(first: int, shown: int, n_annotators: int) -> list[str]:
    """One-sidedness against a fair coin: the display order is random, so that a reader clicks each side about as often."""
    for count, side in ((first, "first"), (shown - first, "second")):
        chance = float(binom.sf(count - 1, shown, 0.5)) * n_annotators if shown else 1.0
        if chance < SURE and count >= 0.9 * shown:
            return [f"always {side}: {count} of {shown} decided votes went to the side shown {side}"]
    return []


def _ties(ties: int, n_votes: int, tie_share: float, n_annotators: int) -> list[str]:
    if ties < 0.9 * n_votes or tie_share >= 0.9 or float(binom.sf(ties - 1, n_votes, tie_share)) * n_annotators >= SURE:
        return []
    return [f"always tie: {ties} of {n_votes} votes, where the crowd ties {tie_share:.0%}"]


def opposed(fit: PairFit, active_A: NDArray[np.bool_]) -> Floats:
    """The posterior chance that each annotator counts against what they say (a negative slope), 0 for those not to be called adversaries,
    shape (A,).

    Called are, from the surest down, those with a chance of at least .8 as long as the expected number of wrong calls (the sum of one
    minus the chance) stays within 1 % of those who voted. A slope interval wholly below 0 (chance .975) is more than that asks.
    """
    slope = fit.traits["slope"]
    chance_A = np.where(active_A, norm.cdf(-slope.value * 2 * Z95 / np.maximum(slope.high - slope.low, 1e-12)), 0.0)
    order = np.argsort(-chance_A, kind="stable")
    within = np.cumsum(1.0 - chance_A[order]) <= max(WRONG * int(active_A.sum()), 1.0 - 0.975)
    chance_A[order[~within]] = 0.0
    return np.where(chance_A >= OPPOSED, chance_A, 0.0)


def _read_from(traits: dict[str, tuple[float, float, float]], against: float) -> list[str]:
    flags = []
    if "slope" in traits:
        value, low, high = traits["slope"]
        evidence = f"slope {value:.2f} [{low:.2f}, {high:.2f}], the crowd's mean is 1"
        if against:
            flags.append(f"adversary: {evidence}; chance {min(against, 0.999):.3f} that it is below 0")
        elif low > -NEAR_ZERO and high < NEAR_ZERO:
            flags.append(f"guesser: {evidence}")
    for name, what in (("position", "for the side shown first"), ("length", "per unit of log length, for the longer side")):
        if name in traits:
            value, low, high = traits[name]
            if low > STRONG or high < -STRONG:
                flags.append(f"{name} bias: {value:+.2f} [{low:+.2f}, {high:+.2f}] logits {what}")
    return flags
