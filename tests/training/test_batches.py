"""Plans of steps: every group once, budgets kept, the same again on resume."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.training.batches import count_oversize, plan_epoch, split_micro, split_ranks
from preferent.training.config import Pairs, Tokens, TrainConfig

SIZES = st.lists(st.integers(1, 300), max_size=60)


def config(batch, order="shuffled"):
    return TrainConfig(base="tiny", batch=batch, order=order)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 400), st.booleans(), st.sampled_from(["shuffled", "given"]), st.integers(0, 3))
def test_every_group_is_in_one_step(tokens, amount, by_pairs, order, epoch):
    batch = Pairs(pairs=amount) if by_pairs else Tokens(tokens=amount)
    steps = plan_epoch(tokens, [1 + t % 5 for t in tokens], config(batch, order), seed=1, epoch=epoch)
    flat = [group for step in steps for group in step]
    assert sorted(flat) == list(range(len(tokens)))
    assert all(steps)
    if order == "given":
        assert flat == list(range(len(tokens)))


def test_pairs_are_taken_until_the_step_has_enough():
    # 1 + 1 + 3 = 5 >= 4; 2 + 2 = 4; the rest is 1.
    steps = plan_epoch([9] * 6, [1, 1, 3, 2, 2, 1], config(Pairs(pairs=4), "given"), seed=0, epoch=0)
    assert steps == [(0, 1, 2), (3, 4), (5,)]


def test_one_pair_groups_give_exactly_the_pairs_asked_for():
    steps = plan_epoch([9] * 20, [1] * 20, config(Pairs(pairs=8)), seed=0, epoch=0)
    assert [len(step) for step in steps] == [8, 8, 4]


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 400))
def test_token_steps_keep_the_budget_or_hold_one_group(tokens, budget):
    steps = plan_epoch(tokens, tokens, config(Tokens(tokens=budget)), seed=5, epoch=2)
    oversize = [step for step in steps if sum(tokens[g] for g in step) > budget]
    assert all(len(step) == 1 for step in oversize)
    assert len(oversize) == count_oversize(tokens, budget)


def test_token_steps_are_full_and_of_like_lengths():
    tokens = np.random.default_rng(0).integers(20, 400, 4000)
    steps = plan_epoch(tokens, tokens, config(Tokens(tokens=4096)), seed=0, epoch=0)
    assert tokens.sum() / (len(steps) * 4096) > 0.93
    spread = np.mean([tokens[list(step)].std() for step in steps])
    assert spread < 0.15 * tokens.std()
    # Where two windows meet, long meets long or short meets short, so no step holds both.
    assert max(np.ptp(tokens[list(step)]) for step in steps) < 0.5 * np.ptp(tokens)
    # The steps are not sorted by length: neighbours are no more alike than any two.
    mean = np.array([tokens[list(step)].mean() for step in steps])
    assert abs(np.corrcoef(mean[1:], mean[:-1])[0, 1]) < 0.3


@pytest.mark.parametrize("batch", [Pairs(pairs=8), Tokens(tokens=900)])
def test_a_plan_is_a_function_of_seed_and_epoch(batch):
    tokens = np.random.default_rng(1).integers(20, 300, 200)
    plans = {
        (seed, epoch): plan_epoch(tokens, tokens % 3 + 1, config(batch), seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)
    }
    assert plan_epoch(list(tokens), list(tokens % 3 + 1), config(batch), seed=1, epoch=0) == plans[1, 0]
    assert len({tuple(plan) for plan in plans.values()}) == 4


@settings(max_examples=60, deadline=None)
@given(SIZES.filter(bool), st.integers(1, 500), st.integers(1, 5), st.randoms(use_true_random=False))
def test_splits_are_partitions_within_their_bounds(tokens, micro, world, random):
    step = random.sample(range(len(tokens)), random.randint(0, len(tokens)))
    place = {group: k for k, group in enumerate(step)}
    for parts in (split_micro(step, tokens, micro), split_ranks(step, tokens, world)):
        assert sorted(group for part in parts for group in part) == sorted(step)
        assert all([place[g] for g in part] == sorted(place[g] for g in part) for part in parts)
    assert all(len(part) == 1 or sum(tokens[g] for g in part) <= micro for part in split_micro(step, tokens, micro))
    loads = [sum(tokens[g] for g in part) for part in split_ranks(step, tokens, world)]
    assert len(loads) == world
    assert max(loads) - min(loads) <= max((tokens[g] for g in step), default=0)


def test_worked_splits():
    # Sizes 5, 4, 3, 2 under a cap of 7: 5+2 and 4+3. Over two processes: 5, then 4, then 3 to the second (4 < 5), then 2 to the first.
    assert split_micro((0, 1, 2, 3), [5, 4, 3, 2], 7) == [(0, 3), (1, 2)]
    assert split_ranks((3, 2, 1, 0), [5, 4, 3, 2], 2) == [(3, 0), (2, 1)]
    assert split_ranks((1,), [5, 4], 3) == [(1,), (), ()]


def test_a_long_list_is_split_in_linear_time():
    tokens = np.random.default_rng(0).integers(100, 9000, 50_000)
    parts = split_micro(range(50_000), tokens, 16384)
    assert tokens.sum() / (len(parts) * 16384) > 0.9


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="positive"):
        plan_epoch([3, 0], [1, 1], config(Pairs()), seed=0, epoch=0)
    with pytest.raises(ValueError, match="one length"):
        plan_epoch([3, 2], [1], config(Pairs()), seed=0, epoch=0)
    with pytest.raises(ValueError, match="at least one process"):
        split_ranks((0,), [1], 0)
