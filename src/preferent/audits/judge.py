"""A judge of pairs: what it is, and how an audit asks it. Every pair is shown in both orders, and once.

A scorer of single responses has no positions and cannot prefer in circles; a judge that sees two responses at once (a language model
with a constitution, a pairwise reward model) can do both. Its preference between two texts is the mean over both orders, so that a lean
to one place is no preference for a text.

Legend: K pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from preferent.audits.battery_settings import BatterySettings
from preferent.audits.counterfactual_stats import Rows
from preferent.audits.probe import AuditData
from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Comparison, Exchange, Floats

SLAB = 256


@runtime_checkable
class PairwiseJudge(Protocol):
    """Anything that compares two responses to one prompt."""

    @property
    def name(self) -> str: ...

    def prefer(self, comparisons: Sequence[Comparison]) -> Floats:
        """The probability that `response_a` is the better one, shape (n,), in the order given; a is the one shown first."""
        ...


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """seed: of everything drawn. battery: of the edits and blind spots; its `smallest` is in probability here. pairs: natural pairs, at
    most. circle_prompts, circle_responses: in so many prompts with three responses or more, each of at most so many meets each."""

    seed: int = 0
    battery: BatterySettings = field(default_factory=lambda: BatterySettings(smallest=0.05, per_edit=40))
    pairs: int = 200
    circle_prompts: int = 40
    circle_responses: int = 4

    def __post_init__(self) -> None:
        for name, least in (("pairs", 1), ("circle_prompts", 1), ("circle_responses", 3)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)!r}: allowed are whole numbers from {least}")


@dataclass(frozen=True, slots=True)
class Duel:
    """Two responses to one prompt, which is number `prompt` of the data."""

    left: Exchange
    right: Exchange
    prompt: int


@dataclass(frozen=True, slots=True)
class Preferred:
    """What the judge says of K duels. first_K, second_K: probability of `left` when it is shown first, and when second."""

    first_K: Floats
    second_K: Floats

    @property
    def left_K(self) -> Floats:
        """Probability of `left` over both orders."""
        return (self.first_K + self.second_K) / 2

    @property
    def lean_K(self) -> Floats:
        """What being shown first is worth, in probability: 0 without a position bias, 0.5 for a judge that always takes the first."""
        return (self.first_K - self.second_K) / 2


class AskedJudge:
    """A judge that remembers: each ordered pair is asked for once. `n_asked` comparisons took `seconds`."""

    def __init__(self, judge: PairwiseJudge, *, progress: Callable[[int], None] | None = None) -> None:
        self.name = judge.name
        self.seconds = 0.0
        self._judge = judge
        self._progress = progress
        self._known: dict[tuple[Exchange, str], float] = {}

    @property
    def n_asked(self) -> int:
        return len(self._known)

    def ask(self, duels: Iterable[Duel]) -> None:
        """Put every pair that is not known yet to the judge, in both orders. Raises ModelError for an answer that is no probability."""
        missing = [pair for pair in dict.fromkeys(_orders(duels)) if pair not in self._known]
        for start in range(0, len(missing), SLAB):
            part = missing[start : start + SLAB]
            began = time.perf_counter()
            self._known.update(zip(part, self._answers(part, start), strict=True))
            self.seconds += time.perf_counter() - began
            if self._progress is not None:
                self._progress(len(part))

    def preferred(self, duels: Sequence[Duel]) -> Preferred:
        """Raises ModelError as `ask`."""
        self.ask(duels)
        first_K = [self._known[(duel.left, duel.right.response)] for duel in duels]
        second_K = [1.0 - self._known[(duel.right, duel.left.response)] for duel in duels]
        return Preferred(np.array(first_K, dtype=np.float64), np.array(second_K, dtype=np.float64))

    def _answers(self, pairs: Sequence[tuple[Exchange, str]], start: int) -> list[float]:
        asked = [
            Comparison(id=str(start + k), prompt=shown.prompt, response_a=shown.response, response_b=other)
            for k, (shown, other) in enumerate(pairs)
        ]
        p_N = np.asarray(self._judge.prefer(asked), dtype=np.float64)
        if p_N.shape != (len(asked),):
            raise ModelError(f"{self.name!r} must give one probability for each of {len(asked)} comparisons, got shape {p_N.shape}")
        bad = np.flatnonzero(~((p_N >= 0) & (p_N <= 1)))
        if len(bad):
            texts = f"{asked[bad[0]].response_a[:40]!r} against {asked[bad[0]].response_b[:40]!r}"
            raise ModelError(f"{self.name!r} must give probabilities in [0, 1], and gave {p_N[bad[0]]!r} for {texts}")
        return p_N.tolist()


def _orders(duels: Iterable[Duel]) -> Iterable[tuple[Exchange, str]]:
    for duel in duels:
        yield duel.left, duel.right.response
        yield duel.right, duel.left.response


def natural_duels(data: AuditData, most: int, rng: np.random.Generator) -> list[Duel]:
    """Pairs of responses to one prompt in random order, round robin over prompts. Labelled ones where there are any, the better left."""
    if len(data.better_K):
        edges = np.stack([data.better_K, data.worse_K], axis=1)
        per_prompt = [edges[data.prompt_E[edges[:, 0]] == prompt] for prompt in range(data.n_prompts)]
    else:
        per_prompt = [_all_pairs(data.rows_of(prompt)) for prompt in range(data.n_prompts)]
    order = [rng.permutation(len(pairs)) for pairs in per_prompt]
    chosen = [
        (*per_prompt[prompt][order[prompt][place]], prompt)
        for place in range(max(map(len, per_prompt), default=0))
        for prompt in rng.permutation(data.n_prompts)
        if place < len(per_prompt[prompt])
    ][:most]
    return [Duel(data.exchanges[a], data.exchanges[b], int(prompt)) for a, b, prompt in chosen]


def _all_pairs(rows: Rows) -> Rows:
    return np.array([(i, j) for i in rows for j in rows if i < j], dtype=np.int64).reshape(-1, 2)
