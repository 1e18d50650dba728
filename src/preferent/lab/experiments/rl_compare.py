"""Runs of a policy held against each other at the same distance from where they began; pure mathematics.

Legend: K readings of a run, P prompts, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.over_optimisation import Law, fit_law
from preferent.core.records import Floats


@dataclass(frozen=True, slots=True)
class Run:
    """What is compared of one run: KL in nats at each reading, and gold of each watched prompt there, in the order of the training."""

    kl_K: Floats
    gold_KP: Floats

    def __post_init__(self) -> None:
        if self.kl_K.ndim != 1 or len(self.kl_K) < 2 or self.gold_KP.shape[:1] != self.kl_K.shape or self.gold_KP.ndim != 2:
            raise ConfigError(f"a run needs KL (K,) and gold (K, P) with K >= 2, got {self.kl_K.shape} and {self.gold_KP.shape}")

    @property
    def gold_K(self) -> Floats:
        return self.gold_KP.mean(axis=1)


@dataclass(frozen=True, slots=True)
class AtKl:
    """A mitigation beside the unprotected run at the same KL; all means over seeds. kl: where. gold, free: of the mitigation, of the
    unprotected run. gap: gold - free, paired by prompt. peak: the mitigation's highest gold up to there; kept: share of the peak's gain
    over the start that is left there (1: all); kept_free: the same of the unprotected run, its own peak up to there. of_peak: gold as a
    share of the peak itself. past_peak: how many seeds compare beyond the KL at which the unprotected run had its peak."""

    kl: float
    gold: float
    free: float
    gap: Estimate
    peak: float
    kept: float
    kept_free: float
    of_peak: float
    past_peak: int


def first_crossing(kl_K: ArrayLike, kl: float) -> tuple[int, float]:
    """(k, share) such that kl = (1 - share) kl_K[k] + share kl_K[k + 1], at the first place where the run gets there.

    Raises ConfigError when it never does.
    """
    kl_K = np.asarray(kl_K, dtype=np.float64)
    for k in range(len(kl_K) - 1):
        low, high = float(kl_K[k]), float(kl_K[k + 1])
        if low >= kl:
            return k, 0.0
        if high >= kl:
            return k, (kl - low) / (high - low)
    raise ConfigError(f"the run's KL reaches {float(kl_K.max()):.3g} nats, never {kl:.3g}")


def gold_at(run: Run, kl: float) -> Floats:
    """Gold of each prompt where the run first reaches `kl`, linear between readings, shape (P,)."""
    k, share = first_crossing(run.kl_K, kl)
    return (1.0 - share) * run.gold_KP[k] + share * run.gold_KP[k + 1]


def compare(runs: Sequence[Run], free_runs: Sequence[Run], *, rng: np.random.Generator) -> AtKl:
    """Each seed at the largest KL that both its runs reach. Raises ConfigError for unequal numbers of seeds."""
    if len(runs) != len(free_runs) or not runs:
        raise ConfigError(f"compare: {len(runs)} and {len(free_runs)} runs, needs one of each for every seed")
    kls, here, there, starts, peaks, free_peaks, past = [], [], [], [], [], [], 0
    for run, free in zip(runs, free_runs, strict=True):
        kl = min(float(run.kl_K.max()), float(free.kl_K.max()))
        here.append(gold_at(run, kl))
        there.append(gold_at(free, kl))
        kls.append(kl)
        starts.append((float(run.gold_K[0]), float(free.gold_K[0])))
        peaks.append(_peak(run, kl))
        free_peaks.append(_peak(free, kl))
        past += kl > float(free.kl_K[int(free.gold_K.argmax())])
    gap_N = np.concatenate(here) - np.concatenate(there)
    gold, free_gold, peak = float(np.mean(np.concatenate(here))), float(np.mean(np.concatenate(there))), float(np.mean(peaks))
    start, free_start = (float(value) for value in np.mean(starts, axis=0))
    return AtKl(
        kl=float(np.mean(kls)),
        gold=gold,
        free=free_gold,
        gap=clustered_mean(gap_N, np.arange(len(gap_N)), rng=rng),
        peak=peak,
        kept=_share(gold - start, peak - start),
        kept_free=_share(free_gold - free_start, float(np.mean(free_peaks)) - free_start),
        of_peak=_share(gold, peak),
        past_peak=past,
    )


def _peak(run: Run, kl: float) -> float:
    """The highest mean gold of the readings up to `kl`, and at `kl` itself."""
    k, _ = first_crossing(run.kl_K, kl)
    return max(float(run.gold_K[: k + 1].max()), float(gold_at(run, kl).mean()))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else float("nan")


def rl_law(runs: Sequence[Run]) -> Law | None:
    """d (alpha - beta log d) through the mean curve of all seeds: d the root of the mean KL, gain the mean gold less its start.

    None where fewer than three readings lie at different distances: two coefficients would fit them exactly.
    """
    kl_K = np.array([run.kl_K for run in runs], dtype=np.float64).mean(axis=0)
    gain_K = np.array([run.gold_K - run.gold_K[0] for run in runs], dtype=np.float64).mean(axis=0)
    d_K = np.sqrt(np.maximum(kl_K, 0.0))
    return fit_law(d_K, gain_K, form="rl") if len(np.unique(d_K[d_K > 0.0])) >= 3 else None


def change(runs: Sequence[Run], k_from: int, k_to: int, *, rng: np.random.Generator) -> Estimate:
    """Change of gold between two readings, paired by prompt, interval over the prompts of all seeds."""
    gap_N = np.concatenate([run.gold_KP[k_to] - run.gold_KP[k_from] for run in runs])
    return clustered_mean(gap_N, np.arange(len(gap_N)), rng=rng)
