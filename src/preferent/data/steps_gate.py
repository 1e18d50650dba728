"""The data gate for step data: every row is read, judged, and accounted for in a ledger before anything is trained on it.

Two passes, as for pairs (`gate`): the first keeps hashes and counts, the second streams the solutions, with those of the same prompt and
the same steps merged into the first of them.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from preferent.core.errors import DataError
from preferent.core.records import Exchange, StepLabels
from preferent.data.formats.steps_detect import StepFormat
from preferent.data.gate import count_name, file_stamps, refuse_source
from preferent.data.ledger import Refusal
from preferent.data.lines import Source, as_paths
from preferent.data.merge import clustered_share, digest, prompt_key, sorted_groups
from preferent.data.steps_ledger import StepLedger
from preferent.data.steps_read import LocatedSteps, read_steps

CountTokens = Callable[[Exchange], int]
Labels = tuple[float | None, ...]
_UNNAMED = "(none)"


@dataclass(frozen=True)
class CheckedSteps:
    """A source of step data that passed the gate: its ledger, and its solutions as often as they are wanted."""

    ledger: StepLedger
    source: Source
    format: StepFormat
    split: str
    _first_N: NDArray[np.bool_] = field(repr=False)
    _merged: dict[int, Labels] = field(repr=False)
    _stamps: tuple[tuple[int, int] | None, ...] = field(repr=False)

    def records(self) -> Iterator[StepLabels]:
        """Stream the source again: each solution where its first row stands, with the labels of all rows about it.

        A merged label is the mean over the rows that label the step, null where none does; id, source and meta are those of the first
        row. Raises DataError when a file changed since it was checked.
        """
        if file_stamps(self.source) != self._stamps:
            raise DataError(f"{', '.join(as_paths(self.source))}: changed since it was checked", hint="check it again")
        for index, record in enumerate(_passed(self.source, self.format, self.split)):
            if index >= len(self._first_N):
                break
            if self._first_N[index]:
                labels = self._merged.get(index)
                yield record if labels is None else record.model_copy(update={"labels": labels})


def check_steps(
    source: Source,
    *,
    format: StepFormat = "auto",
    strict: bool = False,
    split: str = "train",
    count_tokens: CountTokens | None = None,
    max_length: int | None = None,
) -> CheckedSteps:
    """Read a source of step data (a file, a folder, a hub id, or several of them as one) and account for every row.

    strict: any refused row is an error. count_tokens and max_length: solutions of more tokens (steps joined by line breaks) are counted as
    over-long, and kept.

    Raises DataError when the source cannot be opened, when no row passes, and under `strict` when any is refused.
    """
    if count_tokens is not None and max_length is None:
        raise DataError("count_tokens was given without max_length", hint="give both, or neither")
    stamps = file_stamps(source)
    seen = _FirstPass(count_tokens, max_length)
    for row in read_steps(source, format=format, split=split):
        seen.add(row)
    paths = as_paths(source)
    refuse_source(paths, seen.read, seen.refusals, kept=bool(len(seen)), strict=strict)
    groups = seen.groups()
    records = _passed(source, format, split) if groups.several else iter(())
    merge = _merge(records, groups)
    return CheckedSteps(seen.ledger(groups, merge, paths), source, format, split, groups.first_N, merge.labels, stamps)


def _passed(source: Source, format: StepFormat, split: str) -> Iterator[StepLabels]:
    for row in read_steps(source, format=format, split=split):
        if isinstance(row, LocatedSteps):
            yield row.record


@dataclass(frozen=True)
class _Groups:
    """first_N: whether a solution is the first of its kind. several: index of every later or first member of a group whose labels
    differ -> its first. exact: solutions that repeat an earlier one with the same labels, in groups without differences."""

    first_N: NDArray[np.bool_]
    several: dict[int, int]
    exact: int


@dataclass
class _Merge:
    """What the groups with different labels say together, by the index of their first."""

    labels: dict[int, Labels] = field(default_factory=dict)
    exact: int = 0
    agreeing: int = 0
    contradictory: int = 0
    contradictions: int = 0


def _merge(records: Iterator[StepLabels], groups: _Groups) -> _Merge:
    rows: dict[int, list[Labels]] = {}
    for index, record in enumerate(records):
        first = groups.several.get(index)
        if first is not None:
            rows.setdefault(first, []).append(record.labels)
    merge = _Merge(exact=groups.exact)
    for first, labels in rows.items():
        merge.labels[first], contradictory = together(labels)
        # Of a group with differences, rows equal to its first are repeats.
        repeats = sum(row == labels[0] for row in labels[1:])
        merge.exact += repeats
        others = len(labels) - 1 - repeats
        merge.contradictions += contradictory
        merge.contradictory += others if contradictory else 0
        merge.agreeing += 0 if contradictory else others
    return merge


def together(rows: Sequence[Labels]) -> tuple[Labels, bool]:
    """The mean label of each step over the rows that label it, and whether some step is called right by one row and wrong by another."""
    merged: list[float | None] = []
    contradictory = False
    for values in zip(*rows, strict=True):
        known = [value for value in values if value is not None]
        contradictory |= any(value > 0.5 for value in known) and any(value < 0.5 for value in known)
        merged.append(round(sum(known) / len(known), 12) if known else None)
    return tuple(merged), contradictory


class _FirstPass:
    """Counts as rows go by. Per solution two hashes, and the numbers that the ledger sums over those that are kept."""

    def __init__(self, count_tokens: CountTokens | None, max_length: int | None) -> None:
        self.refusals: list[Refusal] = []
        self.read = self._further = self._over_long = 0
        self._count_tokens, self._max_length = count_tokens, max_length
        self._prompt, self._steps, self._labels = array("Q"), array("Q"), array("Q")
        # Per solution: steps, not labelled, soft, right, wrong.
        self._counts = array("i")
        self._sources: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._prompt)

    def add(self, row: LocatedSteps | Refusal) -> None:
        if isinstance(row, Refusal):
            self.read += 1
            self.refusals.append(row)
            return
        self.read += row.nth == 0
        self._further += row.nth > 0
        record = row.record
        self._prompt.append(prompt_key(record.prompt))
        self._steps.append(digest("\x01".join([f"{len(step)}\x00{step}" for step in record.steps])))
        self._labels.append(digest(repr(record.labels)))
        self._counts.extend(_counted(record.labels))
        self._formats[row.shape] += 1
        count_name(self._sources, record.source or _UNNAMED, 1)
        for note, n in row.notes:
            count_name(self._notes, note, n)
        if self._count_tokens is not None and self._max_length is not None:
            self._over_long += self._count_tokens(Exchange(prompt=record.prompt, response="\n".join(record.steps))) > self._max_length

    def groups(self) -> _Groups:
        label_N = np.frombuffer(self._labels, np.uint64)
        order, starts = sorted_groups(np.frombuffer(self._prompt, np.uint64), np.frombuffer(self._steps, np.uint64))
        first_N = np.zeros(len(label_N), dtype=np.bool_)
        first_N[order[starts]] = True
        ends = np.append(starts[1:], len(order))
        several: dict[int, int] = {}
        exact = 0
        for g in np.flatnonzero(ends - starts > 1):
            members = order[starts[g] : ends[g]]
            if (label_N[members] == label_N[members[0]]).all():
                exact += len(members) - 1
            else:
                several.update(dict.fromkeys(members.tolist(), int(members[0])))
        return _Groups(first_N, several, exact)

    def ledger(self, groups: _Groups, merge: _Merge, paths: tuple[str, ...]) -> StepLedger:
        counts_N5 = np.frombuffer(self._counts, np.int32).reshape(-1, 5).astype(np.float64)
        for first, labels in merge.labels.items():
            counts_N5[first] = _counted(labels)
        kept_M5 = counts_N5[groups.first_N]
        steps, unlabelled, soft = kept_M5[:, :3].sum(axis=0).astype(int)
        prompt_M = np.frombuffer(self._prompt, np.uint64)[groups.first_N]
        measured = self._count_tokens is not None
        return StepLedger(
            rows=self.read,
            further=self._further,
            kept=len(kept_M5),
            refusals=tuple(self.refusals),
            merged_exact=merge.exact,
            merged_agreeing=merge.agreeing,
            merged_contradictory=merge.contradictory,
            contradictions=merge.contradictions,
            steps=int(steps),
            unlabelled=int(unlabelled),
            soft=int(soft),
            with_error=int(np.count_nonzero(kept_M5[:, 4])),
            right=clustered_share(kept_M5[:, 3], kept_M5[:, 3] + kept_M5[:, 4], prompt_M),
            over_long=self._over_long if measured else None,
            max_length=self._max_length if measured else None,
            paths=paths,
            formats=dict(self._formats),
            sources=dict(self._sources),
            notes=dict(self._notes),
        )


def _counted(labels: Labels) -> tuple[int, int, int, int, int]:
    """(steps, not labelled, soft, right, wrong)."""
    known = [label for label in labels if label is not None]
    soft = sum(0.0 < label < 1.0 for label in known)
    return len(labels), len(labels) - len(known), soft, sum(label > 0.5 for label in known), sum(label < 0.5 for label in known)
