"""Which two responses each item of a table compares: what turns votes on pairs into a graph of responses.

Legend: V votes, I items (comparisons), R responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.table_names import Ints, Where, intern
from preferent.core.errors import DataError
from preferent.core.records import Floats

SIDES = ("side_a", "side_b")
LENGTHS = ("length_a", "length_b")


@dataclass(frozen=True, eq=False)
class Sides:
    """a_I, b_I: codes into `responses` (sorted names) of the two sides of every item. length_R: length of each response in any one
    unit, NaN where it is not known; None when none is."""

    a_I: Ints
    b_I: Ints
    responses: NDArray[Any]
    length_R: Floats | None = None

    @property
    def shared(self) -> bool:
        """Whether some response meets more than one other: where none does, the pairs are no graph and each stands alone."""
        low_I, high_I = np.minimum(self.a_I, self.b_I), np.maximum(self.a_I, self.b_I)
        pairs = np.unique(low_I.astype(np.int64) * len(self.responses) + high_I)
        partners_R = np.bincount(np.concatenate(np.divmod(pairs, len(self.responses))), minlength=len(self.responses))
        return bool((partners_R > 1).any())

    def take(self, items_I: NDArray[Any]) -> Sides:
        """Those of these items; responses of no item are gone."""
        n = len(items_I)
        codes, used = intern(np.concatenate([self.a_I[items_I], self.b_I[items_I]]))
        used = used.astype(np.int64)
        return Sides(codes[:n], codes[n:], self.responses[used], None if self.length_R is None else self.length_R[used])

    def swap(self) -> Sides:
        return Sides(self.b_I, self.a_I, self.responses, self.length_R)

    def columns(self, item_V: Ints) -> dict[str, Any]:
        """side_a, side_b (and length_a, length_b) of the items of these votes."""
        found: dict[str, Any] = {name: self.responses[codes_I[item_V]] for name, codes_I in zip(SIDES, (self.a_I, self.b_I), strict=True)}
        if self.length_R is not None:
            found |= {name: self.length_R[codes_I[item_V]] for name, codes_I in zip(LENGTHS, (self.a_I, self.b_I), strict=True)}
        return found


def side_fields(named: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """Per-vote codes and lengths of both sides, and `responses`; empty without sides. Raises DataError for half of them or nulls."""
    given = [name for name in (*SIDES, *LENGTHS) if name in named]
    if not given:
        return {}
    if not set(SIDES) <= set(given) or len(given) == 3:
        raise DataError(f"{where}: columns {given!r}; a pair has both of {list(SIDES)!r}, and lengths come as both of {list(LENGTHS)!r}")
    first, second = (named[name] for name in SIDES)
    n = len(first)
    listed = [values.to_pylist() if hasattr(values, "to_pylist") else list(values) for values in (first, second)]
    codes, responses = intern(listed[0] + listed[1])
    a_V, b_V = codes[:n], codes[n:]
    for bad_V, what in (((a_V < 0) | (b_V < 0), "has no response on one side"), (a_V == b_V, "compares a response with itself")):
        if bad_V.any():
            raise DataError(f"{where.at(int(np.flatnonzero(bad_V)[0]))} {what} ({int(bad_V.sum())} such rows)")
    found: dict[str, Any] = {"side_a_V": a_V, "side_b_V": b_V, "responses": responses}
    for name in LENGTHS:
        if name in named:
            values = [np.nan if value is None else value for value in named[name]] if isinstance(named[name], list) else named[name]
            found[f"{name}_V"] = np.asarray(values, dtype=np.float64)
    return found


def sides_of_votes(fields: dict[str, Any], responses: NDArray[Any] | None, items: NDArray[Any], where: Where, notes: list[str]) -> Any:
    """Take the sides out of the votes' fields: a `Sides`, or None. Raises DataError when rows of one item name different responses."""
    if responses is None:
        return None
    item_V, a_V, b_V = fields["item_V"], fields.pop("side_a_V"), fields.pop("side_b_V")
    a_I, b_I = np.zeros(len(items), dtype=np.int32), np.zeros(len(items), dtype=np.int32)
    a_I[item_V], b_I[item_V] = a_V, b_V
    clash_V = (a_I[item_V] != a_V) | (b_I[item_V] != b_V)
    if clash_V.any():
        row = int(np.flatnonzero(clash_V)[0])
        item = item_V[row]
        one, two = ([str(responses[code]) for code in pair] for pair in ((a_V[row], b_V[row]), (a_I[item], b_I[item])))
        raise DataError(
            f"{where}: item {items[item]!r} is about {one!r} in one row and {two!r} in another",
            hint="one comparison has the same two responses, on the same sides, in every row; `shown_first` says what was shown first",
        )
    lengths_V = [fields.pop(f"{name}_V") for name in LENGTHS if f"{name}_V" in fields]
    length_R = None
    if lengths_V:
        code_N, value_N = np.concatenate([a_V, b_V]), np.concatenate(lengths_V)
        length_R = np.full(len(responses), np.nan)
        length_R[code_N] = value_N
        if (length_R[code_N] != value_N)[~np.isnan(value_N)].any():
            notes.append("a response has different lengths in different rows (an id of several texts): lengths are left out")
            length_R = None
    return Sides(a_I, b_I, responses, length_R).take(np.arange(len(items)))
