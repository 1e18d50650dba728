"""The data gate: every row is read, judged, and accounted for in a ledger before anything is trained on it.

Two passes over the source. The first keeps hashes and numbers only; the second streams the records, with rows about the same
prompt and the same two responses merged into the first of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from preferent.core.errors import DataError
from preferent.core.records import Exchange, Preference, Ranking
from preferent.data.formats.detect import Format
from preferent.data.ledger import Ledger, Reason, Refusal
from preferent.data.lines import RawRow, Source, as_paths
from preferent.data.merge import Groups, Rows, turned
from preferent.data.read import Located, read_rows

CountTokens = Callable[[Exchange], int]
Divert = Callable[[RawRow], bool]
# Names counted one by one before the rest is counted together: a ledger is for people, and memory is bounded.
_MOST_NAMES = 1000
_OTHER = "(other)"
_UNNAMED = "(none)"
_FIRST_FEW = 5


@dataclass(frozen=True)
class Checked:
    """A source that passed the gate: its ledger, and its records as often as they are wanted."""

    ledger: Ledger
    source: Source
    format: Format
    split: str
    _groups: Groups = field(repr=False)
    _stamps: tuple[tuple[int, int] | None, ...] = field(repr=False)
    _divert: Divert | None = field(default=None, repr=False)

    def records(self) -> Iterator[Preference | Ranking]:
        """Stream the source again: each record where its first row stands, merged with the later rows about the same pair.

        A merged pair has the sum of the weights and the weighted mean of `p_a`; votes are joined, judgments counted together, margins
        averaged by weight (None when the rows contradict each other, since no side is then preferred by a margin); id, source and
        meta are those of the first row. Raises DataError when a file changed since it was checked.
        """
        if file_stamps(self.source) != self._stamps:
            raise DataError(f"{', '.join(as_paths(self.source))}: changed since it was checked", hint="check it again")
        joined = self._joined() if self._groups.group_of else {}
        n = len(self._groups.first_N)
        for index, record in enumerate(self._passed()):
            if index >= n:
                break
            if self._groups.first_N[index]:
                yield self._merged(index, record, joined.get(index)) if index in self._groups.merged else record

    def _passed(self) -> Iterator[Preference | Ranking]:
        for row in read_rows(self.source, format=self.format, split=self.split, divert=self._divert):
            if isinstance(row, Located):
                yield row.record

    def _merged(self, index: int, record: Preference | Ranking, joined: _Joined | None) -> Preference | Ranking:
        group = self._groups.merged[index]
        update: dict[str, object] = {"weight": group.weight}
        if isinstance(record, Preference):
            if group.p_a is not None:
                update["p_a"] = group.p_a
            if joined is not None:
                update |= joined.fields()
        return record.model_copy(update=update)

    def _joined(self) -> dict[int, _Joined]:
        """Votes, counts and margins of the groups that carry any: one more pass, in memory only for rows that are merged."""
        joined: dict[int, _Joined] = {}
        flipped: dict[int, bool] = {}
        for index, record in enumerate(self._passed()):
            first = self._groups.group_of.get(index)
            if first is None or not isinstance(record, Preference):
                continue
            swap = turned(record)
            if flipped.setdefault(first, swap) != swap:
                record = record.swap()
            joined.setdefault(first, _Joined()).add(record)
        return joined


@dataclass
class _Joined:
    """What the rows of one pair carry beside `p_a` and weight, in the orientation of the first."""

    votes: list[float] = field(default_factory=list)
    n_judgments: int | None = None
    margins: list[tuple[float, float]] = field(default_factory=list)
    sides: set[bool] = field(default_factory=set)

    def add(self, record: Preference) -> None:
        self.votes += record.votes
        if record.n_judgments is not None:
            self.n_judgments = (self.n_judgments or 0) + record.n_judgments
        if record.margin is not None:
            self.margins.append((record.margin, record.weight))
        if record.p_a != 0.5:
            self.sides.add(record.p_a > 0.5)

    def fields(self) -> dict[str, object]:
        margin = None
        if self.margins and len(self.sides) < 2:
            largest = max(weight for _, weight in self.margins)
            margin = sum(m * (w / largest) for m, w in self.margins) / sum(w / largest for _, w in self.margins)
        return {"votes": tuple(self.votes), "n_judgments": self.n_judgments, "margin": margin}


def check(
    source: Source,
    *,
    format: Format = "auto",
    strict: bool = False,
    split: str = "train",
    count_tokens: CountTokens | None = None,
    max_length: int | None = None,
    divert: tuple[Divert, Divert] | None = None,
) -> Checked:
    """Read a source (a file, a folder, a hub id, or several of them as one) and account for every row.

    strict: any refused row is an error. count_tokens and max_length: rows with an exchange of more tokens are counted as over-long
    (and kept; training drops the beginning of the prompt), and as cut where the response alone has more. divert: which rows are not
    for this gate, asked in the first pass and again when the records are streamed; then it is no error that no row passes.

    Raises DataError when the source cannot be opened, when no row passes, and under `strict` when any is refused.
    """
    if count_tokens is not None and max_length is None:
        raise DataError("count_tokens was given without max_length", hint="give both, or neither")
    stamps = file_stamps(source)
    pass_one = _FirstPass(count_tokens, max_length)
    take, again = divert or (None, None)
    for row in read_rows(source, format=format, split=split, divert=take):
        pass_one.add(row)
    paths = as_paths(source)
    kept = bool(len(pass_one.rows)) or divert is not None
    refuse_source(paths, pass_one.read, pass_one.refusals, kept=kept, strict=strict)
    groups = pass_one.rows.groups(pass_one.turned)
    return Checked(pass_one.ledger(groups, paths), source, format, split, groups, stamps, again)


class _FirstPass:
    """Counts as rows go by."""

    def __init__(self, count_tokens: CountTokens | None, max_length: int | None) -> None:
        self.rows = Rows()
        self.turned = bytearray()
        self.refusals: list[Refusal] = []
        self.read = 0
        self._count_tokens = count_tokens
        self._max_length = max_length
        self._over_long = self._truncated = self._scored = self._inverted = 0
        self._sources: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._details: dict[str, str] = {}

    def add(self, row: Located | Refusal) -> None:
        self.read += 1
        if isinstance(row, Refusal):
            # Equal details are held once: a file of a million bad rows is usually bad in one way.
            if len(self._details) < _MOST_NAMES:
                self._details.setdefault(row.detail, row.detail)
            detail = self._details.get(row.detail, row.detail)
            self.refusals.append(Refusal(row.where, row.reason, detail))
            return
        record = row.record
        self.rows.add(record)
        self.turned.append(isinstance(record, Preference) and turned(record))
        self._formats[row.shape] += 1
        count_name(self._sources, record.source or _UNNAMED, 1)
        for note, n in row.notes:
            count_name(self._notes, note, n)
        if row.inverted is not None:
            self._scored += 1
            self._inverted += row.inverted
        if self._count_tokens is not None and self._max_length is not None:
            self._measure(record, self._count_tokens, self._max_length)

    def _measure(self, record: Preference | Ranking, count: CountTokens, limit: int) -> None:
        responses = record.responses if isinstance(record, Ranking) else (record.response_a, record.response_b)
        exchanges = [Exchange(prompt=record.prompt, response=response) for response in responses]
        lengths = [count(exchange) for exchange in exchanges]
        longest = max(lengths)
        self._over_long += longest > limit
        # What the response adds to an empty one, a token that opens the text and one that closes it.
        if longest > limit:
            self._truncated += longest - count(Exchange(prompt=record.prompt, response="")) + 2 > limit

    def ledger(self, groups: Groups, paths: tuple[str, ...]) -> Ledger:
        measured = self._count_tokens is not None
        return Ledger(
            rows=self.read,
            preferences=groups.preferences,
            rankings=groups.rankings,
            refusals=tuple(self.refusals),
            merged_exact=groups.exact,
            merged_agreeing=groups.agreeing,
            merged_contradictory=groups.contradictory,
            contradictions=groups.contradictions,
            ties=groups.ties,
            scored_pairs=self._scored,
            score_inversions=self._inverted,
            longer_preferred=groups.longer,
            over_long=self._over_long if measured else None,
            response_truncated=self._truncated if measured else None,
            max_length=self._max_length if measured else None,
            paths=paths,
            formats=dict(self._formats),
            sources=dict(self._sources),
            notes=dict(self._notes),
        )


def count_name(counter: Counter[str], name: str, n: int) -> None:
    """Add to a named count; beyond a thousand names the rest is counted together."""
    counter[name if name in counter or len(counter) < _MOST_NAMES else _OTHER] += n


def file_stamps(source: Source) -> tuple[tuple[int, int] | None, ...]:
    """Size and time of change of each file, None for what is no file."""
    stats = [Path(name).stat() if Path(name).is_file() else None for name in as_paths(source)]
    return tuple(None if stat is None else (stat.st_size, stat.st_mtime_ns) for stat in stats)


def refuse_source(paths: Sequence[str], read: int, refusals: Sequence[Refusal], *, kept: bool, strict: bool) -> None:
    """Raises DataError, with the first refused rows, when nothing is kept, and under `strict` when anything is refused."""
    name = ", ".join(paths)
    if not kept:
        hint = "see which shapes can be read: preferent check --help" if refusals else "the source holds no rows"
        raise DataError(f"{name}: no row can be used, of {read}{_first(refusals)}", hint=hint)
    if strict and refusals:
        raise DataError(
            f"{name}: {len(refusals)} of {read} rows refused{_first(refusals)}",
            hint="mend or remove these rows, or leave out --strict to go on with the others",
        )


def _first(refusals: Sequence[Refusal]) -> str:
    """The first refused rows, one of a kind, for the end of a message."""
    kinds: dict[tuple[Reason, str], list[Refusal]] = {}
    for refusal in refusals:
        kinds.setdefault((refusal.reason, refusal.detail), []).append(refusal)
    shown = list(kinds.values())[:_FIRST_FEW]
    lines = [f"\n  {same[0]}" + (f" (and {len(same) - 1:,} rows like it)" if len(same) > 1 else "") for same in shown]
    more = len(refusals) - sum(map(len, shown))
    return "".join([":" if lines else "", *lines, f"\n  and {more:,} more" if more > 0 else ""])
