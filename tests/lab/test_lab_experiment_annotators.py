"""Experiment 4 at small size: spammers and adversaries cost, aggregation saves, and intervals are what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lab_parts import parts

from preferent.core.records import Comparison, Judgment, user
from preferent.lab.experiments.annotator_cost import RULES, TRUE, AnnotatorCost, labels, run
from preferent.lab.experiments.outcome import Outcome, over_seeds

SMALL = AnnotatorCost(seeds=(1, 2), comparisons=350, prompts=8, pool=256, n=32, skill=8.0)


@pytest.fixture(scope="module")
def told() -> Outcome:
    return run(SMALL, parts())


def values(told: Outcome, what: str) -> dict[tuple[str, str], np.ndarray]:
    return {(cell["crowd"], cell["rule"]): np.array(cell[what]) for cell in told.data["cells"]}


def test_faulty_crowds_cost_and_aggregation_saves(told: Outcome) -> None:
    right = {cell: value.mean() for cell, value in values(told, "labels_right").items()}
    assert right[TRUE, TRUE] == 1.0
    assert right["25% adversaries", "majority vote"] < right["honest", "majority vote"] - 0.05
    assert right["25% adversaries", "auto"] > right["25% adversaries", "majority vote"] + 0.05
    assert right["honest", "one vote"] < right["honest", "majority vote"]
    gold = {cell: value.mean() for cell, value in values(told, "gold").items()}
    assert gold[TRUE, TRUE] == max(gold.values())
    assert gold["25% adversaries", "auto"] > gold["25% adversaries", "majority vote"] + 0.03
    assert gold["25% adversaries", "majority vote"] < gold["honest", "majority vote"]


def test_every_crowd_and_rule_is_told(told: Outcome) -> None:
    assert len(told.tables[0].rows) == 1 + 3 * len(RULES)
    assert [check.passed for check in told.checks] == [True, True]
    assert json.dumps(told.to_dict(), allow_nan=False)


def test_rules_by_hand() -> None:
    pairs = [Comparison(id=str(i), prompt=user(str(i)), response_a="x", response_b="y") for i in range(2)]
    votes = [("0", "p", "b"), ("0", "q", "a"), ("0", "r", "a"), ("1", "p", "tie"), ("1", "q", "b"), ("1", "r", "a")]
    judgments = [Judgment(comparison_id=c, annotator_id=a, choice=v) for c, a, v in votes]  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    assert [one.p_a for one in labels("one vote", pairs, judgments, 3, rng)] == [0.0, 0.5]
    assert [one.p_a for one in labels("share of the vote", pairs, judgments, 3, rng)] == pytest.approx([2 / 3, 0.5])
    assert [one.p_a for one in labels("majority vote", pairs, judgments, 3, rng)] == [1.0, 0.5]
    assert all(0.0 <= one.p_a <= 1.0 for one in labels("auto", pairs, judgments, 3, rng))


def test_the_interval_over_seeds_is_the_t_interval() -> None:
    # Mean 2, standard deviation 1, three seeds: 2 +- 4.303 / sqrt(3).
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.low, found.value, found.high) == pytest.approx((2 - 4.3027 / 3**0.5, 2.0, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert "one seed only" in over_seeds([1.0]).method
    assert "1 without a value" in over_seeds([1.0, 2.0, float("nan")]).method
