"""How sure the scores are: Laplace's approximation on the comparison graph, without a dense matrix over all items.

The precision of the scores is a graph Laplacian (edge weight: Fisher information of the votes on a pair) plus the prior on the diagonal.
Components of up to `DENSE` items are inverted exactly, small ones of one size in one stack. Larger components use Rao-Blackwellised
Monte Carlo (Sidén et al. 2018, "Efficient covariance approximations for large sparse precision matrices"): draws from the posterior by
perturb-and-solve (conjugate gradients), and of each variance only the part that comes from the neighbours is estimated from draws.

Legend: I items, P pairs (lo, hi), C components, S draws, G items of one component, Q asked pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import cg

from preferent.annotators.graph import Ints
from preferent.core.errors import FitError
from preferent.core.records import Floats

DENSE = 2500
DRAWS = 64
_STACK = 4_000_000  # matrix cells inverted at once


@dataclass(frozen=True, eq=False, slots=True)
class ScoreGraph:
    """The posterior precision of the scores: weights_P of the edges (lo_P, hi_P), prior_I on the diagonal, component_I (-1: no votes)."""

    lo_P: Ints
    hi_P: Ints
    weight_P: Floats
    prior_I: Floats
    component_I: Ints

    @property
    def n_items(self) -> int:
        return len(self.prior_I)

    @property
    def diagonal_I(self) -> Floats:
        n = self.n_items
        return self.prior_I + np.bincount(self.lo_P, self.weight_P, n) + np.bincount(self.hi_P, self.weight_P, n)

    def matrix(self) -> csr_array:
        """Sparse precision, shape (I, I)."""
        every_I = np.arange(self.n_items)
        rows = np.concatenate([self.lo_P, self.hi_P, every_I])
        columns = np.concatenate([self.hi_P, self.lo_P, every_I])
        values = np.concatenate([-self.weight_P, -self.weight_P, self.diagonal_I])
        return coo_array((values, (rows, columns)), (self.n_items,) * 2).tocsr()


@dataclass(frozen=True, eq=False, slots=True)
class Spread:
    """Posterior variance of each score and of the gap of each asked pair; `method` says how exact they are."""

    variance_I: Floats
    gap_variance_Q: Floats
    method: str


def spread(graph: ScoreGraph, pairs_Q2: Ints, *, rng: np.random.Generator, dense: int = DENSE) -> Spread:
    """Variances of scores and of gaps s_i - s_j for pairs_Q2, shape (Q, 2), in squared logits, given the annotators' coefficients."""
    size_C = np.bincount(graph.component_I[graph.component_I >= 0], minlength=1)
    large_C = size_C > dense
    variance_I = 1.0 / graph.diagonal_I  # right where an item has no votes
    i_Q, j_Q = pairs_Q2[:, 0], pairs_Q2[:, 1]
    covariance_Q = np.zeros(len(i_Q))
    _exactly(graph, ~large_C, pairs_Q2, variance_I, covariance_Q)
    gap_Q = variance_I[i_Q] + variance_I[j_Q] - 2.0 * covariance_Q
    if not large_C.any():
        return Spread(variance_I, gap_Q, "Laplace, exact within components, given the annotators' coefficients")
    in_large_I = (graph.component_I >= 0) & large_C[graph.component_I]
    same_Q = graph.component_I[i_Q] == graph.component_I[j_Q]
    sampled = _rao_blackwell(graph, pairs_Q2, rng)
    variance_I = np.where(in_large_I, sampled[0], variance_I)
    apart_Q = variance_I[i_Q] + variance_I[j_Q]
    gap_Q = np.where(same_Q, np.where(in_large_I[i_Q], sampled[1], gap_Q), apart_Q)
    return Spread(
        variance_I, gap_Q, f"Laplace; components over {dense} items by {DRAWS} Rao-Blackwellised draws, given the annotators' coefficients"
    )


def quick_spread(graph: ScoreGraph, *, dense: int = 64) -> Spread:
    """`spread` of the scores and of the graph's own pairs, cheaply: exact in components of up to `dense` items, else the first terms of
    the Neumann series (an underestimate that is small where items have many neighbours)."""
    diagonal_I, n = graph.diagonal_I, graph.n_items
    both_P = diagonal_I[graph.lo_P] * diagonal_I[graph.hi_P]
    ratio_P = graph.weight_P**2 / both_P
    variance_I = (1.0 + np.bincount(graph.lo_P, ratio_P, n) + np.bincount(graph.hi_P, ratio_P, n)) / diagonal_I
    covariance_P = graph.weight_P / both_P
    size_C = np.bincount(graph.component_I[graph.component_I >= 0], minlength=1)
    _exactly(graph, size_C <= dense, np.stack([graph.lo_P, graph.hi_P], 1), variance_I, covariance_P)
    gap_P = variance_I[graph.lo_P] + variance_I[graph.hi_P] - 2.0 * covariance_P
    return Spread(variance_I, gap_P, "Laplace, Neumann series")


def _exactly(graph: ScoreGraph, wanted_C: np.ndarray, pairs_Q2: Ints, variance_I: Floats, covariance_Q: Floats) -> None:
    """Write the exact variances and covariances of the wanted components into the two arrays."""
    i_Q, j_Q = pairs_Q2[:, 0], pairs_Q2[:, 1]
    home_Q = np.where(graph.component_I[i_Q] == graph.component_I[j_Q], graph.component_I[i_Q], -1)
    order_Q = np.argsort(home_Q, kind="stable")
    first_C = np.searchsorted(home_Q[order_Q], np.arange(len(wanted_C) + 1))
    local_I = np.zeros(graph.n_items, dtype=np.int64)
    for members_CG, component_C, inverse_CGG in _inverses(graph, wanted_C):
        local_I[members_CG] = np.arange(members_CG.shape[1])
        variance_I[members_CG] = np.diagonal(inverse_CGG, axis1=1, axis2=2)
        count_C = first_C[component_C + 1] - first_C[component_C]
        slot = np.repeat(np.arange(len(component_C)), count_C)
        mine = order_Q[_ranges(first_C[component_C], count_C)]
        covariance_Q[mine] = inverse_CGG[slot, local_I[i_Q[mine]], local_I[j_Q[mine]]]


def _ranges(first_C: Ints, count_C: Ints) -> Ints:
    """first, first + 1, ... `count` of them for each entry, one after the other."""
    return np.repeat(first_C - np.cumsum(count_C) + count_C, count_C) + np.arange(int(count_C.sum()))


def marginal_spread(graph: ScoreGraph, coupling: csr_array, pairs_Q2: Ints) -> Spread:
    """`spread` with the annotators' coefficients integrated out: exact for the joint Laplace approximation.

    coupling: B C^(-1/2), shape (I, coefficients), where B is the information shared by scores and coefficients and C the coefficients'
    own; the marginal precision of the scores is A - B C^-1 B' (Schur). Dense in the items: for few of them.
    """
    shared = coupling.toarray()
    covariance = np.linalg.inv(graph.matrix().toarray() - shared @ shared.T)
    variance_I = np.diagonal(covariance).copy()
    i_Q, j_Q = pairs_Q2[:, 0], pairs_Q2[:, 1]
    gap_Q = variance_I[i_Q] + variance_I[j_Q] - 2.0 * covariance[i_Q, j_Q]
    return Spread(variance_I, gap_Q, "Laplace, exact, annotators' coefficients integrated out")


def dense_covariance(graph: ScoreGraph) -> Floats:
    """Full covariance, shape (I, I), for choosing what to ask among few items. Raises FitError above 5,000 items."""
    if graph.n_items > 5000:
        raise FitError(f"a dense covariance of {graph.n_items} items", hint="allowed are up to 5000; use `spread` for single pairs")
    return np.linalg.inv(graph.matrix().toarray())


def _inverses(graph: ScoreGraph, wanted_C: np.ndarray) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Inverse precision of every wanted component: (members, component numbers, inverses) in stacks of one size."""
    home_P = graph.component_I[graph.lo_P]
    size_C = np.bincount(graph.component_I[graph.component_I >= 0], minlength=len(wanted_C))
    members = np.argsort(graph.component_I, kind="stable")[int((graph.component_I < 0).sum()) :]
    first_C = np.cumsum(size_C) - size_C
    order_P = np.argsort(home_P, kind="stable")
    edges_C = np.bincount(home_P, minlength=len(size_C))
    edge_first_C = np.cumsum(edges_C) - edges_C
    local_I = np.zeros(graph.n_items, dtype=np.int64)
    local_I[members] = np.arange(len(members)) - np.repeat(first_C, size_C)
    diagonal_I = graph.diagonal_I
    for width in np.unique(size_C[(size_C > 0) & wanted_C]).tolist():
        every = np.flatnonzero((size_C == width) & wanted_C)
        step = max(1, _STACK // width**2)
        for at in range(0, len(every), step):
            component_C = every[at : at + step]
            members_CG = members[first_C[component_C][:, None] + np.arange(width)]
            slot = np.repeat(np.arange(len(component_C)), edges_C[component_C])
            edge = order_P[_ranges(edge_first_C[component_C], edges_C[component_C])]
            lo, hi = local_I[graph.lo_P[edge]], local_I[graph.hi_P[edge]]
            matrix = np.zeros((len(component_C), width, width))
            matrix[slot, lo, hi] = matrix[slot, hi, lo] = -graph.weight_P[edge]
            matrix[:, np.arange(width), np.arange(width)] = diagonal_I[members_CG]
            yield members_CG, component_C, np.linalg.inv(matrix).astype(np.float64, copy=False)


def posterior_draws(graph: ScoreGraph, n_draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Draws from N(0, precision^-1), each (I,): perturb the right-hand side with noise of the precision's own shape, then solve."""
    matrix, n = graph.matrix(), graph.n_items
    diagonal_I = graph.diagonal_I
    precondition = diags_array(1.0 / diagonal_I)
    for _ in range(n_draws):
        noise_P = rng.standard_normal(len(graph.lo_P)) * np.sqrt(graph.weight_P)
        right_I = np.bincount(graph.lo_P, noise_P, n) - np.bincount(graph.hi_P, noise_P, n)
        right_I += rng.standard_normal(n) * np.sqrt(graph.prior_I)
        draw_I, failed = cg(matrix, right_I, rtol=1e-4, M=precondition, maxiter=1000)
        if failed:
            raise FitError("conjugate gradients did not solve for the score variances in 1000 steps", hint="a stronger score prior helps")
        yield draw_I


def _rao_blackwell(graph: ScoreGraph, pairs_Q2: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Variances of scores and of gaps: conditional on all other items exactly, plus the sampled variance of the conditional mean."""
    diagonal_I, precision = graph.diagonal_I, graph.matrix()
    i_Q, j_Q = pairs_Q2[:, 0], pairs_Q2[:, 1]
    own_Q = _edge_weights(graph, i_Q, j_Q)
    a_Q, b_Q = diagonal_I[i_Q], diagonal_I[j_Q]
    determinant_Q = a_Q * b_Q - own_Q**2
    sampled_I, sampled_Q = np.zeros(graph.n_items), np.zeros(len(i_Q))
    for draw_I in posterior_draws(graph, DRAWS, rng):
        pull_I = draw_I * diagonal_I - precision @ draw_I  # sum over neighbours of weight times draw
        sampled_I += (pull_I / diagonal_I) ** 2
        from_i_Q, from_j_Q = pull_I[i_Q] - own_Q * draw_I[j_Q], pull_I[j_Q] - own_Q * draw_I[i_Q]
        sampled_Q += (((b_Q - own_Q) * from_i_Q - (a_Q - own_Q) * from_j_Q) / determinant_Q) ** 2
    return 1.0 / diagonal_I + sampled_I / DRAWS, (a_Q + b_Q - 2.0 * own_Q) / determinant_Q + sampled_Q / DRAWS


def _edge_weights(graph: ScoreGraph, i_Q: Ints, j_Q: Ints) -> Floats:
    """Edge weight between the two items of each asked pair, 0 where there is no edge."""
    key_P = graph.lo_P * graph.n_items + graph.hi_P
    order_P = np.argsort(key_P)
    key_Q = np.minimum(i_Q, j_Q) * graph.n_items + np.maximum(i_Q, j_Q)
    at_Q = np.minimum(np.searchsorted(key_P, key_Q, sorter=order_P), len(key_P) - 1)
    found_Q = order_P[at_Q]
    return np.where(key_P[found_Q] == key_Q, graph.weight_P[found_Q], 0.0)
