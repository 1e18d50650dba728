"""What every label model returns: a soft label with an interval per item, and one row per annotator.

Legend: I items, A annotators, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.convergence import Convergence
from preferent.annotators.table import VoteTable
from preferent.core.errors import DataError
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.records import Floats

Z95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class AnnotatorEstimates:
    """One row per annotator, in the order of `names`.

    votes_A: votes given. reliability_A: the chance that a vote equals the item's label, with a 95 % interval. alpha_ALL: Dirichlet
    posterior of each annotator's confusion, alpha[annotator, label of the item, label voted]; None where the method has none.
    """

    names: NDArray[Any]
    votes_A: NDArray[np.int64]
    reliability_A: Floats
    low_A: Floats
    high_A: Floats
    alpha_ALL: Floats | None = None

    @property
    def confusion_ALL(self) -> Floats | None:
        """Mean confusion: rows are the item's label and sum to 1."""
        return None if self.alpha_ALL is None else self.alpha_ALL / self.alpha_ALL.sum(-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class LabelResult:
    """Soft labels of items.

    p_IL: chance of each label, rows sum to 1. low_IL, high_IL: its 95 % interval; `interval` says of what. votes_I: votes that it rests
    on. fit: how the fit ended. notes: what a reader must know (one-vote items, ties, ...).
    """

    method: str
    items: NDArray[Any]
    labels: tuple[str, ...]
    p_IL: Floats
    low_IL: Floats
    high_IL: Floats
    votes_I: NDArray[np.int64]
    fit: Convergence
    interval: str
    annotators: AnnotatorEstimates | None = None
    notes: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        return self.fit.converged

    @property
    def iterations(self) -> int:
        return self.fit.iterations

    @property
    def log_likelihood(self) -> float:
        return self.fit.log_likelihood

    def best_I(self) -> NDArray[np.int64]:
        """The most probable label of each item, -1 where several are equally probable (a tie is never broken by column order)."""
        top_I = self.p_IL.max(axis=1)
        tied_I = (self.p_IL >= top_I[:, None] - 1e-12).sum(axis=1) > 1
        return np.where(tied_I, -1, self.p_IL.argmax(axis=1))

    def warnings(self, row: int) -> list[str]:
        """What a reader of this item's chances must know; empty for most."""
        return ["one vote: nobody contradicts or confirms it"] if self.votes_I[row] == 1 else []

    def p_a(self, a: str = "a", b: str = "b") -> tuple[Floats, Floats, Floats]:
        """(p_a, low, high), each of shape (I,): the chance of `a` plus half of all that is neither a nor b (ties of every kind).

        The interval takes the ends of the two labels' intervals together, so it is exact with two labels and wide with more. Raises
        DataError when a or b is no label of this result.
        """
        for label in (a, b):
            if label not in self.labels:
                raise DataError(f"there is no label {label!r} here, the labels are {list(self.labels)!r}")
        i, j = self.labels.index(a), self.labels.index(b)
        p = 0.5 + (self.p_IL[:, i] - self.p_IL[:, j]) / 2
        low = 0.5 + (self.low_IL[:, i] - self.high_IL[:, j]) / 2
        return p, low, 0.5 + (self.high_IL[:, i] - self.low_IL[:, j]) / 2


def wilson(share: Floats, n: Floats, z: float = Z95) -> tuple[Floats, Floats]:
    """Wilson's (1927) score interval of a share over n votes; n may be an effective number."""
    n = np.maximum(n, 1e-12)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def clustered(values_V: Floats, items_V: np.ndarray, rng: np.random.Generator) -> Estimate:
    """Mean over votes with an interval over items (normal, from the items' sums: the items are many)."""
    codes_V = np.unique(items_V, return_inverse=True)[1]
    n = int(codes_V.max()) + 1
    if n < 30:
        return clustered_mean(values_V, codes_V, rng=rng)
    mean = float(values_V.mean())
    residual_I = np.bincount(codes_V, values_V - mean, n)
    half = 1.96 * float(np.sqrt((residual_I**2).sum())) / len(values_V)
    return Estimate(mean, mean - half, mean + half, len(values_V), f"normal interval over {n} items")


def item_notes(table: VoteTable) -> tuple[str, ...]:
    """What a reader of any result on this table must know."""
    single = int((table.votes_I == 1).sum())
    notes = list(table.notes)
    if table.skipped:
        notes.append(f"{table.skipped} skips left out")
    if single:
        notes.append(f"{single} of {table.n_items} items have one vote only: nobody contradicts or confirms it")
    return tuple(notes)
