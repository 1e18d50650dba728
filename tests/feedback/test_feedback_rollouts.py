"""Step labels from rollouts, where a policy's every success is known; and the orderings of the lab at small size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from preferent.audits.steps import choose_threshold, first_error_f1, true_first_error
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Prompt, StepLabels, user
from preferent.feedback.checkers import answer_checker, final_answer, same_answer
from preferent.feedback.labellers import Labeller
from preferent.feedback.rollouts import (
    consensus,
    first_error_by_search,
    hard_labels,
    labels_up_to,
    monte_carlo,
    place_of_first_error,
)
from preferent.lab.steps import NoisyJudge, StepsPolicy, StepsWorld, check_chain


def record(n: int, answer: str = "right") -> StepLabels:
    steps = (*[f"s{t}" for t in range(n - 1)], answer)
    return StepLabels(prompt=user("p"), steps=steps, labels=(None,) * n, meta={"answer": "right"})


class Scripted:
    """Succeeds from the first t steps as often as `chances[t]` says, of every 4; remembers what it was asked."""

    def __init__(self, chances: dict[int, int]) -> None:
        self.chances, self.asked = chances, []

    def __call__(self, prompt: Prompt, steps: Sequence[str], n: int) -> list[str]:
        self.asked.append((len(steps), n))
        good = self.chances.get(len(steps), 0)
        return ["right" if i % 4 < good else "wrong" for i in range(n)]


check = answer_checker()


def test_monte_carlo_counts_and_checks_the_whole():
    policy = Scripted({1: 4, 2: 3, 3: 1})
    found = monte_carlo(record(4, answer="wrong"), policy, check, n=4)
    assert (found.successes, found.tried, found.calls) == ((4, 3, 1, 0), (4, 4, 4, 1), 12)
    assert found.rates == (1.0, 0.75, 0.25, 0.0)
    assert policy.asked == [(1, 4), (2, 4), (3, 4)]
    assert hard_labels(found.rates, 0.0) == (1.0, 1.0, 1.0, 0.0)
    assert hard_labels(found.rates, 0.5) == (1.0, 1.0, 0.0, 0.0)


def test_a_policy_that_gives_another_number_of_texts_is_an_error():
    with pytest.raises(DataError, match="gave 1 continuations, 4 were asked for"):
        monte_carlo(record(3), lambda prompt, steps, n: ["x"], check, n=4)
    with pytest.raises(ConfigError, match="rollouts per step: 0"):
        monte_carlo(record(3), Scripted({}), check, n=0)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 5, 8, 13])
def test_binary_search_finds_every_place_with_few_rollouts(n_steps):
    for place in range(n_steps):
        policy = Scripted(dict.fromkeys(range(1, place + 1), 4))
        found, rollouts = first_error_by_search(record(n_steps, answer="wrong"), policy, check, n=4)
        assert found == place
        assert rollouts.calls <= 4 * math.ceil(math.log2(n_steps))
        assert sum(rollouts.tried) == rollouts.calls + 1


def test_binary_search_at_eight_steps_by_hand():
    """Error at step 5 (the sixth). Of 8: ask after 4 steps (fine), after 6 (not), after 5 (fine): 3 places in place of 7."""
    policy = Scripted(dict.fromkeys(range(1, 6), 4))
    assert first_error_by_search(record(8, answer="wrong"), policy, check, n=4)[0] == 5
    assert [asked for asked, _ in policy.asked] == [4, 6, 5]


def test_the_threshold_of_the_search_is_of_the_rate():
    policy = Scripted({1: 4, 2: 1, 3: 1})
    assert first_error_by_search(record(4, answer="wrong"), policy, check, n=4)[0] == 3
    assert first_error_by_search(record(4, answer="wrong"), policy, check, n=4, threshold=0.25)[0] == 1


def test_a_right_answer_costs_the_search_nothing():
    policy = Scripted({})
    assert first_error_by_search(record(8), policy, check, n=4)[0] == -1
    assert policy.asked == []


def test_places_and_labels():
    assert labels_up_to(-1, 3) == (1.0, 1.0, 1.0)
    assert labels_up_to(1, 3) == (1.0, 0.0, None)
    assert place_of_first_error((1.0, 0.4, None)) == 1
    assert place_of_first_error((1.0, None, 0.0)) is None
    assert place_of_first_error((1.0, 0.5)) == -1


def test_consensus_keeps_where_both_name_the_same_place():
    assert consensus((1.0, 0.0, 0.0), (1.0, 0.0, None)).labels == (1.0, 0.0, None)
    assert consensus((1.0, 1.0), (1.0, 1.0)).labels == (1.0, 1.0)
    apart = consensus((1.0, 0.0), (0.0, None))
    assert (apart.agree, apart.labels, apart.first, apart.second) == (False, (None, None), 1, 0)
    # a judge without a verdict agrees with nobody
    assert not consensus((1.0, 1.0), (None, None)).agree
    with pytest.raises(DataError, match="2 steps of a solution of 3"):
        consensus((1.0, 1.0, 1.0), (1.0, 1.0))


# ---- checkers ----


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{3} and then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("She has 5.\n#### 1,200", "1,200"),
        ("The answer is: 42.", "42"),
        ("So 3 + 4 = 7 pens.", "7"),
        ("2 of them are so.\nThen it is true.", "true"),
        ("", None),
    ],
)
def test_the_answer_a_solution_states(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("1,200", "1200", True),
        ("$7.50", "7.5", True),
        ("-3", "3", False),
        ("True.", "true", True),
        ("1/2", "0.5", False),
        ("50%", "50", True),
    ],
)
def test_answers_are_compared_as_numbers_where_they_are(a, b, same):
    assert same_answer(a, b) is same


def test_a_record_without_an_answer_is_named():
    bare = StepLabels(prompt=user("p"), steps=("a",), labels=(None,), id="r1", meta={"gold": "1"})
    with pytest.raises(DataError, match=r"'r1': no right answer in meta\['answer'\].*meta has gold"):
        check(bare, "1")
    assert answer_checker("gold")(bare, "it is 1")


# ---- labellers ----


def test_a_labeller_never_costs_more_than_it_says():
    judge = NoisyJudge(1.0)
    for record_ in StepsWorld(1, length=(1, 9)).solutions(30, StepsPolicy(error=0.2)):
        for method in ("monte-carlo", "binary-search"):
            labeller = Labeller(method, StepsPolicy(error=0.1), check_chain, judge, n=3, threshold=0.4)
            assert labeller(record_).calls <= labeller.most_calls(record_)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "judge"}, "needs a judge"),
        ({"method": "monte-carlo"}, "needs a policy"),
        ({"method": "monte-carlo", "policy": Scripted({}), "checker": check, "threshold": 1.0}, "threshold=1.0"),
        ({"method": "monte-carlo", "policy": Scripted({}), "checker": check, "judge": NoisyJudge(1.0)}, "consensus needs hard labels"),
        ({"method": "monte-carlo", "policy": Scripted({}), "checker": check, "n": 0}, "rollouts per step: 0"),
    ],
)
def test_parts_that_do_not_fit_the_method(given, words):
    with pytest.raises(ConfigError, match=words):
        Labeller(**given)


# ---- the lab's orderings, at small size (bench/steps_lab.py has them at length) ----

WRITER, COMPLETER = StepsPolicy(error=1 - 0.5 ** (1 / 8), correction=0.06), StepsPolicy(ability=(4.0, 2.0), correction=0.06, seed=9)


@pytest.fixture(scope="module")
def world() -> tuple[list[StepLabels], np.ndarray]:
    records = StepsWorld(0).solutions(160, WRITER)
    return records, np.array(true_first_error([r.labels for r in records]))


def f1(places: Sequence[int | None], truth: np.ndarray) -> float:
    said = [-2 if place is None else place for place in places]
    return first_error_f1(said, truth, np.arange(len(truth)), rng=np.random.default_rng(0), n_resamples=2).f1.value


def test_any_success_gets_worse_with_more_rollouts_and_a_chosen_threshold_better(world):
    records, truth = world
    any_success, chosen = {}, {}
    for k in (4, 24):
        rates = [monte_carlo(r, COMPLETER, check_chain, n=k).rates for r in records]
        cut = choose_threshold([np.array(r, dtype=float) for r in rates[:80]], truth[:80]).value
        any_success[k] = f1([place_of_first_error(hard_labels(r, 0.0)) for r in rates[80:]], truth[80:])
        chosen[k] = f1([place_of_first_error(hard_labels(r, cut)) for r in rates[80:]], truth[80:])
    assert any_success[24] < any_success[4] - 0.2
    assert chosen[24] > chosen[4] + 0.05
    assert chosen[24] > any_success[24] + 0.5


def test_consensus_is_far_more_accurate_than_either(world):
    records, truth = world
    judge = NoisyJudge(0.79, seed=1)
    both = [consensus(hard_labels(monte_carlo(r, COMPLETER, check_chain, n=8).rates, 0.38), judge(r)) for r in records]
    rollouts = np.mean([c.first == t for c, t in zip(both, truth, strict=True)])
    judged = np.mean([c.second == t for c, t in zip(both, truth, strict=True)])
    kept = [c.first == t for c, t in zip(both, truth, strict=True) if c.agree]
    assert 0.7 < rollouts < 0.9
    assert 0.7 < judged < 0.9
    assert np.mean(kept) > 0.95
    assert 0.5 < len(kept) / len(both) < 0.8


def test_binary_search_halves_the_rollouts_at_eight_steps_for_about_the_same_places(world):
    records, truth = world
    wrong = [i for i, r in enumerate(records) if not check_chain(r, "\n".join(r.steps))]
    carlo = {i: monte_carlo(records[i], COMPLETER, check_chain, n=16) for i in wrong}
    search = {i: first_error_by_search(records[i], COMPLETER, check_chain, n=16, threshold=0.3) for i in wrong}
    assert sum(r.calls for _, r in search.values()) < 0.5 * sum(r.calls for r in carlo.values())
    by_search = np.mean([search[i][0] == truth[i] for i in wrong])
    by_carlo = np.mean([place_of_first_error(hard_labels(carlo[i].rates, 0.3)) == truth[i] for i in wrong])
    assert by_search > by_carlo - 0.15
