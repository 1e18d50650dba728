"""The nouns. Everything else in the package speaks about these.

One orientation everywhere: `p_a` is the probability that response **a** is preferred, in [0, 1]; 0.5 is a tie. Rewards: higher
is better. A value that is not known is absent (`None` or a missing key), never 0 and never 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = NDArray[np.float64]
Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


class Record(BaseModel):
    """Frozen; unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One chat turn."""

    role: Role
    content: str


Prompt = tuple[Message, ...]


def user(text: str) -> Prompt:
    """A prompt of one user turn."""
    return (Message(role="user", content=text),)


class Exchange(Record):
    """A prompt and one response to it: the thing that gets a reward. `response` is the text of the final assistant turn."""

    prompt: Prompt
    response: str


class Comparison(Record):
    """Two responses to one prompt, shown to a judge."""

    id: str
    prompt: Prompt
    response_a: str
    response_b: str
    source: str | None = None
    meta: dict[str, Any] = {}

    def swap(self) -> Comparison:
        """The same comparison with the sides exchanged."""
        return self.model_copy(update={"response_a": self.response_b, "response_b": self.response_a})


class Judgment(Record):
    """One annotator's word on one comparison; never edited."""

    comparison_id: str
    annotator_id: str
    choice: Literal["a", "b", "tie", "skip"]
    strength: Probability | None = None
    objective: str | None = None
    rationale: str | None = None
    seconds: float | None = None
    at: str | None = None


class Preference(Record):
    """What training and audits consume: how likely `response_a` is to be preferred over `response_b`.

    `p_a` in [0, 1]; `weight` > 0 multiplies the loss; `margin` >= 0 is subtracted from the reward difference of the preferred
    side (Touvron et al. 2023, eq. 2). `votes` holds one number per annotator where they are known: 1 for a, 0 for b, 0.5 for a
    tie, or that annotator's own probability for a. `meta` is carried along and never read by the package.
    """

    prompt: Prompt
    response_a: str
    response_b: str
    p_a: Probability
    weight: Weight = 1.0
    margin: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    objective: str | None = None
    n_judgments: int | None = None
    votes: tuple[Probability, ...] = ()
    source: str | None = None
    id: str | None = None
    meta: dict[str, Any] = {}

    def swap(self) -> Preference:
        """The same preference with the sides exchanged: `p_a` becomes `1 - p_a`."""
        return self.model_copy(
            update={
                "response_a": self.response_b,
                "response_b": self.response_a,
                "p_a": 1.0 - self.p_a,
                "votes": tuple(1.0 - vote for vote in self.votes),
            }
        )

    def exchanges(self) -> tuple[Exchange, Exchange]:
        """(a, b) as things to score."""
        return (
            Exchange(prompt=self.prompt, response=self.response_a),
            Exchange(prompt=self.prompt, response=self.response_b),
        )


class Vote(Record):
    """A judgment together with its texts: what joint training of a reward model and its annotators reads.

    `p_a`: 1 for a, 0 for b, 0.5 for a tie, or the annotator's own probability. `shown_first`: which response was seen first (on the
    left), None where that was not recorded.
    """

    prompt: Prompt
    response_a: str
    response_b: str
    annotator_id: str
    p_a: Probability
    shown_first: Literal["a", "b"] | None = None
    weight: Weight = 1.0
    objective: str | None = None
    source: str | None = None
    id: str | None = None
    meta: dict[str, Any] = {}


class Ranking(Record):
    """K responses to one prompt with their ranks: 1 is best, equal ranks are ties."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[Finite, ...]
    weight: Weight = 1.0
    source: str | None = None
    id: str | None = None
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _same_length(self) -> Ranking:
        if len(self.responses) != len(self.ranks) or len(self.responses) < 2:
            raise ValueError(f"needs at least two responses and one rank for each, got {len(self.responses)} and {len(self.ranks)}")
        return self

    def preferences(self) -> tuple[Preference, ...]:
        """Every pair once, in the order of the responses; equal ranks are ties (`p_a` = 0.5)."""
        pairs = []
        for i in range(len(self.responses)):
            for j in range(i + 1, len(self.responses)):
                p_a = 0.5 if self.ranks[i] == self.ranks[j] else float(self.ranks[i] < self.ranks[j])
                pairs.append(
                    Preference(
                        prompt=self.prompt,
                        response_a=self.responses[i],
                        response_b=self.responses[j],
                        p_a=p_a,
                        weight=self.weight,
                        source=self.source,
                        id=None if self.id is None else f"{self.id}/{i}-{j}",
                        meta=self.meta,
                    )
                )
        return tuple(pairs)


class Rating(Record):
    """Scores of one response on named objectives. A missing objective is absent, never 0."""

    prompt: Prompt
    response: str
    values: dict[str, Finite]
    annotator_id: str | None = None
    source: str | None = None
    id: str | None = None


class StepLabels(Record):
    """A solution in steps; a label is the probability that the step is right, `None` where nobody labelled it.

    `meta` is carried along: what a split by problem or an automatic labeller needs (a problem's name, its answer) stands there.
    """

    prompt: Prompt
    steps: tuple[str, ...]
    labels: tuple[Probability | None, ...]
    source: str | None = None
    id: str | None = None
    meta: dict[str, Any] = {}

    @model_validator(mode="after")
    def _same_length(self) -> StepLabels:
        if len(self.steps) != len(self.labels):
            raise ValueError(f"needs one label (or null) for each step, got {len(self.steps)} steps and {len(self.labels)} labels")
        return self


@dataclass(frozen=True, slots=True)
class Scores:
    """What a scorer returns for n exchanges, in their order.

    reward: shape (n,), higher is better. std: shape (n,) or None when the scorer states no uncertainty. objectives: name ->
    shape (n,). steps: one array per exchange, or None.
    """

    reward: Floats
    std: Floats | None = None
    objectives: dict[str, Floats] = field(default_factory=dict)
    steps: tuple[Floats, ...] | None = None

    def __len__(self) -> int:
        return len(self.reward)
