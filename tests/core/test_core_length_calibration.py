"""Length calibration: a known curve is found and taken out, and the gate chooses by what the labels say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from preferent.core.errors import DataError
from preferent.core.length_calibration import length_gate, lowess_calibration

RNG = np.random.default_rng(0)
LENGTH = RNG.uniform(3.0, 7.0, 2000)
QUALITY = RNG.normal(size=2000)


def test_a_straight_line_is_found_exactly() -> None:
    curve = lowess_calibration(2.0 * LENGTH - 1.0, LENGTH)
    assert curve.at([3.5, 5.0, 6.5]) == pytest.approx([6.0, 9.0, 12.0], abs=1e-6)
    # Everything length explains is gone; the mean level stays.
    calibrated = curve.calibrate(2.0 * LENGTH - 1.0, LENGTH)
    assert calibrated == pytest.approx(np.full(2000, (2.0 * LENGTH - 1.0).mean()), abs=1e-3)


def test_a_bend_is_followed_and_quality_stays() -> None:
    reward = QUALITY + np.where(LENGTH > 5.0, 3.0 * (LENGTH - 5.0), 0.0)
    calibrated = lowess_calibration(reward, LENGTH, span=0.2).calibrate(reward, LENGTH)
    assert abs(np.corrcoef(calibrated, LENGTH)[0, 1]) < 0.03
    assert np.corrcoef(calibrated, QUALITY)[0, 1] > 0.98


def test_outliers_do_not_pull_the_curve() -> None:
    reward = LENGTH + np.where(np.arange(2000) % 20 == 0, 40.0, 0.0)
    robust, plain = (lowess_calibration(reward, LENGTH, robust_rounds=rounds).at([5.0])[0] for rounds in (3, 0))
    assert robust == pytest.approx(5.0, abs=0.1)
    assert plain > 6.0


def test_order_does_not_matter_and_beyond_the_ends_it_is_flat() -> None:
    order = np.random.default_rng(1).permutation(2000)
    one, other = lowess_calibration(QUALITY, LENGTH), lowess_calibration(QUALITY[order], LENGTH[order])
    assert one.reward_J == pytest.approx(other.reward_J)
    assert one.at([0.0, 99.0]) == pytest.approx([one.reward_J[0], one.reward_J[-1]])


def test_one_length_only_is_a_mean() -> None:
    curve = lowess_calibration(QUALITY, np.full(2000, 4.0), robust_rounds=0)
    assert curve.at([4.0])[0] == pytest.approx(QUALITY.mean(), abs=0.1)


@pytest.mark.parametrize("valued", [False, True])
def test_the_gate_chooses_right(valued: bool) -> None:
    """A reward that pays 1 for each unit of length; labels that do so too, or not at all."""
    rng = np.random.default_rng(2)
    quality, length = rng.normal(size=(2, 600)), rng.normal(size=(2, 600))
    reward = quality + length
    truth = (quality + length if valued else quality) * 2.0
    labels = (rng.random(600) < expit(truth[0] - truth[1])).astype(float)
    gate = length_gate(reward[0] - reward[1], quality[0] - quality[1], labels, list(range(600)), rng=rng)
    assert gate.apply is not valued
    assert (gate.gain.high < 0.0) is valued
    assert (gate.accuracy_calibrated.value > gate.accuracy_raw.value) is not valued


def test_the_gate_needs_proof() -> None:
    rng = np.random.default_rng(3)
    margin = rng.normal(size=40)
    gate = length_gate(margin, margin + 0.01 * rng.normal(size=40), (rng.random(40) < 0.5).astype(float), list(range(40)), rng=rng)
    assert gate.apply is False
    assert "do not show" in gate.reason


def test_the_gate_ignores_scale() -> None:
    rng = np.random.default_rng(4)
    margin = rng.normal(size=300)
    labels = (rng.random(300) < expit(margin)).astype(float)
    gate = length_gate(margin, margin * 7.0, labels, list(range(300)), rng=rng)
    assert gate.gain.value == pytest.approx(0.0, abs=1e-3)


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="20 or more"):
        lowess_calibration(np.zeros(5), np.zeros(5))
    with pytest.raises(DataError, match="span=0"):
        lowess_calibration(np.zeros(30), np.zeros(30), span=0)
    with pytest.raises(DataError, match="one length per reward"):
        lowess_calibration(np.zeros(30), np.zeros(29))
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        length_gate([1.0], [1.0], [2.0], ["p"], rng=np.random.default_rng(0))
