"""What the numbers say, in words that claim no more than the intervals allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from preferent.core.estimates import Estimate

if TYPE_CHECKING:
    from preferent.audits.evaluation import Evaluation

LONGER, SHORTER = "'the longer side wins'", "'the shorter side wins'"
COIN = float(np.log(2.0))


def compare(difference: Estimate, baseline: str) -> str:
    """'beats X by +0.1 [..]', 'is worse than X', or 'does not beat X' when the interval of the paired difference holds 0."""
    spread = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    if np.isnan(difference.low):
        return f"cannot be compared with {baseline} ({difference.method})"
    if difference.low > 0:
        return f"beats {baseline} by {spread}"
    if difference.high < 0:
        return f"is worse than {baseline} by {spread}"
    return f"does not beat {baseline}: the difference {spread} may be 0"


def brief(estimate: Estimate) -> str:
    """The value, with its interval if it has one."""
    return f"{estimate.value:.3f}" if np.isnan(estimate.low) else str(estimate)


def verdict(evaluation: Evaluation) -> tuple[str, ...]:
    """The sentences at the top of a report: the accuracy, then one for each baseline, then one on the probabilities."""
    numbers = evaluation.numbers
    accuracy = numbers["accuracy"]
    if np.isnan(accuracy.value):
        return (f"Accuracy cannot be given: {accuracy.method}; every label is a tie.",)
    lines = [f"Accuracy {brief(accuracy)} on {accuracy.n:,} pairs."]
    lines.append(f"It {compare(numbers['minus_longer'], LONGER)} (right {brief(numbers['longer_side'])}).")
    if "minus_shorter" in numbers:
        lines.append(f"The shorter side is right more often here; it {compare(numbers['minus_shorter'], SHORTER)}.")
    if "minus_annotator" in numbers:
        lines.append(f"It {compare(numbers['minus_annotator'], 'one held-out annotator')} (right {brief(numbers['annotator'])}).")
    else:
        lines.append("It cannot be compared with a held-out annotator: no pair has two votes.")
    lines.append(_probabilities(numbers["nll"], numbers["ece"], numbers["ece_noise"]))
    return tuple(lines)


def _probabilities(nll: Estimate, ece: Estimate, noise: Estimate) -> str:
    """NLL against a coin flip, and ECE against what chance alone would show."""
    if np.isnan(nll.low):
        against = f"NLL {brief(nll)}"
    elif nll.high < COIN:
        against = f"NLL {brief(nll)} is better than a coin flip (0.693)"
    elif nll.low > COIN:
        against = f"NLL {brief(nll)} is worse than a coin flip (0.693): the probabilities are over-confident, or the order is wrong"
    else:
        against = f"NLL {brief(nll)} is not distinguishable from a coin flip (0.693)"
    if np.isnan(noise.high):
        return f"{against}; ECE {brief(ece)}."
    if ece.value <= noise.high:
        return f"{against}; ECE {ece.value:.3f} is what a perfectly calibrated scorer would show on these pairs (up to {noise.high:.3f})."
    return (
        f"{against}; ECE {brief(ece)} is more than chance would show ({noise.value:.3f}, up to {noise.high:.3f}): a temperature may help."
    )
