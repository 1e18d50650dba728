"""The monitor: ratios and shifts by hand, alarms where they belong, and the place where a run stops."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.core.errors import ConfigError
from preferent.optimize.monitor import Limits, Reading, Reference, last_quiet, read, stop

# Means 1, 5 and 0.5; standard deviations 1, 1 and 0.1.
REFERENCE = Reference.of([0.0, 2.0], [4.0, 6.0], [0.4, 0.6])


def quiet(*alarms: str) -> Reading:
    return Reading(0.0, 0.0, 1.0, 1.0, alarms)


def test_readings_by_hand() -> None:
    reading = read(REFERENCE, [3.0, 3.0], [5.5, 5.5], [0.55, 0.55])
    assert (reading.reward_gain, reading.length_shift, reading.spread_ratio, reading.disagreement_ratio) == pytest.approx((2, 0.5, 0, 1.1))
    assert reading.alarms == ()  # a gain alone is what one wants


@pytest.mark.parametrize(
    ("length", "doubt", "says"),
    [(6.5, 0.5, "1.50 standard deviations longer"), (3.5, 0.5, "1.50 standard deviations shorter"), (5.0, 0.75, "disagree 1.50 times")],
)
def test_each_alarm_says_what_and_how_much(length: float, doubt: float, says: str) -> None:
    (alarm,) = read(REFERENCE, [3.0], [length], [doubt]).alarms
    assert says in alarm


def test_collapse_is_an_alarm_when_asked_for() -> None:
    assert read(REFERENCE, [3.0, 3.0], [5.0, 5.0], [0.5, 0.5], limits=Limits(spread_ratio=0.1)).alarms
    assert not read(REFERENCE, [2.0, 4.0], [5.0, 5.0], [0.5, 0.5], limits=Limits(spread_ratio=0.1)).alarms


def test_stops_before_the_first_alarm_that_lasts() -> None:
    run = [quiet(), quiet(), quiet("x"), quiet(), quiet("x"), quiet("x")]
    assert last_quiet(run) == 1
    assert last_quiet(run, patience=2) == 3
    assert last_quiet(run[:2]) == 1
    assert last_quiet([quiet("x")]) == 0


def test_a_drifting_run_is_stopped_where_it_drifts() -> None:
    rng = np.random.default_rng(0)
    reference = (rng.normal(size=500), rng.normal(5.0, 0.4, 500), None)
    batches = [(rng.normal(k, 1.0, 500), rng.normal(5.0 + 0.1 * k, 0.4, 500), None) for k in range(10)]
    at, readings = stop(reference, batches)
    # One standard deviation of length is 0.4, reached between k = 4 (0.4) and k = 5.
    assert at in (3, 4)
    assert len(readings) == 10
    assert readings[at + 1].alarms


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="for neither"):
        read(REFERENCE, [1.0], [5.0])
    with pytest.raises(ConfigError, match="empty batch"):
        read(Reference.of([0.0, 1.0], [1.0, 2.0]), [], [])
    with pytest.raises(ConfigError, match="2 responses"):
        Reference.of([0.0], [1.0])
    with pytest.raises(ConfigError, match="disagreement_ratio"):
        Limits(disagreement_ratio=0.5)
