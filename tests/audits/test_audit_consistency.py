"""Consistency: circles by hand, sides, wordings; groups of people; tails."""

import numpy as np
import pytest

from preferent.audits.audit_tails import hill_index, spread_numbers, tail, ties
from preferent.audits.consistency import circles, order_kept, paraphrase_spread, transitivity
from preferent.audits.consistency_wordings import reworded
from preferent.audits.group_agreement import agreement_by_group, group_findings
from preferent.core.errors import ConfigError, DataError


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def beats(*pairs: tuple[int, int], n: int) -> np.ndarray:
    table = np.full((n, n), 0.5)
    for winner, loser in pairs:
        table[winner, loser], table[loser, winner] = 1.0, 0.0
    return table


def test_circles_by_hand():
    """0 > 1 > 2 > 0 is a circle; with 3 above all, of the 4 triples of four one is a circle."""
    ring = [(0, 1), (1, 2), (2, 0)]
    assert circles([beats(*ring, n=3)] * 2, "pq", rng=rng()).share.value == 1.0
    found = circles([beats(*ring, (3, 0), (3, 1), (3, 2), n=4)] * 2, "pq", rng=rng())
    assert found.share.value == 0.25
    assert found.triples == 8
    assert circles([beats((0, 1), (1, 2), n=3)] * 2, "pq", rng=rng()).share.value == 0.0  # a tie closes no circle
    with pytest.raises(ConfigError, match="at least 3"):
        circles([np.zeros((2, 2))], "p", rng=rng())


def test_coin_flips_go_in_circles_a_quarter_of_the_time_and_rewards_never():
    r = np.random.default_rng(1)
    coins, rewards = [], []
    for _ in range(300):
        table = np.triu(r.integers(0, 2, (8, 8)).astype(float), 1)
        coins.append(table + np.tril(1 - table.T, -1))
        reward = r.normal(size=8)
        rewards.append((reward[:, None] > reward[None, :]).astype(float))
    assert transitivity(coins, range(300), rng=rng()).verdict == "finding"
    found = transitivity(coins, range(300), rng=rng()).estimate
    assert found.low < 0.25 < found.high
    assert transitivity(rewards, range(300), rng=rng()).verdict == "clear"


def test_wordings_move_a_steady_scorer_little_and_a_nervous_one_much():
    r = np.random.default_rng(3)
    steady = [x + 0.05 * r.normal(size=4) for x in r.normal(size=80)]
    nervous = [x + 1.0 * r.normal(size=4) for x in r.normal(size=80)]
    assert paraphrase_spread(steady, range(80), 1.0, rng=rng()).verdict == "clear"
    found = paraphrase_spread(nervous, range(80), 1.0, rng=rng())
    assert found.verdict == "finding"
    assert found.estimate.low < 1.0 < found.estimate.high
    with pytest.raises(ConfigError, match="above 0"):
        paraphrase_spread(steady, range(80), 0.0, rng=rng())


def test_order_under_other_words_by_hand():
    """better (2, 0), worse (1, 1): first order +; the three others: 2 > 1 +, 0 < 1 -, 0 < 1 -: two of three turned. Second pair: none."""
    found = order_kept(np.array([[2.0, 0.0], [5.0, 5.0]]), np.array([[1.0, 1.0], [0.0, 0.0]]), "pq", rng=rng())
    assert found.estimate.value == pytest.approx((2 / 3 + 0) / 2)


def test_rewording_exchanges_phrases_and_nothing_else():
    text = "However, you do not need a large pan, for example. Don't purchase one."
    seen = {reworded(text, np.random.default_rng(k)) for k in range(40)}
    assert None not in seen
    assert text not in seen
    assert any("Still, you don't need a big pan, for instance." in row for row in seen if row)
    assert reworded("Eggs.", rng()) is None
    kept = reworded("Xdo notX", rng())
    assert kept is None  # only whole words


def test_hill_finds_the_index_of_a_pareto_law():
    r = np.random.default_rng(4)
    heavy = r.pareto(1.5, size=40_000)
    assert hill_index(heavy, share=0.01) == pytest.approx(1.5, rel=0.15)
    assert hill_index(r.normal(size=4000)) > 3
    assert np.isnan(hill_index(np.zeros(100)))
    counts = np.ones(len(heavy))
    assert hill_index(heavy, 0.01, counts) == hill_index(heavy, 0.01)


def test_heavy_tails_and_ties_are_findings_where_they_are():
    r = np.random.default_rng(5)
    codes_E = np.repeat(np.arange(300), 4)
    assert tail(r.normal(size=1200), codes_E, rng=rng()).verdict == "clear"
    assert tail(r.pareto(0.8, size=1200), codes_E, rng=rng()).verdict == "finding"
    assert tail(r.normal(size=40), np.repeat(np.arange(10), 4), rng=rng()).verdict == "unknown"
    assert ties(np.round(r.normal(size=1200)), codes_E, rng=rng()).verdict == "finding"
    assert ties(r.normal(size=1200), codes_E, rng=rng()).verdict == "clear"
    numbers = dict(spread_numbers(3 * r.normal(size=300)[codes_E] + r.normal(size=1200), codes_E, rng=rng()))
    share = numbers["share of the variance of rewards that lies within prompts"]
    # within: 1 x 3/4 of it (the mean of four takes a quarter), of 9 + 1
    assert share.low < 0.075 < share.high


def votes(n=600, seed=6):
    """The scorer agrees with group x and with nobody of group y."""
    r = np.random.default_rng(seed)
    margin_N = r.normal(size=n)
    right = (margin_N > 0).astype(float)
    pair_V = np.concatenate([np.arange(n), np.arange(n)])
    label_V = np.concatenate([np.where(r.random(n) < 0.9, right, 1 - right), np.where(r.random(n) < 0.6, right, 1 - right)])
    return margin_N, pair_V, label_V, ["x"] * n + ["y"] * n, np.arange(n)


def test_the_group_that_is_served_worse_is_named():
    rows = agreement_by_group(*votes(), rng=rng())
    found = {row.name: row for row in rows}
    assert found["x"].scorer.low < 0.9 < found["x"].scorer.high
    assert found["y"].minus_others.value == pytest.approx(found["y"].scorer.value - found["x"].scorer.value)
    verdicts = {finding.name: finding.verdict for finding in group_findings(rows)}
    assert verdicts == {"group x": "clear", "group y": "finding"}
    assert np.isnan(found["x"].itself.value)  # one vote of each group on a pair


def test_groups_need_votes():
    margin_N, pair_V, label_V, group_V, codes_N = votes(n=20)
    with pytest.raises(DataError, match="two groups"):
        agreement_by_group(margin_N, pair_V, label_V, group_V, codes_N, rng=rng())
