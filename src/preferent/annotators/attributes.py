"""What known attributes of annotators (age, region, expertise) add to the scores: partial pooling over the levels of each column.

Score of item i for an annotator: m_i + the sum over columns of the offset of the annotator's level. Each column has its own prior sd of
offsets, learned from the votes: near zero says that the column does not matter, and its levels then share everything.

Legend: A annotators, T columns, G levels of all columns together, C combinations of levels, I items, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from preferent.annotators.bradley_terry import Banded
from preferent.annotators.gain import GroupTest, deal_folds, gain_test
from preferent.annotators.graph import Graph, Ints, PairTable, PairVotes, describe, pair_table, sums
from preferent.annotators.group_scores import Asked, CellVotes, GroupScores, cell_bands, cell_draws, fit_cells, joint_covariance
from preferent.annotators.mixture import Conflicts, conflicts_of
from preferent.core.errors import DataError
from preferent.core.records import Floats

FOLDS = 3
DRAWS = 400


@dataclass(frozen=True, eq=False, slots=True)
class AttributeFit:
    """levels_G: (column, level) of each row of scores (G, I) and gap, p_a (G, P): what annotators of that level prefer, the other columns
    at their average. annotators_G, votes_G: how many are behind it. departure: gap less that of the average annotator (G, P),
    distance_G: mean over the pairs its annotators judged of how far its p_a is from the average
    annotator's, posterior mean and 95 % interval (never below 0: whether it is more than noise say the tests). conflicts: by column, pairs
    on which two levels want opposite sides, rows of levels_G. spread: learned prior sd of the offsets per column, in logits. tests: does
    the column foretell held-out votes better than no columns; over annotators. missing: annotators without a value, who count as a level
    of their own, "(missing)"."""

    levels_G: tuple[tuple[str, Any], ...]
    annotators_G: Ints
    votes_G: Ints
    scores: Banded
    lo_P: Ints
    hi_P: Ints
    gap: Banded
    p_a: Banded
    departure: Banded
    distance_G: Banded
    conflicts: dict[str, Conflicts]
    spread: dict[str, float]
    tests: dict[str, GroupTest]
    missing: dict[str, int]
    graph: Graph
    converged: bool
    iterations: int
    intervals: str
    notes: tuple[str, ...]


def fit_attributes(votes: PairVotes, columns: Mapping[str, Sequence[Any]], *, seed: int = 0, level: float = 0.05) -> AttributeFit:
    """Fit all columns together; votes count by their weights. columns: {name: value of each annotator (A,)}; None is missing. level: of all
    tests together, shared out among the columns (Bonferroni). Raises DataError for a column of another length or with fewer than two
    levels among those who voted."""
    table = pair_table(votes)
    levels_G, code_AT, missing = _levels(columns, table)
    kind_G = np.array([list(columns).index(name) for name, _ in levels_G])
    cells = _cells(table, code_AT, kind_G)
    begun = GroupScores(np.zeros(table.n_items), np.zeros((len(levels_G), table.n_items)), 1.0, np.full(len(columns), 0.5))
    at, ended = fit_cells(cells, begun)
    pairs_P2 = np.stack([table.lo_P, table.hi_P], 1)
    mixes_GG, share_G = _level_mixes(code_AT, kind_G, table.active_A)
    covariance = joint_covariance(at, cells)
    scores, gap, how = cell_bands(at, cells, pairs_P2, asked=Asked(mixes_GG), covariance=covariance)
    apart = Asked(mixes_GG - share_G, common=0.0)
    _, departure, _ = cell_bands(at, cells, pairs_P2, asked=apart, covariance=covariance)
    drawn = cell_draws(at, cells, apart, DRAWS, np.random.default_rng(seed), covariance=covariance)
    tests = _tests(votes, dict(zip(columns, code_AT.T, strict=True)), level / len(columns), np.random.default_rng(seed))
    graph = describe(table)
    own_GP = _own_votes(table, code_AT, len(levels_G))
    return AttributeFit(
        levels_G=levels_G,
        annotators_G=np.bincount(code_AT[table.active_A].ravel(), minlength=len(levels_G)),
        votes_G=own_GP.sum(axis=1),
        scores=scores,
        lo_P=table.lo_P,
        hi_P=table.hi_P,
        gap=gap,
        p_a=gap.map(expit),
        departure=departure,
        distance_G=_distances(at.common_I + share_G @ at.offsets_GI, drawn, table, own_GP > 0),
        conflicts={name: _conflicts(gap, np.flatnonzero(kind_G == t)) for t, name in enumerate(columns)},
        spread=dict(zip(columns, at.tau_T.tolist(), strict=True)),
        tests=tests,
        missing=missing,
        graph=graph,
        converged=ended.converged,
        iterations=ended.iterations,
        intervals=how,
        notes=graph.notes() + _notes(tests, ended.converged),
    )


def _notes(tests: Mapping[str, GroupTest], converged: bool) -> tuple[str, ...]:
    found = [
        f"{name}: no evidence in held-out votes that it matters (gain {test.gain} per annotator, p = {test.p_value:.2f})"
        for name, test in tests.items()
        if not test.accepted
    ]
    return (*found, *(() if converged else ("the prior sds of the attributes had not settled when the fit ended",)))


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
    n_R = np.bincount(row_V, table.weight_V).astype(np.float64)
    win_R = sums(row_V, table.weighted(table.win_V), len(key_R))
    return CellVotes(table.lo_P[pair_R], table.hi_P[pair_R], cell_R, n_R, win_R, member_CG, kind_G, table.n_items)


def _level_mixes(code_AT: Ints, kind_G: Ints, active_A: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(one row per level: that level for certain, the other columns as the annotators are spread over them, shape (G, G); that spread)."""
    share_G = np.bincount(code_AT[active_A].ravel(), minlength=len(kind_G)) / active_A.sum()
    return np.where(kind_G[:, None] == kind_G[None, :], np.eye(len(kind_G)), share_G[None, :]), share_G


def _own_votes(table: PairTable, code_AT: Ints, n_levels: int) -> Ints:
    """Votes of the annotators of each level on each pair, shape (G, P)."""
    n_pairs = len(table.lo_P)
    pair_V = np.repeat(np.arange(n_pairs), table.n_votes_P)
    return sum(
        np.bincount(code_A[table.annotator_V] * n_pairs + pair_V, minlength=n_levels * n_pairs).reshape(n_levels, n_pairs)
        for code_A in code_AT.T
    )  # type: ignore[return-value]


def _distances(crowd_I: Floats, drawn: Iterable[Floats], table: PairTable, judged_GP: NDArray[np.bool_]) -> Banded:
    """Mean over a level's pairs of |p_a - p_a of the average annotator| over posterior draws of the level's departure."""
    crowd_P = crowd_I[table.lo_P] - crowd_I[table.hi_P]
    rows = []
    for departure_DI, own_P in zip(drawn, judged_GP, strict=True):
        gap_DP = crowd_P[own_P] + departure_DI[:, table.lo_P[own_P]] - departure_DI[:, table.hi_P[own_P]]
        apart_D = np.abs(expit(gap_DP) - expit(crowd_P[own_P])).mean(axis=1)
        rows.append([apart_D.mean(), *np.quantile(apart_D, [0.025, 0.975])])
    value, low, high = np.array(rows).T
    return Banded(value, low, high)


def _conflicts(gap: Banded, rows: Ints) -> Conflicts:
    found = conflicts_of(Banded(gap.value[rows], gap.low[rows], gap.high[rows]))
    return Conflicts(found.pair_C, rows[found.group_C], rows[found.against_C], found.probability_C)


def _tests(votes: PairVotes, code_of: Mapping[str, Ints], level: float, rng: np.random.Generator) -> dict[str, GroupTest]:
    """Held-out gain of each column alone over none, per annotator, on the same folds."""
    fold_V = deal_folds(votes.annotator_V, FOLDS, rng)
    active_A = np.bincount(votes.annotator_V, minlength=votes.n_annotators) > 0
    parts = [(pair_table(votes.take(fold_V != fold)), pair_table(votes.take(fold_V == fold))) for fold in range(FOLDS)]
    none_A = _held_out(parts, np.zeros(votes.n_annotators, dtype=np.int64))
    tests = {}
    for name, code_A in code_of.items():
        own_A = code_A - code_A.min()
        tests[name] = gain_test(int(own_A.max()) + 1, (_held_out(parts, own_A) - none_A)[active_A], level)
    return tests


def _held_out(parts: Sequence[tuple[PairTable, PairTable]], code_A: Ints) -> Floats:
    """Log-likelihood of each annotator's held-out votes when annotators of one code share their scores, shape (A,)."""
    n = int(code_A.max()) + 1
    total_A = np.zeros(len(code_A))
    for train, held in parts:
        cells = _cells(train, code_A[:, None], np.zeros(n, dtype=np.int64))
        begun = GroupScores(np.zeros(train.n_items), np.zeros((n, train.n_items)), 1.0, np.full(1, 0.5))
        at, _ = fit_cells(cells, begun, tolerance=1e-7)
        scores_GI = at.common_I + at.offsets_GI
        own_V = code_A[held.annotator_V]
        lo_V, hi_V = np.repeat(held.lo_P, held.n_votes_P), np.repeat(held.hi_P, held.n_votes_P)
        gap_V = scores_GI[own_V, lo_V] - scores_GI[own_V, hi_V]
        log_V = held.weighted(held.win_V * log_expit(gap_V) + (1.0 - held.win_V) * log_expit(-gap_V))
        total_A += sums(held.annotator_V, log_V, held.n_annotators)
    return total_A
