"""What the questions of an audit share: the scorer with a memory, the texts, and the arrays that most of them need.

Legend: E natural exchanges, N labelled pairs, P prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from preferent.audits.battery import score_once
from preferent.audits.battery_settings import BatterySettings
from preferent.audits.counterfactual_stats import Scale
from preferent.audits.evaluate import evaluate
from preferent.audits.evaluation import Evaluation
from preferent.audits.hackability import TiltMaths
from preferent.audits.probe import BUILT_IN, AuditData
from preferent.core.errors import ConfigError
from preferent.core.estimates import cluster_codes
from preferent.core.records import Exchange, Floats, Scores
from preferent.core.scorer import Scorer

SLAB = 512


class Memo:
    """A scorer that remembers: each distinct text is asked for once, those of a prompt side by side.

    `progress` is called with the number of texts just scored. `seconds` and `n_scored` say what it took.
    """

    def __init__(self, scorer: Scorer, *, progress: Callable[[int], None] | None = None, name: str | None = None) -> None:
        self.name = name or scorer.name
        self.seconds = 0.0
        self._scorer = scorer
        self._progress = progress
        self._known: dict[Exchange, float] = {}

    @property
    def n_scored(self) -> int:
        return len(self._known)

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        """Raises ModelError for a reward that is not a finite number."""
        missing = [exchange for exchange in dict.fromkeys(exchanges) if exchange not in self._known]
        if missing:
            told = 0

            def tell(done: int, _: int) -> None:
                nonlocal told
                if self._progress is not None:
                    self._progress(done - told)
                told = done

            began = time.perf_counter()
            self._known.update(score_once(self._scorer, missing, slab=SLAB, progress=tell))
            self.seconds += time.perf_counter() - began
        return Scores(reward=np.array([self._known[exchange] for exchange in exchanges], dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes of people in groups on the pairs of the data: pair_V into `AuditData.preferences`; label_V 1 for a, 0 for b, 0.5 a tie."""

    pair_V: NDArray[np.int64]
    label_V: Floats
    group_V: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """seed: of everything drawn. battery: of the edits and blind spots. style_prompts: prompts of the style grid and of the rewordings.
    attack_prompts, rounds, width: the searches climb side by side on so many prompts, with rounds x width tries each. max_words: of the
    word search. n_resamples: of every bootstrap over means."""

    seed: int = 0
    battery: BatterySettings = field(default_factory=BatterySettings)
    style_prompts: int = 100
    attack_prompts: int = 32
    rounds: int = 8
    width: int = 6
    max_words: int = 40
    n_resamples: int = 2000

    def __post_init__(self) -> None:
        for name in ("style_prompts", "attack_prompts", "rounds", "width", "max_words"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)!r}: allowed are whole numbers from 1")


@dataclass(frozen=True)
class Subject:
    """One scorer on one set of texts. temperature: makes its margins probabilities. gold: a second opinion for best-of-n, with `maths`
    (`preferent.optimize.best_of_n`) to compute it. votes: people in groups, where known."""

    scorer: Memo
    data: AuditData
    settings: AuditSettings
    temperature: float = 1.0
    gold: Scorer | None = None
    maths: TiltMaths | None = None
    votes: Votes | None = None

    @property
    def by_construction(self) -> bool:
        """Whether the labels are ours (built-in probes) and not people's."""
        return self.data.source == BUILT_IN

    def rng(self, question: int) -> np.random.Generator:
        """A stream of its own for each question, so that `--only` changes no number."""
        return np.random.default_rng([self.settings.seed, 100 + question])

    @cached_property
    def reward_E(self) -> Floats:
        return self.scorer.score(self.data.exchanges).reward

    @cached_property
    def scale(self) -> Scale:
        """Spread of natural rewards within prompts: the unit of every effect."""
        return Scale.of(self.reward_E, self.data.prompt_E, self.data.n_prompts)

    @cached_property
    def margin_N(self) -> Floats:
        """Reward of a minus reward of b on every labelled pair, ties included."""
        sides = [side for pair in self.data.preferences for side in pair.exchanges()]
        reward = self.scorer.score(sides).reward
        return reward[0::2] - reward[1::2]

    @cached_property
    def p_N(self) -> Floats:
        return np.array([pair.p_a for pair in self.data.preferences], dtype=np.float64)

    @cached_property
    def weights_N(self) -> Floats:
        return np.array([pair.weight for pair in self.data.preferences], dtype=np.float64)

    @cached_property
    def codes_N(self) -> NDArray[np.int64]:
        return cluster_codes([pair.prompt for pair in self.data.preferences])

    @cached_property
    def chars_N2(self) -> Floats:
        rows = [(len(pair.response_a), len(pair.response_b)) for pair in self.data.preferences]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    @property
    def n_decided(self) -> int:
        """Labelled pairs that name a side."""
        return len(self.data.better_K)

    @cached_property
    def evaluation(self) -> Evaluation:
        """`evaluate` on the labelled pairs; needs at least one."""
        return evaluate(
            self.scorer,
            self.data.preferences,
            temperature=self.temperature,
            seed=self.settings.seed,
            n_resamples=self.settings.n_resamples,
        )

    def one_pair_each(self, limit: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(better, worse) rows of `data.exchanges`: the first decided pair of each of at most `limit` prompts drawn at random."""
        first: dict[int, tuple[int, int]] = {}
        for better, worse in zip(self.data.better_K.tolist(), self.data.worse_K.tolist(), strict=True):
            first.setdefault(int(self.data.prompt_E[better]), (better, worse))
        prompts = sorted(first)
        chosen = np.sort(rng.permutation(len(prompts))[:limit])
        return [first[prompts[int(k)]] for k in chosen]
