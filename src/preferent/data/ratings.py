"""The data gate for files that may hold ratings, alone or between pairs and rankings: every row is accounted for.

Rows of ratings are told by their keys and taken out of the stream of the gate for pairs (`gate`), so that one file may hold both. They
are held in memory, as training does; ratings of the same response to the same prompt become one record with the mean of each objective.

Legend: N ratings that were read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from preferent.core.records import Exchange, Preference, Prompt, Ranking, Rating
from preferent.data.formats.detect import SHAPES, Format
from preferent.data.formats.rating import RATING_SHAPES, RatingShape, parse_ratings, rating_shape
from preferent.data.gate import Checked, CountTokens, check, count_name, refuse_source
from preferent.data.ledger import Ledger, Reason, Refusal
from preferent.data.lines import RawRow, Source, as_paths
from preferent.data.quality import last_user
from preferent.data.ratings_ledger import MixedLedger, ObjectiveCounts, RatingLedger
from preferent.data.read import attempt

AnyFormat = Literal["auto", Format, RatingShape]
ALL_SHAPES = (*SHAPES, *RATING_SHAPES)
_UNNAMED = "(none)"


@dataclass(frozen=True)
class CheckedAll:
    """A source that passed the gates: one ledger, and its records as often as they are wanted, ratings last."""

    ledger: Ledger | RatingLedger | MixedLedger
    ratings: tuple[Rating, ...] = field(repr=False)
    _pairs: Checked | None = field(repr=False)

    def records(self) -> Iterator[Preference | Ranking | Rating]:
        """Every record that passed. Raises DataError when a file changed since it was checked."""
        if self._pairs is not None:
            yield from self._pairs.records()
        yield from self.ratings


def check_all(
    source: Source,
    *,
    format: AnyFormat = "auto",
    strict: bool = False,
    split: str = "train",
    count_tokens: CountTokens | None = None,
    max_length: int | None = None,
) -> CheckedAll:
    """Read a source of pairs, rankings and ratings, in any mixture, and account for every row.

    The parameters are those of `gate.check`; `format` may name a shape of ratings, as which every row is then read. Raises DataError
    when the source cannot be opened, when no row passes, and under `strict` when any is refused.
    """
    shape: RatingShape | None = RATING_SHAPES[RATING_SHAPES.index(format)] if format in RATING_SHAPES else None
    if shape is None and format != "auto":
        pairs = check(source, format=format, strict=strict, split=split, count_tokens=count_tokens, max_length=max_length)  # pyright: ignore[reportArgumentType]
        return CheckedAll(pairs.ledger, (), pairs)
    rows = _Rows(shape, count_tokens, max_length)
    pairs = check(
        source,
        split=split,
        count_tokens=count_tokens,
        max_length=max_length,
        divert=(rows.take, rows.holds),
    )
    paths = as_paths(source)
    # Refusals in the order of the file: what no gate knows was refused by the first one.
    refusals = [*pairs.ledger.refusals, *rows.refusals]
    read = pairs.ledger.rows + rows.read
    refuse_source(paths, read, refusals, kept=bool(pairs.ledger.kept or rows.records), strict=strict)
    if not rows.read:
        return CheckedAll(pairs.ledger, (), pairs)
    merged = rows.merged()
    ledger = rows.ledger(merged, paths)
    if not pairs.ledger.rows:
        return CheckedAll(ledger, merged, None)
    return CheckedAll(MixedLedger(pairs.ledger, ledger), merged, pairs)


class _Rows:
    """The rating rows of a source, as they go by."""

    def __init__(self, shape: RatingShape | None, count_tokens: CountTokens | None, max_length: int | None) -> None:
        self.records: list[Rating] = []
        self.refusals: list[Refusal] = []
        self.read = self.further = self.exact = self.averaged = self._over_long = 0
        self._shape: RatingShape | None = shape
        self._count_tokens, self._max_length = count_tokens, max_length
        self._formats: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()

    def holds(self, raw: RawRow) -> bool:
        """Whether a row is one of ratings."""
        return self._shape is not None or rating_shape(raw.value) is not None

    def take(self, raw: RawRow) -> bool:
        """Read a row if it is one of ratings; whether it was."""
        shape = self._shape or rating_shape(raw.value)
        if shape is None:
            return False
        self.read += 1
        parsed = attempt(raw.where, lambda: parse_ratings(raw.value, shape))
        if isinstance(parsed, Refusal):
            self.refusals.append(parsed)
            return True
        wrong = next((found for record in parsed.records if (found := _wrong_with(record)) is not None), None)
        if wrong is not None:
            self.refusals.append(Refusal(raw.where, *wrong))
            return True
        # Records are called by their place when the row has no name of its own.
        self.records += [record if record.id else record.model_copy(update={"id": raw.where}) for record in parsed.records]
        self.further += len(parsed.records) - 1
        self._formats[shape] += 1
        for record in parsed.records:
            count_name(self._sources, record.source or _UNNAMED, 1)
            if self._count_tokens is not None and self._max_length is not None:
                self._over_long += self._count_tokens(Exchange(prompt=record.prompt, response=record.response)) > self._max_length
        for note, n in parsed.notes:
            count_name(self._notes, note, n)
        return True

    def merged(self) -> tuple[Rating, ...]:
        """One record for each response to a prompt: the mean of every objective over the rows that rate it."""
        rows: dict[tuple[Prompt, str], list[Rating]] = {}
        for record in self.records:
            rows.setdefault((record.prompt, record.response), []).append(record)
        found = []
        for same in rows.values():
            repeats = sum(record.values == same[0].values for record in same[1:])
            self.exact += repeats
            self.averaged += len(same) - 1 - repeats
            found.append(same[0] if len(same) == 1 else _mean(same))
        return tuple(found)

    def ledger(self, merged: tuple[Rating, ...], paths: tuple[str, ...]) -> RatingLedger:
        measured = self._count_tokens is not None
        return RatingLedger(
            rows=self.read,
            further=self.further,
            kept=len(merged),
            refusals=tuple(self.refusals),
            merged_exact=self.exact,
            merged_averaged=self.averaged,
            objectives=_counts(merged),
            over_long=self._over_long if measured else None,
            max_length=self._max_length if measured else None,
            paths=paths,
            formats=dict(self._formats),
            sources=dict(self._sources),
            notes=dict(self._notes),
        )


def _mean(same: list[Rating]) -> Rating:
    names = dict.fromkeys(name for record in same for name in record.values)
    values = {name: math.fsum(rated := [r.values[name] for r in same if name in r.values]) / len(rated) for name in names}
    annotators = {record.annotator_id for record in same}
    return same[0].model_copy(update={"values": values, "annotator_id": same[0].annotator_id if len(annotators) == 1 else None})


def _counts(records: tuple[Rating, ...]) -> tuple[ObjectiveCounts, ...]:
    values: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.values.items():
            values.setdefault(name, []).append(value)
    counts = []
    for name, rated in sorted(values.items()):
        array = np.array(rated)
        counts.append(ObjectiveCounts(name, len(rated), float(array.mean()), float(array.std()), float(array.min()), float(array.max())))
    return tuple(counts)


def _wrong_with(record: Rating) -> tuple[Reason, str] | None:
    if not last_user(record.prompt):
        found = ", ".join(message.role for message in record.prompt) or "no turn at all"
        return Reason.EMPTY_PROMPT, f"the prompt needs a user turn with a text, found {found}"
    if not record.response.strip():
        return Reason.EMPTY_RESPONSE, f"the response holds no text: {record.response!r:.80}"
    return None


def rating_rows(records: list[Rating]) -> list[dict[str, Any]]:
    """Ratings in the native shape, ready to be written."""
    return [record.model_dump(mode="json", exclude_none=True) for record in records]
