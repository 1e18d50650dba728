"""Rewards made safe to optimise: bounded shaping against a reference, and the policy that a KL penalty leads to.

Legend: P prompts, N responses per prompt, R references per prompt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logsumexp

from preferent.core.errors import ConfigError
from preferent.core.records import Floats


def par(reward_PN: ArrayLike, reference_PR: ArrayLike) -> Floats:
    """Preference As Reward (Fu et al. 2025): mean over references of sigmoid(reward - reference), in (0, 1), shape (P, N).

    It is the chance, by the model, that the response beats a reference response to the same prompt: steep where it matters, flat where
    only the model's error grows. `reference_PR`: rewards of responses of the policy that one starts from, on the same scale; one is
    enough. Order within a prompt stays: best-of-n is not changed by it, and a trainer that divides by each group's standard deviation
    undoes it. Raises ConfigError for unequal numbers of prompts or no reference.
    """
    reward_PN, reference_PR = np.asarray(reward_PN, dtype=np.float64), np.asarray(reference_PR, dtype=np.float64)
    if reward_PN.ndim != 2 or reference_PR.ndim != 2 or len(reward_PN) != len(reference_PR) or reference_PR.shape[1] == 0:
        raise ConfigError(f"par: needs rewards (P, N) and references (P, R) with R >= 1, got {reward_PN.shape} and {reference_PR.shape}")
    shaped = np.zeros_like(reward_PN)
    for column_P in reference_PR.T:
        shaped += expit(reward_PN - column_P[:, None])
    return shaped / reference_PR.shape[1]


def tilt(reward_PN: ArrayLike, beta: float) -> tuple[Floats, Floats]:
    """(weights (P, N) with rows of sum 1, KL in nats (P,)) of the policy that maximises E[reward] - beta KL(policy || the pool's).

    The optimum is known: each response of the pool weighted by exp(reward / beta) (Ziegler et al. 2019; Korbak et al. 2022). beta in
    units of the reward, > 0; towards 0 it becomes the single best of the pool. The KL is that from the pool's own draws, at most
    log N.
    """
    if not (np.isfinite(beta) and beta > 0.0):
        raise ConfigError(f"tilt: beta={beta!r}, allowed are numbers > 0")
    logit_PN = np.asarray(reward_PN, dtype=np.float64) / beta
    log_PN = logit_PN - logsumexp(logit_PN, axis=1, keepdims=True)
    weight_PN = np.exp(log_PN)
    kl_P = np.log(logit_PN.shape[1]) + (weight_PN * np.where(weight_PN > 0.0, log_PN, 0.0)).sum(axis=1)
    return weight_PN, np.maximum(kl_P, 0.0)
