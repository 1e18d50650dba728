"""Crowds for the replies world: annotators who weigh the five objectives in their own way, with faults of a known size.

On top of `annotators/simulate.py` (noise that grows as the gap shrinks, length and position bias, ties, spammers, adversaries) a crowd
has weights of its own over the objectives, a liking for lists, and answers that are turned round on the way to the file.

Legend: N comparisons, A annotators, V votes, O the five objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from preferent.annotators.simulate import Annotator, Population, sample_annotators, simulate
from preferent.core.errors import ConfigError
from preferent.core.records import Comparison, Exchange, Floats, Judgment
from preferent.lab.policy import Truth, log_length
from preferent.lab.replies import OBJECTIVES, WEIGHTS, gold

TRUE_WEIGHTS = np.array([WEIGHTS[name] for name in OBJECTIVES])
TURNED = {"a": "b", "b": "a"}


@dataclass(frozen=True, slots=True)
class Crowd:
    """Where judges come from. population: skill, biases, spammers, adversaries. taste: 0, everybody weighs the objectives as the true
    reward does; t > 0, each draws weights from a Dirichlet around the true ones w with concentration 1 / t (variance of each:
    w (1 - w) t / (1 + t)). list_bias: logits for the side that is a list, where only one is. flip: chance that an answer
    is turned round at random, whoever gave it.
    """

    population: Population = field(default_factory=Population)
    taste: float = 0.0
    list_bias: float = 0.0
    flip: float = 0.0

    def __post_init__(self) -> None:
        if not (self.taste >= 0.0 and 0.0 <= self.flip < 0.5):
            raise ConfigError(f"Crowd(taste={self.taste!r}, flip={self.flip!r}): allowed are taste >= 0 and flip in [0, 0.5)")


@dataclass(frozen=True, slots=True)
class Judge:
    """One annotator of a crowd; weights_O sum to 1."""

    annotator: Annotator
    weights_O: Floats
    list_bias: float = 0.0

    def __post_init__(self) -> None:
        if self.weights_O.shape != TRUE_WEIGHTS.shape:
            raise ConfigError(f"Judge {self.annotator.id!r}: {self.weights_O.shape} weights, needs one for each of {OBJECTIVES}")


def sample_judges(n: int, crowd: Crowd, rng: np.random.Generator) -> list[Judge]:
    """n judges. Raises ConfigError when spammers and adversaries are more than everybody."""
    annotators = sample_annotators(n, crowd.population, rng)
    weights_AO = np.tile(TRUE_WEIGHTS, (n, 1)) if crowd.taste == 0.0 else rng.dirichlet(TRUE_WEIGHTS / crowd.taste, n)
    return [
        Judge(annotator, weights_O, crowd.list_bias if annotator.kind == "honest" else 0.0)
        for annotator, weights_O in zip(annotators, weights_AO, strict=True)
    ]


def judge(
    comparisons: Sequence[Comparison],
    judges: Sequence[Judge],
    *,
    votes: int,
    rng: np.random.Generator,
    truth: Truth | None = None,
    flip: float = 0.0,
) -> list[Judgment]:
    """Judgments of `votes` different judges, drawn at random, on each comparison, comparison by comparison.

    A judge's utility is its own weighted sum of the objectives, minus the world's cost of padding, plus what `truth` pays for length.
    Raises ConfigError when there are fewer judges than votes, DataError for comparisons of another world.
    """
    if not 1 <= votes <= len(judges):
        raise ConfigError(f"judge: votes={votes!r}, allowed are 1 to {len(judges)} (the judges)")
    gap_NO, rest_N, lists_N = _gaps(comparisons, truth or Truth())
    who_NV = np.argsort(rng.random((len(comparisons), len(judges))), axis=1)[:, :votes]
    given: dict[tuple[int, int], Judgment] = {}
    for a, one in enumerate(judges):
        rows = np.flatnonzero((who_NV == a).any(axis=1))
        gap_R = gap_NO[rows] @ one.weights_O + rest_N[rows]
        if one.list_bias and one.annotator.skill > 0.0:
            gap_R = gap_R + one.list_bias / one.annotator.skill * lists_N[rows]
        own = [comparisons[row] for row in rows.tolist()]
        found = simulate(own, gap_R, np.zeros(len(rows)), [one.annotator], votes_per_comparison=1, rng=rng) if own else []
        given |= {(row, a): judgment for row, judgment in zip(rows.tolist(), found, strict=True)}
    answers = [given[row, a] for row, judges_of_row in enumerate(who_NV.tolist()) for a in judges_of_row]
    turned_V = rng.random(len(answers)) < flip
    return [_turned(answer) if turned else answer for answer, turned in zip(answers, turned_V, strict=True)]


def _gaps(comparisons: Sequence[Comparison], truth: Truth) -> tuple[Floats, Floats, Floats]:
    """(objectives of a minus b (N, O), what all judges add to the gap (N,), lists of a minus lists of b (N,))."""
    sides = [
        [Exchange(prompt=c.prompt, response=c.response_a) for c in comparisons],
        [Exchange(prompt=c.prompt, response=c.response_b) for c in comparisons],
    ]
    rows = [[gold(exchange) for exchange in side] for side in sides]
    value_2NO = np.array([[[getattr(row, name) for name in OBJECTIVES] for row in side] for side in rows]).reshape(2, -1, len(OBJECTIVES))
    total_2N = np.array([[row.total for row in side] for side in rows])
    rest_2N = total_2N - value_2NO @ TRUE_WEIGHTS
    if truth.length_value:
        rest_2N = rest_2N + truth.length_value * np.stack([log_length([one.response for one in side]) for side in sides])
    lists_2N = np.array([["\n- " in f"\n{exchange.response}" for exchange in side] for side in sides], dtype=np.float64)
    return value_2NO[0] - value_2NO[1], rest_2N[0] - rest_2N[1], lists_2N[0] - lists_2N[1]


def _turned(answer: Judgment) -> Judgment:
    return answer.model_copy(update={"choice": TURNED.get(answer.choice, answer.choice)})
