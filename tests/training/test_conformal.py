"""Half widths worked out by hand, and their coverage where prompts, not rows, are exchangeable."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.core.errors import FitError
from preferent.training.conformal import coverage, half_width


def test_one_row_a_prompt_is_the_usual_split_conformal() -> None:
    # 4 prompts and one to come: each score has mass 1/5, so 0.6 needs the third and 0.8 the fourth.
    scores, prompts = [4.0, 1.0, 3.0, 2.0], list("abcd")
    assert half_width(scores, prompts, level=0.6).value == 3.0
    assert half_width(scores, prompts, level=0.61).value == 4.0
    assert half_width(scores, prompts, level=0.8).value == 4.0
    with pytest.raises(FitError, match=r"4 held-out prompts, a 0\.81 interval needs 5"):
        half_width(scores, prompts, level=0.81)


def test_rows_share_the_mass_of_their_prompt() -> None:
    # Prompt a: 1, 2, 3, 4 with 1/12 each; b: 10 with 4/12: sums 1/12, 2/12, 3/12, 4/12, 8/12.
    scores, prompts = [1.0, 2.0, 3.0, 4.0, 10.0], list("aaaab")
    assert half_width(scores, prompts, level=0.25).value == 3.0
    assert half_width(scores, prompts, level=1 / 3).value == 4.0
    assert half_width(scores, prompts, level=0.34).value == 10.0
    # A prompt whose rows are all there twice says the same.
    doubled = half_width([1.0, 2.0, 3.0, 4.0] * 2 + [10.0], [*"aaaaaaaa", "b"], level=1 / 3)
    assert (doubled.value, doubled.n, doubled.n_prompts) == (4.0, 9, 2)


def _world(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of n prompts: each has its own scale, and hard prompts have few rows."""
    scale = rng.lognormal(0.0, 0.8, n)
    rows = np.where(scale > 1.0, 1, 12)
    return np.abs(rng.normal(size=rows.sum())) * np.repeat(scale, rows), np.repeat(np.arange(n), rows)


def test_coverage_of_new_prompts() -> None:
    rng = np.random.default_rng(0)
    ours, pooled = [], []
    for _ in range(300):
        score_N, prompt_N = _world(rng, 60)
        new_N, new_prompt_N = _world(rng, 60)
        width = half_width(score_N, prompt_N.tolist(), level=0.9).value
        ours.append(coverage(new_N <= width, new_prompt_N.tolist(), rng=rng).value)
        pooled.append(coverage(new_N <= np.quantile(score_N, 0.9), new_prompt_N.tolist(), rng=rng).value)
    # 300 x 60 prompts: the standard error is 0.002. The bound says 0.9 to 0.9 + 1/61.
    assert 0.895 <= np.mean(ours) <= 0.92
    # Rows as if they were exchangeable: prompts with many rows drown the others.
    assert np.mean(pooled) < 0.87


def test_what_has_no_answer() -> None:
    for level in (0.0, 1.0, -1.0):
        with pytest.raises(FitError, match="allowed are numbers between 0 and 1"):
            half_width([1.0], ["a"], level=level)
    for scores in ([np.nan, 1.0], [-1.0, 1.0], [1.0]):
        with pytest.raises(FitError, match="finite score of at least 0"):
            half_width(scores, ["a", "b"], level=0.5)
