"""Counting votes: the share of the vote, and Wawa, which counts agreeable annotators more.

Legend: V votes, I items, A annotators, L labels.
"""

from __future__ import annotations

import numpy as np

from preferent.annotators.convergence import CLOSED_FORM
from preferent.annotators.dawid_skene import beta_interval
from preferent.annotators.em import normalised, shares
from preferent.annotators.labels import AnnotatorEstimates, LabelResult, item_notes, wilson
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

INTERVAL = "95 % Wilson interval of the share among annotators like these, over the votes of the item"


def majority(table: VoteTable, *, smoothing: float = 0.0) -> LabelResult:
    """The share of the vote; `smoothing` adds that many votes spread like all votes together.

    Two labels with equally many votes have equal shares: a tie stays a tie (`best_I` says -1). Without smoothing a label that nobody
    voted for has chance 0. Raises ConfigError, DataError (mixed objectives).
    """
    if smoothing < 0:
        raise ConfigError(f"majority: smoothing={smoothing!r}, allowed are numbers >= 0")
    table.one_objective()
    p_IL = smoothed(table.counts_IL, smoothing, table)
    name = "majority" if smoothing == 0 else f"majority (smoothing {smoothing:g})"
    return counted(table, name, p_IL, effective_votes(table), agreement_with(table, p_IL, np.ones(len(table)) * own_weight(table)))


def wawa(table: VoteTable, *, strength: float = 4.0, smoothing: float = 0.0) -> LabelResult:
    """Worker agreement with aggregate: votes weighted by how often their annotator votes with the shares of the vote.

    An annotator's weight is the mean share of the labels that she voted for, her own vote left out, shrunk by `strength` votes to the
    crowd's. Never below 0: agreement cannot show an adversary. Items with one vote say nothing about anybody. Source: Wawa in Appen's
    and Toloka's documentation. Raises ConfigError, DataError.
    """
    if smoothing < 0 or strength < 0:
        raise ConfigError(f"wawa: strength={strength!r}, smoothing={smoothing!r}; allowed are numbers >= 0")
    table.one_objective()
    own_V = own_weight(table)
    agreement = agreement_with(table, shares(table), own_V, strength)
    weight_V = agreement.reliability_A[table.annotator_V] * own_V
    cell_V = table.item_V.astype(np.int64) * table.n_labels + table.label_V
    weights_IL = np.bincount(cell_V, weight_V, table.n_items * table.n_labels).astype(np.float64).reshape(-1, table.n_labels)
    total_I = weights_IL.sum(axis=1)
    even_I = total_I <= 0
    weights_IL[even_I] = table.counts_IL[even_I]
    p_IL = smoothed(normalised(weights_IL) * table.counts_IL.sum(axis=1, keepdims=True), smoothing, table)
    squares_I = np.bincount(table.item_V, weight_V**2, table.n_items)
    n_I = np.where(squares_I > 0, total_I**2 / np.maximum(squares_I, 1e-300), 1.0)
    n_I = np.minimum(n_I, table.votes_I)
    return counted(table, "wawa" if smoothing == 0 else f"wawa (smoothing {smoothing:g})", p_IL, n_I, agreement)


def smoothed(counts_IL: Floats, smoothing: float, table: VoteTable) -> Floats:
    """Shares of counts plus `smoothing` votes that are spread like all votes."""
    if smoothing == 0:
        return normalised(counts_IL)
    return normalised(counts_IL + smoothing * normalised(table.counts_IL.sum(axis=0)))


def own_weight(table: VoteTable) -> Floats:
    return np.ones(len(table)) if table.weight_V is None else table.weight_V


def effective_votes(table: VoteTable) -> Floats:
    """Kish's effective number of votes on each item: all of them where they weigh the same."""
    if table.weight_V is None:
        return table.votes_I.astype(np.float64)
    squares_I = np.bincount(table.item_V, table.weight_V**2, table.n_items)
    return np.minimum(np.bincount(table.item_V, table.weight_V, table.n_items) ** 2 / squares_I, table.votes_I)


def agreement_with(table: VoteTable, p_IL: Floats, weight_V: Floats, strength: float = 0.0) -> AnnotatorEstimates:
    """Every annotator's mean share of the others' votes for what she voted, on items with several votes; 95 % Beta interval.

    An annotator who only judged alone gets the crowd's mean and an interval as wide as one vote gives.
    """
    total_V = table.counts_IL.sum(axis=1)[table.item_V]
    if table.repeats:
        own_VL, mine_V = table.own_weight(np.arange(len(table)))
        others_V = total_V - own_VL.sum(axis=1)
    else:
        mine_V, others_V = weight_V, total_V - weight_V
    several_V = (table.votes_I[table.item_V] > 1) & (others_V > 1e-12)
    others_share_V = np.zeros(len(table))
    np.divide(table.counts_IL[table.item_V, table.label_V] - mine_V, others_V, out=others_share_V, where=several_V)
    mass_A = np.bincount(table.annotator_V, weight_V * several_V, table.n_annotators)
    sum_A = np.bincount(table.annotator_V, weight_V * others_share_V, table.n_annotators)
    crowd = (sum_A.sum() + 1.0) / (mass_A.sum() + 2.0)
    pseudo_A = np.where(mass_A > 0, strength, 1.0)
    mean_A = (sum_A + pseudo_A * crowd) / np.maximum(mass_A + pseudo_A, 1e-12)
    low_A, high_A = beta_interval(mean_A, mean_A * (1.0 - mean_A) / (mass_A + pseudo_A + 1.0))
    return AnnotatorEstimates(table.annotators, table.votes_A, mean_A, low_A, high_A)


def counted(table: VoteTable, name: str, p_IL: Floats, n_I: Floats, annotators: AnnotatorEstimates) -> LabelResult:
    """The result of a method that counts."""
    low_IL, high_IL = wilson(p_IL, n_I[:, None])
    if (p_IL.max(axis=1, keepdims=True) - p_IL <= 1e-12).sum() > table.n_items:
        ties = int(((p_IL.max(axis=1, keepdims=True) - p_IL <= 1e-12).sum(axis=1) > 1).sum())
        notes = (*item_notes(table), f"{ties} items end in a tie, which is left a tie")
    else:
        notes = item_notes(table)
    return LabelResult(name, table.items, table.labels, p_IL, low_IL, high_IL, table.votes_I, CLOSED_FORM, INTERVAL, annotators, notes)
