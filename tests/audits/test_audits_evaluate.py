"""`evaluate` from end to end on scorers whose answers are known."""

import json

import numpy as np
import pytest

from preferent.audits.evaluate import evaluate, histogram
from preferent.audits.metrics import probability
from preferent.audits.verdict import verdict
from preferent.core.errors import ConfigError, DataError, ModelError
from preferent.core.records import Preference, Ranking, Scores, user
from preferent.core.scorer import FakeScorer, length_scorer


def number_in(exchange):
    """The reward written in the response: 'r=1.5 …'."""
    return float(exchange.response.split()[0][2:])


SCORER = FakeScorer(number_in, name="reads the number")


def pair(prompt, reward_a, reward_b, p_a, pad_a=0, pad_b=0, **more):
    texts = [f"r={reward} " + "x" * pad for reward, pad in ((reward_a, pad_a), (reward_b, pad_b))]
    return Preference(prompt=user(prompt), response_a=texts[0], response_b=texts[1], p_a=p_a, **more)


def random_pairs(n, seed=0, per_prompt=2):
    rng = np.random.default_rng(seed)
    pairs = []
    for k in range(n):
        a, b = np.round(rng.normal(0, 1.2, 2), 3)
        p_a = float(rng.random() < probability(np.array([a - b]))[0])
        votes = tuple(float(v) for v in rng.random(3) < 0.3 + 0.4 * p_a)
        pads = rng.integers(0, 200, 2)
        pairs.append(pair(f"p{k // per_prompt}", a, b, p_a, int(pads[0]), int(pads[1]), votes=votes, source=f"s{k % 3}"))
    return pairs


def test_by_hand():
    pairs = [
        pair("one", 2.0, 1.0, 1.0, pad_a=30),  # right; the longer side is right
        pair("one", 0.0, 1.5, 1.0, pad_a=30),  # wrong by 1.5; longer right
        pair("two", 1.0, 3.0, 0.25, weight=2.0),  # right by 2, weight 2; equal lengths
        pair("three", 1.0, 1.0, 0.9, pad_b=30),  # equal rewards, one half; longer wrong
        pair("three", 5.0, 1.0, 0.5),  # a label tie
    ]
    found = evaluate(SCORER, pairs)
    # accuracy (1 + 0 + 2 x 1 + .5) / 5 = .7; longer (1 + 1 + 2 x .5 + 0) / 5 = .6; margin (1 - 1.5 + 2 x 2 + 0) / 5 = .7
    assert found.numbers["accuracy"].value == pytest.approx(0.7)
    assert found.numbers["longer_side"].value == pytest.approx(0.6)
    assert found.numbers["minus_longer"].value == pytest.approx(0.1)
    assert found.numbers["mean_margin"].value == pytest.approx(0.7)
    assert found.accuracy.n == 4
    assert (found.counts.pairs, found.counts.prompts, found.counts.label_ties, found.counts.reward_ties) == (5, 3, 1, 1)
    # pairs of different texts: all five, of which one (weight 1 of 6) is tied
    assert found.numbers["tied"].value == pytest.approx(1 / 6)
    soft = [np.log1p(np.exp(-1.0)), np.log1p(np.exp(1.5)), 0.25 * np.log1p(np.exp(2.0)) + 0.75 * np.log1p(np.exp(-2.0)), np.log(2.0)]
    last = 0.5 * np.log1p(np.exp(-4.0)) + 0.5 * np.log1p(np.exp(4.0))
    assert found.numbers["nll"].value == pytest.approx((soft[0] + soft[1] + 2 * soft[2] + soft[3] + last) / 6)
    assert all(row.accuracy.method.startswith("too few") for row in found.slices)
    assert "annotator" not in found.numbers
    assert [row.reward_other - row.reward_preferred for row in found.mistakes] == [1.5]


def test_the_analytic_nll_of_a_calibrated_scorer():
    # half the pairs at margin 1, half at 3, labels are the true probabilities: NLL is the mean binary entropy
    q = probability(np.array([1.0, 3.0]))
    pairs = [pair(f"p{k}", float(m), 0.0, float(q[i])) for k in range(20) for i, m in enumerate((1.0, 3.0))]
    found = evaluate(SCORER, pairs)
    expected = float(np.mean(-q * np.log(q) - (1 - q) * np.log(1 - q)))
    assert found.numbers["nll"].value == pytest.approx(expected)
    assert found.numbers["label_entropy"].value == pytest.approx(expected)
    assert found.numbers["ece"].value == pytest.approx(0.0, abs=1e-12)
    assert found.numbers["brier"].value == pytest.approx(0.0, abs=1e-12)
    # the same rewards times 5 with temperature 5 are the same probabilities
    scaled = FakeScorer(lambda exchange: 5 * number_in(exchange))
    assert evaluate(scaled, pairs, temperature=5.0).numbers["nll"].value == pytest.approx(expected)


def test_before_and_after_the_temperature_stand_side_by_side():
    # Labels are the true probabilities of rewards that are five times too large: perfect after T = 5, overconfident before it.
    q = probability(np.array([1.0, 3.0]))
    pairs = [pair(f"p{k}", 5.0 * m, 0.0, float(q[i])) for k in range(20) for i, m in enumerate((1.0, 3.0))]
    raw, found = evaluate(SCORER, pairs), evaluate(SCORER, pairs, temperature=5.0)
    assert found.numbers["ece"].value == pytest.approx(0.0, abs=1e-12)
    # mean of sigma(5) - sigma(1) and sigma(15) - sigma(3)
    expected = float(np.mean(probability(np.array([5.0, 15.0])) - q))
    assert found.numbers["ece_before"].value == pytest.approx(expected)
    assert found.numbers["nll_before"].value == pytest.approx(raw.numbers["nll"].value)
    assert found.numbers["nll"].value < found.numbers["nll_before"].value
    assert found.uncalibrated.ece.value == raw.reliability.ece.value
    # Without a temperature there is nothing to compare.
    assert raw.uncalibrated is None
    assert not {"ece_before", "nll_before"} & set(raw.numbers)


def test_swapping_sides_changes_nothing():
    pairs = random_pairs(80)
    one, two = evaluate(SCORER, pairs, n_resamples=200), evaluate(SCORER, [p.swap() for p in pairs], n_resamples=200)
    for name, estimate in one.numbers.items():
        if name not in {"reward_mean", "reward_std", "length_spearman", "within_prompt_std"}:
            other = two.numbers[name]
            np.testing.assert_allclose((other.value, other.low, other.high), (estimate.value, estimate.low, estimate.high), atol=1e-9)
    for left, right in zip(one.slices, two.slices, strict=True):
        assert (left.name, left.n) == (right.name, right.n)
        np.testing.assert_allclose(left.accuracy.value, right.accuracy.value)
    assert [row.preferred for row in one.mistakes] == [row.preferred for row in two.mistakes]
    assert one.margins == two.margins


def test_order_and_doubling_change_no_value():
    pairs = random_pairs(200)
    one = evaluate(SCORER, pairs, n_resamples=100)
    shuffled = evaluate(SCORER, [pairs[k] for k in np.random.default_rng(1).permutation(200)], n_resamples=100)
    doubled = evaluate(SCORER, pairs * 2, n_resamples=100)
    assert doubled.counts.exchanges == one.counts.exchanges
    for name, estimate in one.numbers.items():
        if name != "ece_noise":  # a mean over draws, which follow the order of the prompts
            assert shuffled.numbers[name].value == pytest.approx(estimate.value), name
            assert doubled.numbers[name].value == pytest.approx(estimate.value), name


def test_each_distinct_exchange_is_scored_once():
    seen = []

    class Counting:
        name = "counting"

        def score(self, exchanges):
            seen.extend(exchanges)
            return Scores(reward=np.array([number_in(exchange) for exchange in exchanges]))

    ranking = Ranking(prompt=user("p"), responses=("r=1", "r=2", "r=3"), ranks=(3, 2, 1))
    evaluate(Counting(), [ranking, *ranking.preferences(), pair("q", 1, 2, 0.0)], n_resamples=100)
    assert len(seen) == len(set(seen)) == 5


def test_rankings_by_hand():
    rankings = [
        Ranking(prompt=user("a"), responses=("r=3", "r=2", "r=1"), ranks=(1, 2, 3)),  # Spearman 1, top-1 right
        Ranking(prompt=user("b"), responses=("r=1", "r=2", "r=3"), ranks=(1, 2, 3)),  # Spearman -1, top-1 wrong
        Ranking(prompt=user("c"), responses=("r=2", "r=2 ", "r=1"), ranks=(1, 2, 3)),  # two share the highest reward: half
        Ranking(prompt=user("d"), responses=("r=5", "r=4"), ranks=(1, 1)),  # all ranks equal: left out
    ]
    found = evaluate(SCORER, rankings)
    # c: reward mid-ranks (2.5, 2.5, 1) against (3, 2, 1): .866; mean (1 - 1 + .866) / 3
    assert found.numbers["spearman"].value == pytest.approx(np.sqrt(3) / 2 / 3)
    assert found.numbers["top_1"].value == pytest.approx(0.5)
    assert found.numbers["spearman"].n == 3
    assert (found.counts.rankings, found.counts.flat_rankings, found.counts.pairs, found.counts.label_ties) == (4, 1, 10, 1)
    # pairs: a 3 of 3, b 0 of 3, c 2.5 of 3
    assert found.accuracy.value == pytest.approx(5.5 / 9)
    assert "rankings were expanded" in found.render()


def test_shape_of_rewards_by_hand():
    pairs = [pair("one", 1.0, 3.0, 1.0), pair("two", 2.0, 2.0, 1.0, pad_a=1)]
    found = evaluate(SCORER, pairs).numbers
    assert found["reward_mean"].value == pytest.approx(2.0)
    assert found["reward_std"].value == pytest.approx(np.sqrt(2 / 3))  # 1, 3, 2, 2: squares 1 + 1 over 3
    assert found["within_prompt_std"].value == pytest.approx(np.sqrt(2) / 2)  # sqrt(2) and 0


def test_the_length_scorer_is_its_own_baseline():
    found = evaluate(length_scorer(), random_pairs(100), n_resamples=200)
    assert found.numbers["minus_longer"].value == 0.0
    assert found.numbers["picks_longer"].value == 1.0
    assert found.numbers["length_spearman"].value == pytest.approx(1.0)
    assert "does not beat 'the longer side wins'" in " ".join(verdict(found))


def test_the_verdict_says_what_the_intervals_say():
    lines = " ".join(verdict(evaluate(SCORER, random_pairs(400), n_resamples=300)))
    assert "beats 'the longer side wins' by +" in lines
    assert "one held-out annotator" in lines
    wrong = FakeScorer(lambda exchange: -number_in(exchange))
    lines = " ".join(verdict(evaluate(wrong, random_pairs(400), n_resamples=300)))
    assert "is worse than 'the longer side wins'" in lines
    assert "worse than a coin flip" in lines


def test_the_shorter_side_is_named_when_it_is_the_better_rule():
    pairs = [pair(f"p{k}", 1.0, 0.0, 1.0, pad_b=50 if k % 4 else 0, pad_a=0 if k % 4 else 50) for k in range(40)]
    found = evaluate(SCORER, pairs)
    assert found.numbers["longer_side"].value == pytest.approx(0.25)
    assert found.numbers["minus_shorter"].value == pytest.approx(0.25)  # 1 - .75
    assert "The shorter side is right more often" in " ".join(verdict(found))


def test_only_ties_has_no_accuracy_and_says_so():
    found = evaluate(SCORER, [pair("a", 1, 2, 0.5), pair("b", 1, 2, 0.5)])
    assert np.isnan(found.accuracy.value)
    assert "every label is a tie" in verdict(found)[0]
    assert "no observations" in found.render()


def test_same_seed_same_answer_and_json_ready():
    pairs = random_pairs(40)
    one, two = (evaluate(SCORER, iter(pairs), seed=3, n_resamples=100).to_dict() for _ in range(2))
    text = json.dumps(one, allow_nan=False)
    assert text == json.dumps(two, allow_nan=False)
    assert one["numbers"]["accuracy"].keys() == {"value", "low", "high", "n", "method"}


def test_every_line_of_the_table_has_an_interval_or_a_reason():
    text = evaluate(SCORER, random_pairs(60), n_resamples=100).render()
    rows = [line for line in text.splitlines() if line.startswith("  ")]
    assert len(rows) > 25
    assert all("[" in line or "too few" in line or "no " in line or "value" in line or line.strip().startswith("n ") for line in rows)
    assert max(map(len, text.splitlines())) <= 100


def test_bad_scorers_and_empty_data_are_named():
    pairs = random_pairs(4)
    bad = {pairs[0].response_a, pairs[1].response_b}
    broken = FakeScorer(lambda exchange: float("nan") if exchange.response in bad else 0.0, name="broken")
    with pytest.raises(DataError, match=r"2 of 8 exchanges .* nan for response 'r="):
        evaluate(broken, pairs)
    with pytest.raises(DataError, match="inf for response"):
        evaluate(FakeScorer(lambda exchange: float("inf")), pairs)
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate(SCORER, [])
    with pytest.raises(ConfigError, match="temperature"):
        evaluate(SCORER, pairs, temperature=0.0)
    with pytest.raises(ConfigError, match="n_resamples"):
        evaluate(SCORER, pairs, n_resamples=3)

    class Short:
        name = "short"

        def score(self, exchanges):
            return Scores(reward=np.zeros(1))

    with pytest.raises(ModelError, match="answered 8 exchanges"):
        evaluate(Short(), pairs)


def test_histogram_counts_everything_and_has_an_edge_at_zero():
    margin_N = np.concatenate([np.random.default_rng(0).normal(0.3, 1, 500), [1e4, -1e4, np.nan]])
    found = histogram(margin_N)
    assert sum(found.counts) == 502
    assert min(map(abs, found.edges)) < 1e-12
    assert sum(histogram(np.full(5, 2.0)).counts) == 5
