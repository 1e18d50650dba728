"""Every aggregation by its name: each is there, owes what the contract says, and is the function it names."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.annotators.aggregate import _FITS, aggregate
from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.names import CHOICES, GRAPH_MODELS, HIDDEN, LABEL_MODELS, MODELS
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError


def votes(n_items: int = 40) -> VoteTable:
    """Three good annotators and one who says the opposite, over pairs of ten responses ordered by their number."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {"item": [], "annotator": [], "label": []}
    pairs = {}
    for item in range(n_items):
        a, b = rng.choice(10, 2, replace=False)
        pairs[f"c{item}"] = (f"r{a}", f"r{b}")
        for who in range(4):
            right = "a" if a < b else "b"
            said = right if rng.random() < 0.9 else {"a": "b", "b": "a"}[right]
            columns["item"].append(f"c{item}")
            columns["annotator"].append(f"p{who}")
            columns["label"].append(said if who else {"a": "b", "b": "a"}[said])
    return VoteTable.from_columns(columns, labels=CHOICES).without_unused_labels(("a", "b")).with_sides(pairs)


def test_the_table_of_names_is_the_table_of_fits() -> None:
    assert tuple(_FITS) == MODELS == ("auto", *LABEL_MODELS, *GRAPH_MODELS, HIDDEN)


@pytest.mark.parametrize("model", MODELS)
def test_every_name_gives_probabilities_in_the_order_of_its_items(model: str) -> None:
    table = votes()
    result = aggregate(table, model)
    p, low, high = result.p_a()
    assert len(p) == len(result.items) == table.n_items
    assert ((low <= p + 1e-9) & (p <= high + 1e-9) & (p >= 0) & (p <= 1)).all()
    sides = table.sides
    assert sides is not None
    right = sides.responses[sides.a_I] < sides.responses[sides.b_I]
    # Three votes of four are honest and nine in ten of those right: the majority with ties lost is right in about 85 of 100.
    assert ((p > 0.5) == right).mean() >= 0.8
    again, _, _ = aggregate(table, model).p_a()
    np.testing.assert_array_equal(p, again)


def test_it_is_the_function_that_it_names_and_an_unknown_one_is_refused() -> None:
    table = votes()
    np.testing.assert_array_equal(aggregate(table, "one-coin").p_a()[0], dawid_skene(table, "one-coin").p_a()[0])
    with pytest.raises(ConfigError, match="no aggregation 'mode'; allowed are auto, majority"):
        aggregate(table, "mode")
