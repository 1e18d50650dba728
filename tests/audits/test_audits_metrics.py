"""Metrics: worked examples with their arithmetic, and the properties every one of them must have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferent.audits import metrics
from preferent.core.errors import ConfigError

FINITE = st.floats(-1e4, 1e4, allow_nan=False)
PAIRS = st.lists(st.tuples(FINITE, st.floats(0.0, 1.0)), min_size=1, max_size=30)


def arrays(pairs):
    return np.array([m for m, _ in pairs]), np.array([p for _, p in pairs])


def test_hits_and_their_ties():
    margin_N = np.array([2.0, -1.0, -3.0, 0.0, 5.0, 0.0])
    p_N = np.array([1.0, 1.0, 0.2, 0.9, 0.5, 0.5])
    # right, wrong, right (b preferred, b higher), equal rewards = half, two label ties = left out
    np.testing.assert_array_equal(metrics.hits(margin_N, p_N), [1.0, 0.0, 1.0, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(metrics.preferred_margin(margin_N, p_N), [2.0, -1.0, 3.0, 0.0, np.nan, np.nan])


def test_nll_brier_and_entropy_by_hand():
    margin_N, p_N = np.array([np.log(3.0), 0.0, 2 * np.log(3.0)]), np.array([1.0, 0.7, 0.25])
    # sigmoid(log 3) = 3/4; sigmoid(0) = 1/2; at T = 2 the third is 3/4 too
    np.testing.assert_allclose(metrics.nll(margin_N, p_N)[:2], [-np.log(0.75), np.log(2.0)])
    np.testing.assert_allclose(metrics.nll(margin_N, p_N, 2.0)[2], -0.25 * np.log(0.75) - 0.75 * np.log(0.25))
    np.testing.assert_allclose(metrics.brier(margin_N, p_N)[:2], [0.0625, 0.04])  # (.75 - 1)^2, (.5 - .7)^2
    np.testing.assert_allclose(metrics.brier(margin_N, p_N, 2.0)[2], 0.25)  # (.75 - .25)^2
    np.testing.assert_allclose(metrics.label_entropy(np.array([0.0, 1.0, 0.5])), [0.0, 0.0, np.log(2.0)], atol=1e-12)


def test_safe_at_huge_margins():
    margin_N, p_N = np.array([1e4, -1e4, 1e4]), np.array([1.0, 1.0, 0.25])
    np.testing.assert_allclose(metrics.nll(margin_N, p_N), [0.0, 1e4, 7500.0])  # .75 x 1e4
    np.testing.assert_allclose(metrics.brier(margin_N, p_N), [0.0, 1.0, 0.5625])
    np.testing.assert_array_equal(metrics.probability(margin_N), [1.0, 0.0, 1.0])


@given(PAIRS, st.floats(0.1, 10.0))
def test_swapping_sides_changes_nothing(pairs, temperature):
    margin_N, p_N = arrays(pairs)
    p_N = np.round(p_N, 6)
    for one in (metrics.hits, metrics.preferred_margin):
        np.testing.assert_array_equal(one(margin_N, p_N), one(-margin_N, 1 - p_N))
    for one in (metrics.nll, metrics.brier):
        np.testing.assert_allclose(one(margin_N, p_N, temperature), one(-margin_N, 1 - p_N, temperature), atol=1e-9)
    np.testing.assert_allclose(metrics.label_entropy(p_N), metrics.label_entropy(1 - p_N), atol=1e-9)
    for left, right in zip(
        metrics.confidence(margin_N, p_N, temperature), metrics.confidence(-margin_N, 1 - p_N, temperature), strict=True
    ):
        np.testing.assert_allclose(left, right, atol=1e-12)


@given(PAIRS)
def test_nll_is_never_below_the_entropy(pairs):
    margin_N, p_N = arrays(pairs)
    assert np.all(metrics.nll(margin_N, p_N) >= metrics.label_entropy(p_N) - 1e-9)


@given(st.lists(st.floats(0.5, 1.0), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_bins_ignore_order_and_doubling(values, seed):
    values_N = np.array(values)
    weights_N = np.ones_like(values_N)
    bins_N = metrics.equal_mass_bins(values_N, weights_N, 10)
    order = np.random.default_rng(seed).permutation(len(values_N))
    np.testing.assert_array_equal(metrics.equal_mass_bins(values_N[order], weights_N, 10), bins_N[order])
    np.testing.assert_array_equal(metrics.equal_mass_bins(np.repeat(values_N, 2), np.ones(2 * len(values_N)), 10), np.repeat(bins_N, 2))
    np.testing.assert_array_equal(metrics.equal_mass_bins(values_N, 3 * weights_N, 10), bins_N)


def test_bins_hold_equal_weight():
    np.testing.assert_array_equal(metrics.equal_mass_bins(np.arange(20.0), np.ones(20), 10), np.repeat(np.arange(10), 2))
    # one value with nine tenths of the weight sits alone in the middle of its weight
    np.testing.assert_array_equal(metrics.equal_mass_bins(np.array([0.6, 0.9]), np.array([9.0, 1.0]), 2), [0, 1])


def test_ece_by_hand():
    # two values of confidence, 10 pairs each on 20 prompts. At .6 the labels agree 5 of 10 times: gap .1; at .9 they agree 7 of 10: gap .2
    confidence_N = np.repeat([0.6, 0.9], 10)
    label_N = np.array([1.0] * 5 + [0.0] * 5 + [1.0] * 7 + [0.0] * 3)
    found = metrics.reliability(confidence_N, label_N, np.ones(20), np.arange(20), rng=np.random.default_rng(0))
    assert found.ece.value == pytest.approx(0.15)  # (.1 + .2) / 2
    assert [row.n for row in found.bins] == [10, 10]
    assert [row.observed.value for row in found.bins] == pytest.approx([0.5, 0.7])
    assert found.ece.low <= found.ece.value <= found.ece.high


def test_ece_respects_weights():
    confidence_N, label_N = np.array([0.6, 0.9]), np.array([0.5, 0.7])
    found = metrics.reliability(confidence_N, label_N, np.array([3.0, 1.0]), np.arange(2), rng=np.random.default_rng(0))
    assert found.ece.value == pytest.approx(0.125)  # (3 x .1 + 1 x .2) / 4


def planted(n, rng, sharpen=1.0):
    """Hard labels drawn from the scorer's own probabilities (sharpen = 1: calibrated)."""
    margin_N = rng.normal(0, 1.5, n)
    p_N = (rng.random(n) < metrics.probability(margin_N)).astype(float)
    return sharpen * margin_N, p_N


def test_a_calibrated_scorer_has_ece_within_its_interval_of_zero():
    inside = 0
    for seed in range(40):
        margin_N, p_N = planted(400, np.random.default_rng(seed))
        parts = metrics.confidence(margin_N, p_N)
        found = metrics.reliability(*parts, np.ones(400), np.arange(400), rng=np.random.default_rng(seed), n_resamples=300)
        inside += found.ece.low == 0.0
    assert inside >= 36  # 95 % of 40 is 38; the bound is conservative


def test_an_over_confident_scorer_is_found_out():
    margin_N, p_N = planted(2000, np.random.default_rng(1), sharpen=4.0)
    parts = metrics.confidence(margin_N, p_N)
    found = metrics.reliability(*parts, np.ones(2000), np.arange(2000), rng=np.random.default_rng(2), n_resamples=500)
    assert found.ece.low > 0.05
    assert found.noise.high < found.ece.low
    # dividing by the temperature that was planted repairs it
    parts = metrics.confidence(margin_N, p_N, 4.0)
    assert metrics.reliability(*parts, np.ones(2000), np.arange(2000), rng=np.random.default_rng(2), n_resamples=500).ece.low == 0.0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_cannot_divide_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature is"):
        metrics.check_temperature(temperature)
