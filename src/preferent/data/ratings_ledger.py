"""The ledger of ratings: what became of every row, and what the ratings of each objective look like."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from preferent.data.ledger import Ledger, Refusal, refusals_dict, render_ledger


@dataclass(frozen=True, slots=True)
class ObjectiveCounts:
    """The ratings of one objective among the kept records: how many, and their mean, standard deviation, least and largest."""

    name: str
    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RatingLedger:
    """The account of the rating rows of a source. Always: `kept + refused + merged == rows + further`.

    rows: rows of ratings read. further: ratings beyond the first of their row (UltraFeedback's completions). kept: responses with
    ratings that training will see. merged_*: ratings that went into an earlier one of the same response to the same prompt: `exact` with
    the same values, `averaged` otherwise (each objective is the mean over the rows that rate it). over_long is None where no tokenizer
    was given.
    """

    rows: int
    further: int
    kept: int
    refusals: tuple[Refusal, ...]
    merged_exact: int
    merged_averaged: int
    objectives: tuple[ObjectiveCounts, ...]
    over_long: int | None = None
    max_length: int | None = None
    paths: tuple[str, ...] = ()
    formats: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def refused(self) -> int:
        return len(self.refusals)

    @property
    def merged(self) -> int:
        return self.merged_exact + self.merged_averaged

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with every refused row."""
        row: dict[str, Any] = {"kind": "ratings", "refused": self.refused, "merged": self.merged}
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in {"refusals", "objectives"}}
        row |= {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        row["objectives"] = [asdict(counts) for counts in self.objectives]
        return row | refusals_dict(self.refusals)

    def render(self) -> str:
        """Plain text for a terminal: the counts, then the first refused rows."""
        named = {"rows by shape": self.formats, "rows by source": self.sources, "notes": self.notes}
        return render_ledger(self.paths, self._counts(), self.refusals, named)

    def _counts(self) -> list[tuple[str, int | str, str]]:
        further = [("further ratings", self.further, "rows that hold several responses")] if self.further else []
        rows: list[tuple[str, int | str, str]] = [
            ("rows of ratings", self.rows, ""),
            *further,
            ("kept", self.kept, "responses with ratings"),
            ("refused", self.refused, ""),
            ("merged: repeats", self.merged_exact, "same response and same ratings; stand once"),
            ("merged: averaged", self.merged_averaged, "same response; each objective is its mean"),
        ]
        for counts in self.objectives:
            missing = f"; not rated: {self.kept - counts.n}" if counts.n < self.kept else ""
            spread = f"mean {counts.mean:.3g}, sd {counts.sd:.3g}, {counts.low:.3g} to {counts.high:.3g}{missing}"
            rows.append((f"  {counts.name}", counts.n, spread))
        if self.over_long is not None:
            rows.append(("over-long", self.over_long, f"more than {self.max_length} tokens; kept, the prompt loses its beginning"))
        return rows


@dataclass(frozen=True, slots=True)
class MixedLedger:
    """The account of a source that holds pairs or rankings and ratings: one ledger of each."""

    pairs: Ledger
    ratings: RatingLedger

    @property
    def refused(self) -> int:
        return self.pairs.refused + self.ratings.refused

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the ledger of pairs, with that of ratings under `ratings`."""
        return {**self.pairs.to_dict(), "ratings": self.ratings.to_dict()}

    def render(self) -> str:
        """Plain text for a terminal: one ledger after the other."""
        return f"{self.pairs.render()}\n\n{self.ratings.render()}"
