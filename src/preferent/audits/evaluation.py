"""What `evaluate` found: the numbers with their intervals, as a frozen record that turns into JSON and into words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from preferent.audits.metrics import Reliability
from preferent.audits.slices import Slice
from preferent.core.estimates import Estimate
from preferent.core.records import Prompt

TITLES = {
    "accuracy": "accuracy",
    "longer_side": "'the longer side wins'",
    "minus_longer": "scorer - longer side, paired",
    "minus_shorter": "scorer - shorter side, paired",
    "matched_accuracy": "accuracy, length-matched pairs",
    "annotator": "one held-out annotator",
    "scorer_on_annotator": "scorer on the annotator's targets",
    "minus_annotator": "scorer - annotator, paired",
    "nll": "NLL of the soft labels (nats)",
    "label_entropy": "lowest NLL possible here",
    "brier": "Brier score",
    "ece": "ECE",
    "ece_noise": "ECE of a perfectly calibrated scorer",
    "mean_margin": "mean margin",
    "spearman": "Spearman within a ranking",
    "top_1": "top-1 accuracy of a ranking",
    "reward_mean": "mean reward",
    "reward_std": "standard deviation of rewards",
    "within_prompt_std": "standard deviation within a prompt",
    "tied": "share of pairs with equal rewards",
    "length_spearman": "Spearman of reward and length",
    "picks_longer": "scorer picks the longer side",
    "labels_pick_longer": "labels pick the longer side",
}
MEANINGS = {
    "accuracy": "higher reward on the preferred side; equal rewards count one half; label ties are left out",
    "longer_side": "baseline: the response with more characters wins",
    "minus_longer": "the same pairs, so the interval is that of the difference",
    "minus_shorter": "shown because the shorter side is right more often here",
    "matched_accuracy": "pairs whose lengths are within 10 %: length cannot decide them",
    "annotator": "baseline: each vote in turn predicts the majority of the others",
    "scorer_on_annotator": "the scorer predicts the same majorities",
    "minus_annotator": "the same targets, so the interval is that of the difference",
    "nll": "all pairs; a coin flip has 0.693",
    "label_entropy": "entropy of the soft labels",
    "brier": "mean of (q - p)^2; a coin flip has 0.250 on hard labels",
    "ece": "|confidence - observed| over equal-mass bins of the preferred side's confidence",
    "ece_noise": "what chance alone would show with these pairs and bins",
    "mean_margin": "reward of the preferred side minus the other",
    "spearman": "mean over rankings; 1 is the labels' order",
    "top_1": "the highest reward is on a best response; equal highest rewards share",
    "reward_mean": "over distinct exchanges",
    "reward_std": "over distinct exchanges",
    "within_prompt_std": "mean over prompts with at least two distinct responses",
    "tied": "pairs of different texts with exactly the same reward",
    "length_spearman": "over distinct exchanges, characters of the response",
    "picks_longer": "pairs of unequal length",
    "labels_pick_longer": "pairs of unequal length, mean soft label",
}
BLOCKS = {
    "Accuracy": [
        "accuracy",
        "longer_side",
        "minus_longer",
        "minus_shorter",
        "matched_accuracy",
        "annotator",
        "scorer_on_annotator",
        "minus_annotator",
    ],
    "Rankings": ["spearman", "top_1"],
    "Probabilities": ["nll", "label_entropy", "brier", "ece", "ece_noise"],
    "Rewards": [
        "mean_margin",
        "reward_mean",
        "reward_std",
        "within_prompt_std",
        "tied",
        "length_spearman",
        "picks_longer",
        "labels_pick_longer",
    ],
}


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
    """The answer of `evaluate`. `numbers` maps a name of TITLES to its estimate; a name that does not apply is absent.

    Rewards and margins are raw (not divided by the temperature); probabilities use `temperature`.
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
            "slices": [row.to_dict() for row in self.slices],
            "margins": {"edges": list(self.margins.edges), "counts": list(self.margins.counts)},
            "mistakes": [row.to_dict() for row in self.mistakes],
        }

    def render(self, *, width: int = 100) -> str:
        """A plain-text table for a terminal of `width` columns, without colour."""
        from preferent.audits.text import render

        return render(self, width=width)
