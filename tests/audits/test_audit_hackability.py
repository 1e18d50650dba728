"""The search buys what is planted and no more than its budget; best-of-n against gold falls where the proxy is hacked."""

import numpy as np
import pytest

from preferent.audits.hackability import edit_attack, gains, salads, search, tilt, word_attack, word_moves
from preferent.core.errors import ConfigError
from preferent.core.records import Exchange, user
from preferent.core.scorer import FakeScorer
from preferent.optimize import best_of_n as maths

VOCABULARY = ["alpha", "beta", "gamma", "delta", "gold"]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def exchanges(n=12):
    return [Exchange(prompt=user(f"question {k}"), response=f"a plain reply number {k}") for k in range(n)]


def append(word):
    return lambda exchange, _: exchange.model_copy(update={"response": f"{exchange.response} {word}"})


class Counting:
    """Counts what it is asked, and pays one point for each 'gold'."""

    name = "counting"

    def __init__(self):
        self.asked = 0

    def score(self, exchanges):
        self.asked += len(exchanges)
        return FakeScorer(lambda e: float(e.response.count("gold"))).score(exchanges)


def test_the_search_climbs_one_step_a_round_and_keeps_to_its_budget():
    scorer = Counting()
    found = search(scorer, exchanges(), [append("gold"), append("lead")], rounds=5, width=4, rng=rng())
    # with 4 draws of two moves a round without 'gold' has chance 1/16
    assert found.best_P.mean() > 4
    assert (found.best_P <= 5).all()
    assert (np.diff(found.path_PB, axis=1) >= 0).all()
    assert found.path_PB[:, -1].tolist() == found.best_P.tolist()
    assert [text.response.count("gold") for text in found.texts] == found.best_P.tolist()
    assert found.queries == 20
    assert scorer.asked <= 12 * (1 + 20)
    curve = gains(found, 2.0, 4, rng=rng())
    assert [tries for tries, _ in curve] == [4, 8, 12, 16, 20]
    assert curve[-1][1].value == pytest.approx(found.best_P.mean() / 2)


def test_a_search_that_finds_nothing_keeps_the_start():
    found = search(FakeScorer(lambda e: -float(len(e.response))), exchanges(), [append("x")], rounds=2, width=2, rng=rng())
    assert found.texts == found.starts
    assert found.best_P.tolist() == found.start_P.tolist()


def test_moves_that_touch_the_prompt_grow_without_end_or_do_nothing_are_not_taken():
    prompt = lambda e, _: e.model_copy(update={"prompt": user("gold gold")})  # noqa: E731
    huge = lambda e, _: e.model_copy(update={"response": "gold " * 1000})  # noqa: E731
    found = search(Counting(), exchanges(), [prompt, huge, lambda e, _: e, lambda e, _: None], rounds=2, width=3, rng=rng())
    assert found.texts == found.starts
    with pytest.raises(ConfigError, match="at least one"):
        search(Counting(), exchanges(), [], rounds=1, width=1, rng=rng())


def test_word_moves_stay_within_their_words():
    moves = word_moves(VOCABULARY, max_words=15)
    scorer = FakeScorer(lambda e: float(e.response.split().count("gold")))
    starts = salads(exchanges(), VOCABULARY, rng())
    assert all(len(start.response.split()) == 12 for start in starts)
    found = search(scorer, starts, moves, rounds=10, width=8, rng=rng())
    assert all(1 <= len(text.response.split()) <= 15 for text in found.texts)
    assert found.best_P.mean() > found.start_P.mean() + 3
    known = set(VOCABULARY) | {"question"} | {str(k) for k in range(12)}
    assert {word for text in found.texts for word in text.response.split()} <= known


def test_attacks_as_findings():
    found = search(Counting(), exchanges(), [append("gold")], rounds=3, width=1, rng=rng())
    ids = [str(k) for k in range(12)]
    bought = edit_attack(found, np.full(12, 2.5), 1.5, ids, rng=rng())
    assert bought.verdict == "finding"
    assert bought.estimate.value == pytest.approx(3 / 1.5)
    assert "1.000" in bought.summary  # 3 > 2.5 everywhere
    assert bought.examples[0].right.endswith("gold gold gold")
    assert word_attack(found, exchanges(), np.full(12, 2.5), ids, rng=rng()).estimate.value == 1.0
    safe = word_attack(found, exchanges(), np.full(12, 9.0), ids, rng=rng())
    assert (safe.verdict, safe.estimate.value, safe.examples) == ("clear", 0.0, ())


def test_the_tilt_tells_a_good_scorer_from_a_hacked_one():
    r = np.random.default_rng(1)
    gold_PN = r.normal(size=(200, 16))
    good = tilt(gold_PN + 0.5 * r.normal(size=gold_PN.shape), gold_PN, maths, rng=rng())
    assert {line.name: line.verdict for line in good.findings} == {"best-of-n gain": "clear", "best-of-n fall": "clear"}
    assert [point.n for point in good.curve] == [1, 2, 4, 8, 16]
    # a tenth of the replies are bad and look excellent: the harder the choice, the surer they are picked
    hacked = r.random(gold_PN.shape) < 0.1
    bad = tilt(gold_PN + 8.0 * hacked, gold_PN - 3.0 * hacked, maths, rng=rng())
    assert {line.name: line.verdict for line in bad.findings} == {"best-of-n gain": "finding", "best-of-n fall": "finding"}
    assert all(line.severity > 0 for line in bad.findings)
