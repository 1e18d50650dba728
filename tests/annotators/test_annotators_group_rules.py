"""Rules over the groups' labels: worked numbers, the same as social choice on sets of two, and symmetric in the sides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from preferent.annotators.bradley_terry import Banded
from preferent.annotators.group_rules import rule_labels
from preferent.annotators.social_choice import choose
from preferent.core.errors import ConfigError

RULES = ("utilitarian", "borda", "worst-off")


def known(p_KI) -> Banded:
    p = np.asarray(p_KI, dtype=float)
    return Banded(p, np.clip(p - 0.1, 0.01, 1), np.clip(p + 0.1, 0, 0.99))


def rule(p_KI, name, weight_K):
    return rule_labels(known(p_KI), name, weight_K, rng=np.random.default_rng(0))


def test_by_hand() -> None:
    # Group 0 (three quarters) is lukewarm for a with .6, group 1 is dead against it with .05.
    p, weight = [[0.6], [0.05]], [3, 1]
    assert rule(p, "borda", weight).p_a.value[0] == pytest.approx(0.75 * 0.6 + 0.25 * 0.05)  # .4625: b
    assert rule(p, "utilitarian", weight).p_a.value[0] == pytest.approx(expit(0.75 * logit(0.6) + 0.25 * logit(0.05)))
    worst = rule(p, "worst-off", weight)
    assert worst.p_a.value[0] == pytest.approx(0.5 + (0.05 - 0.4) / 2)  # .325: b, which leaves group 0 with .4
    assert worst.losses[0].regret.value == pytest.approx(0.6 - 0.4)
    assert worst.losses[0].against.value == 1.0
    assert worst.losses[1].regret.value == 0.0
    assert rule(p, "borda", [1, 0]).p_a.value[0] == pytest.approx(0.6)
    assert rule(p, "worst-off", [1, 0]).p_a.value[0] == pytest.approx(0.6)  # who counts nothing is not asked
    each = rule(p, "per-group", weight)
    np.testing.assert_array_equal(each.p_a.value, p)
    assert [loss.regret.value for loss in each.losses] == [0.0, 0.0]


@pytest.mark.parametrize("name", RULES)
def test_losses_are_those_of_social_choice_on_sets_of_two(name) -> None:
    rng = np.random.default_rng(1)
    p, weight = rng.uniform(0.05, 0.95, (3, 40)), np.array([0.5, 0.3, 0.2])
    found = rule(p, name, weight)
    gap = logit(p)
    scores = np.stack([gap / 2, -gap / 2], axis=2).reshape(3, 80)
    other = choose(scores, name, weight_K=weight, set_I=np.repeat(np.arange(40), 2))
    ahead = other.scores.reshape(40, 2) @ [1, -1]
    assert ((found.p_a.value - 0.5) * ahead > 0).all()
    for one, two in zip(found.losses, other.losses, strict=True):
        assert one.regret.value == pytest.approx(two.regret)
        assert one.against.value == pytest.approx(two.against)
        assert 0.0 <= one.regret.low <= one.regret.value <= one.regret.high <= 1.0
        assert 0.0 <= one.against.low <= one.against.value <= one.against.high <= 1.0


@pytest.mark.parametrize("name", RULES)
def test_swapping_the_sides_mirrors_the_labels_and_unanimity_is_kept(name) -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(0.05, 0.95, (2, 30))
    one, two = rule(p, name, [0.7, 0.3]).p_a, rule(1 - p, name, [0.7, 0.3]).p_a
    np.testing.assert_allclose(one.value, 1 - two.value)
    assert (one.low < one.value).all()
    assert (one.value < one.high).all()
    same = np.tile(p[:1], (2, 1))
    np.testing.assert_allclose(rule(same, name, [0.7, 0.3]).p_a.value, p[0])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="'worst-off'"):
        rule([[0.5]], "majority", [1])
    with pytest.raises(ConfigError, match="not all 0"):
        rule([[0.5], [0.5]], "borda", [0, 0])
