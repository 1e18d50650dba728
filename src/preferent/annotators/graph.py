"""Votes on pairs of responses as arrays, the comparison graph they span, and what that graph cannot say.

Orientation: outcome 1 means that item i won, 0 that item j won, 0.5 a tie.

Legend: V votes, P distinct unordered pairs (lo < hi), I items (responses), A annotators, C connected components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from preferent.core.errors import DataError
from preferent.core.records import Floats

Ints = NDArray[np.int64]
BLOCK = 1 << 16  # votes worked on at once: what one pass makes of them stays in the processor's cache
SHOWN = 5  # names spelt out in a note before it counts the rest


def sums(codes_N: NDArray[np.integer], values_N: Floats, n: int) -> Floats:
    """Sum of the values of each code 0..n-1, shape (n,)."""
    return np.bincount(codes_N, values_N, n).astype(np.float64, copy=False)


@dataclass(frozen=True, eq=False, slots=True)
class PairVotes:
    """Checked votes. `first_V`: +1 when i was shown first (left), -1 when j was, 0 unknown. `length_V`: log length of i minus that of j.
    `weight_V`: how much a vote counts, None for 1 each."""

    item_i_V: Ints
    item_j_V: Ints
    annotator_V: Ints
    outcome_V: Floats
    n_items: int
    n_annotators: int
    first_V: Floats | None = None
    length_V: Floats | None = None
    weight_V: Floats | None = None

    def __len__(self) -> int:
        return len(self.outcome_V)

    def take(self, rows: ArrayLike) -> PairVotes:
        """The same items and annotators with only these votes (indices or a mask)."""
        rows = np.asarray(rows)
        first_V = None if self.first_V is None else self.first_V[rows]
        length_V = None if self.length_V is None else self.length_V[rows]
        weight_V = None if self.weight_V is None else self.weight_V[rows]
        i_V, j_V, annotator_V, outcome_V = self.item_i_V[rows], self.item_j_V[rows], self.annotator_V[rows], self.outcome_V[rows]
        return PairVotes(i_V, j_V, annotator_V, outcome_V, self.n_items, self.n_annotators, first_V, length_V, weight_V)


def pair_votes(
    items_V2: ArrayLike,
    outcome_V: ArrayLike,
    *,
    annotator_V: ArrayLike | None = None,
    shown_first_V: ArrayLike | None = None,
    lengths_I: ArrayLike | None = None,
    weight_V: ArrayLike | None = None,
    counts: tuple[int | None, int | None] = (None, None),
) -> PairVotes:
    """Votes from plain arrays.

    items_V2: item numbers (i, j) of each vote, integers from 0. outcome_V: 1 (i won), 0.5 (tie) or 0 (j won). annotator_V: annotator
    numbers from 0 (one annotator if left out). shown_first_V: the item number that was shown first, -1 unknown. lengths_I: length of
    every item, > 0, in any one unit. weight_V: how much each vote counts, > 0 (1 each if left out). counts: how many items and
    annotators there are, if more than occur. Raises DataError with the row when an item meets itself, a number is negative or too large,
    an outcome is none of the three, or the item that was shown first is neither of the pair.
    """
    items_V2 = np.asarray(items_V2)
    if items_V2.ndim != 2 or items_V2.shape[1] != 2 or len(items_V2) == 0:
        raise DataError(f"pair_votes: items have shape {items_V2.shape}, allowed is (votes, 2) with at least one vote")
    n_votes = len(items_V2)
    i_V, n_items = _codes(items_V2[:, 0], counts[0], "item i", n_votes)
    j_V, n_j = _codes(items_V2[:, 1], counts[0], "item j", n_votes)
    annotator, n_annotators = _codes(np.zeros(n_votes, np.int64) if annotator_V is None else annotator_V, counts[1], "annotator", n_votes)
    outcome = np.asarray(outcome_V, dtype=np.float64)
    if outcome.shape != (n_votes,):
        raise DataError(f"pair_votes: {n_votes} pairs but outcomes of shape {outcome.shape}")
    n_items = max(n_items, n_j)
    _refuse(i_V == j_V, i_V, "item", "compared with itself")
    _refuse(~np.isin(outcome, (0.0, 0.5, 1.0)), outcome, "outcome", "allowed are 1 (i won), 0.5 (tie) and 0 (j won)")
    first_V = None if shown_first_V is None else _first(shown_first_V, i_V, j_V)
    length_V = None if lengths_I is None else _length(lengths_I, n_items, i_V, j_V)
    weight = None if weight_V is None else np.asarray(weight_V, dtype=np.float64)
    if weight is not None:
        if weight.shape != (n_votes,):
            raise DataError(f"pair_votes: {n_votes} votes but weights of shape {weight.shape}")
        _refuse(~((weight > 0) & np.isfinite(weight)), weight, "weight", "allowed are finite numbers > 0")
    return PairVotes(i_V, j_V, annotator, outcome, n_items, n_annotators, first_V, length_V, weight)


def _codes(values: ArrayLike, count: int | None, what: str, n_votes: int) -> tuple[Ints, int]:
    codes_V = np.asarray(values)
    if codes_V.shape != (n_votes,) or not np.issubdtype(codes_V.dtype, np.integer):
        raise DataError(f"pair_votes: {what} numbers must be {n_votes} integers, got shape {codes_V.shape} of {codes_V.dtype}")
    codes_V = codes_V.astype(np.int64, copy=False)
    _refuse(codes_V < 0, codes_V, what, "allowed are numbers from 0")
    found = int(codes_V.max()) + 1
    if count is not None and found > count:
        row = int(np.argmax(codes_V >= count))
        raise DataError(f"pair_votes: row {row}: {what} {int(codes_V[row])!r}, allowed are 0 to {count - 1}")
    return codes_V, found if count is None else count


def _refuse(bad_V: NDArray[np.bool_], values_V: NDArray, what: str, why: str) -> None:
    if bad_V.any():
        row = int(np.argmax(bad_V))
        raise DataError(f"pair_votes: row {row}: {what} {values_V[row].item()!r}: {why} ({int(bad_V.sum())} such rows)")


def _first(shown_first_V: ArrayLike, i_V: Ints, j_V: Ints) -> Floats:
    shown_V = np.asarray(shown_first_V)
    if shown_V.shape != i_V.shape:
        raise DataError(f"pair_votes: {len(i_V)} votes but shown_first of shape {shown_V.shape}")
    _refuse((shown_V != i_V) & (shown_V != j_V) & (shown_V != -1), shown_V, "shown first", "allowed are the two items of the row and -1")
    return (shown_V == i_V).astype(np.float64) - (shown_V == j_V)


def _length(lengths_I: ArrayLike, n_items: int, i_V: Ints, j_V: Ints) -> Floats:
    lengths = np.asarray(lengths_I, dtype=np.float64)
    if lengths.shape != (n_items,):
        raise DataError(f"pair_votes: {n_items} items but lengths of shape {lengths.shape}")
    _refuse(~((lengths > 0) & np.isfinite(lengths)), lengths, "length", "allowed are finite numbers > 0")
    log_I = np.log(lengths)
    return log_I[i_V] - log_I[j_V]


@dataclass(frozen=True, eq=False, slots=True)
class PairTable:
    """Votes sorted by pair and turned so that `lo < hi`: the shape that the fits work on.

    win_V is 1 when lo won, 0.5 for a tie; first_V and length_V are turned alike. Votes of pair p are rows start_P[p] to start_P[p + 1];
    active_A says who voted at all.
    The order depends on what was voted, never on the order of the rows or of the two sides. parts: views of whole pairs, one after the
    other, for passes over many votes; empty where there are few.
    """

    lo_P: Ints
    hi_P: Ints
    start_P: Ints
    annotator_V: NDArray[np.int32]
    win_V: Floats
    first_V: Floats | None
    length_V: Floats | None
    active_A: NDArray[np.bool_]
    n_items: int
    weight_V: Floats | None = None
    parts: tuple[PairTable, ...] = ()

    @property
    def n_annotators(self) -> int:
        return len(self.active_A)

    @property
    def n_votes_P(self) -> Ints:
        return np.diff(self.start_P)

    @property
    def mass_P(self) -> Floats:
        """Summed weight of the votes of each pair."""
        return self.n_votes_P.astype(np.float64) if self.weight_V is None else self.total_P(self.weight_V)

    def weighted(self, values_V: Floats) -> Floats:
        """Per-vote values times the weights of the votes."""
        return values_V if self.weight_V is None else values_V * self.weight_V

    def slice(self, first: int, last: int) -> PairTable:
        """Pairs first to last - 1 with their votes: views, no copies."""
        at, end = int(self.start_P[first]), int(self.start_P[last])
        more = [None if column_V is None else column_V[at:end] for column_V in (self.first_V, self.length_V, self.weight_V)]
        start_P = self.start_P[first : last + 1] - at
        own = (self.lo_P[first:last], self.hi_P[first:last], start_P, self.annotator_V[at:end], self.win_V[at:end])
        return PairTable(*own, more[0], more[1], self.active_A, self.n_items, more[2])

    def keep(self, kept_P: NDArray[np.bool_]) -> PairTable:
        """Only these pairs with their votes; items and annotators keep their numbers."""
        count_P = self.n_votes_P
        kept_V = np.repeat(kept_P, count_P)
        more = [None if column_V is None else column_V[kept_V] for column_V in (self.first_V, self.length_V, self.weight_V)]
        start_P = np.concatenate([[0], np.cumsum(count_P[kept_P])])
        annotator_V = self.annotator_V[kept_V]
        active_A = np.bincount(annotator_V, minlength=self.n_annotators) > 0
        own = (self.lo_P[kept_P], self.hi_P[kept_P], start_P, annotator_V, self.win_V[kept_V])
        return _in_parts(PairTable(*own, more[0], more[1], active_A, self.n_items, more[2]))

    def total_P(self, values_V: Floats) -> Floats:
        """Sum of a per-vote value over the votes of each pair."""
        return np.add.reduceat(values_V, self.start_P[:-1])

    def spread_V(self, values_P: Floats) -> Floats:
        """A per-pair value for each of its votes."""
        return np.repeat(values_P, self.n_votes_P)

    def difference_I(self, values_P: Floats) -> Floats:
        """Sum of a per-pair value with plus on lo and minus on hi, per item."""
        return sums(self.lo_P, values_P, self.n_items) - sums(self.hi_P, values_P, self.n_items)

    def degree_I(self, values_P: Floats) -> Floats:
        """Sum of a per-pair value over the pairs of each item."""
        return sums(self.lo_P, values_P, self.n_items) + sums(self.hi_P, values_P, self.n_items)


def pair_table(votes: PairVotes) -> PairTable:
    """Sort and turn the votes; O(V log V)."""
    turned_V = votes.item_i_V > votes.item_j_V
    lo_V = np.where(turned_V, votes.item_j_V, votes.item_i_V)
    hi_V = np.where(turned_V, votes.item_i_V, votes.item_j_V)
    key_V = lo_V * votes.n_items + hi_V
    sign_V = np.where(turned_V, -1.0, 1.0)
    win_V = np.where(turned_V, 1.0 - votes.outcome_V, votes.outcome_V)
    order_V = _order(key_V, votes, win_V, sign_V)
    key_V = key_V[order_V]
    start_P = np.concatenate([[0], np.flatnonzero(np.diff(key_V)) + 1, [len(key_V)]])
    lo_P, hi_P = np.divmod(key_V[start_P[:-1]], votes.n_items)
    first_V = None if votes.first_V is None else (sign_V * votes.first_V)[order_V]
    length_V = None if votes.length_V is None else (sign_V * votes.length_V)[order_V]
    weight_V = None if votes.weight_V is None else votes.weight_V[order_V]
    annotator_V = votes.annotator_V[order_V].astype(np.int32)
    active_A = np.bincount(annotator_V, minlength=votes.n_annotators) > 0
    return _in_parts(PairTable(lo_P, hi_P, start_P, annotator_V, win_V[order_V], first_V, length_V, active_A, votes.n_items, weight_V))


def _in_parts(table: PairTable) -> PairTable:
    n_votes, n_pairs = len(table.win_V), len(table.lo_P)
    if n_votes < 2 * BLOCK:
        return table
    bounds = np.unique(np.searchsorted(table.start_P, np.arange(0, n_votes + BLOCK, BLOCK)).clip(max=n_pairs))
    parts = tuple(table.slice(first, last) for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True) if last > first)
    return replace(table, parts=parts)


def _order(key_V: Ints, votes: PairVotes, win_V: Floats, sign_V: Floats) -> Ints:
    """By pair, annotator, outcome, display: in one integer where it fits, so that equal votes in any row order give equal tables."""
    first_V = np.zeros(len(key_V)) if votes.first_V is None else sign_V * votes.first_V
    detail_V = (2 * win_V * 3 + first_V + 1).astype(np.int64)
    if votes.n_items**2 * votes.n_annotators * 9 < 2**62:
        return np.argsort((key_V * votes.n_annotators + votes.annotator_V) * 9 + detail_V)
    return np.lexsort((detail_V, votes.annotator_V, key_V))


@dataclass(frozen=True, eq=False, slots=True)
class Graph:
    """What the comparison graph allows.

    component_I: connected component of each item, numbered by size (0 the largest); -1 for items without a vote. Scores compare only
    within a component. undefeated_I / winless_I: items with votes that only won / only lost (without a prior their score is
    infinite). votes_I: votes per item. ordered_C: whether wins lead from every item of the component to every other, the condition
    under which scores exist without a prior (Ford 1957). repeats: votes of an annotator on a pair that they had already judged.
    """

    component_I: Ints
    size_C: Ints
    votes_I: Ints
    undefeated_I: NDArray[np.bool_]
    winless_I: NDArray[np.bool_]
    ordered_C: NDArray[np.bool_]
    repeats: int
    tie_share: float

    def notes(self, names_I: Sequence[str] | None = None) -> tuple[str, ...]:
        """What a reader of the scores must know, in sentences; items by name, or by number without names."""
        voted_I = self.votes_I > 0
        lines = []
        if len(self.size_C) > 1:
            sizes = ", ".join(str(size) for size in self.size_C[:SHOWN]) + (", ..." if len(self.size_C) > SHOWN else "")
            lines.append(
                f"the comparison graph falls apart into {len(self.size_C)} components (sizes {sizes}): "
                "scores compare only within a component; across components only the prior speaks"
            )
        facts = (
            (self.undefeated_I, "never lost", "their scores are finite only through the prior"),
            (self.winless_I, "never won", "their scores are finite only through the prior"),
            (voted_I & (self.votes_I == 1), "have one vote", "their scores are mostly prior"),
            (~voted_I, "have no vote", "their scores are the prior"),
        )
        lines += [f"{_named(flag_I, names_I)} {what}: {why}" for flag_I, what, why in facts if flag_I.any()]
        if not self.ordered_C.all():
            count = int((~self.ordered_C).sum())
            lines.append(
                f"in {count} of {len(self.size_C)} components wins do not lead from every item to every other: no fit without a prior"
            )
        if self.repeats:
            lines.append(f"{self.repeats} votes repeat a pair by an annotator who had already judged it; each counts as a vote")
        return tuple(lines)


def _named(flag_I: NDArray[np.bool_], names_I: Sequence[str] | None) -> str:
    found = np.flatnonzero(flag_I)
    shown = ", ".join(str(k) if names_I is None else repr(names_I[k]) for k in found[:SHOWN].tolist())
    return f"{len(found)} items ({shown}{', ...' if len(found) > SHOWN else ''})"


def describe(votes: PairTable) -> Graph:
    """Components, undefeated items and the rest of `Graph`; linear in votes and items."""
    wins_P = votes.total_P((votes.win_V > 0).astype(np.float64))  # a tie is a way in both directions
    losses_P = votes.total_P((votes.win_V < 1).astype(np.float64))
    n = votes.n_items
    voted_I = votes.degree_I(votes.n_votes_P.astype(np.float64)).astype(np.int64)
    _, label_I = connected_components(coo_array((np.ones(len(votes.lo_P)), (votes.lo_P, votes.hi_P)), (n, n)), directed=False)
    used, label_of = np.unique(label_I[voted_I > 0], return_inverse=True)
    size = np.bincount(label_of)
    rank = np.argsort(np.argsort(-size, kind="stable"), kind="stable")
    component_I = np.full(n, -1, dtype=np.int64)
    component_I[voted_I > 0] = rank[label_of]
    won_I = np.bincount(votes.lo_P, wins_P, n) + np.bincount(votes.hi_P, losses_P, n)
    lost_I = np.bincount(votes.lo_P, losses_P, n) + np.bincount(votes.hi_P, wins_P, n)
    same_V = np.diff(votes.annotator_V) == 0
    same_V[votes.start_P[1:-1] - 1] = False
    return Graph(
        component_I,
        -np.sort(-size),
        voted_I,
        (voted_I > 0) & (lost_I == 0),
        (voted_I > 0) & (won_I == 0),
        _ordered(votes, wins_P > 0, losses_P > 0, component_I, len(used)),
        int(same_V.sum()),
        float(np.mean(votes.win_V == 0.5)),
    )


def _ordered(
    votes: PairTable, up_P: NDArray[np.bool_], down_P: NDArray[np.bool_], component_I: Ints, n_components: int
) -> NDArray[np.bool_]:
    source = np.concatenate([votes.hi_P[up_P], votes.lo_P[down_P]])
    target = np.concatenate([votes.lo_P[up_P], votes.hi_P[down_P]])
    _, strong_I = connected_components(coo_array((np.ones(len(source)), (source, target)), (votes.n_items,) * 2), connection="strong")
    voted_I = component_I >= 0
    pairs = np.unique(np.stack([component_I[voted_I], strong_I[voted_I]]), axis=1)
    return np.bincount(pairs[0], minlength=n_components) == 1
