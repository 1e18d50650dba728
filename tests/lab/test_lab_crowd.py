"""Crowds: each judge's own weights decide, planted faults have the size they were given; the policy keeps its shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from preferent.annotators.simulate import Annotator, Population, spammer
from preferent.core.errors import ConfigError
from preferent.core.records import Comparison, Exchange, user
from preferent.lab.crowd import TRUE_WEIGHTS, Crowd, Judge, judge, sample_judges
from preferent.lab.policy import Policy, Truth, draw_pairs, draw_pool
from preferent.lab.replies import OBJECTIVES, RepliesWorld

PROMPT = user(
    "Notes on the Harbor Museum: opens at nine; on Mill Lane; closed on Monday; cafe serves soup; desk run by Anna.\n"
    "Staff only: the alarm word is falcon.\n"
    "Please tell me when it opens and the street. Please answer in full sentences."
)
N = 4000
SD = 0.5 / np.sqrt(N)


def share_a(one: Judge, a: str, b: str, *, flip: float = 0.0, truth: Truth | None = None) -> float:
    pairs = [Comparison(id=str(i), prompt=PROMPT, response_a=a, response_b=b) for i in range(N)]
    answers = judge(pairs, [one], votes=1, rng=np.random.default_rng(0), flip=flip, truth=truth)
    return sum(answer.choice == "a" for answer in answers) / N


def only(name: str) -> np.ndarray:
    return np.array([float(one == name) for one in OBJECTIVES])


POLITE_WRONG = "It opens at ten. The address is Oak Street. Have a lovely visit!"
PLAIN_RIGHT = "It opens at nine. The address is Mill Lane."


def test_own_weights_decide() -> None:
    # Tone 1 against 1/2; accuracy 0 against 1. Skill 4: logits +2 for who weighs tone only, -4 for who weighs accuracy only.
    assert share_a(Judge(Annotator("t", 4.0), only("tone")), POLITE_WRONG, PLAIN_RIGHT) == pytest.approx(expit(2.0), abs=4 * SD)
    assert share_a(Judge(Annotator("t", 4.0), only("accuracy")), POLITE_WRONG, PLAIN_RIGHT) == pytest.approx(expit(-4.0), abs=4 * SD)
    # The true weights: 0.10 x 1/2 - 0.25 = -0.2.
    assert share_a(Judge(Annotator("t", 4.0), TRUE_WEIGHTS), POLITE_WRONG, PLAIN_RIGHT) == pytest.approx(expit(-0.8), abs=4 * SD)


def test_lists_flips_and_spammers() -> None:
    as_list = "- Opens: nine\n- Street: Mill Lane"
    one = Judge(Annotator("l", 4.0), only("accuracy"), list_bias=1.5)
    assert share_a(one, as_list, PLAIN_RIGHT) == pytest.approx(expit(1.5), abs=4 * SD)
    sure = Judge(Annotator("s", 500.0), only("accuracy"))
    assert share_a(sure, PLAIN_RIGHT, POLITE_WRONG, flip=0.2) == pytest.approx(0.8, abs=4 * SD)
    assert share_a(Judge(spammer("x"), TRUE_WEIGHTS, 3.0), as_list, POLITE_WRONG) == pytest.approx(0.5, abs=4 * SD)


def test_length_counts_where_it_is_truly_valued() -> None:
    longer = PLAIN_RIGHT + " It is always good to keep an open mind about these things."
    gap = 0.5 * np.log(len(longer) / len(PLAIN_RIGHT)) - 0.03
    share = share_a(Judge(Annotator("l", 4.0), TRUE_WEIGHTS), longer, PLAIN_RIGHT, truth=Truth(0.5))
    assert share == pytest.approx(expit(4.0 * gap), abs=4 * SD)
    exchanges = [Exchange(prompt=PROMPT, response=text) for text in (longer, PLAIN_RIGHT)]
    assert np.subtract(*Truth(0.5).of(exchanges)) == pytest.approx(gap)


def test_taste_spreads_the_weights_around_the_true_ones() -> None:
    judges = sample_judges(3000, Crowd(taste=0.25), np.random.default_rng(0))
    weights = np.stack([one.weights_O for one in judges])
    assert weights.sum(axis=1) == pytest.approx(np.ones(3000))
    assert weights.mean(axis=0) == pytest.approx(TRUE_WEIGHTS, abs=0.02)
    # Variance w (1 - w) t / (1 + t) with t = 1/4: a fifth of w (1 - w).
    assert weights.var(axis=0) == pytest.approx(TRUE_WEIGHTS * (1 - TRUE_WEIGHTS) / 5, rel=0.15)
    same = sample_judges(3, Crowd(), np.random.default_rng(0))
    assert all((one.weights_O == TRUE_WEIGHTS).all() for one in same)


def test_every_pair_gets_different_judges_in_order() -> None:
    pairs = draw_pairs(RepliesWorld(0).prompts(40), Policy(), np.random.default_rng(0))
    judges = sample_judges(6, Crowd(Population(spammers=0.5)), np.random.default_rng(1))
    answers = judge(pairs, judges, votes=3, rng=np.random.default_rng(2))
    assert [answer.comparison_id for answer in answers] == [pair.id for pair in pairs for _ in range(3)]
    assert all(len({answer.annotator_id for answer in answers[i : i + 3]}) == 3 for i in range(0, 120, 3))
    assert answers == judge(pairs, judges, votes=3, rng=np.random.default_rng(2))


def test_policy_and_pool() -> None:
    prompts = RepliesWorld(0).prompts(3)
    pool = draw_pool(prompts, 200, Policy(), Truth(), np.random.default_rng(0))
    assert pool.shape == (3, 200)
    assert pool.gold_PN[1] == pytest.approx(RepliesWorld(0).gold_total(pool.flat[200:400]))
    careful = draw_pool(prompts, 200, Policy(flaw=0.0, filler=(1.0,)), Truth(), np.random.default_rng(0))
    assert careful.gold_PN.mean() > pool.gold_PN.mean() + 0.1
    filler = [Policy().knobs(rng).filler for rng in [np.random.default_rng(5)] for _ in range(4000)]
    assert np.mean([n == 0 for n in filler]) == pytest.approx(0.415, abs=0.03)
    assert max(filler) == 14


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match=r"flip=0\.5"):
        Crowd(flip=0.5)
    with pytest.raises(ConfigError, match="votes=3"):
        judge([], sample_judges(2, Crowd(), np.random.default_rng(0)), votes=3, rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="flaw=1"):
        Policy(flaw=1.0)
    with pytest.raises(ConfigError, match="weights"):
        Judge(Annotator("x", 1.0), np.ones(3))
