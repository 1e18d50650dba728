"""Simulated annotators have the faults they were given, of the size they were given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from preferent.annotators.simulate import (
    Annotator,
    Population,
    adversary,
    choice_probabilities,
    sample_annotators,
    simulate,
    spammer,
)
from preferent.core.errors import ConfigError
from preferent.core.records import Comparison, Judgment, user

N = 20_000
SD = 0.5 / np.sqrt(N)  # the largest standard error of a share


def comparisons(n: int, a: str = "same", b: str = "size") -> list[Comparison]:
    return [Comparison(id=str(i), prompt=user("q"), response_a=a, response_b=b) for i in range(n)]


def shares(judgments: list[Judgment]) -> dict[str, float]:
    return {choice: sum(j.choice == choice for j in judgments) / len(judgments) for choice in ("a", "b", "tie", "skip")}


def judge(annotator: Annotator, gap: float, a: str = "same", b: str = "size") -> dict[str, float]:
    pairs = comparisons(N, a, b)
    judgments = simulate(pairs, np.full(N, gap), np.zeros(N), [annotator], votes_per_comparison=1, rng=np.random.default_rng(0))
    return shares(judgments)


def test_probabilities_by_hand() -> None:
    # d = 2 log 3, nu = 1/2: weights 3, 1/3, 1/2 -> sum 23/6 -> 18/23, 2/23, 3/23.
    assert choice_probabilities(2 * np.log(3), 0.5) == pytest.approx(np.array([18, 2, 3, 0]) / 23)
    # Without ties it is the logistic; with a skip rate everything else shrinks.
    assert choice_probabilities([0.7], 0.0, 0.2)[0] == pytest.approx([0.8 * expit(0.7), 0.8 * expit(-0.7), 0.0, 0.2])


def test_probabilities_swap_and_never_overflow() -> None:
    logit = np.array([-1e4, -3.0, 0.0, 3.0, 1e4])
    forward, backward = choice_probabilities(logit, 0.3), choice_probabilities(-logit, 0.3)
    assert forward[:, [1, 0, 2, 3]] == pytest.approx(backward)
    assert forward.sum(axis=1) == pytest.approx(np.ones(5))


@pytest.mark.parametrize("gap", [0.05, 0.2, 0.5])
def test_noise_grows_as_the_gap_shrinks(gap: float) -> None:
    assert judge(Annotator("x", skill=6.0), gap)["a"] == pytest.approx(expit(6.0 * gap), abs=4 * SD)


def test_length_bias_counts_log_length() -> None:
    # 100 characters against 25: log 4 more length, 1.5 logits for each unit.
    share = judge(Annotator("x", skill=6.0, length_bias=1.5), 0.0, "a" * 100, "b" * 25)["a"]
    assert share == pytest.approx(expit(1.5 * np.log(4)), abs=4 * SD)


def test_position_bias_tie_and_skip() -> None:
    assert judge(Annotator("x", skill=6.0, position_bias=0.8), 0.0)["a"] == pytest.approx(expit(0.8), abs=4 * SD)
    # nu = 2 at equal sides: 1, 1, 2 -> half are ties; a tenth of all is skipped first.
    share = judge(Annotator("x", skill=6.0, tie=2.0, skip=0.1), 0.0)
    assert share["tie"] == pytest.approx(0.45, abs=4 * SD)
    assert share["skip"] == pytest.approx(0.1, abs=4 * SD)


def test_spammer_ignores_and_adversary_inverts() -> None:
    assert judge(spammer("s"), 1.0, "a" * 100, "b")["a"] == pytest.approx(0.5, abs=4 * SD)
    assert judge(adversary("v", skill=6.0), 0.3)["b"] == pytest.approx(expit(1.8), abs=4 * SD)


def test_votes_come_from_different_annotators_evenly() -> None:
    annotators = [Annotator(f"x{i}", 5.0) for i in range(6)]
    judgments = simulate(
        comparisons(3000), np.zeros(3000), np.zeros(3000), annotators, votes_per_comparison=3, rng=np.random.default_rng(0)
    )
    assert [j.comparison_id for j in judgments] == [str(i) for i in range(3000) for _ in range(3)]
    for start in range(0, 90, 3):
        assert len({j.annotator_id for j in judgments[start : start + 3]}) == 3
    counts = [sum(j.annotator_id == a.id for j in judgments) for a in annotators]
    assert counts == pytest.approx([1500] * 6, abs=4 * np.sqrt(3000 * 0.25))


def test_same_seed_same_judgments() -> None:
    annotators = sample_annotators(5, Population(tie=0.2, skip=0.1), np.random.default_rng(3))
    runs = [
        simulate(comparisons(50), np.ones(50), np.zeros(50), annotators, votes_per_comparison=2, rng=np.random.default_rng(s))
        for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_population() -> None:
    population = Population(skill=8.0, skill_spread=0.5, length_bias=2.0, length_spread=0.3, spammers=0.1, adversaries=0.05)
    annotators = sample_annotators(2000, population, np.random.default_rng(0))
    honest = [one for one in annotators if one.kind == "honest"]
    assert (len(honest), sum(one.kind == "spammer" for one in annotators)) == (1700, 200)
    assert len({one.id for one in annotators}) == 2000
    assert np.median([one.skill for one in honest]) == pytest.approx(8.0, rel=0.06)
    assert np.mean([one.length_bias for one in honest]) == pytest.approx(2.0, abs=0.03)
    assert all(one.skill < 0 for one in annotators if one.kind == "adversary")
    # Bad ones are not all at the end.
    assert any(one.kind != "honest" for one in annotators[:100])


def test_empty_is_empty() -> None:
    assert simulate([], [], [], [Annotator("x", 1.0)], votes_per_comparison=1, rng=np.random.default_rng(0)) == []


def test_bad_input_is_named() -> None:
    rng, one = np.random.default_rng(0), [Annotator("x", 1.0)]
    with pytest.raises(ConfigError, match="votes_per_comparison=2"):
        simulate(comparisons(1), [1.0], [0.0], one, votes_per_comparison=2, rng=rng)
    with pytest.raises(ConfigError, match="row 1"):
        simulate(comparisons(2), [1.0, np.nan], [0.0, 0.0], one, votes_per_comparison=1, rng=rng)
    with pytest.raises(ConfigError, match="shapes"):
        simulate(comparisons(2), [1.0], [0.0], one, votes_per_comparison=1, rng=rng)
    with pytest.raises(ConfigError, match="tie=-1"):
        Annotator("x", 1.0, tie=-1)
    with pytest.raises(ConfigError, match="skip=1"):
        Annotator("x", 1.0, skip=1)
    with pytest.raises(ConfigError, match="shares"):
        sample_annotators(4, Population(spammers=0.7, adversaries=0.7), rng)
