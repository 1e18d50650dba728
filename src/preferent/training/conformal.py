"""Split-conformal half widths for data in prompts: pure functions of arrays.

What is exchangeable is the prompt, with all its responses and labels; rows of one prompt are not independent. So every calibration prompt
gets the same mass, shared out over its rows, and one unit more stands for the prompt to come (Lee, Barber and Willett 2023,
"Distribution-free inference with hierarchical data", HCP; with one row a prompt it is the usual split conformal, Lei et al. 2018):

    half width = the least s with  sum over prompts k, rows i of 1[s_ki <= s] / ((C + 1) n_k)  >=  level

For a new prompt that is exchangeable with the C calibration prompts, and any one of its rows, the target then lies within the half width
with at least probability `level`, and without ties of scores at most level + 1 / (C + 1) when rows of a prompt are as different as
prompts are. It is an average over prompts, not a promise for each.

Legend: N rows, C prompts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.errors import FitError
from preferent.core.estimates import Estimate, cluster_codes, clustered_mean


@dataclass(frozen=True, slots=True)
class HalfWidth:
    """value: of the interval, in the units of the scores. n, n_prompts: rows and prompts it was fitted on."""

    value: float
    level: float
    n: int
    n_prompts: int


def half_width(score_N: ArrayLike, prompts_N: Sequence[Hashable], *, level: float) -> HalfWidth:
    """The half width for scores such as |target - prediction|.

    Raises FitError for a level outside (0, 1), scores that are negative or not finite, and too few prompts: below level / (1 - level)
    of them no finite interval holds (9 for 0.9).
    """
    score_N = np.asarray(score_N, dtype=np.float64)
    if not 0.0 < level < 1.0:
        raise FitError(f"interval level {level!r}, allowed are numbers between 0 and 1", hint="0.9 is usual")
    if score_N.shape != (len(prompts_N),) or not (np.isfinite(score_N) & (score_N >= 0.0)).all():
        raise FitError(f"interval: needs one finite score of at least 0 for each prompt, got shape {score_N.shape} for {len(prompts_N)}")
    codes_N = cluster_codes(prompts_N)
    n_prompts = int(codes_N.max(initial=-1)) + 1
    needed = math.ceil(level / (1.0 - level) - 1e-9)
    if n_prompts < needed:
        raise FitError(
            f"interval: {n_prompts} held-out prompts, a {level:g} interval needs {needed} or more",
            hint="hold out more prompts, or ask for a lower level",
        )
    share_N = 1.0 / (np.bincount(codes_N)[codes_N] * (n_prompts + 1.0))
    order = np.argsort(score_N, kind="stable")
    at = int(np.searchsorted(np.cumsum(share_N[order]), level - 1e-12))
    return HalfWidth(float(score_N[order][min(at, len(order) - 1)]), level, len(score_N), n_prompts)


def coverage(inside_N: ArrayLike, prompts_N: Sequence[Hashable], *, rng: np.random.Generator, n_resamples: int = 2000) -> Estimate:
    """Share of targets inside their intervals, every prompt counting the same, with a 95 % interval over prompts."""
    codes_N = cluster_codes(prompts_N)
    weight_N = 1.0 / np.bincount(codes_N)[codes_N]
    return clustered_mean(np.asarray(inside_N, dtype=np.float64), codes_N, rng=rng, weights_N=weight_N, n_resamples=n_resamples)
