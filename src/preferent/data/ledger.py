"""What became of every row: the reasons a row is refused, and the ledger that accounts for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from preferent.core.estimates import Estimate

SHOWN = 20


class Reason(StrEnum):
    """Why a row is refused. The value is what the ledger prints and the JSON holds."""

    BROKEN_STREAM = "broken_stream"
    BROKEN_UTF8 = "broken_utf8"
    INVALID_JSON = "invalid_json"
    ROW_TOO_LONG = "row_too_long"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_SHAPE = "unknown_shape"
    MISSING_KEYS = "missing_keys"
    UNKNOWN_KEYS = "unknown_keys"
    WRONG_TYPE = "wrong_type"
    BAD_MESSAGES = "bad_messages"
    EMPTY_PROMPT = "empty_prompt"
    DIFFERENT_PROMPTS = "different_prompts"
    EMPTY_RESPONSE = "empty_response"
    IDENTICAL_RESPONSES = "identical_responses"
    PROMPT_IN_RESPONSE = "prompt_in_response"
    BAD_P_A = "bad_p_a"
    BAD_WEIGHT = "bad_weight"
    BAD_MARGIN = "bad_margin"
    BAD_VOTES = "bad_votes"
    BAD_SCORES = "bad_scores"
    TOO_FEW_RESPONSES = "too_few_responses"
    NO_STEPS = "no_steps"
    EMPTY_STEP = "empty_step"
    LENGTHS_DIFFER = "lengths_differ"
    BAD_LABEL = "bad_label"
    NO_LABELS = "no_labels"
    BAD_RATING = "bad_rating"
    NO_RATINGS = "no_ratings"


SAYS: dict[Reason, str] = {
    Reason.BROKEN_STREAM: "the file cannot be read further",
    Reason.BROKEN_UTF8: "bytes that are not UTF-8",
    Reason.INVALID_JSON: "half a line, or not JSON",
    Reason.ROW_TOO_LONG: "a line longer than any row",
    Reason.NOT_AN_OBJECT: "JSON, but not an object",
    Reason.UNKNOWN_SHAPE: "the keys fit no known shape",
    Reason.MISSING_KEYS: "a key of its shape is missing",
    Reason.UNKNOWN_KEYS: "keys the native shape does not have",
    Reason.WRONG_TYPE: "a value of the wrong type",
    Reason.BAD_MESSAGES: "messages that are not a prompt and one response",
    Reason.EMPTY_PROMPT: "no user turn in the prompt",
    Reason.DIFFERENT_PROMPTS: "the sides answer different prompts",
    Reason.EMPTY_RESPONSE: "an empty response",
    Reason.IDENTICAL_RESPONSES: "both responses are the same",
    Reason.PROMPT_IN_RESPONSE: "a response begins with its prompt",
    Reason.BAD_P_A: "p_a is not a probability",
    Reason.BAD_WEIGHT: "the weight is not a positive number",
    Reason.BAD_MARGIN: "the margin is not a number >= 0",
    Reason.BAD_VOTES: "votes that are not probabilities",
    Reason.BAD_SCORES: "scores or ranks that are not numbers",
    Reason.TOO_FEW_RESPONSES: "fewer than two responses to compare",
    Reason.NO_STEPS: "a solution without steps",
    Reason.EMPTY_STEP: "an empty step that a label speaks about",
    Reason.LENGTHS_DIFFER: "steps and labels of different number",
    Reason.BAD_LABEL: "a label that is no probability, or a place that is no step",
    Reason.NO_LABELS: "no step is labelled",
    Reason.BAD_RATING: "a rating that is not a finite number",
    Reason.NO_RATINGS: "no objective is rated",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row: where it stands (`path:line`), the reason, and what was found there."""

    where: str
    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason.value}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of a checked source. Always: `kept + refused + merged == rows`.

    rows: rows read (an unreadable end of a file counts as one). kept: records that training will see, `preferences` and
    `rankings` together. merged_*: rows that went into an earlier row about the same prompt and the same two responses (or the same
    ranking): `exact` with equal p_a, `agreeing` with another p_a on the same side or a tie, `contradictory` where one says a and
    another says b; `contradictions` counts the pairs so merged. ties: kept pairs with p_a = 0.5 and rankings of one rank.
    score_inversions: rows whose preferred side has the lower score. over_long and response_truncated are None where no tokenizer
    was given. longer_preferred: of the kept pairs with a preferred side and two lengths, the share whose longer side (characters)
    is preferred. sources: rows that passed, by their `source`, before merging. formats: the same by shape. notes: what was done
    that is no refusal, with how many rows.
    """

    rows: int
    preferences: int
    rankings: int
    refusals: tuple[Refusal, ...]
    merged_exact: int
    merged_agreeing: int
    merged_contradictory: int
    contradictions: int
    ties: int
    scored_pairs: int
    score_inversions: int
    longer_preferred: Estimate
    over_long: int | None = None
    response_truncated: int | None = None
    max_length: int | None = None
    paths: tuple[str, ...] = ()
    formats: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.preferences + self.rankings

    @property
    def refused(self) -> int:
        return len(self.refusals)

    @property
    def merged(self) -> int:
        return self.merged_exact + self.merged_agreeing + self.merged_contradictory

    @property
    def refused_by_reason(self) -> dict[str, int]:
        """How many rows were refused for each reason, most frequent first."""
        return by_reason(self.refusals)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with every refused row."""
        row: dict[str, Any] = {"rows": self.rows, "kept": self.kept, "refused": self.refused, "merged": self.merged}
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in {"rows", "refusals", "longer_preferred"}}
        row |= {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        row["longer_preferred"] = self.longer_preferred.to_dict()
        return row | refusals_dict(self.refusals)

    def render(self) -> str:
        """Plain text for a terminal: the counts, then the first refused rows."""
        named = {"rows by shape": self.formats, "rows by source": self.sources, "notes": self.notes}
        return render_ledger(self.paths, self._counts(), self.refusals, named)

    def _counts(self) -> list[tuple[str, int | str, str]]:
        rows: list[tuple[str, int | str, str]] = [
            ("rows read", self.rows, ""),
            ("kept", self.kept, f"{self.preferences} pairs, {self.rankings} rankings" if self.rankings else "pairs"),
            ("refused", self.refused, ""),
            ("merged: repeats", self.merged_exact, "same pair and same p_a; weights added"),
            ("merged: agreeing", self.merged_agreeing, "same pair, same side or a tie; p_a averaged by weight"),
            ("merged: contradictory", self.merged_contradictory, f"into {self.contradictions} pairs with a soft p_a"),
            ("ties", self.ties, "p_a = 0.5, or a ranking of one rank"),
        ]
        if self.scored_pairs:
            rows.append(("score inversions", self.score_inversions, f"of {self.scored_pairs} rows with scores; kept"))
        if self.over_long is not None:
            rows.append(("over-long", self.over_long, f"more than {self.max_length} tokens; kept, the prompt loses its beginning"))
            rows.append(("  response cut", self.response_truncated or 0, "the response alone is too long"))
        rows.append(("longer side preferred", str(self.longer_preferred), self.longer_preferred.method))
        return rows


def by_reason(refusals: Sequence[Refusal]) -> dict[str, int]:
    """How many rows were refused for each reason, most frequent first."""
    counts: dict[str, int] = {}
    for refusal in refusals:
        counts[refusal.reason.value] = counts.get(refusal.reason.value, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def refusals_dict(refusals: Sequence[Refusal]) -> dict[str, Any]:
    """The refused rows of a ledger, JSON-ready: counted by reason, then every one."""
    rows = [asdict(refusal) | {"reason": refusal.reason.value} for refusal in refusals]
    return {"refused_by_reason": by_reason(refusals), "refusals": rows}


def render_ledger(
    paths: Sequence[str], counts: list[tuple[str, int | str, str]], refusals: Sequence[Refusal], named: dict[str, dict[str, int]]
) -> str:
    """A ledger as plain text: `counts` as (name, count, remark), refusals by reason, what is counted by name, the first refused rows."""
    lines = ["data gate: " + (", ".join(paths) or "rows"), *_table(counts)]
    if refusals:
        lines += ["refused, by reason:", *_table([(f"  {name}", n, SAYS[Reason(name)]) for name, n in by_reason(refusals).items()])]
    for title, numbers in named.items():
        lines += _listed(title, numbers)
    if refusals:
        lines += ["refused rows:", *(f"  {refusal}" for refusal in refusals[:SHOWN])]
    if len(refusals) > SHOWN:
        lines.append(f"  and {len(refusals) - SHOWN} more: see the JSON")
    return "\n".join(lines)


def _table(rows: list[tuple[str, int | str, str]]) -> list[str]:
    """Left-aligned names, right-aligned counts, a remark."""
    name_width = max(len(name) for name, _, _ in rows)
    count_width = max(len(str(count)) for _, count, _ in rows if isinstance(count, int))
    return [f"  {name:<{name_width}}  {count!s:>{count_width}}  {remark}".rstrip() for name, count, remark in rows]


def _listed(title: str, counts: dict[str, int]) -> list[str]:
    """A counted list of at most `SHOWN` lines."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    lines = [f"  {count:>8}  {name}" for name, count in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        lines.append(f"  and {len(ordered) - SHOWN} more: see the JSON")
    return [f"{title}:", *lines] if lines else []
