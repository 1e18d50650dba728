"""Exact KL of best-of-n, the plain estimator, and the law, each against a case worked out by hand or by brute force."""

from __future__ import annotations

from itertools import product
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferent.core.best_of_n import block_best, exact_kl, expected_best, kl_bound
from preferent.core.errors import ConfigError
from preferent.core.over_optimisation import fit_law


def brute_kl(proxy: list[int], p: list[float], n: int) -> float:
    """By every sequence of n draws; the best of each shares its chance among the draws that reach it."""
    chosen = np.zeros(len(proxy))
    for draws in product(range(len(proxy)), repeat=n):
        top = max(proxy[i] for i in draws)
        best = [i for i in draws if proxy[i] == top]
        for i in best:
            chosen[i] += np.prod([p[j] for j in draws]) / len(best)
    return float(sum(q * log(q / p[i]) for i, q in enumerate(chosen) if q > 0))


def test_two_outcomes_by_hand() -> None:
    # Chances 1/2 each, n = 2: the better one wins with 3/4. KL = 3/4 log(3/2) + 1/4 log(1/2).
    assert exact_kl([0.0, 1.0], 2) == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5))
    # A proxy that cannot tell them apart chooses nothing.
    assert exact_kl([1.0, 1.0], 2) == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=4), st.integers(1, 4))
def test_agrees_with_every_sequence_of_draws(outcomes: list[tuple[int, int]], n: int) -> None:
    proxy, mass = [o[0] for o in outcomes], np.array([float(o[1]) for o in outcomes])
    expected = brute_kl(proxy, (mass / mass.sum()).tolist(), n)
    assert exact_kl(proxy, n, mass) == pytest.approx(expected, abs=1e-12)


def test_where_the_bound_is_reached_and_where_it_is_not() -> None:
    many = np.arange(200_000.0)
    assert exact_kl(many, 64) == pytest.approx(kl_bound(64), abs=2e-4)
    # Eight outcomes, n = 256: almost surely the best one, so log 8 = 2.08, while the bound says 4.55 (Beirami et al. 2024).
    assert exact_kl(np.arange(8.0), 256) == pytest.approx(log(8), abs=1e-4)
    assert kl_bound(256) == pytest.approx(4.549, abs=1e-3)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.sampled_from([1, 2, 7, 300, 100_000]))
def test_never_above_the_bound_or_the_top_groups_surprise(proxy: list[int], n: int) -> None:
    found = exact_kl(proxy, n)
    assert 0.0 <= found <= kl_bound(n) + 1e-12
    assert found <= -log(proxy.count(max(proxy)) / len(proxy)) + 1e-12


def test_outcomes_without_a_chance_do_not_count_and_bad_input_is_named() -> None:
    assert exact_kl([0.0, 1.0, 9.0], 2, [1.0, 1.0, 0.0]) == pytest.approx(exact_kl([0.0, 1.0], 2))
    for proxy, n, p, says in (([], 2, None, "one shape"), ([1.0], 0, None, "n=0"), ([1.0, 2.0], 2, [-1.0, 2.0], "chances")):
        with pytest.raises(ConfigError, match=says):
            exact_kl(proxy, n, p)


def test_blocks_by_hand() -> None:
    # Blocks (0.1, 0.9), (0.5, 0.2); the fifth reply is left over. Golds of the winners: 2 and 3.
    assert block_best([[0.1, 0.9, 0.5, 0.2, 7.0]], [[1.0, 2.0, 3.0, 4.0, 5.0]], 2) == pytest.approx([2.5])


def test_blocks_agree_on_average_and_vary_more() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=(4000, 64))
    gold = proxy + rng.normal(size=proxy.shape)
    blocks, subsets = block_best(proxy, gold, 8), expected_best(proxy, gold, [8])[:, 0]
    assert blocks.mean() == pytest.approx(subsets.mean(), abs=4 * (blocks - subsets).std() / np.sqrt(4000))
    assert blocks.var() > 1.2 * subsets.var()


def test_law_is_recovered_with_its_peak() -> None:
    d = np.sqrt([kl_bound(2**k) for k in range(13)])
    law = fit_law(d, d * (0.5 - 0.125 * d))
    # Peak at alpha / 2 beta = 2, gain alpha^2 / 4 beta = 0.5.
    assert (law.alpha, law.beta, law.r_squared, law.peak_d, law.peak) == pytest.approx((0.5, 0.125, 1.0, 2.0, 0.5))
    assert law.gain(d) == pytest.approx(d * (0.5 - 0.125 * d))


def test_rl_law_is_recovered_with_its_peak() -> None:
    d = np.linspace(0.1, 5.0, 20)
    law = fit_law(d, d * (0.5 - 0.25 * np.log(d)), form="rl")
    # d (a - b log d) is highest where a - b log d = b: d = exp(a / b - 1) = e, with gain b d = e / 4.
    assert (law.alpha, law.beta, law.peak_d, law.peak) == pytest.approx((0.5, 0.25, np.e, np.e / 4))


def test_a_law_that_never_turns_says_so() -> None:
    law = fit_law([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.5, 4.0])
    assert law.beta < 0
    assert law.peak_d == float("inf")
    assert law.to_dict()["peak_d"] is None


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="interpolation"):
        fit_law([0.0, 1.0, 2.0], [0.0, 1.0, 1.0])
    with pytest.raises(ConfigError, match="one shape"):
        fit_law([0.0, 1.0], [0.0])
