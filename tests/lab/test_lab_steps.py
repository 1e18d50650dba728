"""The steps world: labels worked out by hand, a policy whose chance of success is known exactly, corruptions with exact labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.core.errors import ConfigError, DataError
from preferent.core.records import user
from preferent.lab.chains import (
    Chain,
    Operation,
    chain_answer,
    chain_labels,
    draw_chain,
    first_error,
    read_chain,
    read_step,
    stated_answer,
    vocabulary,
    write_chain,
)
from preferent.lab.steps import NoisyJudge, StepsPolicy, StepsWorld, check_chain, demo_policy
from preferent.lab.steps_calculator import SPOILS, corrupt_calculation, without_annotations
from preferent.lab.steps_errors import ERRORS, corrupt_chain

ADD = user("Keep only the last digit of every result. Start with 7. Add 5, then multiply by 3, then subtract 8. What is the last value?")
LOGIC = user(
    "Every value is true or false. Start with true. Take the opposite, then say whether it is the same as false. What is the last value?"
)


def test_labels_by_hand():
    """7 + 5 = 12 -> 2; 2 x 3 = 6; 6 - 8 = -2 -> 8."""
    right = ["Then 7 plus 5 makes 2.", "Now 2 times 3 is 6.", "So 6 minus 8 gives 8."]
    assert chain_labels(ADD, right) == (1.0, 1.0, 1.0)
    assert chain_answer(ADD) == stated_answer("\n".join(right)) == "8"
    # 2 x 3 = 7 is wrong, 7 - 8 = 9 follows from it: wrong of the problem, right as a step
    carried = [right[0], "Now 2 times 3 is 7.", "So 7 minus 8 gives 9."]
    assert chain_labels(ADD, carried) == (1.0, 0.0, 0.0)
    assert chain_labels(ADD, carried, rule="local") == (1.0, 0.0, 1.0)
    # put right at the last step
    mended = [right[0], "Now 2 times 3 is 7.", "Wait, it was 6, so 6 minus 8 gives 8."]
    assert chain_labels(ADD, mended) == chain_labels(ADD, mended, rule="local") == (1.0, 0.0, 1.0)
    # the right value by another operation states the truth, and is no step that was asked for
    other = ["Then 7 minus 5 makes 2.", *right[1:]]
    assert chain_labels(ADD, other) == (1.0, 1.0, 1.0)
    assert chain_labels(ADD, other, rule="local") == (0.0, 1.0, 1.0)


def test_logic_by_hand():
    """The opposite of true is false, and false is the same as false: true."""
    assert chain_labels(LOGIC, ["Next, the opposite of true is false.", "So false the same as false gives true."]) == (1.0, 1.0)
    assert chain_labels(LOGIC, ["Next, the opposite of true is true.", "So true the same as false gives false."]) == (0.0, 0.0)
    assert chain_answer(LOGIC) == "true"


def test_what_cannot_be_read_is_wrong_and_foreign_prompts_are_errors():
    assert chain_labels(ADD, ["Hello.", "Now 2 times 3 is 6.", "So 6 minus 8 gives 8.", "So 8 plus 1 is 9."]) == (0.0, 1.0, 1.0, 0.0)
    assert stated_answer("no steps here") is None
    with pytest.raises(DataError, match="not a problem of the steps world"):
        chain_labels(user("What is 2 + 2?"), ["4"])


@given(st.integers(0, 2**32), st.sampled_from(["arithmetic", "logic"]), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_problems_and_steps_are_read_back_as_they_were_written(seed, kind, length):
    rng = np.random.default_rng(seed)
    chain = draw_chain(kind, length, rng)
    prompt = write_chain(chain, rng)
    assert read_chain(prompt) == chain
    steps = StepsPolicy(seed=seed, error=0.0).solve(prompt, 1)[0]
    assert chain_labels(prompt, steps) == chain_labels(prompt, steps, rule="local") == (1.0,) * length
    assert [read_step(step).value for step in steps] == list(chain.values)  # type: ignore[union-attr]


def test_every_operation_is_one_to_one():
    for name, operand in [("add", 3), ("subtract", 9), ("multiply", 7)]:
        assert sorted(Operation(name, operand).apply(v) for v in range(10)) == list(range(10))
    for name, operand in [("opposite", 0), ("same", 0), ("differs", 1)]:
        assert sorted(Operation(name, operand).apply(v) for v in (0, 1)) == [0, 1]
    assert Chain("arithmetic", 9, (Operation("add", 9),)).values == (8,)


def test_the_words_are_few():
    assert len(vocabulary()) < 120
    world = StepsWorld(3, length=(2, 6))
    words = {w.strip(".,?").lower() for r in world.solutions(50, StepsPolicy(error=0.3, correction=0.3)) for w in " ".join(r.steps).split()}
    assert words <= {word.lower() for word in vocabulary()}


# ---- the policy ----


@pytest.mark.parametrize(("kind", "right"), [("arithmetic", True), ("arithmetic", False), ("logic", True), ("logic", False)])
def test_the_policy_succeeds_as_often_as_the_two_state_chain_says(kind, right):
    policy = StepsPolicy(error=0.1, correction=0.2, seed=5)
    prompt = StepsWorld(0, kind=kind, length=6).problems(1)[0]
    chain = read_chain(prompt)
    steps = StepsPolicy(error=0.0).solve(prompt, 1)[0][:2]
    if not right:
        steps = corrupt_chain(prompt, np.random.default_rng(0), place=1, kind="slip").steps[:2]
    n = 4000
    succeeded = sum(stated_answer(text) == chain_answer(prompt) for text in policy(prompt, steps, n)) / n
    # logic: a wrong value cannot be made wrong again, so the error chance plays no part there, nor in the two-state chain
    expected = policy.success_probability(prompt, right=right, remaining=len(chain.operations) - 2)
    assert succeeded == pytest.approx(expected, abs=3.5 * (expected * (1 - expected) / n) ** 0.5)


def test_success_probability_by_hand():
    """From right, one step: 1 - e. Two steps: (1 - e)^2 + e c = .81 + .02."""
    policy = StepsPolicy(error=0.1, correction=0.2)
    assert policy.success_probability(ADD, right=True, remaining=1) == pytest.approx(0.9)
    assert policy.success_probability(ADD, right=True, remaining=2) == pytest.approx(0.83)
    assert policy.success_probability(ADD, right=False, remaining=1) == pytest.approx(0.2)


def test_ability_is_the_chance_of_a_solution_without_error():
    policy = StepsPolicy(ability=(4.0, 2.0), seed=2)
    chance = [(1.0 - policy.error_of(prompt)) ** 8 for prompt in StepsWorld(1).problems(400)]
    # the mean of Beta(4, 2) is 2/3, its standard deviation .178
    assert np.mean(chance) == pytest.approx(2 / 3, abs=0.04)
    assert np.std(chance) == pytest.approx(0.178, abs=0.03)


def test_asked_again_in_another_order_the_policy_says_the_same():
    policy = StepsPolicy(error=0.3, correction=0.1, seed=1)
    a, b = StepsWorld(0).problems(2)
    first = policy(a, (), 3)
    policy(b, (), 5)
    assert policy(a, (), 3) == first
    assert StepsPolicy(error=0.3, correction=0.1, seed=2)(a, (), 3) != first
    assert len(demo_policy(a, (), 2)) == 2


def test_the_judge_is_right_as_often_as_it_should_be():
    records = StepsWorld(0).solutions(800, StepsPolicy(error=0.1))
    judge = NoisyJudge(0.79, seed=3)
    truth = [first_error(chain_labels(r.prompt, r.steps)) for r in records]
    said = [next((t for t, label in enumerate(judge(r)) if label == 0.0), -1) for r in records]
    assert np.mean(np.array(said) == np.array(truth)) == pytest.approx(0.79, abs=3.5 * (0.79 * 0.21 / 800) ** 0.5)
    assert judge(records[0]) == judge(records[0])


def test_the_world_carries_what_others_need():
    record = StepsWorld(4).solutions(1, StepsPolicy(error=0.0))[0]
    assert check_chain(record, "\n".join(record.steps))
    assert not check_chain(record, "\n".join(record.steps[:-1]) or "nothing")
    assert record.meta["answer"] == chain_answer(record.prompt)
    assert record.meta["idx"] == "arithmetic-4-0"
    assert StepsWorld(4).problems(3) == StepsWorld(4).problems(8)[:3]
    with pytest.raises(ConfigError, match="only 10 different problems"):
        StepsWorld(0, kind="logic", length=1).problems(100)
    with pytest.raises(ConfigError, match="length"):
        StepsWorld(0, length=(3, 2))


# ---- corruptions of chains ----


@given(st.integers(0, 2**32), st.sampled_from(ERRORS), st.integers(0, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_corrupted_chain_is_wrong_from_its_place(seed, kind, place, carry):
    rng = np.random.default_rng(seed)
    prompt = write_chain(draw_chain("arithmetic", 5, rng), rng)
    made = corrupt_chain(prompt, rng, place=place, kind=kind, carry=carry)
    assert made.first_error == place
    after = 5 - place - 1
    assert made.labels == (*[1.0] * place, 0.0, *[0.0 if carry else 1.0] * after)
    # a copied value and another operation are steps without a slip; on the asked operation and value, only a slip is none
    local = chain_labels(prompt, made.steps, rule="local")
    assert local[place] == 0.0
    assert first_error(local) == place
    if carry:
        assert local[place + 1 :] == (1.0,) * after


# ---- corruptions of calculator solutions ----

SHOP = (
    "She buys 3*4 = <<3*4=12>>12 pens.",
    "They cost 12 x $2.50 = $<<12*2.5=30>>30.",
    "Her walk took 5 + 5 = <<5+5=10>>10 minutes.",
    "With the bag she pays $30 + 10 = $<<30+10=40>>40.",
)


def test_a_wrong_result_is_carried_where_it_is_used():
    made = next(
        found
        for seed in range(200)
        if (found := corrupt_calculation(SHOP, np.random.default_rng(seed), kind="result")) is not None
        and found.first_error == 0
        and "=14>>14" in found.steps[0]
    )
    # 14 x 2.5 = 35, 35 + 10 = 45; the walk does not depend on it
    assert made.steps == (
        "She buys 3*4 = <<3*4=14>>14 pens.",
        "They cost 14 x $2.50 = $<<14*2.5=35>>35.",
        "Her walk took 5 + 5 = <<5+5=10>>10 minutes.",
        "With the bag she pays $35 + 10 = $<<35+10=45>>45.",
    )
    assert made.labels == (0.0, 0.0, None, 0.0)
    assert made.kind == "result"


@pytest.mark.parametrize("kind", SPOILS)
def test_every_kind_is_wrong_where_it_says(kind):
    seen = set()
    for seed in range(60):
        made = corrupt_calculation(SHOP, np.random.default_rng(seed), kind=kind, carry=False)
        assert made is not None
        at = made.first_error
        seen.add(at)
        assert made.steps[:at] == SHOP[:at]
        assert made.steps[at] != SHOP[at]
        assert made.steps[at + 1 :] == SHOP[at + 1 :]
        assert made.labels == (*[1.0] * at, 0.0, *[None] * (3 - at))
        # the result differs from the right one
        right = (12, 30, 10, 40)[at]
        assert float(made.steps[at].rsplit("=", 1)[1].split(">>")[0]) != right
    # 5 - 5 has no positive result, so "operator" leaves the third step alone; all other places are reached
    assert seen == ({0, 1, 3} if kind == "operator" else {0, 1, 2, 3})


def test_operand_and_operator_change_the_words_too():
    for seed in range(60):
        made = corrupt_calculation(("There are 8 + 2 = <<8+2=10>>10.",), np.random.default_rng(seed), kind="operator")
        assert made is not None
        assert made.steps == ("There are 8 - 2 = <<8-2=6>>6.",)


def test_solutions_without_a_calculation_cannot_be_spoiled():
    assert corrupt_calculation(("It is so.", "Then 3 + 4 = 7."), np.random.default_rng(0)) is None
    # an annotation that is not true, or is not followed by its result, is left alone
    assert corrupt_calculation(("a <<3+4=8>>8", "b <<3+4=7>>seven"), np.random.default_rng(0)) is None


def test_annotations_come_off():
    assert without_annotations(SHOP)[1] == "They cost 12 x $2.50 = $30."
