"""Whether a scorer contradicts itself: rewordings that change nothing, and circles among three.

A pointwise scorer cannot prefer in circles; a judge of pairs can (`audits.judge` asks it).

Legend: G groups (one prompt with one answer in several wordings), V variants, K responses, P prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from preferent.audits.audit_answer import above
from preferent.audits.resample import Column, clustered_means
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate, cluster_codes, clustered_mean
from preferent.core.findings import Example, Finding
from preferent.core.records import Floats

SMALL = 0.2  # in SD of natural rewards: a spread over rewordings below this is taken for nothing
SOME = 0.05  # shares up to this are taken for slips


def paraphrase_spread(
    groups: Sequence[Floats], prompts: Sequence[object], natural_sd: float, *, rng: np.random.Generator, examples: Sequence[Example] = ()
) -> Finding:
    """Root mean square deviation of the reward over wordings of one answer, in SD of natural rewards, held against 0.2.

    groups[g]: rewards of the wordings of answer g (at least two), shape (V_g,). The interval resamples prompts.
    """
    if not natural_sd > 0:
        raise ConfigError(f"natural_sd is {natural_sd!r}; allowed: above 0 (the spread of rewards of natural replies)")
    variance_G = np.array([np.var(group, ddof=1) for group in groups]) / natural_sd**2
    mean = clustered_mean(variance_G, list(prompts), rng=rng)
    value, low, high = (float(np.sqrt(x)) for x in (mean.value, mean.low, mean.high))
    estimate = Estimate(value, low, high, mean.n, mean.method)
    verdict = above(estimate, SMALL)
    summary = f"The same answer in other words moves the reward by {estimate} standard deviations of natural rewards."
    return Finding(
        "consistency", "paraphrase", estimate, f"{SMALL} SD", verdict, summary, severity=estimate.value, examples=tuple(examples)
    )


def order_kept(
    better_PV: Floats, worse_PV: Floats, prompts: Sequence[object], *, rng: np.random.Generator, examples: Sequence[Example] = ()
) -> Finding:
    """Share of (better, worse) pairs in other wordings that are ordered otherwise than in the wording of column 0.

    Shape (P, V), V >= 2: the same two answers in V wordings, any wording against any. Equal rewards count one half.
    """
    first_P = np.sign(better_PV[:, 0] - worse_PV[:, 0])
    sign_PVV = np.sign(better_PV[:, :, None] - worse_PV[:, None, :])
    differ = np.abs(sign_PVV - first_P[:, None, None]) / 2.0
    differ[:, 0, 0] = np.nan
    column = {"flips": Column.of(np.nanmean(differ.reshape(len(differ), -1), axis=1), np.ones(len(differ)), share=True)}
    estimate = clustered_means(column, cluster_codes(list(prompts)), rng=rng)["flips"]
    summary = f"Other words for the same two answers turn the order round in {estimate} of the cases."
    return Finding(
        "consistency", "order under paraphrase", estimate, f"{SOME:.0%}", above(estimate, SOME), summary, 10.0 * estimate.value, None,
        tuple(examples),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Circles:
    """Cyclic triples of one or many tournaments: their share, and the share that coin flips would show (1/4)."""

    share: Estimate
    triples: int


def circles(preferred: Sequence[Floats], prompts: Sequence[object], *, rng: np.random.Generator) -> Circles:
    """Share of triples of responses that are preferred in a circle (Kendall and Babington Smith 1940), mean over prompts.

    preferred[p][i, j]: probability (or 0, 0.5, 1) that i is preferred to j, shape (K, K), K >= 3; only the sign of (i over j) - (j over
    i) counts, so both orders may be filled in and are averaged. A triple with a tie is no circle.
    """
    shares, counted = [], 0
    for table_KK in preferred:
        if table_KK.ndim != 2 or table_KK.shape[0] != table_KK.shape[1] or len(table_KK) < 3:
            raise ConfigError(f"circles: needs a square table of at least 3 responses, got shape {table_KK.shape}")
        beats = np.sign(np.round(table_KK - table_KK.T, 12))
        triples = np.array(list(combinations(range(len(beats)), 3)))
        total = beats[triples[:, 0], triples[:, 1]] + beats[triples[:, 1], triples[:, 2]] + beats[triples[:, 2], triples[:, 0]]
        shares.append(float(np.mean(np.abs(total) == 3)))
        counted += len(triples)
    column = {"circles": Column.of(np.array(shares), np.ones(len(shares)), share=True)}
    return Circles(clustered_means(column, cluster_codes(list(prompts)), rng=rng)["circles"], counted)


def transitivity(preferred: Sequence[Floats], prompts: Sequence[object], *, rng: np.random.Generator) -> Finding:
    """`circles` as a finding, held against 5 % (coin flips show 25 %)."""
    found = circles(preferred, prompts, rng=rng)
    summary = f"{found.share} of {found.triples:,} triples are preferred in a circle; coin flips would show 0.250."
    severity = 10.0 * found.share.value
    return Finding("consistency", "circles", found.share, f"{SOME:.0%}", above(found.share, SOME), summary, severity=severity)
