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
    Scores of steps, where a scorer states them, are held to the same. Returns promise -> largest difference seen (in units of the
    reward). Raises AssertionError with the promise that is broken, ValueError when `exchanges` cannot show anything.
    """
    if len(set(exchanges)) < 2:
        raise ValueError("needs at least two different exchanges to tell one reward from another")
    _check_shape(scorer)
    first = _scores(scorer, exchanges, "a plain call")
    allowed = tolerance * max(1.0, float(np.abs(first.reward).max()))
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
    return {promise: _compare(scorer, exchanges, first, (promise, calls, allowed)) for promise, calls in asked.items()}


def _compare(scorer: Scorer, exchanges: Sequence[Exchange], first: Scores, asked: tuple[str, list[NDArray[np.int64]], float]) -> float:
    """The largest difference from the first call, of rewards and of step scores, over calls with these row numbers."""
    promise, calls, allowed = asked
    largest = 0.0
    for rows in calls:
        if len(rows) == 0:
            continue
        again = _scores(scorer, [exchanges[row] for row in rows], promise)
        largest = max(largest, _compare_steps(scorer, (first, again), rows, promise, allowed))
        difference = np.abs(again.reward - first.reward[rows])
        worst = int(difference.argmax())
        largest = max(largest, float(difference[worst]))
        if difference[worst] > allowed:
            exchange = exchanges[rows[worst]]
            raise AssertionError(
                f"{scorer.name}: {promise}: the reward of exchange {int(rows[worst])} ({exchange.response[:40]!r}) is "
                f"{again.reward[worst]:.6g} here and {first.reward[rows[worst]]:.6g} in the first call (allowed difference {allowed:.1e})"
            )
    return largest


def _compare_steps(scorer: Scorer, calls: tuple[Scores, Scores], rows: NDArray[np.int64], promise: str, allowed: float) -> float:
    """The largest difference of step scores between the first call and one of these rows, 0 where a scorer states none."""
    first, again = calls[0].steps, calls[1].steps
    if first is None or again is None:
        if (first is None) != (again is None):
            raise AssertionError(f"{scorer.name}: {promise}: step scores are there in one call and missing in another")
        return 0.0
    largest = 0.0
    for values_T, row in zip(again, rows.tolist(), strict=True):
        if len(values_T) != len(first[row]):
            counts = f"{len(values_T)} steps here, {len(first[row])} in the first call"
            raise AssertionError(f"{scorer.name}: {promise}: exchange {row} has {counts}")
        difference = float(np.abs(values_T - first[row]).max(initial=0.0))
        largest = max(largest, difference)
        if difference > allowed:
            raise AssertionError(
                f"{scorer.name}: {promise}: a step of exchange {row} differs from the first call by {difference:.1e} "
                f"(allowed {allowed:.1e})"
            )
    return largest


def _check_shape(scorer: Scorer) -> None:
    if not isinstance(scorer, Scorer):
        raise AssertionError(f"{type(scorer).__name__} is not a Scorer: it needs a `name` and a method `score(exchanges)`")
    if not isinstance(scorer.name, str) or not scorer.name:
        raise AssertionError(f"`name` must be a text that says which scorer this is, not {scorer.name!r}")
    _scores(scorer, [], "empty input")


def _scores(scorer: Scorer, exchanges: Sequence[Exchange], call: str) -> Scores:
    """The answer to one call, after every field of it was looked at."""
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
    if scores.steps is not None:
        if len(scores.steps) != len(exchanges):
            raise AssertionError(f"{where}: steps must hold one array per exchange, got {len(scores.steps)}")
        for row, values in enumerate(scores.steps):
            _check_array(values, len(values), f"{where}: steps of exchange {row}")
    return scores


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
