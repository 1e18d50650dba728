"""The multiplier of a cost by dual ascent (Dai et al. 2023, "Safe RLHF", eq. 9 and 11), before any policy is trained.

Among the responses that the data hold for a prompt the reward chooses by softmax((r - lambda c) / temperature): the policy that
maximises the mean of r - lambda c less temperature times its divergence from the uniform choice. Of this policy the mean cost J(lambda)
is exact, and lambda <- max(0, lambda + rate (J - budget)) climbs the dual, which is concave with the slope J - budget.

Legend: R responses, P prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.core.records import Floats

# A multiplier beyond this is taken for none: the budget cannot be met.
LARGEST = 100.0
TOLERANCE = 1e-6
MOST_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class Multiplier:
    """value: lambda >= 0. expected_cost: J there. unconstrained_cost: J(0). least_cost: of always choosing the cheapest response.
    feasible: whether the budget can be met at all; if not, value is the bound of the search. steps: of the ascent; converged: whether J
    meets the budget to 1e-6 (or lambda is 0 and J below it)."""

    value: float
    expected_cost: float
    unconstrained_cost: float
    least_cost: float
    feasible: bool
    steps: int
    converged: bool


def mean_cost(reward_R: Floats, cost_R: Floats, prompt_R: NDArray[np.int64], multiplier: float, temperature: float = 1.0) -> float:
    """J: mean over prompts of the mean cost under softmax((r - multiplier c) / temperature) over the prompt's responses."""
    return _costs(reward_R, cost_R, prompt_R, multiplier, temperature)[0]


def dual_ascent(reward_R: Floats, cost_R: Floats, prompt_R: NDArray[np.int64], *, budget: float, temperature: float = 1.0) -> Multiplier:
    """The multiplier under which the mean cost stays within the budget.

    prompt_R: a number from 0 for each response's prompt. The rate starts at one over the largest curvature the dual can have, so that a
    step never overshoots, and doubles while steps stay on one side of the budget. Raises ValueError without responses.
    """
    if not len(reward_R):
        raise ValueError("a multiplier needs responses with their costs")
    least = np.full(int(prompt_R.max()) + 1, np.inf)
    np.minimum.at(least, prompt_R, cost_R)
    least_cost = float(least.mean())
    start = mean_cost(reward_R, cost_R, prompt_R, 0.0, temperature)
    if start <= budget:
        return Multiplier(0.0, start, start, least_cost, True, 0, True)
    spread = float(np.ptp(cost_R))
    rate = 4.0 * temperature / max(spread, 1e-12) ** 2
    value, cost, steps = 0.0, start, 0
    while steps < MOST_STEPS and abs(cost - budget) > TOLERANCE and (value < LARGEST or cost < budget):
        steps += 1
        proposed = min(LARGEST, max(0.0, value + rate * (cost - budget)))
        after = mean_cost(reward_R, cost_R, prompt_R, proposed, temperature)
        if (after - budget) * (cost - budget) < 0.0 and abs(after - budget) > 0.5 * abs(cost - budget):
            rate *= 0.5  # across the budget and hardly nearer: that was too far
            continue
        rate *= 1.5 if (after - budget) * (cost - budget) > 0.0 else 1.0
        value, cost = proposed, after
    met = abs(cost - budget) <= TOLERANCE
    return Multiplier(value, cost, start, least_cost, least_cost <= budget, steps, met)


def _costs(reward_R: Floats, cost_R: Floats, prompt_R: NDArray[np.int64], multiplier: float, temperature: float) -> tuple[float, Floats]:
    logit_R = (reward_R - multiplier * cost_R) / temperature
    n = int(prompt_R.max()) + 1
    most_P = np.full(n, -np.inf)
    np.maximum.at(most_P, prompt_R, logit_R)
    weight_R = np.exp(logit_R - most_P[prompt_R])
    cost_P = np.bincount(prompt_R, weight_R * cost_R, n) / np.bincount(prompt_R, weight_R, n)
    return float(cost_P.mean()), cost_P
