"""What `evaluate` found: the numbers with their intervals, as a frozen record that turns into JSON and into words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from preferent.audits.metrics import Reliability
from preferent.audits.slices import Slice
from preferent.audits.text import render
from preferent.core.estimates import Estimate
from preferent.core.records import Prompt


@dataclass(frozen=True, slots=True)
class Counts:
    """How much was evaluated, and every pair, vote or ranking that a number leaves out."""

    pairs: int
    prompts: int
    exchanges: int
    rankings: int
    label_ties: int
    reward_ties: int
    votes: int
    undecided_votes: int
    flat_rankings: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """A decided pair on which the scorer prefers the other side."""

    prompt: Prompt
    preferred: str
    other: str
    reward_preferred: float
    reward_other: float
    p_preferred: float
    confidence: float
    source: str | None
    id: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return row | {"prompt": [message.model_dump() for message in self.prompt]}


@dataclass(frozen=True, slots=True)
class Histogram:
    """Pairs by margin of the preferred side: `edges` (bins + 1), `counts` (bins); the first and last bin hold everything beyond."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answer of `evaluate`. `numbers` maps a name of `words.TITLES` to its estimate; a name that does not apply is absent.

    Rewards and margins are raw (not divided by the temperature); probabilities use `temperature`. Where it is not 1, `uncalibrated` is the
    reliability without it.
    """

    scorer: str
    temperature: float
    seed: int
    n_resamples: int
    counts: Counts
    numbers: dict[str, Estimate]
    reliability: Reliability
    slices: tuple[Slice, ...]
    margins: Histogram
    mistakes: tuple[Mistake, ...]
    uncalibrated: Reliability | None = None

    @property
    def accuracy(self) -> Estimate:
        """Pairwise accuracy on decided pairs."""
        return self.numbers["accuracy"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: every estimate with value, low, high, n and method; NaN is None."""
        return {
            "scorer": self.scorer,
            "temperature": self.temperature,
            "seed": self.seed,
            "n_resamples": self.n_resamples,
            "counts": asdict(self.counts),
            "numbers": {name: estimate.to_dict() for name, estimate in self.numbers.items()},
            "reliability": self.reliability.to_dict(),
            "uncalibrated": None if self.uncalibrated is None else self.uncalibrated.to_dict(),
            "slices": [row.to_dict() for row in self.slices],
            "margins": {"edges": list(self.margins.edges), "counts": list(self.margins.counts)},
            "mistakes": [row.to_dict() for row in self.mistakes],
        }

    def render(self, *, width: int = 100) -> str:
        """A plain-text table for a terminal of `width` columns, without colour."""
        return render(self, width=width)
