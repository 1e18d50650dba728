"""Experiment 3 at small size: cautious ensembles keep the gold, the length gate is right in both cases, and what cannot differ does not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lab_parts import parts

from preferent.core.errors import ConfigError
from preferent.core.records import Preference, user
from preferent.lab.experiments import treatments
from preferent.lab.experiments.mitigations import CALIBRATED, CASES, GATED, CaseResult, Mitigations, run_seeds
from preferent.lab.experiments.mitigations_outcome import SINGLE, gold, kept_share, outcome

SMALL = Mitigations(seeds=(0,), comparisons=300, more=2, members=4, votes=3, trusted=500, prompts=10, pool=800, largest_n=256)


@pytest.fixture(scope="module")
def found() -> dict[str, list[CaseResult]]:
    return run_seeds(SMALL, parts())


def test_a_cautious_ensemble_keeps_what_the_single_model_loses(found: dict[str, list[CaseResult]]) -> None:
    noisy = found["noisy"]
    single = gold(noisy, SINGLE)[0]
    assert single[-1] < single.max() - 0.01
    assert kept_share(noisy, "ensemble, worst case") >= 0.5
    assert gold(noisy, "ensemble, worst case")[0, -1] > single[-1] + 0.04


def test_the_length_gate_is_right_in_both_cases(found: dict[str, list[CaseResult]]) -> None:
    for name, applies in (("length", True), ("valued", False)):
        (case,) = found[name]
        assert case.gate is not None
        assert case.gate.apply is applies
        raw, calibrated = case.gold_K[SINGLE], case.gold_K[CALIBRATED]
        assert bool(calibrated[-1] > raw[-1] + 0.03) is applies
        assert case.gold_K[GATED] == pytest.approx(calibrated if applies else raw)


def test_what_cannot_differ_does_not(found: dict[str, list[CaseResult]]) -> None:
    for name in ("noisy", "length"):
        curves = found[name][0].gold_K
        # PAR keeps the order; at n = 1 nothing is chosen; averaged weights of a linear model are averaged rewards.
        assert curves["bounded shaping (PAR)"] == pytest.approx(curves[SINGLE], abs=1e-3)
        assert {round(float(curve[0]), 9) for curve in curves.values()} == {round(float(curves[SINGLE][0]), 9)}
        assert curves["weight averaging"] == pytest.approx(curves["ensemble, mean"], abs=0.03)


def test_penalties_and_bounds_hold_the_policy_nearer(found: dict[str, list[CaseResult]]) -> None:
    for name in ("noisy", "length"):
        kl = {treatment: pair[1] for treatment, pair in found[name][0].tilted.items()}
        assert kl["hardly any KL penalty"] > 2 * kl["bounded shaping (PAR), same penalty"]
        assert kl["hardly any KL penalty"] > 2 * kl["KL penalty"]


def test_the_monitor_sees_length_drift(found: dict[str, list[CaseResult]]) -> None:
    case = found["length"][0]
    assert case.signals["length_shift"][-1] > 1.0 > case.signals["length_shift"][0]
    assert case.stopped_n < 256
    assert case.stopped_gold >= case.gold_K[SINGLE][-1]


def test_told_with_failures_too(found: dict[str, list[CaseResult]]) -> None:
    told = outcome(SMALL, found)
    assert [check.passed for check in told.checks] == [True, True]
    assert [grid.title.split(":")[0] for grid in told.tables[:3]] == [name.capitalize() for name in CASES]
    names = [row[0] for row in told.tables[0].rows]
    assert len(names) == len(set(names)) == 14
    assert json.dumps(told.to_dict(), allow_nan=False)
    assert "one seed only" in told.tables[0].rows[0][3].method


def test_combining_by_hand() -> None:
    members = np.array([[[0.0, 2.0]], [[4.0, 0.0]]])
    scaled = treatments.on_one_scale(members)
    assert scaled == pytest.approx(np.array([[[-1.0, 1.0]], [[1.0, -1.0]]]))
    assert treatments.combine(scaled, "mean") == pytest.approx(np.array([[0.0, 0.0]]))
    assert treatments.combine(scaled, "worst") == pytest.approx(np.array([[-1.0, -1.0]]))
    assert treatments.combine(scaled, "uncertainty", caution=0.5) == pytest.approx(np.array([[-0.5, -0.5]]))
    with pytest.raises(ConfigError, match="'median'"):
        treatments.combine(scaled, "median")


def test_off_prompt_pairs_by_hand() -> None:
    one = Preference(prompt=user("p"), response_a="good p", response_b="bad p", p_a=1.0)
    two = Preference(prompt=user("q"), response_a="bad q", response_b="good q", p_a=0.0, weight=3.0)
    for seed in range(20):
        added = treatments.off_prompt([one, two], np.random.default_rng(seed))[2:]
        if added:
            break
    assert [(row.prompt[0].content, row.response_a, row.response_b, row.p_a) for row in added] == [
        ("p", "good p", "good q", 1.0),
        ("p", "bad p", "good q", 1.0),
        ("p", "bad q", "good q", 0.5),
        ("q", "bad q", "good p", 1.0),
        ("q", "good q", "good p", 1.0),
        ("q", "good p", "bad p", 0.5),
    ]
    assert sum(row.weight for row in added) == pytest.approx(one.weight + two.weight)
