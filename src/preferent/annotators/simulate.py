"""Simulated annotators: judgments from true utilities, with faults of a known size.

An annotator looks at a comparison through

    d = skill * (gold_a - gold_b) + length_bias * (log length_a - log length_b) + position_bias

and answers a, b or tie with Davidson's model (1970): weights exp(d / 2), exp(-d / 2) and `tie`. Without ties this is the logistic
(Bradley-Terry) annotator: sure where the gap is wide, close to guessing where it is narrow. Lengths are in characters.

Legend: N comparisons, A annotators, V votes (N times votes per comparison).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preferent.core.errors import ConfigError
from preferent.core.records import Comparison, Floats, Judgment

Kind = Literal["honest", "spammer", "adversary"]
CHOICES: tuple[Literal["a", "b", "tie", "skip"], ...] = ("a", "b", "tie", "skip")
_CELLS = 4_000_000  # random keys held at once while annotators are assigned


@dataclass(frozen=True, slots=True)
class Annotator:
    """One simulated annotator.

    skill: logits per unit of true utility (negative: an adversary, zero: a guesser). length_bias: logits per unit of log length in
    favour of the longer side. position_bias: logits in favour of side a. tie: Davidson's ν >= 0, the weight of a tie against the
    geometric mean of both sides. skip: chance of no answer.
    """

    id: str
    skill: float
    length_bias: float = 0.0
    position_bias: float = 0.0
    tie: float = 0.0
    skip: float = 0.0
    kind: Kind = "honest"

    def __post_init__(self) -> None:
        if not self.tie >= 0.0:
            raise ConfigError(f"Annotator {self.id!r}: tie={self.tie!r}, allowed are numbers >= 0")
        if not 0.0 <= self.skip < 1.0:
            raise ConfigError(f"Annotator {self.id!r}: skip={self.skip!r}, allowed are numbers in [0, 1)")


def spammer(id: str, *, position_bias: float = 0.0, tie: float = 0.0) -> Annotator:
    """Answers without reading."""
    return Annotator(id, 0.0, position_bias=position_bias, tie=tie, kind="spammer")


def adversary(id: str, *, skill: float, tie: float = 0.0) -> Annotator:
    """Knows what is better and says the opposite; `skill` > 0."""
    return Annotator(id, -abs(skill), tie=tie, kind="adversary")


@dataclass(frozen=True, slots=True)
class Population:
    """Where annotators come from. Skill is log-normal around its median `skill` with `skill_spread` in log units; biases are normal
    around their means; `spammers` and `adversaries` are shares, rounded to whole annotators."""

    skill: float = 8.0
    skill_spread: float = 0.3
    length_bias: float = 0.0
    length_spread: float = 0.0
    position_bias: float = 0.0
    position_spread: float = 0.0
    tie: float = 0.0
    skip: float = 0.0
    spammers: float = 0.0
    adversaries: float = 0.0


def sample_annotators(n: int, population: Population, rng: np.random.Generator) -> list[Annotator]:
    """n annotators `ann-0` .. in random order of kinds.

    Raises ConfigError when spammers and adversaries are more than everybody.
    """
    n_spammers, n_adversaries = round(n * population.spammers), round(n * population.adversaries)
    if min(n_spammers, n_adversaries) < 0 or n_spammers + n_adversaries > n:
        raise ConfigError(
            f"Population(spammers={population.spammers!r}, adversaries={population.adversaries!r}): shares in [0, 1], sum <= 1"
        )
    names: tuple[Kind, ...] = ("spammer", "adversary", "honest")
    counts = (n_spammers, n_adversaries, n - n_spammers - n_adversaries)
    kinds = [kind for kind, count in zip(names, counts, strict=True) for _ in range(count)]
    skill_A = population.skill * np.exp(rng.normal(0.0, population.skill_spread, n))
    length_A = rng.normal(population.length_bias, population.length_spread, n)
    position_A = rng.normal(population.position_bias, population.position_spread, n)
    annotators = []
    for i, j in enumerate(rng.permutation(n)):
        name, skill, position = f"ann-{i}", float(skill_A[i]), float(position_A[i])
        if kinds[j] == "spammer":
            annotators.append(spammer(name, position_bias=position, tie=population.tie))
        elif kinds[j] == "adversary":
            annotators.append(adversary(name, skill=skill, tie=population.tie))
        else:
            annotators.append(Annotator(name, skill, float(length_A[i]), position, population.tie, population.skip))
    return annotators


def choice_probabilities(logit_V: ArrayLike, tie_V: ArrayLike = 0.0, skip_V: ArrayLike = 0.0) -> Floats:
    """Chances of a, b, tie and skip, shape (V, 4), rows sum to 1; `logit_V` is d above. Davidson (1970), eq. for three outcomes."""
    logit_V, tie_V, skip_V = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (logit_V, tie_V, skip_V)))
    half_V = np.abs(logit_V) / 2
    # Divided by the larger of the two exponentials, so that nothing overflows.
    weaker_V, tied_V = np.exp(-2 * half_V), tie_V * np.exp(-half_V)
    ahead_V = logit_V >= 0
    weight_V3 = np.stack([np.where(ahead_V, 1.0, weaker_V), np.where(ahead_V, weaker_V, 1.0), tied_V], axis=-1)
    answered_V3 = weight_V3 / weight_V3.sum(-1, keepdims=True) * (1.0 - skip_V)[..., None]
    return np.concatenate([answered_V3, skip_V[..., None]], axis=-1)


def simulate(
    comparisons: Sequence[Comparison],
    gold_a: ArrayLike,
    gold_b: ArrayLike,
    annotators: Sequence[Annotator],
    *,
    votes_per_comparison: int,
    rng: np.random.Generator,
) -> list[Judgment]:
    """Judgments of `votes_per_comparison` different annotators, drawn at random, on each comparison.

    gold_a, gold_b: true utilities of both sides, shape (N,), finite. The judgments come comparison by comparison. Raises ConfigError
    when shapes differ, a utility is not finite, or there are fewer annotators than votes.
    """
    gold_aN, gold_bN = np.asarray(gold_a, dtype=np.float64), np.asarray(gold_b, dtype=np.float64)
    if not gold_aN.shape == gold_bN.shape == (len(comparisons),):
        raise ConfigError(
            f"simulate: {len(comparisons)} comparisons need as many utilities, got shapes {gold_aN.shape} and {gold_bN.shape}"
        )
    if not np.isfinite(gold_aN - gold_bN).all():
        raise ConfigError(f"simulate: utilities must be finite; row {int(np.argmin(np.isfinite(gold_aN - gold_bN)))} is not")
    if not 1 <= votes_per_comparison <= len(annotators):
        raise ConfigError(f"simulate: votes_per_comparison={votes_per_comparison!r}, allowed are 1 to {len(annotators)} (the annotators)")
    who_V = _assign(len(comparisons), len(annotators), votes_per_comparison, rng)
    what_V = np.repeat(np.arange(len(comparisons)), votes_per_comparison)
    length_N = _log_length([c.response_a for c in comparisons]) - _log_length([c.response_b for c in comparisons])
    skill_A, bias_A, position_A, tie_A, skip_A = _columns(annotators)
    logit_V = skill_A[who_V] * (gold_aN - gold_bN)[what_V] + bias_A[who_V] * length_N[what_V] + position_A[who_V]
    cumulative_V4 = np.cumsum(choice_probabilities(logit_V, tie_A[who_V], skip_A[who_V]), axis=1)
    choice_V = (rng.random((len(who_V), 1)) >= cumulative_V4[:, :3]).sum(axis=1)
    return [
        Judgment(comparison_id=comparisons[what].id, annotator_id=annotators[who].id, choice=CHOICES[choice])
        for what, who, choice in zip(what_V.tolist(), who_V.tolist(), choice_V.tolist(), strict=True)
    ]


def _columns(annotators: Sequence[Annotator]) -> tuple[Floats, ...]:
    rows = [(one.skill, one.length_bias, one.position_bias, one.tie, one.skip) for one in annotators]
    return tuple(np.array(rows, dtype=np.float64).T)


def _log_length(texts: Sequence[str]) -> Floats:
    return np.log(np.array([max(1, len(text)) for text in texts], dtype=np.float64))


def _assign(n: int, n_annotators: int, votes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which annotator gives each vote, shape (n * votes,): different ones for each comparison, all subsets equally likely."""
    slab = max(1, _CELLS // n_annotators)
    chosen = [np.argsort(rng.random((min(slab, n - start), n_annotators)), axis=1)[:, :votes].ravel() for start in range(0, n, slab)]
    return np.concatenate(chosen).astype(np.int64) if chosen else np.zeros(0, dtype=np.int64)
