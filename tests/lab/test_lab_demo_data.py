"""The demo's planted fault is there: a Bradley-Terry model on the true objectives and log length learns to pay for length, and choosing
by it first raises and then lowers the true reward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from preferent.annotators.simulate import Population
from preferent.core.errors import ConfigError
from preferent.core.records import Exchange, Preference
from preferent.lab.demo_data import POPULATION, DemoData, DemoSizes, make_demo_data
from preferent.lab.replies import OBJECTIVES, GoldScorer
from preferent.optimize.best_of_n import best_of_n, gold_change

Array = NDArray[np.float64]
NS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SMALL = DemoSizes(n_prompts=10, n_held_out=5, pool_prompts=2, pool_responses=20)


def features(exchanges: list[Exchange]) -> Array:
    """Five objectives and log length, shape (n, 6)."""
    objectives = GoldScorer().score(exchanges).objectives
    return np.column_stack([objectives[name] for name in OBJECTIVES] + [np.log([len(one.response) for one in exchanges])])


def differences(preferences: list[Preference]) -> Array:
    sides = [one.exchanges() for one in preferences]
    return features([a for a, _ in sides]) - features([b for _, b in sides])


def fit(preferences: list[Preference]) -> Array:
    """Linear Bradley-Terry by maximum likelihood."""
    x, p = differences(preferences), np.array([one.p_a for one in preferences])

    def loss(w: Array) -> tuple[float, Array]:
        d = x @ w
        return float(np.mean(np.logaddexp(0, -d) * p + np.logaddexp(0, d) * (1 - p))), x.T @ (expit(d) - p) / len(p)

    return minimize(loss, np.zeros(x.shape[1]), jac=True).x


def accuracy(margin: Array, gap: Array) -> float:
    told = np.abs(gap) > 1e-9
    return float(np.mean((margin[told] > 0) == (gap[told] > 0)))


@pytest.fixture(scope="module")
def demo() -> DemoData:
    return make_demo_data(0)


@pytest.fixture(scope="module")
def learned(demo: DemoData) -> Array:
    return fit(demo.train)


def test_shapes(demo: DemoData) -> None:
    assert (len(demo.train), len(demo.held_out)) == (2100, 560)
    assert len(demo.judgments) == 3 * len(demo.comparisons) == 3 * 2660
    assert demo.pool_gold_PM.shape == (24, 320)
    assert [len(row) for row in demo.pool] == [320] * 24
    prompts = [{one.prompt for one in part} for part in (demo.train, demo.held_out)] + [{row[0].prompt for row in demo.pool}]
    assert [len(part) for part in prompts] == [300, 80, 24]
    assert len(set.union(*prompts)) == 404
    gap = [demo.world.gold(one.exchanges()[0]).total - demo.world.gold(one.exchanges()[1]).total for one in demo.held_out]
    assert demo.held_out_gap_N == pytest.approx(gap)


def test_judgments_are_decent_but_paid_for_length(demo: DemoData, learned: Array) -> None:
    assert (learned > 0.5).all()  # every objective counts, and so does length
    assert accuracy(differences(demo.held_out) @ learned, demo.held_out_gap_N) > 0.75


def test_without_the_bias_length_does_not_pay() -> None:
    fair = Population(skill=POPULATION.skill, skill_spread=POPULATION.skill_spread, tie=POPULATION.tie)
    demo = make_demo_data(0, DemoSizes(pool_prompts=1, pool_responses=2), fair)
    learned = fit(demo.train)
    assert learned[-1] < 0
    assert accuracy(differences(demo.held_out) @ learned, demo.held_out_gap_N) > 0.9


def test_best_of_n_by_the_learned_reward_overshoots(demo: DemoData, learned: Array) -> None:
    proxy = np.array([features(row) @ learned for row in demo.pool])
    curve = best_of_n(proxy, demo.pool_gold_PM, NS, rng=np.random.default_rng(0))
    assert (np.diff([point.proxy.value for point in curve]) > 0).all()
    gold = [point.gold.value for point in curve]
    assert NS[int(np.argmax(gold))] in (4, 8, 16)
    assert max(gold) > gold[0] + 0.15
    assert gold_change(proxy, demo.pool_gold_PM, 8, 256, rng=np.random.default_rng(0)).high < -0.08


def test_best_of_n_by_the_truth_never_falls(demo: DemoData) -> None:
    curve = best_of_n(demo.pool_gold_PM, demo.pool_gold_PM, NS, rng=np.random.default_rng(0))
    assert (np.diff([point.gold.value for point in curve]) > 0).all()


def test_even_perfect_knowledge_of_the_annotators_overshoots(demo: DemoData) -> None:
    # What a model of any capacity would converge to: the mean annotator's own utility.
    length = np.log([[len(one.response) for one in row] for row in demo.pool])
    utility = POPULATION.skill * demo.pool_gold_PM + POPULATION.length_bias * length
    assert gold_change(utility, demo.pool_gold_PM, 8, 256, rng=np.random.default_rng(0)).high < -0.03


def test_everything_follows_from_the_seed() -> None:
    one, two, other = make_demo_data(1, SMALL), make_demo_data(1, SMALL), make_demo_data(2, SMALL)
    assert (one.train, one.held_out, one.judgments, one.pool) == (two.train, two.held_out, two.judgments, two.pool)
    assert (one.ratings, one.held_out_ratings) == (two.ratings, two.held_out_ratings)
    assert one.train != other.train


def test_raters_follow_every_objective_and_leave_some_out(demo: DemoData) -> None:
    assert len(demo.held_out_ratings) == pytest.approx(480, abs=5)  # 80 prompts x 6 replies, but for those with all five left out
    assert len(demo.ratings) == pytest.approx(0.5 * 1800, rel=0.05)
    every = demo.ratings + demo.held_out_ratings
    truth = GoldScorer().score([Exchange(prompt=one.prompt, response=one.response) for one in every]).objectives
    for name in OBJECTIVES:
        given = np.array([one.values.get(name, np.nan) for one in every])
        there = ~np.isnan(given)
        assert set(given[there]) == {1.0, 2.0, 3.0, 4.0, 5.0}
        assert there.mean() == pytest.approx(0.7, abs=0.03)
        # Noise of 0.6 and a leniency of 0.25 on four units of truth; the ends of the scale pull towards the middle.
        slope = np.polyfit(truth[name][there], given[there], 1)[0]
        assert 3.0 < slope < 4.0
    assert {one.annotator_id for one in every} == {f"rater-{i}" for i in range(6)}


def test_rated_replies_are_those_that_were_judged(demo: DemoData) -> None:
    for ratings, pairs in ((demo.ratings, demo.train), (demo.held_out_ratings, demo.held_out)):
        judged = {(side.prompt, side.response) for pair in pairs for side in pair.exchanges()}
        rated = [(one.prompt, one.response) for one in ratings]
        assert set(rated) <= judged
        assert len(set(rated)) == len(rated)


def test_what_is_rated_changes_no_judgment() -> None:
    one, other = make_demo_data(1, SMALL), make_demo_data(1, replace(SMALL, rated=0.0, n_raters=1))
    assert (one.train, one.judgments, one.pool) == (other.train, other.judgments, other.pool)
    assert other.ratings == []
    assert one.ratings


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowed are rated in"):
        DemoSizes(rated=1.5)


def test_too_many_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="allowed are 1 to 15"):
        make_demo_data(0, DemoSizes(pairs_per_prompt=16))
