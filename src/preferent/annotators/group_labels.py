"""Soft labels of each preference group: what its members say of every item, members counted by how surely they are members.

Legend: V votes, I items, A annotators, K groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.graph_models import TIES
from preferent.annotators.table import VoteTable
from preferent.core.errors import DataError
from preferent.core.records import Floats


@dataclass(frozen=True, eq=False)
class GroupLabels:
    """p_IK: share of a group's votes for a, ties counting half; NaN where no member voted. mass_IK: how many members' votes that is."""

    items: NDArray[Any]
    p_IK: Floats
    mass_IK: Floats


def group_labels(table: VoteTable, membership_AK: Floats) -> GroupLabels:
    """Labels of K groups from votes of a and b (and ties) and soft memberships, whose rows sum to 1.

    The masses of an item sum to its votes, so that training on all of them weighs every vote once. Raises DataError for other labels
    and for memberships of other annotators.
    """
    if membership_AK.shape[0] != table.n_annotators:
        raise DataError(f"memberships of {membership_AK.shape[0]} annotators, and the table has {table.n_annotators}")
    outcome_L = np.array([{"a": 1.0, "b": 0.0}.get(label, 0.5 if label in TIES else np.nan) for label in table.labels])
    if np.isnan(outcome_L).any():
        raise DataError(f"labels {list(table.labels)!r}: groups prefer a, b or neither ({', '.join(TIES)})")
    weight_V = np.ones(len(table)) if table.weight_V is None else table.weight_V
    shares = [weight_V * membership_AK[table.annotator_V, k] for k in range(membership_AK.shape[1])]
    mass_IK = np.stack([np.bincount(table.item_V, share_V, table.n_items) for share_V in shares], axis=1).astype(np.float64)
    won_IK = np.stack([np.bincount(table.item_V, share_V * outcome_L[table.label_V], table.n_items) for share_V in shares], axis=1)
    p_IK = np.divide(won_IK, mass_IK, out=np.full(mass_IK.shape, np.nan), where=mass_IK > 0.0)
    return GroupLabels(table.items, np.clip(p_IK, 0.0, 1.0), mass_IK)
