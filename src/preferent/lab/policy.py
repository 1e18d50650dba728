"""A policy of the replies world whose quality is a setting, and pools of its replies with their true rewards.

`RepliesWorld.responses` gives *different* replies; a policy draws independently, so a reply may come twice. Best-of-n is about the latter.

Legend: P prompts, N replies per prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from preferent.core.errors import ConfigError
from preferent.core.records import Comparison, Exchange, Floats, Prompt
from preferent.lab.replies import OBJECTIVES, gold
from preferent.lab.requests import read_request
from preferent.lab.writing import Knobs, write_reply

LEVELS = (0.0, 0.34, 0.5, 0.67)
# Filler sentences of a reply, 0 to 14: a heavier tail than the demo's, since thousands of draws reach into it.
FILLER_SHARES = (0.415, 0.166, 0.083, 0.055, 0.046, 0.037, 0.028, 0.028, 0.023, 0.023, 0.023, 0.023, 0.018, 0.018, 0.014)


@dataclass(frozen=True, slots=True)
class Policy:
    """How replies are written. flaw: the least chance that an objective falls short of full; each reply has its own chance, uniform
    between `flaw` and 1, so that careful and careless writers occur. filler: shares of 0, 1, 2 ... filler sentences."""

    flaw: float = 0.3
    filler: tuple[float, ...] = FILLER_SHARES

    def __post_init__(self) -> None:
        if not 0.0 <= self.flaw < 1.0:
            raise ConfigError(f"Policy.flaw={self.flaw!r}: allowed are numbers in [0, 1)")

    def knobs(self, rng: np.random.Generator) -> Knobs:
        """The qualities of one reply."""
        flawed_5 = rng.random(5) < self.flaw + (1.0 - self.flaw) * rng.random()
        level_5 = [LEVELS[int(i)] for i in rng.integers(0, len(LEVELS), 5)]
        values = {name: level if flawed else 1.0 for name, level, flawed in zip(OBJECTIVES, level_5, flawed_5, strict=True)}
        cumulative = np.cumsum(self.filler)
        return Knobs(**values, filler=int(np.searchsorted(cumulative, rng.random() * cumulative[-1])))

    def reply(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """One reply. Raises DataError for a prompt of another world."""
        return write_reply(read_request(prompt), self.knobs(rng), rng)


@dataclass(frozen=True, slots=True)
class Truth:
    """What is truly better. length_value: true reward per unit of log length (characters) on top of the world's own total; above 0 in a
    world whose people value length, where taking length out of a reward would be a mistake."""

    length_value: float = 0.0

    def of(self, exchanges: Sequence[Exchange]) -> Floats:
        """True rewards, shape (N,)."""
        total_N = np.array([gold(exchange).total for exchange in exchanges], dtype=np.float64)
        return total_N if self.length_value == 0.0 else total_N + self.length_value * log_length([one.response for one in exchanges])


@dataclass(frozen=True, slots=True)
class Pool:
    """N independent replies of one policy to each of P prompts. gold_PN: true rewards; length_PN: log characters."""

    flat: list[Exchange] = field(repr=False)
    gold_PN: Floats = field(repr=False)
    length_PN: Floats = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        return self.gold_PN.shape[0], self.gold_PN.shape[1]


def draw_pool(prompts: Sequence[Prompt], n: int, policy: Policy, truth: Truth, rng: np.random.Generator) -> Pool:
    """A pool; about 50 microseconds a reply."""
    flat = [Exchange(prompt=prompt, response=policy.reply(prompt, rng)) for prompt in prompts for _ in range(n)]
    shape = (len(prompts), n)
    return Pool(flat, truth.of(flat).reshape(shape), log_length([one.response for one in flat]).reshape(shape))


def draw_pairs(prompts: Sequence[Prompt], policy: Policy, rng: np.random.Generator) -> list[Comparison]:
    """Two different replies to each prompt, to be judged; ids are `0`, `1` ..."""
    pairs = []
    for i, prompt in enumerate(prompts):
        a = b = policy.reply(prompt, rng)
        while a == b:
            b = policy.reply(prompt, rng)
        pairs.append(Comparison(id=str(i), prompt=prompt, response_a=a, response_b=b, source="replies-world"))
    return pairs


def log_length(texts: Sequence[str]) -> Floats:
    """Log of the characters, at least of one, shape (N,)."""
    return np.log(np.array([max(1, len(text)) for text in texts], dtype=np.float64))
