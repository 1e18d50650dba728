"""Best-of-n against brute force over all subsets, against closed forms, and under permutation and ties."""

from __future__ import annotations

from itertools import combinations
from math import comb, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferent.core.errors import ConfigError
from preferent.optimize.best_of_n import best_of_n, best_weights, expected_best, gold_change, kl_bound


def brute_force(proxy_N: list[float], gold_N: list[float], n: int) -> float:
    """Mean gold of the proxy's best over every subset of n, ties shared equally."""
    means = []
    for subset in combinations(range(len(proxy_N)), n):
        top = max(proxy_N[i] for i in subset)
        best = [gold_N[i] for i in subset if proxy_N[i] == top]
        means.append(sum(best) / len(best))
    return sum(means) / len(means)


def test_worked_example() -> None:
    # Ascending by proxy the gold is 5, 1, 3. The subsets of two are {5,1} -> 1, {5,3} -> 3, {1,3} -> 3: (1 + 3 + 3) / 3 = 7/3.
    assert expected_best([[0.1, 0.2, 0.3]], [[5.0, 1.0, 3.0]], [1, 2, 3]) == pytest.approx(np.array([[3.0, 7 / 3, 3.0]]))


def test_worked_example_with_a_tie_at_the_top() -> None:
    # Proxy 0, 1, 1 with gold 6, 2, 4. Subsets of two: {6,2} -> 2, {6,4} -> 4, {2,4} -> a toss: 3. Mean 3; all three -> a toss: 3.
    assert expected_best([[0.0, 1.0, 1.0]], [[6.0, 2.0, 4.0]], [2, 3]) == pytest.approx(np.array([[3.0, 3.0]]))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=8),
    st.data(),
)
def test_agrees_with_every_subset(pool: list[tuple[int, int]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pool)))
    proxy, gold = [float(p) for p, _ in pool], [float(g) for _, g in pool]
    assert expected_best([proxy], [gold], [n])[0, 0] == pytest.approx(brute_force(proxy, gold, n), abs=1e-12)


@given(st.permutations(range(6)))
def test_order_of_the_pool_does_not_matter(order: list[int]) -> None:
    proxy, gold = np.array([0.0, 1.0, 1.0, 1.0, 2.0, 2.0]), np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    expected = expected_best(proxy[None], gold[None], [1, 2, 3, 6])
    assert expected_best(proxy[order][None], gold[order][None], [1, 2, 3, 6]) == pytest.approx(expected)


def test_constant_proxy_is_the_mean_at_every_n() -> None:
    gold = np.random.default_rng(0).normal(size=(3, 50))
    best = expected_best(np.zeros((3, 50)), gold, [1, 7, 50])
    assert best == pytest.approx(np.repeat(gold.mean(axis=1, keepdims=True), 3, axis=1))


def test_weights_are_exact_for_large_pools() -> None:
    # Against whole-number binomials, which Python has exactly: C(i-1, n-1) / C(N, n) for N = 4096.
    for n in (1, 2, 64, 1000, 4096):
        weights = best_weights(4096, n)
        assert weights.sum() == pytest.approx(1.0, abs=1e-10)
        for i in (n, (n + 4096) // 2, 4000, 4096):
            exact = comb(i - 1, n - 1) / comb(4096, n)
            assert weights[i - 1] == pytest.approx(exact, rel=1e-10, abs=1e-290)
        assert (weights[: n - 1] == 0).all()
    assert best_weights(100_000, 5000).sum() == pytest.approx(1.0, abs=1e-9)


def test_best_of_uniform_ranks_is_known() -> None:
    # Mean of the largest of n drawn from 1..N without replacement: n (N + 1) / (n + 1).
    ranks = np.arange(1.0, 4097.0)[None]
    for n in (1, 3, 256, 4096):
        assert expected_best(ranks, ranks, [n])[0, 0] == pytest.approx(n * 4097 / (n + 1), rel=1e-12)


def test_curve_has_intervals_over_prompts() -> None:
    rng = np.random.default_rng(1)
    gold = rng.normal(size=(200, 64))
    curve = best_of_n(gold, -gold, [1, 4, 16], rng=np.random.default_rng(2))
    assert [point.n for point in curve] == [1, 4, 16]
    # Best of four standard normals is 1.0294 on average; proxy and gold are mirror images, with the same draws behind both.
    assert curve[1].proxy.low < 1.0294 < curve[1].proxy.high
    assert curve[1].gold.value == pytest.approx(-curve[1].proxy.value)
    assert curve[1].gold.low == pytest.approx(-curve[1].proxy.high, abs=1e-3)
    assert curve[1].proxy.n == 200
    assert curve[2].to_dict()["kl_bound"] == pytest.approx(log(16) - 15 / 16)
    again = best_of_n(gold, -gold, [1, 4, 16], rng=np.random.default_rng(2))
    assert again == curve


def test_one_prompt_has_no_interval_and_says_so() -> None:
    (point,) = best_of_n([[1.0, 2.0]], [[1.0, 2.0]], [2], rng=np.random.default_rng(0))
    assert point.gold.value == 2.0
    assert np.isnan(point.gold.low)
    assert "one prompt" in point.gold.method


def test_gold_change_is_paired() -> None:
    # Every prompt has its own level, the change is the same 1 everywhere, so its interval has no width.
    level = np.random.default_rng(0).normal(size=(30, 1)) * 100
    gold = level + np.array([[0.0, 2.0]])
    change = gold_change(np.tile([0.0, 1.0], (30, 1)), gold, 1, 2, rng=np.random.default_rng(0))
    assert (change.value, change.low, change.high) == pytest.approx((1.0, 1.0, 1.0))


def test_kl_bound() -> None:
    assert kl_bound(1) == 0.0
    assert kl_bound(2) == pytest.approx(log(2) - 0.5)


@pytest.mark.parametrize(
    ("proxy", "gold", "ns", "says"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], [3], "n=3"),
        ([[1.0, 2.0]], [[1.0, 2.0]], [0], "n=0"),
        ([[1.0, 2.0]], [[1.0, 2.0]], [1.5], "n=1.5"),
        ([[1.0, np.nan]], [[1.0, 2.0]], [1], r"proxy reward at .* \(0, 1\)"),
        ([[1.0, 2.0]], [[np.inf, 2.0]], [1], r"gold reward at .* \(0, 0\)"),
        ([[1.0, 2.0]], [[1.0]], [1], "one shape"),
        ([1.0, 2.0], [1.0, 2.0], [1], "one shape"),
        (np.zeros((0, 4)), np.zeros((0, 4)), [1], "one shape"),
    ],
)
def test_bad_input_is_named(proxy: object, gold: object, ns: list[int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        best_of_n(proxy, gold, ns, rng=np.random.default_rng(0))  # pyright: ignore[reportArgumentType]
