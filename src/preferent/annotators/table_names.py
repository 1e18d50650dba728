"""Names of any kind as codes, fast, and where a row of a file stands.

Legend: V votes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.core.errors import DataError

Ints = NDArray[np.int32]


class Where(str):
    """The name of a source of votes; `at` is where its row (from 0) stands: `path:line` where lines are known."""

    lines: Sequence[int] | None = None

    def at(self, row: int) -> str:
        return f"{self}: row {row + 1}" if self.lines is None else f"{self}:{self.lines[row]}"

    @classmethod
    def of_lines(cls, name: str, lines: Sequence[int]) -> Where:
        where = cls(name)
        where.lines = lines
        return where


def intern(values: Any) -> tuple[Ints, NDArray[Any]]:
    """(codes_V, names): names are the different values, sorted; a null (None, NaN, "") has code -1.

    Raises DataError when texts and numbers are mixed.
    """
    if hasattr(values, "dictionary_encode") or hasattr(values, "indices"):
        return _intern_arrow(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub":
        return intern_integers(values)
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return _intern_floats(values)
    listed = values.tolist() if isinstance(values, np.ndarray) else values if isinstance(values, list) else list(values)
    return _intern_objects(listed)


def _intern_objects(values: list[Any]) -> tuple[Ints, NDArray[Any]]:
    # One look-up per value: an unknown one gets the next number. Names are sorted after.
    known: defaultdict[Any, int] = defaultdict(count().__next__)
    first_V = np.fromiter(map(known.__getitem__, values), dtype=np.int32, count=len(values))
    keys, types = list(known), set(map(type, known))
    nulls = {code for code, key in enumerate(keys) if key is None or key == "" or key != key} if _may_be_null(known, types) else set()
    types = {type(key) for code, key in enumerate(keys) if code not in nulls} if nulls else types
    whole = {kind for kind in types if issubclass(kind, int | np.integer)}
    if types - whole - {kind for kind in types if issubclass(kind, str)} or (whole and types - whole):
        raise DataError(f"ids must be all texts or all whole numbers, got {sorted(kind.__name__ for kind in types)!r}")
    kept = [code for code in range(len(keys)) if code not in nulls] if nulls else range(len(keys))
    order = np.array(sorted(kept, key=keys.__getitem__), dtype=np.int64)
    lookup = np.full(len(keys) + 1, -1, dtype=np.int32)
    lookup[order] = np.arange(len(order), dtype=np.int32)
    names = np.empty(len(keys), dtype=object)
    names[:] = keys
    return lookup[first_V], names[order].astype(np.int64) if whole else names[order]


def _may_be_null(known: Mapping[Any, int], types: set[type]) -> bool:
    return None in known or "" in known or float in types


def intern_integers(values_V: NDArray[Any]) -> tuple[Ints, NDArray[Any]]:
    if len(values_V) == 0:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    low, high = int(values_V.min()), int(values_V.max())
    if high - low > 4 * len(values_V) + 1000:
        names, codes_V = np.unique(values_V, return_inverse=True)
        return codes_V.astype(np.int32), names.astype(np.int64)
    shifted_V = values_V.astype(np.int64) - low if low else values_V.astype(np.int8) if values_V.dtype == bool else values_V
    present = np.zeros(high - low + 1, dtype=bool)
    present[shifted_V] = True
    names = np.flatnonzero(present)
    lookup = np.zeros(len(present), dtype=np.int32)
    lookup[names] = np.arange(len(names), dtype=np.int32)
    return lookup[shifted_V], names + low


def _intern_floats(values_V: NDArray[np.floating[Any]]) -> tuple[Ints, NDArray[Any]]:
    """Whole numbers that a table with holes turned into floats."""
    null_V = np.isnan(values_V)
    if (values_V[~null_V] != np.floor(values_V[~null_V])).any():
        raise DataError("ids must be texts or whole numbers, got fractions")
    codes_V = np.full(len(values_V), -1, dtype=np.int32)
    codes_V[~null_V], names = intern_integers(values_V[~null_V].astype(np.int64))
    return codes_V, names


def _intern_arrow(values: Any) -> tuple[Ints, NDArray[Any]]:
    """A pyarrow column: its own dictionary does the work."""
    encoded = values if hasattr(values, "indices") else values.dictionary_encode()
    if hasattr(encoded, "chunks"):
        encoded = encoded.unify_dictionaries().combine_chunks()
        encoded = encoded.chunks[0] if hasattr(encoded, "chunks") else encoded
    raw_V = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    codes_D, names = _intern_objects(encoded.dictionary.to_pylist())
    return np.append(codes_D, np.int32(-1))[raw_V], names
