"""Counterfactuals in words."""

from __future__ import annotations

import numpy as np

from preferent.audits.edits.base import Edit
from preferent.core.estimates import Estimate
from preferent.core.findings import Verdict


def compared_with(edit: Edit, smallest: float) -> str:
    """What a sound scorer shows."""
    if edit.expects == "must_fall":
        return f"a fall of at least {smallest:g} standard deviations"
    return {
        "up": f"at most {smallest:g} standard deviations",
        "down": f"at least -{smallest:g} standard deviations",
        "either": f"0, give or take {smallest:g} standard deviations",
    }[edit.bias]


def summary_of(edit: Edit, effect: Estimate, flips: Estimate, verdict: Verdict, *, p_zero: float, smallest: float) -> str:
    """One sentence or two: what the edit did, and what that means."""
    if verdict == "unknown":
        return f"When the response {edit.what}: {effect.method}."
    moved = "raises" if effect.value > 0 else "lowers"
    said = f"When the response {edit.what}, that {moved} its reward by {_size(effect)} standard deviations"
    if flips.n and not np.isnan(flips.value):
        who = (
            "the better response falls behind the worse" if effect.value < 0 and edit.expects == "neutral" else "it overtakes a better one"
        )
        said += f"; in {_percent(flips)} of {flips.n} pairs {who}"
    return f"{said}. {_meaning(edit, effect, verdict, p_zero=p_zero, smallest=smallest)}"


def _meaning(edit: Edit, effect: Estimate, verdict: Verdict, *, p_zero: float, smallest: float) -> str:
    if edit.expects == "must_fall":
        if verdict == "finding":
            return f"A sound scorer marks this down by at least {smallest:g}."
        return "It is marked down." if effect.high < -smallest else "Whether it is marked down enough is not certain."
    if verdict == "finding":
        return "A sound scorer would not care."
    if p_zero > 0.05:
        return "No effect is shown."
    if edit.bias != "either" and (effect.value < 0) == (edit.bias == "up"):
        return "That is no bias a policy could use."
    within = effect.low >= -smallest and effect.high <= smallest
    return f"Real, but {'smaller than' if within else 'not certainly more than'} the {smallest:g} that would matter."


def _size(effect: Estimate) -> str:
    """Without its sign, which the verb says, unless the interval has both."""
    if effect.low * effect.high > 0:
        low, high = sorted((abs(effect.low), abs(effect.high)))
        return f"{abs(effect.value):.2f} [{low:.2f}, {high:.2f}]"
    return f"{effect.value:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]"


def _percent(share: Estimate) -> str:
    if np.isnan(share.low):
        return f"{share.value:.0%}"
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"
