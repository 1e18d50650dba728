"""Step scores against truths worked out by hand: ProcessBench's score, thresholds, AUROC, aggregations, best-of-n, baselines."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.audits.steps import (
    choose_threshold,
    first_error_f1,
    harmonic,
    predicted_first_error,
    step_auroc,
    subset_mean,
    true_first_error,
)
from preferent.audits.steps_baselines import STEP_RULES, best_constant, best_length_rule
from preferent.audits.steps_best_of_n import best_of_n_table
from preferent.audits.steps_evaluate import evaluate_steps
from preferent.core.errors import ConfigError, FitError
from preferent.core.records import StepLabels
from preferent.core.step_rewards import FEATURES, PLAIN, Aggregation, choose_aggregation, fit_weights
from preferent.lab.steps import StepsPolicy, StepsWorld


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- ProcessBench ----


def test_the_authors_score_by_hand():
    """Errors at 1, 0, 2 and two right solutions. Predicted 1 (hit), 1 (a miss by one is a miss), -1 (miss); -1 (hit), 0 (miss).
    1/3 on errors, 1/2 on right ones: F1 = 2 (1/3)(1/2) / (5/6) = 0.4."""
    scores = [[0.9, 0.4, 0.1], [0.8, 0.2], [0.9, 0.6, 0.5], [0.7, 0.7], [0.1, 0.9]]
    predicted = predicted_first_error(scores, 0.5)
    assert predicted.tolist() == [1, 1, -1, -1, 0]
    found = first_error_f1(predicted, [1, 0, 2, -1, -1], list("abcde"), rng=rng())
    assert found.error_accuracy.value == pytest.approx(1 / 3)
    assert found.right_accuracy.value == pytest.approx(1 / 2)
    assert found.f1.value == pytest.approx(0.4)
    assert (found.n_error, found.n_right) == (3, 2)
    assert found.f1.low <= 0.4 <= found.f1.high
    assert subset_mean([found, first_error_f1([0, -1], [0, -1], [0, 1], rng=rng())]) == pytest.approx(0.7)
    json.dumps(found.to_dict())


def test_a_score_at_the_threshold_is_right():
    assert predicted_first_error([[0.5, 0.49]], 0.5).tolist() == [1]


def test_f1_is_0_where_both_accuracies_are_and_has_no_value_without_both_kinds():
    assert harmonic(0.0, 0.0) == 0.0
    assert first_error_f1([0, -1], [-1, 0], [0, 1], rng=rng()).f1.value == 0.0
    alone = first_error_f1([0, 1], [0, 0], [0, 1], rng=rng())
    assert np.isnan(alone.f1.value)
    assert alone.f1.method == "needs solutions with an error and without"
    assert alone.error_accuracy.value == 0.5
    assert np.isnan(first_error_f1([], [], [], rng=rng()).f1.value)
    with pytest.raises(ConfigError, match="2 predictions, 1 true places"):
        first_error_f1([0, 1], [0], [0], rng=rng())


def test_an_accuracy_of_exactly_0_leaves_f1_an_interval():
    """None of 20 errors is named and every right solution is: the first is below 1 - 0.025^(1/20) = 0.1684, F1 below 2 x .1684 / 1.1684."""
    truth = np.array([0, -1] * 20)
    found = first_error_f1(np.full(40, -1), truth, np.arange(40), rng=rng())
    assert (found.f1.value, found.f1.low) == (0.0, 0.0)
    assert found.f1.high == pytest.approx(2 * 0.16843 / 1.16843, abs=1e-4)
    everything = first_error_f1(truth, truth, np.arange(40), rng=rng()).f1
    assert (everything.value, everything.high) == (1.0, 1.0)
    assert everything.low == pytest.approx(1 - 0.16843, abs=1e-4)


def test_the_interval_resamples_problems_not_solutions():
    """Ten copies of every solution are no more evidence than one."""
    r = rng(1)
    truth = r.integers(-1, 3, 60)
    said = np.where(r.random(60) < 0.6, truth, 5)
    one = first_error_f1(said, truth, np.arange(60), rng=rng())
    ten = first_error_f1(np.repeat(said, 10), np.repeat(truth, 10), np.repeat(np.arange(60), 10), rng=rng())
    assert ten.f1.value == pytest.approx(one.f1.value)
    assert ten.f1.high - ten.f1.low == pytest.approx(one.f1.high - one.f1.low, rel=0.05)


def test_true_places_from_labels():
    assert true_first_error([(1.0, 0.0, None), (1.0, 1.0), (1.0, None, 0.0), (0.4, 1.0), (1.0, None)]) == [1, -1, None, 0, None]


@given(st.integers(0, 2**32), st.integers(4, 30))
@settings(max_examples=60, deadline=None)
def test_no_threshold_beats_the_chosen_one(seed, n):
    r = rng(seed)
    scores = [np.round(r.random(int(r.integers(1, 6))), 1) for _ in range(n)]
    truth = np.array([int(r.integers(-1, len(s))) for s in scores])
    truth[:2] = (0, -1)
    chosen = choose_threshold(scores, truth)

    def f1(threshold: float) -> float:
        hit = predicted_first_error(scores, threshold) == truth
        return harmonic(hit[truth >= 0].mean(), hit[truth < 0].mean())

    assert chosen.f1 == pytest.approx(f1(chosen.value))
    assert chosen.f1 == pytest.approx(max(f1(t) for t in np.arange(-0.05, 1.2, 0.05)))


def test_a_threshold_lies_in_the_middle_of_the_widest_stretch_and_moves_with_the_scale():
    scores, truth = [[0.9, 0.2], [0.8, 0.7]], [1, -1]
    assert choose_threshold(scores, truth).value == pytest.approx(0.45)
    moved = choose_threshold([10.0 * np.array(s) - 3.0 for s in scores], truth)
    assert moved.value == pytest.approx(10 * 0.45 - 3)
    assert moved.f1 == 1.0
    with pytest.raises(ConfigError, match="with an error and without"):
        choose_threshold(scores, [1, 0])
    with pytest.raises(ConfigError, match="solution 0"):
        choose_threshold([[np.nan], [0.1]], [0, -1])


# ---- AUROC ----


def test_auroc_by_hand_with_a_tie_and_steps_left_out():
    """Right .9 .5, wrong .5 .1: pairs .9>.5, .9>.1, .5=.5, .5>.1 make 3.5 of 4."""
    found = step_auroc([[0.9, 0.5, 0.3], [0.5, 0.1, 0.2]], [(1.0, 0.0, None), (0.8, 0.0, 0.5)], [0, 1], rng=rng())
    assert found.auroc.value == pytest.approx(3.5 / 4)
    assert (found.n_right, found.n_wrong, found.n_left_out) == (2, 2, 2)


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_auroc_is_the_share_of_pairs_and_turns_with_the_scores(seed):
    r = rng(seed)
    scores = [np.round(r.normal(size=4), 1) for _ in range(12)]
    labels = [tuple((r.random(4) < 0.6).astype(float)) for _ in range(12)]
    flat, truth = np.concatenate(scores), np.concatenate(labels)
    if not 0 < truth.sum() < len(truth):
        return
    expected = (0.5 + 0.5 * np.sign(flat[truth > 0.5][:, None] - flat[truth < 0.5][None, :])).mean()
    found = step_auroc(scores, labels, np.arange(12), rng=rng(), n_resamples=20)
    assert found.auroc.value == pytest.approx(expected)
    turned = step_auroc([-s for s in scores], labels, np.arange(12), rng=rng(), n_resamples=20)
    assert turned.auroc.value == pytest.approx(1.0 - expected)


def test_auroc_of_a_constant_is_one_half_and_of_one_kind_nothing():
    assert step_auroc([[0.3, 0.3]], [(1.0, 0.0)], [0], rng=rng()).auroc.value == 0.5
    assert step_auroc([[0.3, 0.3]], [(1.0, 1.0)], [0], rng=rng()).auroc.method == "needs right steps and wrong ones"
    with pytest.raises(ConfigError, match="one score for each label"):
        step_auroc([[0.3]], [(1.0, 0.0)], [0], rng=rng())


def test_the_interval_of_auroc_covers_at_the_nominal_rate():
    """40 problems of 5 steps with a random effect; the truth from 4,000 problems. 95 % of 100 intervals, give or take 2 standard errors."""

    def draw(r: np.random.Generator, n: int):
        labels = (r.random((n, 5)) < 0.7).astype(float)
        scores = labels + r.normal(0.0, 1.0, (n, 5)) + r.normal(0.0, 0.7, (n, 1))
        return list(scores), [tuple(row) for row in labels]

    truth = step_auroc(*draw(rng(9), 4000), np.arange(4000), rng=rng(), n_resamples=2).auroc.value
    covered = 0
    for seed in range(100):
        found = step_auroc(*draw(rng(seed + 100), 40), np.arange(40), rng=rng(seed), n_resamples=200).auroc
        covered += found.low <= truth <= found.high
    assert 88 <= covered <= 100


# ---- aggregations ----


def test_aggregations_by_hand():
    scores = [[0.5, 0.8, 0.9], [1.0], [0.25, 1.0]]
    expected = {"product": [0.36, 1.0, 0.25], "minimum": [0.5, 1.0, 0.25], "mean": [2.2 / 3, 1.0, 0.625], "last": [0.9, 1.0, 1.0]}
    for how in PLAIN:
        np.testing.assert_allclose(Aggregation(how)(scores), expected[how])
    assert Aggregation("product")([[0.0, 0.5]])[0] == pytest.approx(0.0, abs=1e-200)
    with pytest.raises(ConfigError, match=r"solution 0.*one probability"):
        Aggregation("mean")([[1.5]])


def test_a_weight_survives_the_checkpoint():
    fitted = fit_weights(*planted("last", 0))
    again = Aggregation(**json.loads(json.dumps(fitted.to_dict())))
    scores, _ = planted("last", 1)
    np.testing.assert_array_equal(again(scores), fitted(scores))
    assert set(fitted.weights) == {*FEATURES, ""}
    with pytest.raises(FitError, match="right solutions and wrong ones"):
        fit_weights(scores, np.ones(len(scores)))


def planted(how: str, seed: int, n: int = 400) -> tuple[list[np.ndarray], np.ndarray]:
    """Solutions of 4 to 8 steps whose outcome is drawn with the chance that this aggregation states (sharpened about its median)."""
    r = rng(seed)
    scores = [r.beta(3.0, 1.2, int(r.integers(4, 9))) for _ in range(n)]
    reward = Aggregation(how)(scores)  # type: ignore[arg-type]
    z = 6.0 * (np.argsort(np.argsort(reward)) / n - 0.5)
    return scores, (r.random(n) < 1 / (1 + np.exp(-2 * z))).astype(float)


@pytest.mark.parametrize("how", ["product", "minimum", "last"])
def test_the_aggregation_that_made_the_outcomes_is_chosen_or_matched(how):
    scores, right = planted(how, 3)
    choice = choose_aggregation(scores, right, np.arange(400) // 8, rng=rng())
    quality = choice.within_problem
    best = max(PLAIN, key=lambda name: quality[name].value)
    assert best == how
    # the weighted one may be a little better where outcomes are noisy; it is then close to the planted one
    assert choice.chosen.how in (how, "weighted")
    assert quality["weighted"].value == pytest.approx(quality[how].value, abs=0.03)
    json.dumps(choice.to_dict())


def test_choosing_without_pairs_of_one_problem_says_so():
    scores, right = planted("last", 3, n=60)
    choice = choose_aggregation(scores, right, np.arange(60), rng=rng())
    assert "no problem has both kinds" in choice.within_problem["last"].method
    assert choice.chosen.how in ("last", "weighted")


# ---- best-of-n ----


def test_best_of_n_by_hand():
    """One problem, answers x x y, right is y. The reward picks y; the vote x; a vote weighted .9 against .2 + .3 picks y."""
    table = best_of_n_table({"prm": [[0.2, 0.3, 0.9]]}, [[0, 0, 1]], [["x", "x", "y"]], [1, 3], rng=rng(), n_subsets=3000)
    at_3 = {name: values[1].value for name, values in table.items()}
    assert at_3 == {"prm": 1.0, "vote weighted by prm": 1.0, "majority vote": 0.0, "random": pytest.approx(1 / 3), "oracle": 1.0}
    assert all(values[0].value == pytest.approx(1 / 3, abs=0.03) for values in table.values())


def test_ties_are_shared_and_silence_casts_no_vote():
    table = best_of_n_table({"flat": [[0.5, 0.5]]}, [[0, 1]], [["x", "y"]], [2], rng=rng())
    assert table["flat"][0].value == table["majority vote"][0].value == 0.5
    # the answers x and y tie with two votes to two; three silent ones do not outvote them; tied answers, not solutions, share
    table = best_of_n_table({}, [[1, 1, 0, 0, 0, 0, 0]], [["x", "x", "y", "y", None, None, None]], [7], rng=rng())
    assert table["majority vote"][0].value == 0.5


def test_subsets_give_what_all_subsets_give():
    """The mean over every subset of 3 of 6, for each rule; the drawn ones come close."""
    r = rng(4)
    reward, right = r.random(6), (r.random(6) < 0.5).astype(float)
    answers = ["y" if ok else "x" for ok in right]
    table = best_of_n_table({"prm": [reward]}, [right], [answers], [3], rng=rng(), n_subsets=4000)
    subsets = [list(s) for s in itertools.combinations(range(6), 3)]
    exact = {
        "prm": np.mean([right[s][np.argmax(reward[s])] for s in subsets]),
        "majority vote": np.mean([right[s].sum() >= 2 for s in subsets]),
        "oracle": np.mean([right[s].max() for s in subsets]),
    }
    for name, value in exact.items():
        assert table[name][0].value == pytest.approx(value, abs=0.03)


@pytest.mark.parametrize(
    ("rewards", "right", "answers", "ns", "words"),
    [
        ({"a": [[1.0]]}, [[0, 1]], [["x", "y"]], [1], "'a' have shape"),
        ({}, [[0, 1]], [["x"]], [1], "one answer for each"),
        ({}, [[0, 1]], [["x", "y"]], [3], "n=3, allowed are 1 to 2"),
    ],
)
def test_best_of_n_says_what_does_not_fit(rewards, right, answers, ns, words):
    with pytest.raises(ConfigError, match=words):
        best_of_n_table(rewards, right, answers, ns, rng=rng())


# ---- baselines ----


def test_the_best_constant_by_hand():
    """Errors at 2, 2, 2, 0: a = 3/4, q = sqrt(.75) / (1 + sqrt(.75)) = .464, F1 = 2 q (1-q) a / (q + (1-q) a) = .431; and on a grid."""
    truth = np.array([2, 2, 2, 0, -1, -1])
    found = best_constant(truth)
    grid = np.linspace(0.001, 0.999, 999)
    f1 = 2 * grid * (1 - grid) * 0.75 / (grid + (1 - grid) * 0.75)
    assert found.place == 2
    assert found.share_right == pytest.approx(grid[f1.argmax()], abs=0.001)
    assert found.f1 == pytest.approx(f1.max(), abs=1e-6)
    said = found.predict(20_000, rng())
    assert set(said.tolist()) == {-1, 2}
    assert (said == -1).mean() == pytest.approx(found.share_right, abs=0.02)
    with pytest.raises(ConfigError, match="with an error and without"):
        best_constant([1, 2])


@pytest.mark.parametrize("name", ["a longer step is wrong", "a shorter step is wrong", "a long solution is wrong at one place"])
def test_a_planted_length_rule_is_found(name):
    r = rng(2)
    steps, truth = [], []
    for _ in range(300):
        row = ["x" * int(n) for n in r.integers(20, 40, int(r.integers(3, 7)))]
        place = int(r.integers(-1, len(row)))
        if name == "a longer step is wrong" and place >= 0:
            row[place] = "x" * 60
        elif name == "a shorter step is wrong" and place >= 0:
            row[place] = "x" * 3
        elif name == "a long solution is wrong at one place":
            place = 1 if sum(map(len, row)) > 140 else -1
        steps.append(row)
        truth.append(place)
    rule = best_length_rule(steps, truth)
    assert rule.name == name
    assert rule.f1 > 0.95
    hit = rule.predict(steps) == np.array(truth)
    assert harmonic(hit[np.array(truth) >= 0].mean(), hit[np.array(truth) < 0].mean()) == pytest.approx(rule.f1)
    assert rule.to_dict()["name"] == name


def test_step_rules_speak_of_lengths_and_places_only():
    one, two = ["aaa", "bb", "c"], ["xyz", "ww", "q"]
    for rule in STEP_RULES.values():
        np.testing.assert_array_equal(rule(one), rule(two))
        assert rule(one).shape == (3,)


# ---- a scorer beside its baselines ----


def noisy(records: list[StepLabels], noise: float, seed: int) -> list[np.ndarray]:
    r = rng(seed)
    return [np.array([label or 0.0 for label in record.labels]) + r.normal(0.0, noise, len(record.steps)) for record in records]


def test_a_scorer_that_knows_beats_both_baselines_and_one_that_does_not_beats_none():
    records = StepsWorld(0).solutions(400, StepsPolicy(error=0.1))
    fit, test = records[:200], records[200:]
    problems = [record.meta["idx"] for record in test]
    good = evaluate_steps((fit, noisy(fit, 0.2, 1)), (test, noisy(test, 0.2, 2)), problems, rng=rng(), n_resamples=200)
    assert good.beats == {"constant": True, "length": True}
    assert good.first_error["scorer"].f1.value > 0.9
    # labels 1 and 0 with noise .2: two normals one unit apart, AUROC = Phi(1 / (.2 sqrt 2)) = Phi(3.54) = .9998
    assert good.auroc["scorer"].auroc.value == pytest.approx(0.9998, abs=0.0008)
    blind = evaluate_steps((fit, noisy(fit, 1e9, 1)), (test, noisy(test, 1e9, 2)), problems, rng=rng(), n_resamples=200)
    assert blind.beats == {"constant": False, "length": False}
    json.dumps(good.to_dict())
    assert "first-error F1" in good.render()


def test_solutions_without_a_known_first_error_count_for_auroc_only():
    records = StepsWorld(0).solutions(100, StepsPolicy(error=0.1))
    test = [*records[50:], records[0].model_copy(update={"labels": (None, 1.0, *[0.0] * 6)})]
    found = evaluate_steps((records[:50], noisy(records[:50], 0.2, 1)), (test, noisy(test, 0.2, 2)), range(51), rng=rng(), n_resamples=20)
    assert found.n_unknown == 1
    assert found.first_error["scorer"].n_error + found.first_error["scorer"].n_right == 50
    assert found.auroc["scorer"].n_left_out == 1
    with pytest.raises(ConfigError, match="one score array"):
        evaluate_steps((records, []), (test, []), [], rng=rng())
