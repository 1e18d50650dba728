"""Ways to make a learned reward harder to over-optimise, each as a function of what one seed offers; pure orchestration.

Legend: P prompts, N replies per prompt, E members of an ensemble, K values of n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preferent.core.errors import ConfigError
from preferent.core.records import Floats, Preference


def on_one_scale(proxy_EPN: Floats) -> Floats:
    """Rewards of each member less its mean for the prompt, over its own spread within prompts: scales of members mean nothing.

    Mean and spread are those of the pool, that is of the policy that one starts from.
    """
    centred = proxy_EPN - proxy_EPN.mean(axis=2, keepdims=True)
    spread = centred.std(axis=(1, 2), keepdims=True)
    return centred / np.where(spread > 0.0, spread, 1.0)


def combine(proxy_EPN: Floats, how: str, *, caution: float = 0.5) -> Floats:
    """One reward of an ensemble on one scale (Coste et al. 2023): `mean`, `worst` (WCO: the lowest member) or `uncertainty`
    (UWO: mean - caution * variance of the members)."""
    if how == "mean":
        return proxy_EPN.mean(axis=0)
    if how == "worst":
        return proxy_EPN.min(axis=0)
    if how == "uncertainty":
        return proxy_EPN.mean(axis=0) - caution * proxy_EPN.var(axis=0)
    raise ConfigError(f"ensemble: {how!r}, allowed are mean, worst, uncertainty")


def resampled(preferences: Sequence[Preference], rng: np.random.Generator) -> list[Preference]:
    """As many preferences, drawn with replacement: what makes members of a convex model differ at all."""
    return [preferences[int(i)] for i in rng.integers(0, len(preferences), len(preferences))]


def off_prompt(preferences: Sequence[Preference], rng: np.random.Generator) -> list[Preference]:
    """The preferences with off-prompt and neutral ones beside them (RRM, Liu et al. 2024, table 1).

    For each one, with another drawn at random: each of its responses beats the other's preferred response under this prompt, and the
    other's two responses tie under it, since neither answers it. What does not depend on the prompt (length, manner) can then not
    explain the labels. Weights are such that the added ones weigh as much as the given ones together.
    """
    n = len(preferences)
    added = []
    shift = rng.permutation(n)
    for i, one in enumerate(preferences):
        other = preferences[int(shift[i])]
        if other.prompt == one.prompt:
            continue
        liked = other.response_a if other.p_a >= 0.5 else other.response_b
        weight = one.weight / 3.0
        cases = (
            (one.response_a, liked, 1.0, "off-prompt"),
            (one.response_b, liked, 1.0, "off-prompt"),
            (other.response_a, other.response_b, 0.5, "neutral"),
        )
        added += [
            Preference(prompt=one.prompt, response_a=a, response_b=b, p_a=p_a, weight=weight, source=source) for a, b, p_a, source in cases
        ]
    return [*preferences, *added]


def decided(preferences: Sequence[Preference]) -> list[Preference]:
    """Soft labels turned hard: the majority's word, ties stay ties."""
    return [one.model_copy(update={"p_a": float(np.sign(one.p_a - 0.5) + 1.0) / 2.0}) for one in preferences]
