"""What every scorer owes its caller, as a check that anyone can run on a scorer of their own.

    from preferent.core.contracts import check_scorer
    check_scorer(my_scorer, exchanges)          # raises AssertionError with the promise that was broken and by how much

Legend: N exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preferent.core.records import Exchange, Floats, Scores
from preferent.core.scorer import Scorer


def check_scorer(scorer: Scorer, exchanges: Sequence[Exchange], *, tolerance: float = 1e-5, seed: int = 0) -> dict[str, float]:
    """Check that the reward of an exchange depends on that exchange alone.

    `exchanges`: at least two different ones; several responses to one prompt and very different lengths find the most.
    `tolerance` is relative to the larger of 1 and the largest reward; 0 asks for bitwise equality.
    Returns promise -> largest difference seen (in units of the reward). Raises AssertionError with the promise that is broken,
    ValueError when `exchanges` cannot show anything.
    """
    if len(set(exchanges)) < 2:
        raise ValueError("needs at least two different exchanges to tell one reward from another")
    _check_shape(scorer)
    reward_N = _rewards(scorer, exchanges, "a plain call")
    allowed = tolerance * max(1.0, float(np.abs(reward_N).max()))
    rng = np.random.default_rng(seed)
    n = len(exchanges)
    shuffled_N = rng.permutation(n)
    asked = {
        "repeated call": [np.arange(n)],
        "order": [np.arange(n)[::-1], shuffled_N],
        "batch composition": [np.arange(n // 2), np.arange(n // 2, n), shuffled_N[: max(2, n // 3)]],
        "alone": [np.array([i]) for i in range(n)],
        "duplicates": [np.concatenate([[i], shuffled_N, [i, i]]) for i in {int(shuffled_N[0]), int(shuffled_N[-1])}],
        "repeated call after others": [np.arange(n)],
    }
    return {promise: _compare(scorer, exchanges, reward_N, (promise, calls, allowed)) for promise, calls in asked.items()}


def _compare(scorer: Scorer, exchanges: Sequence[Exchange], reward_N: Floats, asked: tuple[str, list[NDArray[np.int64]], float]) -> float:
    """The largest difference from `reward_N` over calls with these row numbers."""
    promise, calls, allowed = asked
    largest = 0.0
    for rows in calls:
        if len(rows) == 0:
            continue
        again = _rewards(scorer, [exchanges[row] for row in rows], promise)
        difference = np.abs(again - reward_N[rows])
        worst = int(difference.argmax())
        largest = max(largest, float(difference[worst]))
        if difference[worst] > allowed:
            exchange = exchanges[rows[worst]]
            raise AssertionError(
                f"{scorer.name}: {promise}: the reward of exchange {int(rows[worst])} ({exchange.response[:40]!r}) is "
                f"{again[worst]:.6g} here and {reward_N[rows[worst]]:.6g} in the first call (allowed difference {allowed:.1e})"
            )
    return largest


def _check_shape(scorer: Scorer) -> None:
    if not isinstance(scorer, Scorer):
        raise AssertionError(f"{type(scorer).__name__} is not a Scorer: it needs a `name` and a method `score(exchanges)`")
    if not isinstance(scorer.name, str) or not scorer.name:
        raise AssertionError(f"`name` must be a text that says which scorer this is, not {scorer.name!r}")
    _rewards(scorer, [], "empty input")


def _rewards(scorer: Scorer, exchanges: Sequence[Exchange], call: str) -> Floats:
    """The rewards of one call, after every field of its answer was looked at."""
    scores = scorer.score(exchanges)
    where = f"{scorer.name}: {call} of {len(exchanges)} exchanges"
    if not isinstance(scores, Scores):
        raise AssertionError(f"{where}: score() must return Scores, not {type(scores).__name__}")
    _check_array(scores.reward, len(exchanges), f"{where}: reward")
    if scores.std is not None:
        _check_array(scores.std, len(exchanges), f"{where}: std")
        if (scores.std < 0).any():
            raise AssertionError(f"{where}: std must not be negative, got {scores.std.min()!r}")
    for name, values in scores.objectives.items():
        _check_array(values, len(exchanges), f"{where}: objective {name!r}")
    if scores.steps is not None and len(scores.steps) != len(exchanges):
        raise AssertionError(f"{where}: steps must hold one array per exchange, got {len(scores.steps)}")
    return scores.reward


def _check_array(values: Floats, n: int, what: str) -> None:
    if not isinstance(values, np.ndarray):
        raise AssertionError(f"{what} must be a numpy array, not {type(values).__name__}")
    if values.shape != (n,):
        raise AssertionError(f"{what} must have shape ({n},), got {values.shape}")
    if values.dtype != np.float64:
        raise AssertionError(f"{what} must be float64, got {values.dtype}")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise AssertionError(f"{what} must be finite, got {values[bad]!r} at {bad}")
