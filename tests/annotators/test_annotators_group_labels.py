"""Labels of preference groups: worked, and the votes are all there."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.annotators.group_labels import group_labels
from preferent.annotators.table import VoteTable
from preferent.core.errors import DataError


def test_a_worked_example() -> None:
    table = VoteTable.from_arrays([0, 0, 0, 1], ["x", "y", "z", "z"], ["a", "b", "tie", "b"], labels=("a", "b", "tie"))
    found = group_labels(table, np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    # Item 0, group 0: x says a with 1, y says b with 1/2: 1 / 1.5. Group 1: y b with 1/2, z half with 1: 0.5 / 1.5.
    assert found.p_IK[0] == pytest.approx([2 / 3, 1 / 3])
    assert found.mass_IK.tolist() == [[1.5, 1.5], [0.0, 1.0]]
    assert np.isnan(found.p_IK[1, 0])
    assert found.p_IK[1, 1] == 0.0


def test_every_vote_counts_once_and_one_group_is_the_vote_share() -> None:
    rng = np.random.default_rng(0)
    item, who, label = rng.integers(30, size=200), np.arange(200) % 17, rng.choice(["a", "b"], 200)
    keep = np.unique(np.stack([item, who]), axis=1, return_index=True)[1]
    table = VoteTable.from_arrays(item[keep], who[keep], label[keep], labels=("a", "b"))
    member = rng.dirichlet(np.ones(3), table.n_annotators)
    assert group_labels(table, member).mass_IK.sum(1) == pytest.approx(table.rows_I)
    one = group_labels(table, np.ones((table.n_annotators, 1)))
    assert one.p_IK[:, 0] == pytest.approx(np.bincount(table.item_V, table.label_V == 0) / table.rows_I)


def test_what_does_not_fit_is_refused() -> None:
    table = VoteTable.from_arrays([0, 0], ["x", "y"], ["a", "b"], labels=("a", "b"))
    with pytest.raises(DataError, match="memberships of 3 annotators"):
        group_labels(table, np.ones((3, 1)))
    with pytest.raises(DataError, match="groups prefer a, b or neither"):
        group_labels(VoteTable.from_arrays([0, 0], ["x", "y"], ["a", "unsafe"]), np.ones((2, 1)))
