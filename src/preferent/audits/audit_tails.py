"""Whether the rewards of natural replies have a heavy tail, tie, or leave prompts flat.

A heavy upper tail of the reward's error makes over-optimisation a matter of luck that no KL penalty repairs (Kwa et al. 2024); a reward
that barely varies within a prompt gives a policy little to learn from (Razin et al. 2025); ties cannot be ranked.

Legend: E exchanges, C prompts, N pairs of distinct responses to one prompt.
"""

from __future__ import annotations

import numpy as np

from preferent.audits.resample import Codes, Column, clustered_counts, clustered_means, no_estimate, sums
from preferent.audits.shape import within_prompt_std
from preferent.core.estimates import Estimate
from preferent.core.findings import Finding
from preferent.core.records import Floats

TAIL_SHARE = 0.05
ENOUGH = 200  # with fewer exchanges the top 5 % are under 10
HEAVY = 2.0
SOME = 0.05


def hill_index(values_E: Floats, share: float = TAIL_SHARE, counts_E: Floats | None = None) -> float:
    """Hill's (1975) estimate of the tail index of the upper tail: 1 / mean(log(x_i / x_k)) over the largest `share` of the values.

    Values are taken from their median, so that the level does not matter. Below 2 the variance is infinite, below 1 the mean; a normal
    or exponential law gives a number that grows with the sample (about 3 to 6 here). NaN when the tail does not vary or is not positive.
    counts_E: how often each value is in the sample.
    """
    counts_E = np.ones(len(values_E)) if counts_E is None else counts_E
    sample = np.repeat(values_E, counts_E.astype(np.int64))
    k = max(2, round(share * len(sample)))
    if len(sample) <= k:
        return float("nan")
    top = np.sort(sample - np.median(sample))[-k - 1 :]
    if not top[0] > 0 or top[-1] == top[0]:
        return float("nan")
    return float(1.0 / np.mean(np.log(top[1:] / top[0])))


def tail(reward_E: Floats, codes_E: Codes, *, rng: np.random.Generator) -> Finding:
    """The tail index of rewards around their prompt's mean, held against 2; 'unknown' under 200 exchanges or without several responses."""
    n = int(codes_E.max()) + 1
    size_C = np.bincount(codes_E, minlength=n)
    several_E = size_C[codes_E] > 1
    values_E = (reward_E - sums(codes_E, reward_E, n)[codes_E] / size_C[codes_E])[several_E]
    if len(values_E) < ENOUGH:
        estimate = no_estimate(f"fewer than {ENOUGH} replies to prompts with several", len(values_E))
        return Finding("shape", "upper tail", estimate, f"{HEAVY:g}", "unknown", f"The tail index needs {ENOUGH} replies.")
    own = np.unique(codes_E[several_E], return_inverse=True)[1]
    estimate = clustered_counts(lambda counts_E: hill_index(values_E, counts_E=counts_E), own, rng=rng, n_resamples=300)
    heavy = not np.isnan(estimate.high) and estimate.high < HEAVY
    verdict = "unknown" if np.isnan(estimate.low) else "finding" if heavy else "clear"
    words = "heavy: a KL penalty cannot bound what its errors are worth" if heavy else "not heavier than the variance allows"
    severity = max(0.0, HEAVY - estimate.value) if heavy else 0.0
    return Finding(
        "shape", "upper tail", estimate, f"{HEAVY:g} (infinite variance below)", verdict, f"Tail index {estimate}: {words}.", severity
    )


def ties(reward_E: Floats, codes_E: Codes, *, rng: np.random.Generator) -> Finding:
    """Share of pairs of different responses to one prompt with exactly the same reward, held against 5 %."""
    order_E = np.argsort(codes_E, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(codes_E))])
    shares, prompts = [], []
    for c in range(len(bounds) - 1):
        group = reward_E[order_E[bounds[c] : bounds[c + 1]]]
        if len(group) > 1:
            i, j = np.triu_indices(len(group), 1)
            shares.append(float(np.mean(group[i] == group[j])))
            prompts.append(c)
    if not shares:
        return Finding(
            "shape", "ties", no_estimate("no prompt has two responses"), f"{SOME:.0%}", "unknown", "No prompt has two responses."
        )
    column = {"ties": Column.of(np.array(shares), np.ones(len(shares)), share=True)}
    estimate = clustered_means(column, np.arange(len(shares)), rng=rng)["ties"]
    found = not np.isnan(estimate.low) and estimate.low > SOME
    verdict = "unknown" if np.isnan(estimate.low) else "finding" if found else "clear"
    summary = f"{estimate} of the pairs of different responses to one prompt have exactly the same reward."
    return Finding("shape", "ties", estimate, f"{SOME:.0%}", verdict, summary, 10.0 * estimate.value if found else 0.0)


def spread_numbers(reward_E: Floats, codes_E: Codes, *, rng: np.random.Generator) -> tuple[tuple[str, Estimate], ...]:
    """Share of the variance of rewards that lies within prompts, and the share of prompts with less than a tenth of the pooled spread.

    Neither is a fault by itself: the level of a prompt is not identified by comparisons.
    """
    spread_C = within_prompt_std(reward_E, codes_E)
    several_C = ~np.isnan(spread_C)
    if not several_C.any():
        return ()
    size_C = np.bincount(codes_E)
    mean_C = sums(codes_E, reward_E, len(size_C)) / size_C
    kept_E = several_C[codes_E]
    inside_E = (reward_E - mean_C[codes_E]) ** 2

    def share(counts_E: Floats) -> float:
        weight_E = counts_E * kept_E
        total = weight_E.sum()
        mean = weight_E @ reward_E / total
        around = weight_E @ (reward_E - mean) ** 2
        return float(weight_E @ inside_E / around) if around > 0 else float("nan")

    pooled = float(np.sqrt(np.nanmean(spread_C**2)))
    flat_C = np.where(several_C, spread_C < 0.1 * pooled, np.nan).astype(np.float64)
    seeds = rng.integers(2**63, size=2)
    within = clustered_counts(share, codes_E, rng=np.random.default_rng(seeds[0]), n_resamples=300)
    column = {"flat": Column.of(flat_C, np.ones(len(flat_C)), share=True)}
    flat = clustered_means(column, np.arange(len(flat_C)), rng=np.random.default_rng(seeds[1]))["flat"]
    return (
        ("share of the variance of rewards that lies within prompts", within),
        ("share of prompts whose rewards hardly differ (under a tenth of the pooled spread)", flat),
    )
