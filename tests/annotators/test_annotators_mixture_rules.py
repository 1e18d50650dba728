import numpy as np
import pytest
from scipy.optimize import check_grad

from preferent.annotators.graph import pair_table, pair_votes
from preferent.annotators.hidden_context import across_groups, distributional_objective, fit_distributional
from preferent.annotators.social_choice import choose, compare
from preferent.core.errors import ConfigError

# Two groups, one set of three: group 0 (weight .6) likes item 0 a little, group 1 hates it; both can live with item 1.
SCORES = np.array([[1.0, 0.8, -3.0], [-4.0, 0.0, 0.5]])
WEIGHTS = [0.6, 0.4]


def sigma(x):
    return 1 / (1 + np.exp(-x))


def test_every_rule_by_hand():
    mean = choose(SCORES, "utilitarian", weight_K=WEIGHTS)
    np.testing.assert_allclose(mean.scores, [0.6 * 1.0 - 0.4 * 4.0, 0.6 * 0.8, 0.6 * -3.0 + 0.4 * 0.5])
    # Win rates of group 0: item 0 (sigma(.2) + sigma(4)) / 2, and so on.
    first = [(sigma(0.2) + sigma(4)) / 2, (sigma(-0.2) + sigma(3.8)) / 2, (sigma(-4) + sigma(-3.8)) / 2]
    second = [(sigma(-4) + sigma(-4.5)) / 2, (sigma(4) + sigma(-0.5)) / 2, (sigma(4.5) + sigma(0.5)) / 2]
    np.testing.assert_allclose(choose(SCORES, "borda", weight_K=WEIGHTS).scores, 0.6 * np.array(first) + 0.4 * np.array(second))
    worst = choose(SCORES, "worst-off", weight_K=WEIGHTS)
    np.testing.assert_allclose(worst.scores, np.minimum(first, second))
    assert int(worst.scores.argmax()) == 1
    losses = worst.losses
    assert losses[0].regret == pytest.approx(first[0] - first[1])
    assert losses[1].regret == pytest.approx(second[2] - second[1])
    assert losses[0].lost_sets == losses[1].lost_sets == 1.0


def test_rules_disagree_and_say_who_pays():
    loud = np.array([[9.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]])  # one group of three wants item 0 very much; borda: (1 + .12 + .12) / 3
    found = compare(loud)
    assert int(found["utilitarian"].scores.argmax()) == 0
    assert int(found["borda"].scores.argmax()) == 1
    assert [loss.against for loss in found["borda"].losses] == [1.0, 0.0, 0.0]
    assert [loss.against for loss in found["utilitarian"].losses] == [0.0, 1.0, 1.0]
    assert found["per-group"].scores.shape == (3, 2)
    assert all(loss.regret == 0.0 for loss in found["per-group"].losses)


def test_sets_are_apart_and_groups_may_be_renamed():
    sets = ["x", "y", "x", "y", "z"]
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 5))
    found = choose(scores, "borda", weight_K=[1, 2, 3], set_I=np.array(sets))
    assert found.scores[4] == pytest.approx(0.5)
    np.testing.assert_allclose(found.scores[0] + found.scores[2], 1.0)  # of two, what one wins the other loses
    moved = choose(scores[[2, 0, 1]], "borda", weight_K=[3, 1, 2], set_I=np.array(sets))
    np.testing.assert_allclose(moved.scores, found.scores)


def test_one_group_loses_nothing():
    for rule in ("utilitarian", "borda", "worst-off"):
        (loss,) = choose(np.random.default_rng(1).normal(size=(1, 6)), rule).losses
        assert (loss.regret, loss.against, loss.lost_sets) == (0.0, 0.0, 0.0)


def test_what_is_no_rule_is_refused():
    with pytest.raises(ConfigError, match="'worst-off'"):
        choose(SCORES, "majority")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not all 0"):
        choose(SCORES, "borda", weight_K=[0, 0])
    with pytest.raises(ConfigError, match="finite"):
        choose([[np.nan, 1.0]], "borda")


def test_utility_over_groups_by_hand():
    # Weights 3:1; item 0 scores 2 and -2: mean 1, variance 3/4 (2 - 1)^2 + 1/4 (-2 - 1)^2 = 3.
    found = across_groups([[2.0, 1.0], [-2.0, 1.0]], [3.0, 1.0])
    np.testing.assert_allclose(found.mean_I, [1.0, 1.0])
    np.testing.assert_allclose(found.sd_I, [np.sqrt(3), 0.0])
    assert found.hidden == pytest.approx(1.0)
    assert found.quantile(0.1)[0] < found.quantile(0.1)[1]


def test_the_gradient_of_the_distributional_model_is_the_derivative():
    rng = np.random.default_rng(2)
    i = rng.integers(0, 6, 80)
    table = pair_table(pair_votes(np.stack([i, (i + rng.integers(1, 6, 80)) % 6], 1), rng.choice([0, 0.5, 1], 80)))
    point = rng.normal(size=12)
    args = (table, 1.5, 0.5)
    assert check_grad(lambda x: distributional_objective(x, *args)[0], lambda x: distributional_objective(x, *args)[1], point) < 1e-4


def test_a_divisive_response_gets_the_wide_utility():
    rng = np.random.default_rng(3)
    mean, sd = np.linspace(-2, 2, 15), np.full(15, 0.4)
    sd[7] = 4.0  # half of the people love it, half hate it
    i = rng.integers(0, 15, 12_000)
    j = (i + rng.integers(1, 15, 12_000)) % 15
    wins = mean[i] + sd[i] * rng.normal(size=len(i)) > mean[j] + sd[j] * rng.normal(size=len(i))
    fit = fit_distributional(pair_votes(np.stack([i, j], 1), wins.astype(float)))
    assert fit.converged
    assert int(fit.sd_I.argmax()) == 7
    assert fit.sd_I[7] > 1.8 * np.median(fit.sd_I)
    assert np.corrcoef(fit.mean_I, mean)[0, 1] > 0.98
    order = np.argsort(fit.quantile(0.05))
    assert order[0] in (0, 1, 7)  # who is averse to risk puts it near the bottom, for all its middling mean
