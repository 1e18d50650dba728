"""A batch of pairs that covers: first those that join two parts of the comparison graph, then the least judged, spread over responses.

Scores compare only within a connected component, so a pair that joins two of them tells more than any vote inside one.

Legend: Q candidate pairs, I items, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from preferent.annotators.graph import Ints
from preferent.core.records import Floats


@dataclass(frozen=True, eq=False, slots=True)
class Ground:
    """What the votes cover: component_I of each item (-1: no vote yet, a part of its own) and votes_I on it."""

    component_I: Ints
    votes_I: Ints

    def parts(self) -> Ints:
        """Components with a number for every item, those without votes as well."""
        lone_I = self.component_I < 0
        return np.where(lone_I, self.component_I.max(initial=-1) + 1 + np.cumsum(lone_I) - 1, self.component_I)


def cover_values(pairs_Q2: Ints, votes_Q: Ints, ground: Ground | None) -> Floats:
    """1 for a pair that joins two components, else minus the votes it has, shape (Q,)."""
    value_Q = -votes_Q.astype(np.float64)
    if ground is None:
        return value_Q
    part_I = ground.parts()
    return np.where(part_I[pairs_Q2[:, 0]] != part_I[pairs_Q2[:, 1]], 1.0, value_Q)


def cover_batch(pairs_Q2: Ints, votes_Q: Ints, n: int, *, ground: Ground, alike_Q: Ints) -> Ints:
    """The n candidates to ask, in the order of choice: of those that join two parts (the batch so far counts as answered), else of all, the
    one with the fewest votes, then the one whose two ends have the fewest together. Of equals the first is taken; of one `alike_Q` one at
    most (n codes at least). O(Q) for each choice."""
    part_I, votes_I = ground.parts(), ground.votes_I.astype(np.int64)
    i_Q, j_Q = pairs_Q2[:, 0], pairs_Q2[:, 1]
    open_Q = np.ones(len(pairs_Q2), dtype=bool)
    chosen: list[int] = []
    for _ in range(n):
        able = np.flatnonzero(open_Q)
        joins = able[part_I[i_Q[able]] != part_I[j_Q[able]]]
        able = joins if len(joins) else able
        able = able[votes_Q[able] == votes_Q[able].min()]
        q = int(able[np.argmin(votes_I[i_Q[able]] + votes_I[j_Q[able]])])
        chosen.append(q)
        open_Q &= alike_Q != alike_Q[q]
        i, j = int(i_Q[q]), int(j_Q[q])
        part_I[part_I == part_I[j]] = part_I[i]
        votes_I[[i, j]] += 1
    return np.array(chosen, dtype=np.int64)
