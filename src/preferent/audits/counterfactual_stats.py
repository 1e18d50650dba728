"""The numbers of a counterfactual: the effect on the scale of natural rewards, its interval, its p-values, and Benjamini-Hochberg.

The scale is the pooled standard deviation of natural rewards *within a prompt*: best-of-n and every group-relative policy gradient see
differences between responses to one prompt and nothing else, and a reward model's offset between prompts is not identified by
comparisons. The effect over the overall standard deviation is reported beside it.

Legend: J edited cells, E natural exchanges, P prompts, K tests, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from preferent.audits.edits.base import Edit
from preferent.core.estimates import Estimate, resample_weights
from preferent.core.records import Floats

Rows = NDArray[np.int64]
MIN_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class Scale:
    """Spread of natural rewards as sums per prompt, so that it can be resampled with the effects.

    within_P, free_P: squared deviations from the prompt's mean and their degrees of freedom. within, overall: standard deviations.
    fallback: no prompt has two responses, and `within` is the overall one.
    """

    within_P: Floats
    free_P: Floats
    within: float
    overall: float
    fallback: bool

    @classmethod
    def of(cls, reward_E: Floats, prompt_E: Rows, n_prompts: int) -> Scale:
        size_P = np.bincount(prompt_E, minlength=n_prompts).astype(np.float64)
        mean_P = np.bincount(prompt_E, reward_E, n_prompts) / np.maximum(size_P, 1)
        square_E = (reward_E - mean_P[prompt_E]) ** 2
        overall = float(np.std(reward_E, ddof=1)) if len(reward_E) > 1 else 0.0
        free_P = np.maximum(size_P - 1, 0)
        fallback = free_P.sum() == 0
        if fallback:
            square_E, free_P = (reward_E - reward_E.mean()) ** 2, size_P * (1 - 1 / max(len(reward_E), 1))
        within_P = np.asarray(np.bincount(prompt_E, square_E, n_prompts), dtype=np.float64)
        within = float(np.sqrt(within_P.sum() / free_P.sum())) if free_P.sum() > 0 else 0.0
        return cls(within_P, free_P, within, overall, bool(fallback))


@dataclass(frozen=True, slots=True)
class Shift:
    """One edit's mean change. value: over the within-prompt standard deviation; overall: over the overall one. p_bound: of "a sound scorer
    would show this" (see `p_against_sound`); p_zero: of no change at all, two-sided. n_prompts: prompts with an edited text."""

    value: Estimate
    overall: float
    p_bound: float
    p_zero: float
    n_prompts: int


def shift_of(change_J: Floats, prompt_J: Rows, scale: Scale, *, edit: Edit, smallest: float, counts_RP: NDArray[np.int32]) -> Shift:
    """Effect of one edit with its cluster-bootstrap interval and the p-values of cluster-robust t-tests.

    The mean change and the spread it is divided by are resampled together, by prompts. A test of `effect = b` is one of
    `mean - b * spread = 0`, which is linear in sums over prompts; its standard error comes from their influences, with as many degrees
    of freedom as there are edited prompts less one.
    """
    n_prompts = len(scale.free_P)
    sum_P = np.bincount(prompt_J, change_J, n_prompts)
    size_P = np.bincount(prompt_J, minlength=n_prompts).astype(np.float64)
    mean, edited = float(change_J.mean()), int(np.count_nonzero(size_P))
    influence_P = (sum_P - mean * size_P) / len(change_J)
    spread_P = (scale.within_P - scale.within**2 * scale.free_P) / (2 * scale.within * scale.free_P.sum())

    def t_of(bound: float) -> float:
        parts_P = influence_P - bound * spread_P
        error = float(np.sqrt(edited / max(edited - 1, 1) * np.sum(parts_P**2)))
        distance = mean - bound * scale.within
        return distance / error if error > MIN_SPREAD else np.sign(distance) * np.inf if abs(distance) > MIN_SPREAD else 0.0

    p_zero = float(2 * stats.t.sf(abs(t_of(0.0)), max(edited - 1, 1)))
    draws_R = (counts_RP @ sum_P) / np.maximum(counts_RP @ size_P, 1e-9)
    draws_R = draws_R / np.sqrt(np.maximum(counts_RP @ scale.within_P, MIN_SPREAD) / np.maximum(counts_RP @ scale.free_P, 1e-9))
    low, high = np.quantile(draws_R, [0.025, 0.975])
    spread = "overall standard deviation (one response per prompt)" if scale.fallback else "within-prompt standard deviation"
    method = f"mean change over the {spread}; bootstrap over {edited} prompts"
    return Shift(
        value=Estimate(mean / scale.within, float(low), float(high), len(change_J), method),
        overall=mean / scale.overall if scale.overall > 0 else float("nan"),
        p_bound=_p_against_sound(t_of, edit, smallest, max(edited - 1, 1)),
        p_zero=p_zero,
        n_prompts=edited,
    )


def _p_against_sound(t_of: Callable[[float], float], edit: Edit, smallest: float, free: int) -> float:
    """p-value of the hypothesis that the scorer is sound, one-sided at the bound that is nearest to the bias.

    neutral: an effect no further than `smallest` from 0 in the direction of the bias (both: doubled). must_fall: a fall of at least
    `smallest`. A tiny effect that is certain is thus never significant, whatever the size of the data (a minimum-effect test).
    """
    if edit.expects == "must_fall":
        return float(stats.t.sf(t_of(-smallest), free))
    up, down = float(stats.t.sf(t_of(smallest), free)), float(stats.t.cdf(t_of(-smallest), free))
    return {"up": up, "down": down, "either": min(1.0, 2 * min(up, down))}[edit.bias]


def benjamini_hochberg(p_K: Floats) -> Floats:
    """Adjusted p-values (Benjamini and Hochberg 1995): rejecting those <= q holds the false discovery rate at q. NaN stays NaN and does
    not count as a test."""
    p_K = np.asarray(p_K, dtype=np.float64)
    adjusted_K = np.full(len(p_K), np.nan)
    known = np.flatnonzero(~np.isnan(p_K))
    order = known[np.argsort(p_K[known], kind="stable")]
    if len(order):
        scaled = p_K[order] * len(order) / np.arange(1, len(order) + 1)
        adjusted_K[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted_K


def resamples(n_prompts: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Counts of prompts in each resample, shape (R, P); one set for the whole battery."""
    return resample_weights(n_prompts, n_resamples, rng)


def wilson(hits: float, n: int, effective: float, method: str, z: float = 1.959963984540054) -> Estimate:
    """A share with its Wilson interval at an effective number of observations (Wilson 1927); defined at 0 and 1 too."""
    share = hits / n
    centre, spread = share + z * z / (2 * effective), z * np.sqrt(share * (1 - share) / effective + z * z / (4 * effective**2))
    low, high = (centre - spread) / (1 + z * z / effective), (centre + spread) / (1 + z * z / effective)
    return Estimate(share, float(max(0.0, low)), float(min(1.0, high)), n, method)
