"""The ledger of step data: what became of every row, and what the labels of the kept solutions look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from preferent.core.estimates import Estimate
from preferent.data.ledger import Refusal, refusals_dict, render_ledger


@dataclass(frozen=True, slots=True)
class StepLedger:
    """The account of a checked source of step data. Always: `kept + refused + merged == rows + further`.

    rows: rows read (an unreadable end of a file counts as one). further: solutions beyond the first of their row (PRM800K's
    alternatives, PRMBench's originals). kept: solutions that training will see. merged_*: solutions that went into an earlier one with
    the same prompt and the same steps: `exact` with equal labels, `agreeing` where no step is called right by one and wrong by another,
    `contradictory` where some step is; `contradictions` counts the solutions so merged, whose label is then the mean, a soft label.

    Of the kept: steps; unlabelled (null); soft (strictly between 0 and 1); right: share of labelled steps above 1/2 (a soft label
    counts whole on its side, 1/2 itself on neither), with its interval over problems; with_error: solutions with some step below 1/2.
    over_long is None where no tokenizer was given; an over-long solution is kept, and what reads it must say what it cuts.
    """

    rows: int
    further: int
    kept: int
    refusals: tuple[Refusal, ...]
    merged_exact: int
    merged_agreeing: int
    merged_contradictory: int
    contradictions: int
    steps: int
    unlabelled: int
    soft: int
    with_error: int
    right: Estimate
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
        return self.merged_exact + self.merged_agreeing + self.merged_contradictory

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with every refused row."""
        row: dict[str, Any] = {"kind": "steps", "refused": self.refused, "merged": self.merged}
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in {"refusals", "right"}}
        row |= {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        row["right"] = self.right.to_dict()
        return row | refusals_dict(self.refusals)

    def render(self) -> str:
        """Plain text for a terminal: the counts, then the first refused rows."""
        named = {"solutions by shape": self.formats, "solutions by source": self.sources, "notes": self.notes}
        return render_ledger(self.paths, self._counts(), self.refusals, named)

    def _counts(self) -> list[tuple[str, int | str, str]]:
        further = [("further solutions", self.further, "rows that hold several")] if self.further else []
        rows: list[tuple[str, int | str, str]] = [
            ("rows read", self.rows, ""),
            *further,
            ("kept", self.kept, "solutions in steps"),
            ("refused", self.refused, ""),
            ("merged: repeats", self.merged_exact, "same steps and same labels; stand once"),
            ("merged: agreeing", self.merged_agreeing, "same steps, labels joined or averaged"),
            ("merged: contradictory", self.merged_contradictory, f"into {self.contradictions} solutions with soft labels"),
            ("steps", self.steps, ""),
            ("  not labelled", self.unlabelled, "null: no part of any loss or metric"),
            ("  soft labels", self.soft, "between 0 and 1"),
            ("solutions with an error", self.with_error, f"of {self.kept}"),
        ]
        if self.over_long is not None:
            rows.append(("over-long", self.over_long, f"more than {self.max_length} tokens; kept"))
        rows.append(("labelled steps right", str(self.right), self.right.method))
        return rows
