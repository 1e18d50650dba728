"""What joint training has learned of the annotators: slope and position bias of each, with intervals.

Legend: E edges, A annotators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from preferent.core.records import Floats, Preference, Ranking, Rating, Vote
from preferent.training.config import Joint

NAME = "annotators.jsonl"
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Skill:
    """One annotator. slope: how far a vote follows the rewards: 1 is the crowd's mean, 0 does not look, below 0 votes against them.
    position: logits for the response that was shown first. 95 % intervals; `flags` says what they exclude."""

    annotator_id: str
    votes: int
    slope: float
    slope_low: float
    slope_high: float
    position: float
    position_low: float
    position_high: float
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "flags": list(self.flags)}


def annotators_of(records: Iterable[Preference | Ranking | Rating | Vote]) -> tuple[str, ...]:
    """Everybody who voted, sorted."""
    return tuple(sorted({record.annotator_id for record in records if isinstance(record, Vote)}))


def skills(names: Sequence[str], margin_E: Floats, annotator_E: Any, first_E: Floats, p_E: Floats, prior: Joint) -> tuple[Skill, ...]:
    """The most probable traits given the finished rewards, with intervals by Laplace's approximation; the rewards are held fixed.

    margin_E, annotator_E, first_E, p_E: reward difference, annotator, display order and label of the votes that were trained on. Fitted
    anew, since the traits that training went along with trail behind rewards that still moved.
    """
    known_E = annotator_E >= 0
    who_E, p_E = annotator_E[known_E], p_E[known_E]
    x_E2 = np.stack([margin_E[known_E], first_E[known_E]], axis=1)
    trait_A2, half_A2 = _fit(x_E2, p_E, who_E, len(names), prior)
    votes_A = np.bincount(who_E, minlength=len(names))
    return tuple(
        _skill(name, int(votes_A[a]), (float(trait_A2[a, 0]), float(half_A2[a, 0])), (float(trait_A2[a, 1]), float(half_A2[a, 1])))
        for a, name in enumerate(names)
    )


def _fit(x_E2: Floats, p_E: Floats, who_E: Any, n: int, prior: Joint) -> tuple[Floats, Floats]:
    """(traits, half widths of their intervals), both (A, 2): a logistic regression for every annotator, all at once, by Newton's method.

    The log posterior is concave; a step is halved for those whose posterior it would lower.
    """
    precision_2: Floats = np.array([prior.slope_sd**-2.0, prior.position_sd**-2.0])
    mean_2: Floats = np.array([1.0, 0.0])

    def log_posterior(trait_A2: Floats) -> Floats:
        logit_E = (x_E2 * trait_A2[who_E]).sum(1)
        log_p_E = -p_E * np.logaddexp(0.0, -logit_E) - (1.0 - p_E) * np.logaddexp(0.0, logit_E)
        return np.asarray(np.bincount(who_E, log_p_E, n), dtype=np.float64) - 0.5 * (precision_2 * (trait_A2 - mean_2) ** 2).sum(1)

    trait_A2 = np.tile(mean_2, (n, 1))
    value_A = log_posterior(trait_A2)
    for _ in range(100):
        fitted_E = expit((x_E2 * trait_A2[who_E]).sum(1))
        slope_A2 = np.stack([np.bincount(who_E, (p_E - fitted_E) * x_E2[:, k], n) for k in (0, 1)], axis=1)
        slope_A2 -= precision_2 * (trait_A2 - mean_2)
        step_A2 = np.linalg.solve(_information(x_E2, fitted_E, who_E, n, precision_2), slope_A2[:, :, None])[:, :, 0]
        trial_A = log_posterior(trait_A2 + step_A2)
        while (worse_A := trial_A < value_A - 1e-9).any():
            step_A2[worse_A] *= 0.5
            trial_A = log_posterior(trait_A2 + step_A2)
        trait_A2, value_A = trait_A2 + step_A2, trial_A
        if np.abs(step_A2).max(initial=0.0) < 1e-8:
            break
    information_A22 = _information(x_E2, expit((x_E2 * trait_A2[who_E]).sum(1)), who_E, n, precision_2)
    return trait_A2, Z95 * np.sqrt(np.linalg.inv(information_A22)[:, [0, 1], [0, 1]])


def _information(x_E2: Floats, fitted_E: Floats, who_E: Any, n: int, precision_2: Floats) -> Floats:
    information_A22 = np.empty((n, 2, 2))
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        information_A22[:, i, j] = np.bincount(who_E, fitted_E * (1.0 - fitted_E) * x_E2[:, i] * x_E2[:, j], n)
    return information_A22 + np.diag(precision_2)


def _skill(name: str, votes: int, slope: tuple[float, float], position: tuple[float, float]) -> Skill:
    flags = []
    if slope[0] + slope[1] < 0.0:
        flags.append("adversary: votes against what the others prefer")
    elif slope[0] + slope[1] < 0.5:
        flags.append("spammer: votes have little to do with what the others prefer")
    if abs(position[0]) > position[1]:
        flags.append(f"position: prefers what is shown {'first' if position[0] > 0 else 'second'}")
    low, high = slope[0] - slope[1], slope[0] + slope[1]
    return Skill(name, votes, slope[0], low, high, position[0], position[0] - position[1], position[0] + position[1], tuple(flags))
