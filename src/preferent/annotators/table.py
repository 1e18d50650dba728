"""Votes as columns of integers: what every method of this room reads.

    table = VoteTable.from_arrays(items, annotators, labels)          # ids and labels of any kind, or
    table = VoteTable.from_judgments(judgments)                       # or table_read.read_votes("judgments.jsonl")

The rows of a table are kept in one canonical order (by item, then annotator) and names are sorted, so the order in which votes arrive
never matters. Nothing is dropped silently: skips are counted in `skipped`, and what a policy left out is told in `notes`.

Legend: V votes, I items (comparisons), A annotators, L labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.table_columns import Policies, Where, build_columns, intern
from preferent.annotators.table_sides import Sides
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Floats, Judgment

Ints = NDArray[np.int32]
GROUPS = ("objective", "source")


@dataclass(frozen=True, eq=False)
class VoteTable:
    """Votes of annotators on items.

    item_V, annotator_V, label_V: codes into `items`, `annotators`, `labels`, ordered by item and annotator. weight_V: how much a vote
    counts (None: 1 each). first_V: the code of the label that was shown first (on the left), -1 where unknown. seconds_V: time spent,
    NaN where unknown. strength_V in [0, 1], NaN where not given. objective_V, source_V: codes into `objectives` and `sources`, -1
    where none was given. skipped: votes of "skip", which are no votes. A label is only a name: tie, both_good and both_bad stay
    different when they occur. sides: which two responses each item compares, where that is known.
    """

    item_V: Ints
    annotator_V: Ints
    label_V: Ints
    items: NDArray[Any]
    annotators: NDArray[Any]
    labels: tuple[str, ...]
    weight_V: Floats | None = None
    first_V: Ints | None = None
    seconds_V: Floats | None = None
    strength_V: Floats | None = None
    objective_V: Ints | None = None
    source_V: Ints | None = None
    objectives: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    sides: Sides | None = None
    skipped: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Any], *, labels: Sequence[str] | None = None, policies: Policies | None = None, where: str = "votes"
    ) -> VoteTable:
        """A table from columns of equal length: `item`, `annotator`, `label` (or `comparison_id`, `annotator_id`, `choice`), and where
        present `weight`, `shown_first`, `seconds`, `strength`, `objective`, `source`, and the names of the two responses, `side_a` and
        `side_b` (with `length_a` and `length_b`): the same in every row of an item.

        Columns may be lists, numpy arrays or pyarrow columns. `labels` is the allowed set, in the order they shall have; None takes
        what occurs, sorted. `where` names the source in messages. Raises DataError for null ids or labels, unknown labels and repeated
        votes, unless `policies` says otherwise.
        """
        return cls(
            **build_columns(
                columns, labels=labels, policies=policies or Policies(), where=where if isinstance(where, Where) else Where(where)
            )
        )

    @classmethod
    def from_arrays(cls, item: Any, annotator: Any, label: Any, **options: Any) -> VoteTable:
        """`from_columns` of the three columns that a vote needs; `options` are further columns or arguments of `from_columns`."""
        arguments = {key: options.pop(key) for key in ("labels", "policies", "where") if key in options}
        return cls.from_columns({"item": item, "annotator": annotator, "label": label, **options}, **arguments)

    @classmethod
    def from_judgments(cls, judgments: Iterable[Judgment], *, policies: Policies | None = None) -> VoteTable:
        """A table of judgments; the labels are a and b, and tie where it occurs."""
        rows = list(judgments)
        fields = ("comparison_id", "annotator_id", "choice", "seconds", "strength", "objective")
        columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in fields}
        columns = {name: values for name, values in columns.items() if name in fields[:3] or any(v is not None for v in values)}
        labels = [label for label in ("a", "b", "tie") if label != "tie" or "tie" in columns["choice"]]
        return cls.from_columns(columns, labels=labels, policies=policies, where="judgments")

    def __len__(self) -> int:
        return len(self.item_V)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_annotators(self) -> int:
        return len(self.annotators)

    @property
    def n_labels(self) -> int:
        return len(self.labels)

    @cached_property
    def rows_I(self) -> NDArray[np.int64]:
        """Rows of each item, shape (I,)."""
        return np.bincount(self.item_V, minlength=self.n_items)

    @cached_property
    def votes_I(self) -> NDArray[np.int64]:
        """Annotators who voted on each item, shape (I,): repeated votes of one annotator are one voice."""
        return np.bincount(self.item_V[self._first_rows], minlength=self.n_items) if self.repeats else self.rows_I

    @cached_property
    def votes_A(self) -> NDArray[np.int64]:
        """Items that each annotator voted on, shape (A,)."""
        annotator_V = self.annotator_V[self._first_rows] if self.repeats else self.annotator_V
        return np.bincount(annotator_V, minlength=self.n_annotators)

    @cached_property
    def _first_rows(self) -> NDArray[np.bool_]:
        """Whether a row is the first of its annotator on its item."""
        return np.concatenate([[True], (np.diff(self.item_V) != 0) | (np.diff(self.annotator_V) != 0)])

    @cached_property
    def ballot_V(self) -> NDArray[np.int64]:
        """Number of the ballot that each row belongs to: all rows of one annotator on one item."""
        return np.cumsum(self._first_rows) - 1

    def own_weight(self, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """What the annotators of these rows gave on the same item: (rows, L) per label, and (rows,) for the row's own label."""
        weight_V = np.ones(len(self)) if self.weight_V is None else self.weight_V
        own = np.zeros((len(rows), self.n_labels), dtype=np.float64)
        if self.repeats:
            cells_V = self.ballot_V * self.n_labels + self.label_V
            n_cells = self.n_labels * (int(self.ballot_V[-1]) + 1)
            own[:] = np.bincount(cells_V, weight_V, n_cells).reshape(-1, self.n_labels)[self.ballot_V[rows]]
        else:
            own[np.arange(len(rows)), self.label_V[rows]] = weight_V[rows]
        return own, own[np.arange(len(rows)), self.label_V[rows]]

    @cached_property
    def counts_IL(self) -> Floats:
        """Weight of the votes for each label on each item, shape (I, L)."""
        cells_V = self.item_V.astype(np.int64)
        cells_V *= self.n_labels
        cells_V += self.label_V
        counts = np.bincount(cells_V, self.weight_V, self.n_items * self.n_labels)
        return counts.reshape(self.n_items, self.n_labels).astype(np.float64)

    @cached_property
    def repeats(self) -> bool:
        """Whether some annotator has several votes on one item (and objective)."""
        if len(self) < 2:
            return False
        columns = [self.item_V, self.annotator_V, *([] if self.objective_V is None else [self.objective_V])]
        same_V = np.logical_and.reduce([codes_V[1:] == codes_V[:-1] for codes_V in columns])
        return bool(same_V.any())

    def one_objective(self) -> None:
        """Raise DataError when votes of several objectives would be counted together."""
        if len(self.objectives) + bool(self.objective_V is not None and (self.objective_V < 0).any()) > 1:
            raise DataError(
                f"votes of different objectives cannot be counted together: {list(self.objectives)!r}",
                hint="take them one at a time: table.by('objective')",
            )

    def where(self, keep_V: NDArray[np.bool_], *, note: str | None = None) -> VoteTable:
        """The votes with `keep_V`; items and annotators without a vote are gone, the labels stay."""
        item_V, used_I = _recode(self.item_V[keep_V])
        annotator_V, used_A = _recode(self.annotator_V[keep_V])
        columns = ("label_V", "weight_V", "first_V", "seconds_V", "strength_V", "objective_V", "source_V")
        kept = {name: None if getattr(self, name) is None else getattr(self, name)[keep_V] for name in columns}
        groups: dict[str, Any] = {}
        for group in GROUPS:
            codes_V = kept[f"{group}_V"]
            if codes_V is not None:
                used = np.unique(codes_V[codes_V >= 0])
                lookup = np.full(len(getattr(self, f"{group}s")) + 1, -1, dtype=np.int32)
                lookup[used] = np.arange(len(used))
                kept[f"{group}_V"] = lookup[codes_V]
                groups[f"{group}s"] = tuple(getattr(self, f"{group}s")[code] for code in used)
        notes = self.notes if note is None else (*self.notes, note)
        sides = None if self.sides is None else self.sides.take(used_I)
        changes = {**kept, **groups, "notes": notes, "sides": sides, "items": self.items[used_I], "annotators": self.annotators[used_A]}
        return replace(self, item_V=item_V, annotator_V=annotator_V, **changes)

    def with_sides(self, pairs: Mapping[Any, tuple[Any, Any]], lengths: Mapping[Any, float] | None = None) -> VoteTable:
        """The same votes, knowing which two responses (a, b) each item compares, and how long each response is.

        Raises DataError for an item that `pairs` does not name.
        """
        missing = [name for name in self.items.tolist() if name not in pairs]
        if missing:
            raise DataError(f"no pair of responses is known for {len(missing)} judged items, the first is {missing[0]!r}")
        both = [pairs[name] for name in self.items.tolist()]
        codes, responses = intern([a for a, _ in both] + [b for _, b in both])
        a_I, b_I = codes[: len(both)], codes[len(both) :]
        if (bad_I := (codes[: len(both)] < 0) | (b_I < 0) | (a_I == b_I)).any():
            item = int(np.flatnonzero(bad_I)[0])
            raise DataError(f"item {self.items[item]!r} compares {both[item]!r}, allowed are two different responses")
        length_R = None if lengths is None else np.array([lengths.get(name, np.nan) for name in responses.tolist()], dtype=np.float64)
        return replace(self, sides=Sides(a_I, b_I, responses, length_R))

    def without_unused_labels(self, keep: Sequence[str] = ()) -> VoteTable:
        """The same votes without labels that nobody voted for, except those to `keep`."""
        used_L = np.bincount(self.label_V, minlength=self.n_labels) > 0
        used_L |= np.isin(np.array(self.labels, dtype=object), list(keep))
        if self.first_V is not None:
            used_L[self.first_V[self.first_V >= 0]] = True
        if used_L.all():
            return self
        lookup = np.full(self.n_labels + 1, -1, dtype=np.int32)
        lookup[np.flatnonzero(used_L)] = np.arange(int(used_L.sum()), dtype=np.int32)
        first_V = None if self.first_V is None else lookup[self.first_V]
        labels = tuple(name for name, used in zip(self.labels, used_L.tolist(), strict=True) if used)
        return replace(self, label_V=lookup[self.label_V], first_V=first_V, labels=labels)

    def by(self, group: str) -> dict[str, VoteTable]:
        """One table for each `objective` or `source` (or `annotator`'s own name); votes without one are under "".

        Raises ConfigError for another word.
        """
        if group not in GROUPS:
            raise ConfigError(f"votes cannot be grouped by {group!r}, allowed are {list(GROUPS)!r}")
        codes_V, names = getattr(self, f"{group}_V"), getattr(self, f"{group}s")
        if codes_V is None:
            return {"": self}
        parts = {name: self.where(codes_V == code) for code, name in enumerate(names)}
        return parts | ({"": self.where(codes_V < 0)} if (codes_V < 0).any() else {})

    def swap(self, a: str = "a", b: str = "b") -> VoteTable:
        """The same votes with the two sides exchanged: a vote for a is one for b, and what was shown first is the other one."""
        order = list(range(self.n_labels))
        i, j = (_index(self.labels, label) for label in (a, b))
        order[i], order[j] = j, i
        lookup = np.array([*order, -1], dtype=np.int32)
        first_V = None if self.first_V is None else lookup[self.first_V]
        sides = None if self.sides is None else self.sides.swap()
        return replace(self, label_V=lookup[self.label_V], first_V=first_V, sides=sides)

    def columns(self) -> dict[str, Any]:
        """The votes as columns of names again, for `from_columns` or a file."""
        labels = np.array([*self.labels, None], dtype=object)
        out: dict[str, Any] = {
            "item": self.items[self.item_V],
            "annotator": self.annotators[self.annotator_V],
            "label": labels[self.label_V],
        }
        if self.first_V is not None:
            out["shown_first"] = labels[self.first_V]
        for group in GROUPS:
            codes_V = getattr(self, f"{group}_V")
            if codes_V is not None:
                out[group] = np.array([*getattr(self, f"{group}s"), None], dtype=object)[codes_V]
        if self.sides is not None:
            out |= self.sides.columns(self.item_V)
        numbers = {"weight": self.weight_V, "seconds": self.seconds_V, "strength": self.strength_V}
        return out | {name: values for name, values in numbers.items() if values is not None}


def _index(labels: tuple[str, ...], label: str) -> int:
    if label not in labels:
        raise DataError(f"there is no label {label!r} in this table, its labels are {list(labels)!r}")
    return labels.index(label)


def _recode(codes_V: Ints) -> tuple[Ints, NDArray[np.int64]]:
    """Codes without gaps, and which old codes they stand for."""
    new_V, used = intern(codes_V)
    return new_V, used.astype(np.int64)
