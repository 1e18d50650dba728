"""A deal of votes that knows no names: who sits where in the table decides, by hashes of the structure around each vote.

Colours of items, annotators and responses are refined round by round from those of their neighbours (Weisfeiler and Leman 1968). What two
votes cannot be told apart by, no fit can tell them apart by either, so they are dealt alike. Which label a vote has counts by who else
gave it and for which response, never by its name: exchanging the sides or the labels deals the same votes.

Legend: V votes, I items, A annotators, R responses, L labels, B ballots.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.table import VoteTable

Colours = NDArray[np.uint64]
ROUNDS = 4


def deal(table: VoteTable, share: float, salt: int) -> NDArray[np.bool_]:
    """About `share` of the ballots, all votes of a ballot together, shape (V,). Another salt deals others."""
    first_V = np.concatenate([[True], np.diff(table.ballot_V) != 0])
    colour_B = _ballots(table, np.cumsum(first_V) - 1)
    return (_mix(colour_B, np.full(1, salt, dtype=np.uint64)) < np.uint64(min(share, 1.0 - 1e-12) * 2.0**64))[table.ballot_V]


def _ballots(table: VoteTable, ballot_V: NDArray[np.int64]) -> Colours:
    cell_V = table.item_V.astype(np.int64) * table.n_labels + table.label_V
    voice = np.unique(ballot_V * table.n_labels + table.label_V, return_index=True)[1]  # a repeated vote is one voice
    item_V, annotator_V, cell_V, ballot_V = table.item_V[voice], table.annotator_V[voice], cell_V[voice], ballot_V[voice]
    annotator_A = np.ones(table.n_annotators, dtype=np.uint64)
    response_R = np.ones(0 if table.sides is None else len(table.sides.responses), dtype=np.uint64)
    colour_V = annotator_A[annotator_V]
    for _ in range(ROUNDS):
        cell_IL = _sum(cell_V, _mix(annotator_A)[annotator_V], table.n_items * table.n_labels).reshape(table.n_items, table.n_labels)
        beside_IL = _beside(table, response_R)
        own_IL = _mix(cell_IL, beside_IL)
        item_I = _mix(own_IL.sum(axis=1, dtype=np.uint64))
        colour_V = _mix(item_I[item_V], own_IL.ravel()[cell_V])
        annotator_A = _mix(_sum(annotator_V, colour_V, table.n_annotators), annotator_A)
        response_R = _responses(table, item_I, own_IL, response_R)
        colour_V = _mix(colour_V, annotator_A[annotator_V])
    return _sum(ballot_V, colour_V, int(ballot_V[-1]) + 1)


def _beside(table: VoteTable, response_R: Colours) -> Colours:
    """For each item and label, the response that such a vote is for; of labels for neither, nothing."""
    out_IL = np.zeros((table.n_items, table.n_labels), dtype=np.uint64)
    if table.sides is not None:
        for label, side_I in (("a", table.sides.a_I), ("b", table.sides.b_I)):
            if label in table.labels:
                out_IL[:, table.labels.index(label)] = response_R[side_I]
    return out_IL


def _responses(table: VoteTable, item_I: Colours, own_IL: Colours, response_R: Colours) -> Colours:
    if table.sides is None:
        return response_R
    total_R = np.zeros_like(response_R)
    for label, side_I in (("a", table.sides.a_I), ("b", table.sides.b_I)):
        if label in table.labels:
            total_R += _sum(side_I, _mix(item_I, own_IL[:, table.labels.index(label)]), len(response_R))
    return _mix(total_R, response_R)


def _sum(code_N: NDArray[np.integer], value_N: Colours, n: int) -> Colours:
    """Sums modulo 2^64: whatever the order, the same."""
    out = np.zeros(n, dtype=np.uint64)
    np.add.at(out, code_N, value_N)
    return out


def _mix(one: Colours, other: Colours | None = None) -> Colours:
    """A hash of two colours in this order (the finaliser of splitmix64)."""
    mixed = one * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x165667B19E3779F9)
    if other is not None:
        mixed = mixed + other * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
