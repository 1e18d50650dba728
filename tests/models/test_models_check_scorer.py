"""check_scorer finds each broken promise, and names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from preferent.core.contracts import check_scorer
from preferent.core.records import Exchange, Scores, user
from preferent.core.scorer import FakeScorer, length_scorer

EXCHANGES = [Exchange(prompt=user(f"prompt {i % 3}"), response="word " * (i + 1)) for i in range(7)]


def lengths(exchanges: Sequence[Exchange]) -> Any:
    return np.array([float(len(exchange.response)) for exchange in exchanges])


class Rule:
    """A scorer made of one function of the whole call."""

    name = "rule"

    def __init__(self, rule: Callable[[Sequence[Exchange]], Any]) -> None:
        self.rule = rule

    def score(self, exchanges: Sequence[Exchange]) -> Any:
        reward = self.rule(exchanges)
        return reward if isinstance(reward, Scores) else Scores(reward=reward)


class Counting(Rule):
    """Adds something after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__(lambda exchanges: lengths(exchanges) + float(self.count > calls))
        self.count = 0

    def score(self, exchanges: Sequence[Exchange]) -> Any:
        self.count += 1
        return super().score(exchanges)


def test_an_honest_scorer_passes_with_no_difference() -> None:
    kept = check_scorer(length_scorer(), EXCHANGES, tolerance=0.0)
    assert set(kept) == {"repeated call", "order", "batch composition", "alone", "duplicates", "repeated call after others"}
    assert set(kept.values()) == {0.0}


def test_a_difference_within_the_tolerance_is_reported_not_refused() -> None:
    # The reward moves by 1e-7 for each exchange in the call; 7 or 1 of them differ by 6e-7.
    kept = check_scorer(Rule(lambda xs: lengths(xs) + 1e-7 * len(xs)), EXCHANGES, tolerance=1e-5)
    assert kept["alone"] == pytest.approx(6e-7, rel=1e-3)
    assert kept["order"] == 0.0


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda xs: lengths(xs) - lengths(xs).mean() if len(xs) else lengths(xs), "batch composition"),
        (lambda xs: np.sort(lengths(xs)), "order"),
        (lambda xs: lengths(xs) + np.arange(len(xs)), "order"),
        (lambda xs: lengths(xs) + (len(xs) == 1), "alone"),
        (lambda xs: lengths(xs) + (len(xs) > len(set(xs))), "duplicates"),
        (lambda xs: lengths(xs).astype(np.float32), "float64"),
        (lambda xs: list(lengths(xs)), "numpy array"),
        (lambda xs: lengths(xs)[:, None], "shape"),
        (lambda xs: lengths(xs) if len(xs) else np.zeros(1), "empty input"),
        (lambda xs: np.where(lengths(xs) > 20, np.nan, lengths(xs)), "finite"),
        (lambda xs: lengths(xs)[: len(set(xs))], "shape"),
        (lambda xs: Scores(lengths(xs), std=-np.ones(len(xs))), "negative"),
        (lambda xs: Scores(lengths(xs), std=np.ones(len(xs) + 1)), "std"),
        (lambda xs: Scores(lengths(xs), objectives={"tone": np.ones(1)}), "objective 'tone'"),
        (lambda xs: Scores(lengths(xs), steps=(np.ones(2),)), "steps"),
    ],
)
def test_each_broken_promise_is_named(rule: Callable[[Sequence[Exchange]], Any], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_scorer(Rule(rule), EXCHANGES)


def test_randomness_and_memory_are_found() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match=r"repeated call: the reward of exchange \d"):
        check_scorer(Rule(lambda xs: lengths(xs) + rng.normal(size=len(xs))), EXCHANGES)
    # 17 calls before the last: 1 empty, 1 plain, 1 repeated, 2 orders, 3 compositions, 7 alone, 2 with duplicates.
    with pytest.raises(AssertionError, match="repeated call after others"):
        check_scorer(Counting(17), EXCHANGES)


def test_what_is_not_a_scorer() -> None:
    with pytest.raises(AssertionError, match="not a Scorer"):
        check_scorer(object(), EXCHANGES)  # type: ignore[arg-type]
    bare = Rule(lengths)
    bare.score = lengths  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="must return Scores"):
        check_scorer(bare, EXCHANGES)
    with pytest.raises(AssertionError, match="name"):
        check_scorer(FakeScorer(lambda exchange: 0.0, name=""), EXCHANGES)


def test_exchanges_that_show_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="two different"):
        check_scorer(length_scorer(), EXCHANGES[:1] * 3)
