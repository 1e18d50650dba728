"""Agreement of two annotators with each other: Cohen's kappa, for one pair or for all that share items.

Legend: V votes, N shared items, A annotators, L labels, Q pairs of annotators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.annotators.labels import Z95
from preferent.annotators.table import VoteTable
from preferent.core.errors import DataError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two annotators, the items that both judged, how often they agree and Cohen's kappa."""

    first: Any
    second: Any
    shared: int
    percent: float
    kappa: Estimate


def cohen_kappa(table: VoteTable, first: Any, second: Any) -> Estimate:
    """Cohen's kappa (1960) of two annotators on the items that both judged, with the normal interval of Fleiss, Cohen and Everitt (1969).

    Undefined where both always give one label: `method` says so. Raises DataError for a name that is not in the table.
    """
    codes = {name: code for code, name in enumerate(table.annotators.tolist())}
    for name in (first, second):
        if name not in codes:
            raise DataError(f"no annotator {name!r} among the {table.n_annotators} of this table")
    if table.repeats:
        raise DataError("kappa needs one vote per annotator and item", hint="Policies(repeats='merge') makes it so")
    label_of = np.full((2, table.n_items), -1)
    for row, name in enumerate((first, second)):
        mine_V = table.annotator_V == codes[name]
        label_of[row, table.item_V[mine_V]] = table.label_V[mine_V]
    both = (label_of >= 0).all(axis=0)
    joint_LL = np.zeros((table.n_labels, table.n_labels))
    np.add.at(joint_LL, (label_of[0, both], label_of[1, both]), 1.0)
    return _kappas(joint_LL[None])[0]


def pairwise_agreement(table: VoteTable, *, min_shared: int = 10) -> list[PairAgreement]:
    """Every pair of annotators with at least `min_shared` items in common, the most shared first.

    Memory grows with the number of pairs of votes on one item. Raises DataError for repeated votes and mixed objectives.
    """
    table.one_objective()
    if table.repeats:
        raise DataError("pairs need one vote per annotator and item", hint="Policies(repeats='merge') makes it so")
    n_cells = table.n_labels**2
    totals: dict[int, Floats] = {}
    for lag in range(1, int(table.votes_I.max())):
        same_V = table.item_V[lag:] == table.item_V[:-lag]
        # Rows are sorted by annotator within an item, so the first code is the smaller one.
        pair_Q = table.annotator_V[:-lag][same_V].astype(np.int64) * table.n_annotators + table.annotator_V[lag:][same_V]
        cell_Q = pair_Q * n_cells + table.label_V[:-lag][same_V] * table.n_labels + table.label_V[lag:][same_V]
        keys, times = np.unique(cell_Q, return_counts=True)
        for key, count in zip(keys.tolist(), times.tolist(), strict=True):
            totals.setdefault(key // n_cells, np.zeros(n_cells))[key % n_cells] += count
    kept = {pair: cells for pair, cells in totals.items() if cells.sum() >= min_shared}
    if not kept:
        return []
    joint_QLL = np.array(list(kept.values())).reshape(-1, table.n_labels, table.n_labels)
    names = table.annotators.tolist()
    found = []
    for pair, joint, kappa in zip(kept, joint_QLL, _kappas(joint_QLL), strict=True):
        first, second, shared = pair // table.n_annotators, pair % table.n_annotators, float(joint.sum())
        found.append(PairAgreement(names[first], names[second], int(shared), float(np.trace(joint)) / shared, kappa))
    return sorted(found, key=lambda row: (-row.shared, str(row.first), str(row.second)))


def _kappas(joint_QLL: Floats) -> list[Estimate]:
    """Cohen's kappa of every table of joint counts."""
    n_Q = joint_QLL.sum(axis=(1, 2))
    p_QLL = joint_QLL / np.maximum(n_Q, 1.0)[:, None, None]
    row_QL, column_QL = p_QLL.sum(axis=2), p_QLL.sum(axis=1)
    observed_Q, expected_Q = np.einsum("qll->q", p_QLL), (row_QL * column_QL).sum(axis=1)
    out = []
    for q in range(len(n_Q)):
        n, observed, expected = int(n_Q[q]), float(observed_Q[q]), float(expected_Q[q])
        if n == 0 or 1.0 - expected < 1e-12:
            why = "they share no item" if n == 0 else "both give one label only"
            out.append(Estimate(float("nan"), float("nan"), float("nan"), n, f"Cohen's kappa is undefined: {why}"))
            continue
        kappa = (observed - expected) / (1.0 - expected)
        sums_LL = row_QL[q][None, :] + column_QL[q][:, None]
        diagonal = np.diag(p_QLL[q])
        one = float((diagonal * (1.0 - np.diag(sums_LL) * (1.0 - kappa)) ** 2).sum())
        two = float((1.0 - kappa) ** 2 * ((p_QLL[q] * sums_LL**2).sum() - (diagonal * np.diag(sums_LL) ** 2).sum()))
        variance = (one + two - (kappa - expected * (1.0 - kappa)) ** 2) / ((1.0 - expected) ** 2 * n)
        half = Z95 * float(np.sqrt(max(variance, 0.0)))
        method = f"Cohen's kappa, normal interval over {n} shared items"
        out.append(Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), n, method))
    return out
