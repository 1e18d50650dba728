"""From columns of names to codes: fast interning, and what happens to nulls, unknown labels and repeated votes.

Legend: V votes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from preferent.annotators.table_names import Ints, Where, intern, intern_integers
from preferent.annotators.table_sides import side_fields, sides_of_votes
from preferent.core.errors import DataError

ALIASES = {
    "comparison_id": "item",
    "annotator_id": "annotator",
    "choice": "label",
    "response_a_id": "side_a",
    "response_b_id": "side_b",
}
NEEDED = ("item", "annotator", "label")
NUMBERS = ("weight", "seconds", "strength")
KNOWN = (*NEEDED, *NUMBERS, "shown_first", "objective", "source", "side_a", "side_b", "length_a", "length_b")


@dataclass(frozen=True, slots=True)
class Policies:
    """What to do with rows that are not one vote of one annotator on one item.

    nulls: a missing item, annotator or label. unknown: a label outside the allowed set. repeats: several votes of one annotator on one
    item and objective: "merge" makes identical ones one vote and drops contradictory ones, "share" lets the annotator's votes count
    1/m each, "keep" counts every one. skips: the labels that mean "no answer". Whatever is not refused is told in the table's notes.
    """

    nulls: Literal["refuse", "drop"] = "refuse"
    unknown: Literal["refuse", "drop"] = "refuse"
    repeats: Literal["refuse", "merge", "share", "keep"] = "refuse"
    skips: tuple[str, ...] = ("skip",)


def build_columns(columns: Mapping[str, Any], *, labels: Sequence[str] | None, policies: Policies, where: Where) -> dict[str, Any]:
    """The fields of a VoteTable; see `VoteTable.from_columns`."""
    named = _rename(columns, where)
    item_V, items = intern(named["item"])
    annotator_V, annotators = intern(named["annotator"])
    label_V, names = intern(named["label"])
    label_names = [str(name) for name in names.tolist()]
    notes: list[str] = []
    null_V = (item_V < 0) | (annotator_V < 0) | (label_V < 0)
    keep_V = _without_nulls(named, null_V, policies, where, notes)
    skip_L = np.array([name in policies.skips for name in label_names] + [False])
    skip_V = skip_L[label_V] & keep_V
    keep_V &= ~skip_V
    lookup, out_labels = _label_lookup(label_names, labels, policies)
    unknown_V = keep_V & (lookup[label_V] < 0)
    if unknown_V.any():
        row = int(np.flatnonzero(unknown_V)[0])
        what = f"{int(unknown_V.sum())} votes with labels that are not allowed, the first is {label_names[label_V[row]]!r}"
        if policies.unknown == "refuse":
            raise DataError(
                f"{where.at(row)}: {what}; allowed are {list(out_labels)!r}",
                hint="correct them, or say skip, which is counted and is no vote (in Python also Policies(unknown='drop'))",
            )
        notes.append(f"{where.at(row)}: dropped {what}")
        keep_V &= ~unknown_V
    fields = {
        "item_V": item_V,
        "annotator_V": annotator_V,
        "label_V": lookup[label_V],
        **_further(named, out_labels, where),
        **side_fields(named, where),
    }
    del item_V, annotator_V, label_V
    groups = {name: fields.pop(name) for name in ("objectives", "sources") if name in fields}
    responses = fields.pop("responses", None)
    if not keep_V.all():
        fields = {name: values[keep_V] for name, values in fields.items()}
    fields = _ordered(fields, (items, annotators), len(groups.get("objectives", ())), policies, where, notes)
    if len(fields["item_V"]) == 0:
        raise DataError(f"{where}: no votes", hint="skips and dropped rows are not votes")
    if len(fields["item_V"]) < len(null_V):
        fields["item_V"], items = _used(fields["item_V"], items, "items", notes)
        fields["annotator_V"], annotators = _used(fields["annotator_V"], annotators, "annotators", notes)
    sides = sides_of_votes(fields, responses, items, where, notes)
    return {
        **fields,
        **groups,
        "sides": sides,
        "items": items,
        "annotators": annotators,
        "labels": out_labels,
        "skipped": int(skip_V.sum()),
        "notes": tuple(notes),
    }


def _rename(columns: Mapping[str, Any], where: Where) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for column, values in columns.items():
        key = ALIASES.get(column, column)
        if key in named:
            raise DataError(f"{where}: two columns say {key!r}: {column!r} is one of them")
        named[key] = values
    missing, extra = [name for name in NEEDED if name not in named], [name for name in named if name not in KNOWN]
    if missing or extra:
        raise DataError(f"{where}: columns {list(columns)!r}; missing {missing!r}, not known {extra!r}, allowed are {list(KNOWN)!r}")
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: columns of different lengths: {lengths!r}")
    return named


def _without_nulls(named: Mapping[str, Any], null_V: NDArray[np.bool_], policies: Policies, where: Where, notes: list[str]) -> Any:
    if null_V.any():
        row = int(np.flatnonzero(null_V)[0])
        empty = [name for name in NEEDED if intern(named[name][row : row + 1])[0][0] < 0]
        what = f"{int(null_V.sum())} rows without item, annotator or label; the first has no {' and no '.join(empty)}"
        if policies.nulls == "refuse":
            raise DataError(f"{where.at(row)}: {what}", hint="mend them; in Python also Policies(nulls='drop')")
        notes.append(f"{where.at(row)}: dropped {what}")
    return ~null_V


def _label_lookup(names: list[str], labels: Sequence[str] | None, policies: Policies) -> tuple[Ints, tuple[str, ...]]:
    """Code of each name (and of null, last) among the labels that the table will have; -1 where it has none."""
    allowed = tuple(name for name in names if name not in policies.skips) if labels is None else tuple(labels)
    if len(set(allowed)) != len(allowed):
        raise DataError(f"a label is named twice: {list(allowed)!r}")
    codes = {name: code for code, name in enumerate(allowed)}
    return np.array([codes.get(name, -1) for name in names] + [-1], dtype=np.int32), allowed


def _further(named: Mapping[str, Any], labels: tuple[str, ...], where: Where) -> dict[str, Any]:
    """The columns that a vote may have."""
    out: dict[str, Any] = {}
    for name in NUMBERS:
        if name in named:
            values = [np.nan if value is None else value for value in named[name]] if isinstance(named[name], list) else named[name]
            out[f"{name}_V"] = np.asarray(values, dtype=np.float64)
    if "weight_V" in out and not ((out["weight_V"] > 0) & np.isfinite(out["weight_V"])).all():
        bad = int(np.flatnonzero(~((out["weight_V"] > 0) & np.isfinite(out["weight_V"])))[0])
        raise DataError(f"{where.at(bad)} has weight {out['weight_V'][bad]!r}, allowed are finite numbers above 0")
    if "shown_first" in named:
        codes_V, names = intern(named["shown_first"])
        unknown = [str(name) for name in names.tolist() if str(name) not in labels]
        if unknown:
            raise DataError(f"{where}: shown_first holds {unknown!r}, allowed are the labels {list(labels)!r} or null")
        out["first_V"] = np.array([*(labels.index(str(name)) for name in names.tolist()), -1], dtype=np.int32)[codes_V]
    for name in ("objective", "source"):
        if name in named:
            out[f"{name}_V"], names = intern(named[name])
            out[f"{name}s"] = tuple(str(value) for value in names.tolist())
    return out


def _used(codes_V: Ints, names: NDArray[Any], what: str, notes: list[str]) -> tuple[Ints, NDArray[Any]]:
    """Codes without the names that nobody uses any more; says which ones went."""
    new_V, used = intern_integers(codes_V.astype(np.int64))
    gone = len(names) - len(used)
    if gone:
        lost = [str(name) for name in names[np.setdiff1d(np.arange(len(names)), used)][:5].tolist()]
        notes.append(f"left out {gone} {what} with skips or dropped rows only: {lost!r}{' ...' if gone > 5 else ''}")
    return new_V, names[used]


def _ordered(fields: dict[str, Any], names: tuple[Any, Any], n_objectives: int, policies: Policies, where: Where, notes: list[str]) -> Any:
    """Rows in canonical order, repeated votes treated as the policy says."""
    fields, key_V = dict(fields), _keys(fields, len(names[1]), n_objectives)
    if (key_V[1:] < key_V[:-1]).any():
        order_V = np.argsort(key_V, kind="stable") if n_objectives else None
        del key_V  # a million rows are a few megabytes for every column held
        order_V = _order(fields, names) if order_V is None else order_V
        for name in fields:
            fields[name] = fields[name][order_V]
        del order_V
        key_V = _keys(fields, len(names[1]), n_objectives)
    repeat_V = np.concatenate([[False], key_V[1:] == key_V[:-1]])
    if not repeat_V.any():
        return fields
    return _repeats(fields, (key_V, repeat_V), names, policies, where, notes)


def _keys(fields: dict[str, Any], n_annotators: int, n_objectives: int) -> NDArray[np.int64]:
    """One number per row that sorts by item, annotator and objective."""
    key_V = fields["item_V"].astype(np.int64)
    key_V *= n_annotators
    key_V += fields["annotator_V"]
    return key_V * (n_objectives + 1) + fields["objective_V"] + 1 if n_objectives else key_V


def _order(fields: dict[str, Any], names: tuple[Any, Any]) -> NDArray[Any]:
    """The stable order of the rows by item and annotator: two counting sorts, which beat a comparison sort by far."""
    by_annotator_V = _counting_order(fields["annotator_V"], len(names[1]))
    return by_annotator_V[_counting_order(fields["item_V"][by_annotator_V], len(names[0]))]


def _counting_order(codes_V: Ints, n: int) -> NDArray[Any]:
    """The stable order of codes 0..n-1: turning a sparse matrix of one entry per row by columns is a counting sort."""
    rows = np.arange(len(codes_V) + 1, dtype=np.int32)
    return sp.csr_array((np.ones(len(codes_V), dtype=np.int8), codes_V, rows), shape=(len(codes_V), n)).tocsc().indices


def _repeats(fields: Any, keys: tuple[Any, Any], names: tuple[Any, Any], policies: Policies, where: Where, notes: list[str]) -> Any:
    key_V, repeat_V = keys
    row = int(np.flatnonzero(repeat_V)[0])
    who = f"annotator {names[1][fields['annotator_V'][row]]!r} on item {names[0][fields['item_V'][row]]!r}"
    what = f"{int(repeat_V.sum())} repeated votes (one annotator, one item, one objective), the first of {who}"
    if policies.repeats == "refuse":
        hint = "--repeats merge makes alike ones one vote and contradictory ones none; in Python Policies(repeats='merge'), 'share', 'keep'"
        raise DataError(f"{where}: {what}", hint=hint)
    order_V = np.lexsort((fields["label_V"], key_V))
    fields = {name: values[order_V] for name, values in fields.items()}
    group_V = np.cumsum(~repeat_V) - 1
    if policies.repeats == "share":
        weight_V = fields.get("weight_V", np.ones(len(key_V)))
        fields["weight_V"] = weight_V / np.bincount(group_V)[group_V]
        notes.append(f"{what}: they count 1/m each")
    elif policies.repeats == "keep":
        notes.append(f"{what}: every one counts in full")
    else:
        start_G = np.flatnonzero(~repeat_V)
        end_G = np.append(start_G[1:], len(key_V)) - 1
        clash_G = fields["label_V"][start_G] != fields["label_V"][end_G]
        keep_V = ~repeat_V & ~clash_G[group_V]
        notes.append(f"{what}: identical ones became one vote, {int(clash_G.sum())} contradictory groups were dropped")
        fields = {name: values[keep_V] for name, values in fields.items()}
    return fields
