"""The shape of the rewards themselves: level, spread, spread within a prompt, and how much of it is length.

Legend: E distinct exchanges, C prompts, R resamples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from preferent.audits.resample import Codes, Column, clustered_counts, clustered_means, spearman, sums
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

CORRELATION_RESAMPLES = 500


def within_prompt_std(reward_E: Floats, codes_E: Codes) -> Floats:
    """Standard deviation (n - 1) of the rewards of each prompt, shape (C,); NaN for prompts with one distinct response."""
    size_C = np.bincount(codes_E)
    mean_C = sums(codes_E, reward_E, len(size_C)) / size_C
    square_C = sums(codes_E, (reward_E - mean_C[codes_E]) ** 2, len(size_C))
    return np.sqrt(np.where(size_C > 1, square_C, np.nan) / np.maximum(size_C - 1, 1))


def shape_of_rewards(
    reward_E: Floats, chars_E: Floats, codes_E: Codes, *, rng: np.random.Generator, n_resamples: int = 2000
) -> dict[str, Estimate]:
    """Mean, standard deviation, within-prompt standard deviation, and Spearman with the response's characters, with intervals."""
    few = min(n_resamples, CORRELATION_RESAMPLES)
    spread_C, size_C = within_prompt_std(reward_E, codes_E), np.bincount(codes_E)
    columns = {
        "reward_mean": Column.of(reward_E, np.ones_like(reward_E)),
        "within_prompt_std": Column.of(spread_C[codes_E], 1.0 / size_C[codes_E]),  # weights make it a mean over prompts
    }
    means = clustered_means(columns, codes_E, rng=rng, n_resamples=n_resamples)
    spread = replace(means["within_prompt_std"], n=int(np.count_nonzero(~np.isnan(spread_C))))
    centred_E = reward_E - reward_E.mean()

    def std(counts_E: Floats) -> float:
        mean = counts_E @ centred_E / counts_E.sum()
        return float(np.sqrt(counts_E @ (centred_E - mean) ** 2 / max(counts_E.sum() - 1, 1)))

    return {
        "reward_mean": means["reward_mean"],
        "reward_std": clustered_counts(std, codes_E, rng=rng, n_resamples=few),
        "within_prompt_std": spread,
        "length_spearman": clustered_counts(lambda counts_E: spearman(reward_E, chars_E, counts_E), codes_E, rng=rng, n_resamples=few),
    }
