"""What known attributes of annotators (age, region, expertise) add to the scores: partial pooling over the levels of each column.

Score of item i for an annotator: m_i + the sum over columns of the offset of the annotator's level. Each column has its own prior sd of
offsets, learned from the votes: near zero says that the column does not matter, and its levels then share everything.

Legend: A annotators, T columns, G levels of all columns together, C combinations of levels, I items, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from preferent.annotators.bradley_terry import Banded
from preferent.annotators.gain import GroupTest, deal_folds, gain_test
from preferent.annotators.graph import Graph, Ints, PairTable, PairVotes, describe, pair_table, sums
from preferent.annotators.group_scores import CellVotes, GroupScores, cell_bands, fit_cells
from preferent.core.errors import DataError
from preferent.core.records import Floats

FOLDS = 3


@dataclass(frozen=True, eq=False, slots=True)
class AttributeFit:
    """levels_G: (column, level) of each row of scores (G, I) and gap, p_a (G, P): what annotators of that level prefer, the other columns
    at their average. spread: learned prior sd of the offsets per column, in logits. tests: does the column foretell held-out votes
    better than no columns; over annotators. missing: annotators without a value, who count as a level of their own, "(missing)"."""

    levels_G: tuple[tuple[str, Any], ...]
    scores: Banded
    lo_P: Ints
    hi_P: Ints
    gap: Banded
    p_a: Banded
    spread: dict[str, float]
    tests: dict[str, GroupTest]
    missing: dict[str, int]
    graph: Graph
    converged: bool
    iterations: int
    intervals: str
    notes: tuple[str, ...]


def fit_attributes(votes: PairVotes, columns: Mapping[str, Sequence[Any]], *, seed: int = 0, level: float = 0.05) -> AttributeFit:
    """Fit all columns together. columns: {name: value of each annotator (A,)}; None is missing. Raises DataError for a column of another
    length or with fewer than two levels among those who voted."""
    table = pair_table(votes)
    levels_G, code_AT, missing = _levels(columns, table)
    kind_G = np.array([list(columns).index(name) for name, _ in levels_G])
    cells = _cells(table, code_AT, kind_G)
    begun = GroupScores(np.zeros(table.n_items), np.zeros((len(levels_G), table.n_items)), 1.0, np.full(len(columns), 0.5))
    at, ended = fit_cells(cells, begun)
    pairs_P2 = np.stack([table.lo_P, table.hi_P], 1)
    scores, gap, how = cell_bands(at, cells, pairs_P2, asked_CG=_level_mixes(code_AT, kind_G, table.active_A))
    tests = {}
    for t, name in enumerate(columns):
        own = code_AT[:, [t]] - code_AT[:, t].min()
        tests[name] = _column_test(votes, own, level, np.random.default_rng(seed))
    graph = describe(table)
    notes = [
        f"{name}: no evidence in held-out votes that it matters (gain {test.gain} per annotator, p = {test.p_value:.2f})"
        for name, test in tests.items()
        if not test.accepted
    ]
    return AttributeFit(
        levels_G,
        scores,
        table.lo_P,
        table.hi_P,
        gap,
        gap.map(expit),
        dict(zip(columns, at.tau_T.tolist(), strict=True)),
        tests,
        missing,
        graph,
        ended.converged,
        ended.iterations,
        how,
        graph.notes() + tuple(notes),
    )


def _levels(columns: Mapping[str, Sequence[Any]], table: PairTable) -> tuple[tuple[tuple[str, Any], ...], Ints, dict[str, int]]:
    """Levels of all columns in order of first appearance, their number for each annotator (A, T), and how many are missing."""
    if not columns:
        raise DataError("fit_attributes: no columns", hint="name at least one attribute of the annotators")
    levels: list[tuple[str, Any]] = []
    codes, missing = [], {}
    for name, values in columns.items():
        if len(values) != table.n_annotators:
            raise DataError(f"fit_attributes: column {name!r} has {len(values)} values for {table.n_annotators} annotators")
        shown = ["(missing)" if value is None else value for value in values]
        known = list(dict.fromkeys(value for value, active in zip(shown, table.active_A, strict=True) if active))
        if len(known) < 2:
            raise DataError(f"fit_attributes: column {name!r} has one level only, {known!r}", hint="leave it out")
        number = {value: len(levels) + k for k, value in enumerate(known)}
        codes.append([number.get(value, len(levels)) for value in shown])
        levels += [(name, value) for value in known]
        missing[name] = sum(value is None for value in values)
    return tuple(levels), np.array(codes, dtype=np.int64).T, missing


def _cells(table: PairTable, code_AT: Ints, kind_G: Ints) -> CellVotes:
    """Votes added up over annotators whose levels all agree."""
    combination_CT, cell_A = np.unique(code_AT, axis=0, return_inverse=True)
    cell_A = cell_A.reshape(-1)
    member_CG = np.zeros((len(combination_CT), len(kind_G)))
    np.put_along_axis(member_CG, combination_CT, 1.0, axis=1)
    pair_V = np.repeat(np.arange(len(table.lo_P)), table.n_votes_P)
    key_V = cell_A[table.annotator_V] * len(table.lo_P) + pair_V
    key_R, row_V = np.unique(key_V, return_inverse=True)
    cell_R, pair_R = np.divmod(key_R, len(table.lo_P))
    n_R, win_R = np.bincount(row_V).astype(np.float64), sums(row_V, table.win_V, len(key_R))
    return CellVotes(table.lo_P[pair_R], table.hi_P[pair_R], cell_R, n_R, win_R, member_CG, kind_G, table.n_items)


def _level_mixes(code_AT: Ints, kind_G: Ints, active_A: NDArray[np.bool_]) -> Floats:
    """One row per level: that level for certain, the other columns as the annotators are spread over them, shape (G, G)."""
    share_G = np.bincount(code_AT[active_A].ravel(), minlength=len(kind_G)) / active_A.sum()
    return np.where(kind_G[:, None] == kind_G[None, :], np.eye(len(kind_G)), share_G[None, :])


def _column_test(votes: PairVotes, code_A1: Ints, level: float, rng: np.random.Generator) -> GroupTest:
    """Held-out gain of one column over none, per annotator."""
    fold_V = deal_folds(votes.annotator_V, FOLDS, rng)
    n_levels = int(code_A1.max()) + 1
    gain_A = np.zeros(votes.n_annotators)
    for fold in range(FOLDS):
        train, held = pair_table(votes.take(fold_V != fold)), pair_table(votes.take(fold_V == fold))
        for sign, codes_A1, n in ((1.0, code_A1, n_levels), (-1.0, np.zeros_like(code_A1), 1)):
            cells = _cells(train, codes_A1, np.zeros(n, dtype=np.int64))
            begun = GroupScores(np.zeros(train.n_items), np.zeros((n, train.n_items)), 1.0, np.full(1, 0.5))
            at, _ = fit_cells(cells, begun, tolerance=1e-7)
            scores_GI = at.common_I + at.offsets_GI
            own_V = codes_A1[held.annotator_V, 0]
            lo_V, hi_V = np.repeat(held.lo_P, held.n_votes_P), np.repeat(held.hi_P, held.n_votes_P)
            gap_V = scores_GI[own_V, lo_V] - scores_GI[own_V, hi_V]
            log_V = held.win_V * log_expit(gap_V) + (1.0 - held.win_V) * log_expit(-gap_V)
            gain_A += sign * sums(held.annotator_V, log_V, held.n_annotators)
    active_A = np.bincount(votes.annotator_V, minlength=votes.n_annotators) > 0
    return gain_test(n_levels, gain_A[active_A], level)
