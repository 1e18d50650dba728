"""The temperature: planted truths, worked examples, named degenerate cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from preferent.core.errors import FitError
from preferent.training.calibration import HIGHEST, LOWEST, fit_temperature


def test_worked_example():
    # Ten margins of 2, of which 8 are right. sigma(2 / T) = 0.8, so 2 / T = log 4 and T = 2 / log 4 = 1.442695.
    # NLL at T = 1: log(1 + e^-2) + 0.2 * 2 = 0.126928 + 0.4 = 0.526928; at T: -0.8 log 0.8 - 0.2 log 0.2 = 0.500402.
    fitted = fit_temperature([2.0] * 10, [1.0] * 8 + [0.0] * 2)
    assert fitted.value == pytest.approx(1.442695, abs=1e-6)
    assert fitted.nll_before == pytest.approx(0.526928, abs=1e-6)
    assert fitted.nll_after == pytest.approx(0.500402, abs=1e-6)
    assert (fitted.n, fitted.at_bound) == (10, False)
    # Information of 1/T: 10 * 2^2 * 0.8 * 0.2 = 6.4; scores: 8 of 2 * -0.2, 2 of 2 * 0.8, squares sum to 8 * 0.16 + 2 * 2.56 = 6.4;
    # variance 6.4 * 10/9 / 6.4^2 = 0.173611, deviation 0.416667, of log T 1.442695 * 0.416667 = 0.601123, half width 1.178201.
    assert np.log(fitted.high / fitted.value) == pytest.approx(1.178201, abs=1e-5)
    assert np.log(fitted.value / fitted.low) == pytest.approx(1.178201, abs=1e-5)


@pytest.mark.parametrize("truth", [0.2, 1.0, 3.0, 40.0])
def test_planted_temperature_is_recovered(truth):
    rng = np.random.default_rng(int(truth * 10))
    difference = rng.normal(0, 1.5, 20_000)
    labels = (rng.random(20_000) < expit(difference)).astype(float)
    fitted = fit_temperature(difference * truth, labels)
    assert fitted.low < truth < fitted.high
    assert fitted.value == pytest.approx(truth, rel=0.05)
    # Exact soft labels leave nothing to chance.
    assert fit_temperature(difference * truth, expit(difference)).value == pytest.approx(truth, rel=1e-8)


def test_the_interval_covers_the_truth_about_95_times_in_100_with_prompts_alike():
    rng = np.random.default_rng(0)
    hits = naive = 0
    for _ in range(300):
        prompts = np.repeat(np.arange(150), 4)
        difference = rng.normal(0, 1.5, 150)[prompts]
        labels = (rng.random(150)[prompts] < expit(difference)).astype(float)  # four copies of one judgment
        fitted = fit_temperature(2.0 * difference, labels, clusters_N=prompts.tolist())
        hits += fitted.low < 2.0 < fitted.high
        apart = fit_temperature(2.0 * difference, labels)
        naive += apart.low < 2.0 < apart.high
    assert 0.91 <= hits / 300 <= 0.99
    assert naive / 300 < 0.8


# Any label whose mirror 1 - p is exact: 1 - 1e-36 is 1, which is another label and has another temperature.
LABELS = st.floats(0, 1).map(lambda p: 1.0 - (1.0 - p))
PAIRS = st.lists(st.tuples(st.floats(-30, 30), LABELS, st.floats(0.1, 4)), min_size=10, max_size=40)


@pytest.mark.parametrize("p", [2.0**-53, 2.0**-40, 1e-9, 1e-3])
def test_a_label_next_to_certain_has_the_temperature_of_its_mirror(p):
    margin, label = np.array([0.0] * 9 + [-1.0]), np.array([0.0] * 9 + [1.0 - (1.0 - p)])
    there, back = (fit_temperature(*pairs).value for pairs in ((margin, label), (-margin, 1.0 - label)))
    # sigma(-1 / T) = p
    assert there == pytest.approx(1.0 / np.log((1.0 - label[-1]) / label[-1]), rel=1e-8)
    assert back == pytest.approx(there, rel=1e-8)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_properties(rows):
    margin, p, weight = (np.array(column) for column in zip(*rows, strict=True))
    try:
        fitted = fit_temperature(margin, p, weight)
    except FitError:
        assert not margin.any() or (p == 0.5).all()
        return
    assert fitted.nll_after <= fitted.nll_before + 1e-12
    swapped = fit_temperature(-margin, 1 - p, weight)
    assert swapped.value == pytest.approx(fitted.value, rel=1e-6)
    order = np.random.default_rng(0).permutation(len(rows))
    assert fit_temperature(margin[order], p[order], weight[order]).value == pytest.approx(fitted.value, rel=1e-6)
    if fitted.at_bound:
        assert fitted.value in (LOWEST, HIGHEST)
        assert np.isnan(fitted.low)
    else:
        assert fitted.low <= fitted.value <= fitted.high
        if 0.01 < fitted.value < 100:
            assert fit_temperature(3.0 * margin, p, weight).value == pytest.approx(3.0 * fitted.value, rel=1e-6)


def test_a_weight_counts_as_repeats_and_zero_as_absent():
    margin, p = np.array([2.0, 1.0, -1.0, 0.5] * 4), np.array([1.0, 0.0, 0.3, 1.0] * 4)
    weight = np.array([2.0, 1.0, 3.0, 0.0] * 4)
    repeated = np.repeat(np.arange(16), weight.astype(int))
    weighted = fit_temperature(margin, p, weight)
    assert weighted.value == pytest.approx(fit_temperature(margin[repeated], p[repeated]).value, rel=1e-9)
    assert weighted.n == 12


def test_separable_margins_end_at_the_lower_bound():
    fitted = fit_temperature(np.linspace(1, 2, 12), np.ones(12))
    assert (fitted.value, fitted.at_bound) == (LOWEST, True)
    assert "separate" in str(fitted.estimate())


def test_margins_that_oppose_the_labels_end_at_the_upper_bound():
    fitted = fit_temperature(np.linspace(1, 2, 12), np.zeros(12))
    assert (fitted.value, fitted.at_bound) == (HIGHEST, True)
    assert fitted.nll_after == pytest.approx(np.log(2), abs=1e-2)


def test_huge_margins_do_not_overflow():
    margin = np.array([1e4, -1e4, 5e3, 1e4] * 5)
    fitted = fit_temperature(margin, np.array([1.0, 0.0, 1.0, 0.0] * 5))
    assert np.isfinite([fitted.value, fitted.nll_before, fitted.nll_after]).all()
    assert fitted.nll_before == pytest.approx(2500.0)  # one in four costs 1e4
    # Of every four, two of 1e4 are right, one is wrong, and one of 5e3 is right: the derivative in 1/T is 0 at the answer.
    slope = 1e4 * (3 * expit(1e4 / fitted.value) - 2) + 5e3 * (expit(5e3 / fitted.value) - 1)
    assert abs(slope) < 1e-3


def test_one_prompt_has_no_interval():
    fitted = fit_temperature([2.0] * 10, [1.0] * 8 + [0.0] * 2, clusters_N=["q"] * 10)
    assert np.isnan(fitted.low)
    assert "one prompt" in fitted.method


@pytest.mark.parametrize(
    ("margin", "p", "weight", "message"),
    [
        ([1.0] * 9, [1.0] * 9, None, "on 9 pairs"),
        ([1.0] * 12, [1.0] * 12, [0.0] * 12, "on 0 pairs"),
        ([0.0] * 12, [1.0] * 12, None, "every margin is 0"),
        ([1.0] * 12, [0.5] * 12, None, "every label is a tie"),
        ([1.0, np.nan] * 6, [1.0] * 12, None, "margin 1 is nan, allowed: finite"),
        ([1.0] * 12, [1.0] * 11 + [1.5], None, "label 11 is 1.5, allowed: 0 to 1"),
        ([1.0] * 12, [1.0] * 12, [1.0] * 11 + [-1.0], "weight 11 is -1.0"),
        ([1.0] * 12, [1.0] * 11, None, "of one length"),
    ],
)
def test_degenerate_input_is_a_named_error(margin, p, weight, message):
    with pytest.raises(FitError, match=message):
        fit_temperature(margin, p, weight)


def test_soft_labels_are_fitted_by_their_log_odds():
    # p = 0.9 at margin 1 and p = 0.1 at margin -1: T = 1 / logit(0.9).
    fitted = fit_temperature([1.0, -1.0] * 6, [0.9, 0.1] * 6)
    assert fitted.value == pytest.approx(1.0 / logit(0.9), rel=1e-9)
