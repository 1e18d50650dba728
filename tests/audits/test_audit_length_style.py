"""Length and style: planted slopes come back, a scorer that knows the labels has no excess, and length alone is worth a coin."""

import numpy as np
import pytest

from preferent.audits.length_style import (
    FEATURES,
    accuracy_by_length_gap,
    best_temperature,
    excess,
    feature_weights,
    lean,
    length_controlled_accuracy,
    length_curve,
    style_features,
    style_grid,
)
from preferent.audits.metrics import probability


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def planted(n=4000, *, bias=0.0, seed=0):
    """Pairs whose labels come from a quality gap, lengths that have nothing to do with it, and a scorer that pays `bias` for length."""
    r = np.random.default_rng(seed)
    quality_N, length_N = r.normal(size=n), r.normal(size=n)
    p_N = (r.random(n) < probability(quality_N)).astype(float)
    return quality_N + bias * length_N, p_N, length_N, np.ones(n), np.arange(n)


def test_features_are_counted():
    text = "# Head\n- one\n2. two\n**bold** and `code`!! 😊"
    row = dict(zip(FEATURES, style_features([text])[0], strict=True))
    assert row == {
        "length": np.log2(len(text) + 1),
        "list items": 2.0,
        "headers": 1.0,
        "bold": 1.0,
        "code": 1.0,
        "exclamation marks": 2.0,
        "emoji": 1.0,
    }
    assert style_features([]).shape == (0, len(FEATURES))


def test_a_scorer_that_knows_the_labels_has_no_excess():
    margin_N, p_N, length_N, weights_N, codes_N = planted()
    found = excess(length_N, margin_N, p_N, weights_N, codes_N, rng=rng())
    assert found.low < 0 < found.high
    assert best_temperature(margin_N, p_N) == pytest.approx(1.0, abs=0.1)


def test_the_planted_length_bias_is_an_excess_and_sides_do_not_matter():
    margin_N, p_N, length_N, weights_N, codes_N = planted(bias=1.0)
    found = excess(length_N, margin_N, p_N, weights_N, codes_N, rng=rng())
    assert found.low > 0.05
    swapped = excess(-length_N, -margin_N, 1 - p_N, weights_N, codes_N, rng=rng())
    assert swapped.value == pytest.approx(found.value, abs=1e-6)
    labels, scorer = lean(length_N, margin_N, p_N, weights_N, codes_N, rng=rng())
    assert labels.low < 0 < labels.high  # people do not care
    assert scorer.value - labels.value == pytest.approx(found.value, abs=1e-9)


def test_partial_slopes_are_those_of_the_plant():
    """reward = 2 a - 1 b + prompt offset, a and b correlated: in standard units the slopes are 2 sd(a) / sd(r) and -sd(b) / sd(r)."""
    r = np.random.default_rng(1)
    codes_E = np.repeat(np.arange(200), 6)
    a_E = r.normal(size=1200)
    b_E = 0.7 * a_E + r.normal(size=1200)
    reward_E = 2 * a_E - b_E + 10 * r.normal(size=200)[codes_E]
    inside = lambda x: x - (np.bincount(codes_E, x) / 6)[codes_E]  # noqa: E731
    sd = inside(reward_E).std()
    found = feature_weights(reward_E, np.stack([a_E, b_E, np.ones(1200)], axis=1), codes_E, rng=rng(), n_resamples=100)
    assert found[0].value == pytest.approx(2 * inside(a_E).std() / sd, rel=1e-3)
    assert found[1].value == pytest.approx(-inside(b_E).std() / sd, rel=1e-3)
    assert np.isnan(found[2].value)
    assert "does not vary" in found[2].method


def test_the_length_curve_rises_with_a_planted_slope_and_is_flat_without():
    r = np.random.default_rng(2)
    codes_E = np.repeat(np.arange(150), 8)
    features_EF = np.stack([r.normal(size=1200), r.poisson(2, 1200).astype(float)], axis=1)
    steep = length_curve(features_EF[:, 0] + 0.1 * r.normal(size=1200), features_EF, codes_E, rng=rng())
    values = [row.value for _, row in steep]
    assert values == sorted(values)
    assert values[-1] - values[0] > 2
    other = length_curve(features_EF[:, 1], features_EF, codes_E, rng=rng())  # all of it is the other feature
    assert max(abs(row.value) for _, row in other) < 1e-6 or all(row.low <= 0 <= row.high for _, row in other)
    assert length_curve(r.normal(size=1200), np.zeros((1200, 1)), codes_E, rng=rng()) == []


def test_accuracy_falls_into_the_bucket_of_the_preferred_side():
    """a: 10 characters, b: 100; a preferred: 'preferred much shorter'. The longer side has the higher reward, so it is wrong there."""
    chars = np.array([[10.0, 100.0], [100.0, 10.0], [100.0, 95.0]])
    p = np.array([1.0, 1.0, 1.0])
    found = accuracy_by_length_gap(chars[:, 0] - chars[:, 1], p, chars, np.ones(3), np.arange(3), rng=rng())
    assert found["preferred much shorter"].value == 0.0
    assert found["preferred much longer"].value == 1.0
    assert found["length-matched"].n == 1
    assert found["preferred longer"].n == 0


def test_length_alone_is_a_coin_once_length_cannot_help():
    """The longer side is right in 3 of 4 pairs of each size: plain accuracy .75, controlled .5, .25 lost."""
    near, far = ([30.0, 20.0], [20.0, 30.0]), ([90.0, 20.0], [20.0, 90.0])
    chars = np.array(([near[0]] * 3 + [near[1]]) * 30 + ([far[0]] * 3 + [far[1]]) * 30)
    found = length_controlled_accuracy(chars[:, 0] - chars[:, 1], np.ones(240), chars, np.ones(240), np.arange(240), rng=rng())
    assert found.plain.value == pytest.approx(0.75)
    assert found.controlled.value == pytest.approx(0.5)
    assert found.lost.value == pytest.approx(0.25)
    assert found.lost.low > 0.15


def test_the_style_grid_by_hand():
    """Rewards of one item: better (1, 2, 3), worse (0, 2, 4) by style.

    better > worse: row 1 > 0, 2, 4: yes no no; row 2: yes no (equal) no; row 3: yes yes no.
    normal = (1 + 0 + 0) / 3, easy = rows over earlier columns = (2>0) 1, (3>0) 1, (3>2) 1 = 1, hard = 0; average = 4 / 9.
    """
    grid = style_grid(np.array([[1.0, 2.0, 3.0]] * 2), np.array([[0.0, 2.0, 4.0]] * 2), ["p", "q"], styles=("x", "y", "z"), rng=rng())
    assert tuple(tuple(cell.value for cell in row) for row in grid.matrix) == ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0))
    assert grid.normal.value == pytest.approx(1 / 3)
    assert grid.easy.value == 1.0
    assert grid.hard.value == 0.0
    assert grid.average.value == pytest.approx(4 / 9)
    assert grid.lost.value == pytest.approx(1 / 3)
