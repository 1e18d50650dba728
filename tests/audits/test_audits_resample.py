"""The shared bootstrap: the same draws as core's, the coverage it claims, and its edges."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from preferent.audits.resample import Column, clustered_counts, clustered_means, share_interval, spearman
from preferent.core.estimates import clustered_mean


def test_the_same_numbers_as_the_core_bootstrap():
    rng = np.random.default_rng(0)
    values_N, weights_N, codes_N = rng.normal(size=200), rng.random(200) + 0.1, rng.integers(0, 40, 200)
    _, codes_N = np.unique(codes_N, return_inverse=True)
    # core numbers clusters by first appearance; here they are given that numbering
    order = {code: place for place, code in enumerate(dict.fromkeys(codes_N.tolist()))}
    codes_N = np.array([order[code] for code in codes_N.tolist()])
    core = clustered_mean(values_N, codes_N, rng=np.random.default_rng(5), weights_N=weights_N, n_resamples=400)
    ours = clustered_means({"x": Column.of(values_N, weights_N)}, codes_N, rng=np.random.default_rng(5), n_resamples=400)["x"]
    assert (ours.value, ours.low, ours.high) == pytest.approx((core.value, core.low, core.high))
    assert (ours.n, ours.method) == (core.n, core.method)


def test_coverage_with_strong_clusters():
    # truth 0; 40 clusters of 5 whose members share most of their noise: an interval that ignores clusters covers about 65 %
    covered = 0
    codes_N = np.repeat(np.arange(40), 5)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values_N = np.repeat(rng.normal(size=40), 5) + 0.3 * rng.normal(size=200)
        found = clustered_means({"x": Column.of(values_N, np.ones(200))}, codes_N, rng=rng, n_resamples=300)["x"]
        covered += found.low <= 0.0 <= found.high
    assert 0.91 <= covered / 300 <= 0.98


def test_doubling_every_row_changes_nothing_but_n():
    rng = np.random.default_rng(1)
    values_N, codes_N = rng.normal(size=60), np.repeat(np.arange(20), 3)
    one = clustered_means({"x": Column.of(values_N, np.ones(60))}, codes_N, rng=np.random.default_rng(2))["x"]
    two = clustered_means({"x": Column.of(np.tile(values_N, 2), np.ones(120))}, np.tile(codes_N, 2), rng=np.random.default_rng(2))["x"]
    assert (two.value, two.low, two.high) == pytest.approx((one.value, one.low, one.high))
    assert (one.n, two.n) == (60, 120)


def test_what_does_not_count():
    values_N, codes_N = np.array([1.0, np.nan, 0.0, 5.0]), np.arange(4)
    where_N = np.array([True, True, True, False])
    found = clustered_means(
        {"x": Column.of(values_N, np.ones(4), where_N), "none": Column.of(np.full(4, np.nan), np.ones(4))},
        codes_N,
        rng=np.random.default_rng(0),
    )
    assert (found["x"].value, found["x"].n) == (0.5, 2)
    assert np.isnan(found["none"].value)
    assert found["none"].method == "no observations"


def test_one_prompt_has_no_interval():
    found = clustered_means({"x": Column.of(np.arange(5.0), np.ones(5))}, np.zeros(5, dtype=np.int64), rng=np.random.default_rng(0))["x"]
    assert found.value == 2.0
    assert np.isnan(found.low)
    assert "one prompt" in found.method


def test_all_right_is_not_certainty():
    column = Column.of(np.ones(30), np.ones(30), share=True)
    found = clustered_means({"x": column}, np.arange(30), rng=np.random.default_rng(0))["x"]
    # Clopper-Pearson at 30 of 30: the lower end is .025^(1/30) = .8843
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8843, abs=1e-4)
    assert share_interval(0.0, np.zeros(9), 30, 30).high == pytest.approx(1 - 0.8843, abs=1e-4)


def test_spearman_with_counts_is_spearman_of_the_repeated_sample():
    rng = np.random.default_rng(3)
    x_N, y_N = rng.integers(0, 6, 40).astype(float), rng.integers(0, 6, 40).astype(float)
    counts_N = rng.integers(0, 4, 40).astype(float)
    rows = np.repeat(np.arange(40), counts_N.astype(int))
    assert spearman(x_N, y_N) == pytest.approx(spearmanr(x_N, y_N).statistic)
    assert spearman(x_N, y_N, counts_N) == pytest.approx(spearmanr(x_N[rows], y_N[rows]).statistic)
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_a_statistic_that_is_undefined_says_so():
    found = clustered_counts(lambda counts_N: float("nan"), np.arange(5), rng=np.random.default_rng(0), n_resamples=10)
    assert np.isnan(found.value)
    assert "does not vary" in found.method
