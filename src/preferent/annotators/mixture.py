"""Groups of annotators who prefer different things: a mixture of Bradley-Terry models, and whether it is more than noise.

Every annotator belongs to one of K groups, which is not known; group k scores item i with m_i + delta_ki (`group_scores`). EM assigns
annotators softly. K grows while the next group foretells held-out votes of the same annotators better, by a one-sided test over
annotators; where it does not, disagreement is noise as far as these votes can tell, and K stays.

Legend: A annotators, K groups, I items, P pairs, V votes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.sparse import coo_array
from scipy.sparse.linalg import svds
from scipy.special import expit, log_expit
from scipy.stats import norm

from preferent.annotators.bradley_terry import Banded
from preferent.annotators.convergence import settled
from preferent.annotators.gain import GroupTest, deal_folds, gain_test
from preferent.annotators.graph import Graph, Ints, PairTable, PairVotes, describe, pair_table, sums
from preferent.annotators.group_scores import CellVotes, GroupScores, cell_bands, improve, learn, log_prior
from preferent.core.errors import ConfigError
from preferent.core.records import Floats

SURE = 0.95
_LEARNING = 5  # EM steps that also learn the prior sds


@dataclass(frozen=True, slots=True)
class MixtureSettings:
    """groups: fix K, or None to choose it up to max_groups. level: a further group must beat noise at this one-sided level. folds:
    of the held-out votes. restarts: random starts besides the spectral one. score, tau: where the prior sds start."""

    groups: int | None = None
    max_groups: int = 4
    level: float = 0.05
    folds: int = 3
    restarts: int = 2
    tolerance: float = 1e-6
    max_iterations: int = 200
    score: float = 1.0
    tau: float = 0.7

    def __post_init__(self) -> None:
        counts = (self.groups or 1, self.max_groups, self.max_iterations)
        if min(counts) < 1 or self.max_iterations <= _LEARNING or self.folds < 2 or self.restarts < 0 or not 0.0 < self.level < 0.5:
            raise ConfigError(f"{self}: groups from 1, iterations over {_LEARNING}, folds from 2, restarts from 0, level in (0, 0.5)")


@dataclass(frozen=True, eq=False, slots=True)
class Conflicts:
    """Pairs on which two groups prefer opposite sides with posterior probability >= .95: numbers of the pair and of the two groups."""

    pair_C: Ints
    group_C: Ints
    against_C: Ints
    probability_C: Floats

    def __len__(self) -> int:
        return len(self.pair_C)


@dataclass(frozen=True, eq=False, slots=True)
class Mixture:
    """membership_AK: chance of each annotator to belong to each group, rows sum to 1, groups by falling share. scores (K, I), gap and p_a
    (K, P) of the pairs (lo_P, hi_P) with 95 % intervals, given the memberships. tests: the steps that chose K (empty when K was given)."""

    share_K: Floats
    membership_AK: Floats
    scores: Banded
    lo_P: Ints
    hi_P: Ints
    gap: Banded
    p_a: Banded
    conflicts: Conflicts
    tests: tuple[GroupTest, ...]
    graph: Graph
    converged: bool
    iterations: int
    log_likelihood: float
    trace: tuple[float, ...]
    intervals: str
    notes: tuple[str, ...]

    @property
    def n_groups(self) -> int:
        return len(self.share_K)


@dataclass(frozen=True, eq=False, slots=True)
class _State:
    share_K: Floats
    at: GroupScores
    trace: tuple[float, ...] = ()
    converged: bool = False

    @property
    def log_posterior(self) -> float:
        return self.trace[-1]


def fit_mixture(votes: PairVotes, settings: MixtureSettings | None = None, *, seed: int = 0) -> Mixture:
    """Fit the mixture and choose K. Raises ConfigError when there are fewer annotators than groups."""
    settings = settings or MixtureSettings()
    table = pair_table(votes)
    n_active = int(table.active_A.sum())
    if (settings.groups or 1) > n_active:
        raise ConfigError(f"fit_mixture: {settings.groups} groups of {n_active} annotators", hint="ask for fewer groups")
    rng = np.random.default_rng(seed)
    tests: tuple[GroupTest, ...] = ()
    k = settings.groups
    if k is None:
        tests = choose_groups(votes, settings, rng)
        k = max([test.groups for test in tests if test.accepted], default=1)
    state = _best_state(table, k, settings, rng)
    order_K = np.argsort(-state.share_K, kind="stable")
    state = replace(state, share_K=state.share_K[order_K], at=replace(state.at, offsets_GI=state.at.offsets_GI[order_K]))
    member_AK, log_A = _memberships(table, state)
    cells = _cells(table, member_AK)
    pairs_P2 = np.stack([table.lo_P, table.hi_P], 1)
    scores, gap, how = cell_bands(state.at, cells, pairs_P2)
    graph = describe(table)
    return Mixture(
        share_K=state.share_K,
        membership_AK=member_AK,
        scores=scores,
        lo_P=table.lo_P,
        hi_P=table.hi_P,
        gap=gap,
        p_a=gap.map(expit),
        conflicts=conflicts_of(gap),
        tests=tests,
        graph=graph,
        converged=state.converged,
        iterations=_LEARNING + len(state.trace),
        log_likelihood=float(log_A.sum()),
        trace=state.trace,
        intervals=how,
        notes=graph.notes() + _notes(state, member_AK, scores, tests, table),
    )


def choose_groups(votes: PairVotes, settings: MixtureSettings, rng: np.random.Generator) -> tuple[GroupTest, ...]:
    """Tests of 2, 3, ... groups against one less, until one fails or max_groups is reached. Folds split each annotator's votes."""
    fold_V = deal_folds(votes.annotator_V, settings.folds, rng)
    limit = min(settings.max_groups, len(np.unique(votes.annotator_V)))
    before_A, tests = held_out_by_annotator(votes, fold_V, 1, settings, rng), []
    active_A = np.bincount(votes.annotator_V, minlength=votes.n_annotators) > 0
    for k in range(2, limit + 1):
        now_A = held_out_by_annotator(votes, fold_V, k, settings, rng)
        test = gain_test(k, (now_A - before_A)[active_A], settings.level)
        tests.append(test)
        if not test.accepted:
            break
        before_A = now_A
    return tuple(tests)


def held_out_by_annotator(votes: PairVotes, fold_V: Ints, k: int, settings: MixtureSettings, rng: np.random.Generator) -> Floats:
    """Log-likelihood of each annotator's held-out votes, summed over folds, when K groups are fitted to the others, shape (A,)."""
    total_A = np.zeros(votes.n_annotators)
    for fold in range(settings.folds):
        train, held = pair_table(votes.take(fold_V != fold)), pair_table(votes.take(fold_V == fold))
        state = _best_state(train, k, replace(settings, restarts=0), rng)
        known_AK, _ = _memberships(train, state)
        with np.errstate(divide="ignore"):
            total_A += np.logaddexp.reduce(np.log(known_AK) + _log_votes(held, state.at), axis=1)
    return total_A


def _log_votes(table: PairTable, at: GroupScores) -> Floats:
    """Log probability of all votes of an annotator under each group, votes by their weights, shape (A, K)."""
    scores_KI = at.cells(np.eye(len(at.offsets_GI)))
    columns = []
    for scores_I in scores_KI:
        gap_P = scores_I[table.lo_P] - scores_I[table.hi_P]
        log_win_V, log_loss_V = table.spread_V(log_expit(gap_P)), table.spread_V(log_expit(-gap_P))
        log_V = table.weighted(table.win_V * log_win_V + (1.0 - table.win_V) * log_loss_V)
        columns.append(sums(table.annotator_V, log_V, table.n_annotators))
    return np.stack(columns, axis=1)


def _memberships(table: PairTable, state: _State) -> tuple[Floats, Floats]:
    """(membership_AK, log-likelihood of each annotator's votes)."""
    joint_AK = _log_votes(table, state.at) + np.log(state.share_K)
    log_A = np.logaddexp.reduce(joint_AK, axis=1)
    return np.exp(joint_AK - log_A[:, None]), log_A


def _cells(table: PairTable, member_AK: Floats) -> CellVotes:
    """Votes of every group on every pair, each annotator's split by membership."""
    k, n_pairs = member_AK.shape[1], len(table.lo_P)
    share_KV = table.weighted(member_AK.T[:, table.annotator_V])
    n_R = np.concatenate([table.total_P(share_V) for share_V in share_KV])
    win_R = np.concatenate([table.total_P(share_V * table.win_V) for share_V in share_KV])
    cell_R = np.repeat(np.arange(k), n_pairs)
    return CellVotes(np.tile(table.lo_P, k), np.tile(table.hi_P, k), cell_R, n_R, win_R, np.eye(k), np.zeros(k, np.int64), table.n_items)


def _best_state(table: PairTable, k: int, settings: MixtureSettings, rng: np.random.Generator) -> _State:
    """EM from the spectral start and the random ones; the best log posterior wins."""
    starts = _starts(table, k, settings.restarts, rng)
    return max((_em(table, member_AK, settings) for member_AK in starts), key=lambda state: state.log_posterior)


def _starts(table: PairTable, k: int, restarts: int, rng: np.random.Generator) -> list[Floats]:
    n = table.n_annotators
    if k == 1:
        return [np.ones((n, 1))]
    starts = [rng.dirichlet(np.ones(k), n) for _ in range(restarts)]
    # Annotators who differ from the pooled fit in the same direction belong together: leading singular vectors of their residuals.
    pooled = _em(table, np.ones((n, 1)), MixtureSettings(groups=1))
    gap_P = (
        pooled.at.common_I[table.lo_P]
        - pooled.at.common_I[table.hi_P]
        + (pooled.at.offsets_GI[0][table.lo_P] - pooled.at.offsets_GI[0][table.hi_P])
    )
    residual_V = table.weighted(table.win_V - table.spread_V(expit(gap_P)))
    rows = np.tile(table.annotator_V, 2)
    columns = np.concatenate([np.repeat(table.lo_P, table.n_votes_P), np.repeat(table.hi_P, table.n_votes_P)])
    matrix = coo_array((np.concatenate([residual_V, -residual_V]), (rows, columns)), (n, table.n_items)).tocsr()
    rank = min(k - 1, n - 1, table.n_items - 1)
    if rank >= 1:
        left, size, _ = svds(matrix, k=rank, rng=rng)
        _, label_A = kmeans2(left * size, k, minit="++", rng=rng, missing="warn")
        starts.insert(0, 0.9 * np.eye(k)[label_A] + 0.1 / k)
    return starts


def _em(table: PairTable, member_AK: Floats, settings: MixtureSettings) -> _State:
    """The first steps also learn the prior sds; from then on they stay and the log posterior (the trace) never falls."""
    k = member_AK.shape[1]
    begun = GroupScores(np.zeros(table.n_items), np.zeros((k, table.n_items)), settings.score, np.array([settings.tau]))
    at, trace = begun, []
    state = _State(np.full(k, 1.0 / k), at)
    n_active = int(table.active_A.sum())
    for step in range(settings.max_iterations):
        share_K = (member_AK[table.active_A].sum(0) + 1.0) / (n_active + k)
        cells = _cells(table, member_AK)
        at, _ = improve(at, cells, tolerance=1e-5 if step < _LEARNING else 1e-7, max_iterations=10)
        state = _State(share_K, at)
        member_AK, log_A = _memberships(table, state)
        if step < _LEARNING:
            at = learn(at, cells, begun)
            continue
        # Beta-like pseudo-counts of one annotator per group stand behind the shares.
        trace.append(float(log_A.sum() + log_prior(at, cells.kind_G) + np.log(share_K).sum()))
        if len(trace) > 1 and settled(trace[-2], trace[-1], settings.tolerance):
            return replace(state, trace=tuple(trace), converged=True)
    return replace(state, trace=tuple(trace))


def conflicts_of(gap: Banded) -> Conflicts:
    """Pairs on which two rows of gap (K, P) have opposite signs with probability >= .95, the rows' posteriors taken as independent."""
    k = len(gap.value)
    ahead_KP = norm.cdf(gap.value * 2 * 1.959963984540054 / (gap.high - gap.low))
    found = []
    for one in range(k):
        for two in range(one + 1, k):
            both_P = ahead_KP[one] * (1 - ahead_KP[two]) + (1 - ahead_KP[one]) * ahead_KP[two]
            pair = np.flatnonzero(both_P >= SURE)
            found.append(np.stack([pair, np.full(len(pair), one), np.full(len(pair), two), both_P[pair]]))
    stacked = np.concatenate(found, axis=1) if found else np.zeros((4, 0))
    whole = stacked[:3].astype(np.int64)
    return Conflicts(whole[0], whole[1], whole[2], stacked[3])


def _notes(state: _State, member_AK: Floats, scores: Banded, tests: tuple[GroupTest, ...], table: PairTable) -> tuple[str, ...]:
    notes = []
    if tests and not tests[-1].accepted:
        last = tests[-1]
        notes.append(
            f"{last.groups} groups do not foretell held-out votes better than {last.groups - 1} (gain {last.gain} per annotator, "
            f"p = {last.p_value:.2f}): further disagreement is noise as far as these votes tell"
        )
    k = len(state.share_K)
    for one in range(k):
        for two in range(one + 1, k):
            r = (
                float(np.corrcoef(scores.value[one], scores.value[two])[0, 1])
                if scores.value[one].std() and scores.value[two].std()
                else 0.0
            )
            if r < -0.8:
                notes.append(
                    f"groups {one + 1} and {two + 1} are mirror images (correlation {r:.2f}): one may be adversaries or misread the scale"
                )
    widths = scores.value.std(axis=1)
    notes += [
        f"group {g + 1} hardly prefers anything: guessers rather than a view" for g in range(k) if k > 1 and widths[g] < 0.25 * widths.max()
    ]
    unsure = int((member_AK[table.active_A].max(1) < 0.8).sum())
    if k > 1 and unsure:
        notes.append(f"{unsure} of {int(table.active_A.sum())} annotators belong to no group with probability >= .8")
    if not state.converged:
        notes.append(f"not converged in {_LEARNING + len(state.trace)} steps; raise max_iterations")
    return tuple(notes)
