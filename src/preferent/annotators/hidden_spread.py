"""How sure the mean-variance model is of its numbers: Laplace with the expected information, component by component.

Legend: I items, P pairs, B components of one size, M unknowns of a component (means, then log sds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from preferent.annotators.graph import Graph, Ints, PairTable
from preferent.core.records import Floats

DENSE = 2500  # unknowns of a component that are worked out together
CELLS = 1 << 24  # entries of the blocks in memory at a time
_LOG_ROOT = 0.5 * np.log(2.0 * np.pi)


@dataclass(frozen=True, eq=False, slots=True)
class HiddenSpread:
    """Posterior variances of the means, of the logs of the sds, and of z of each pair; exact: whether all components were worked out
    together (else the largest ones count each unknown as if all others were known, which makes their intervals too narrow)."""

    mean_I: Floats
    log_I: Floats
    z_P: Floats
    exact: bool


def standardised(mean_I: Floats, sd_I: Floats, table: PairTable) -> tuple[Floats, Floats]:
    """z of each pair, P(lo wins) = Phi(z), and its derivatives by mean lo, mean hi, log sd lo, log sd hi, shape (P, 4)."""
    variance_I = sd_I**2
    lo_P, hi_P = variance_I[table.lo_P], variance_I[table.hi_P]
    total_P = lo_P + hi_P
    z_P = (mean_I[table.lo_P] - mean_I[table.hi_P]) / np.sqrt(total_P)
    slope_P = 1.0 / np.sqrt(total_P)
    return z_P, np.stack([slope_P, -slope_P, -z_P * lo_P / total_P, -z_P * hi_P / total_P], axis=1)


def hidden_spread(mean_I: Floats, sd_I: Floats, table: PairTable, graph: Graph, prior: tuple[float, float]) -> HiddenSpread:
    """At the fitted means and sds; prior: sd of the means and of the logs of the sds."""
    z_P, by_P4 = standardised(mean_I, sd_I, table)
    weight_P = table.mass_P * np.exp(-(z_P**2) - 2.0 * _LOG_ROOT - log_ndtr(z_P) - log_ndtr(-z_P))
    known = np.array(prior) ** -2.0
    own_2I = known[:, None] + np.stack([table.degree_I(np.zeros_like(z_P))] * 2)
    for k in range(2):
        np.add.at(own_2I[k], table.lo_P, weight_P * by_P4[:, 2 * k] ** 2)
        np.add.at(own_2I[k], table.hi_P, weight_P * by_P4[:, 2 * k + 1] ** 2)
    variance_2I = 1.0 / own_2I
    z_var_P = (by_P4**2 * np.stack([variance_2I[k // 2][(table.lo_P, table.hi_P)[k % 2]] for k in range(4)], axis=1)).sum(axis=1)
    component_P = graph.component_I[table.lo_P]
    local_I = _local(graph.component_I)
    exact = bool(2 * graph.size_C.max() <= DENSE)
    for size in np.unique(graph.size_C[2 * graph.size_C <= DENSE]).tolist():
        components = np.flatnonzero(graph.size_C == size)
        step = max(1, CELLS // (2 * size) ** 2)
        for first in range(0, len(components), step):
            some = components[first : first + step]
            pairs = np.flatnonzero((component_P >= some[0]) & (component_P <= some[-1]))  # numbered by size: they follow each other
            at_P4 = np.stack([local_I[table.lo_P[pairs]], local_I[table.hi_P[pairs]]], axis=1)
            at_P4 = np.concatenate([at_P4, at_P4 + size], axis=1)
            block_P = component_P[pairs] - some[0]
            covariance_BMM = _inverses(block_P, at_P4, (by_P4[pairs], weight_P[pairs]), (len(some), size), known)
            items = np.flatnonzero((graph.component_I >= some[0]) & (graph.component_I <= some[-1]))
            own_BM = np.einsum("bmm->bm", covariance_BMM)
            for k in range(2):
                variance_2I[k][items] = own_BM[graph.component_I[items] - some[0], local_I[items] + k * size]
            pair_P44 = covariance_BMM[block_P[:, None, None], at_P4[:, :, None], at_P4[:, None, :]]
            z_var_P[pairs] = np.einsum("pi,pij,pj->p", by_P4[pairs], pair_P44, by_P4[pairs])
    return HiddenSpread(variance_2I[0], variance_2I[1], z_var_P, exact)


def _inverses(block_P: Ints, at_P4: Ints, votes: tuple[Floats, Floats], shape: tuple[int, int], known: Floats) -> Floats:
    """Covariances of components of one size, (B, M, M). votes: derivatives and weights of the pairs; shape: components, items of each."""
    by_P4, weight_P = votes
    blocks, size = shape
    precision = np.zeros((blocks, 2 * size, 2 * size))
    np.add.at(
        precision,
        (block_P[:, None, None], at_P4[:, :, None], at_P4[:, None, :]),
        weight_P[:, None, None] * by_P4[:, :, None] * by_P4[:, None, :],
    )
    precision[:, np.arange(2 * size), np.arange(2 * size)] += np.repeat(known, size)
    return np.linalg.inv(precision).astype(np.float64, copy=False)


def _local(component_I: Ints) -> Ints:
    """Number of each item within its component."""
    order = np.argsort(component_I, kind="stable")
    begins = np.concatenate([[True], np.diff(component_I[order]) != 0])
    at = np.arange(len(order))
    out = np.empty(len(order), dtype=np.int64)
    out[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    return out
