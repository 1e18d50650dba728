"""Which votes are held out hangs on the structure of the table, not on names."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.annotators.contract import simulated_crowd, simulated_pairs
from preferent.annotators.graph_deal import deal
from preferent.annotators.table import VoteTable


def renamed(table: VoteTable, column: str, rng: np.random.Generator) -> VoteTable:
    columns = table.columns()
    fresh = {name: f"{code:05d}" for name, code in zip(sorted(set(columns[column])), rng.permutation(10_000).tolist(), strict=False)}
    return VoteTable.from_columns({**columns, column: [fresh[name] for name in columns[column]]}, labels=table.labels)


def held(table: VoteTable, salt: int = 7) -> list[tuple[object, ...]]:
    """What is held out, by what is not renamed."""
    columns = table.columns()
    kept = deal(table, 0.2, salt)
    names = [name for name in ("item", "annotator", "label") if name in columns]
    return sorted(tuple(str(columns[name][v]) for name in names) for v in np.flatnonzero(kept))


@pytest.mark.parametrize("make", [simulated_pairs, simulated_crowd])
def test_names_labels_and_sides_deal_the_same_votes(make) -> None:
    rng = np.random.default_rng(0)
    table = make(rng)
    kept = held(table)
    assert 0.12 < len(kept) / len(table) < 0.28
    assert sorted(row[1:] for row in held(renamed(table, "item", rng))) == sorted(row[1:] for row in kept)
    by_item = {(row[0], row[2]) for row in kept}
    assert {(row[0], row[2]) for row in held(renamed(table, "annotator", rng))} == by_item
    np.testing.assert_array_equal(deal(table.swap(), 0.2, 7), deal(table, 0.2, 7))
    assert held(table, 8) != kept


def test_a_ballot_is_dealt_whole_and_twins_alike() -> None:
    table = simulated_pairs(np.random.default_rng(1))
    columns = table.columns()
    beside = {name: np.concatenate([[f"0{one}" for one in values], [f"1{one}" for one in values]])
              for name, values in columns.items() if name != "label"}  # fmt: skip
    both = VoteTable.from_columns({**beside, "label": np.concatenate([columns["label"]] * 2)}, labels=table.labels)
    first, second = np.split(deal(both, 0.2, 3), 2)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, deal(table, 0.2, 3))
