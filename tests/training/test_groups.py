"""Groups: one prompt, distinct responses, every record's own edges."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.core.errors import DataError
from preferent.core.records import Message, Preference, Ranking, user
from preferent.training.groups import group_records, prompt_key, split_groups, tie_share


def pair(a, b, p_a, prompt="q", **more):
    return Preference(prompt=user(prompt), response_a=a, response_b=b, p_a=p_a, **more)


def edges(group):
    """(response i, response j, p, weight, margin, tie, record) of every edge."""
    return [
        (group.exchanges[i].response, group.exchanges[j].response, p, w, m, t, r)
        for i, j, p, w, m, t, r in zip(
            group.i_E, group.j_E, group.p_E, group.weight_E, group.margin_E, group.tie_E, group.record_E, strict=True
        )
    ]


def loss(groups, reward, margins=True):
    """The weighted Bradley-Terry loss of all edges, written out."""
    total = 0.0
    for group in groups:
        reward_R = np.array([reward(exchange) for exchange in group.exchanges])
        d = reward_R[group.i_E] - reward_R[group.j_E]
        m = group.margin_E if margins else 0.0
        total += float((group.weight_E * (group.p_E * np.logaddexp(0, m - d) + (1 - group.p_E) * np.logaddexp(0, m + d))).sum())
    return total


def reward(exchange):
    return len(exchange.prompt[0].content) * 0.3 + sum(map(ord, exchange.response)) % 7 - 3.0


def test_records_of_one_prompt_become_one_group():
    records = [
        pair("x", "y", 1.0, weight=2.0, margin=0.5),
        pair("x", "y", 0.0, prompt="other"),
        pair("z", "x", 0.3, votes=(1.0, 0.5, 0.5, 0.0), id="third"),
        pair("y", "x", 0.5),
    ]
    first, second = group_records(records)
    assert [exchange.response for exchange in first.exchanges] == ["x", "y", "z"]
    assert edges(first) == [
        ("x", "y", 1.0, 2.0, 0.5, 0.0, 0),
        ("z", "x", 0.3, 1.0, 0.0, 0.5, 2),  # two of four votes are ties
        ("y", "x", 0.5, 1.0, 0.0, 1.0, 3),  # no votes: exactly 0.5 is a tie
    ]
    assert list(first.names.values()) == ["record 1", "third", "record 4"]
    assert edges(second) == [("x", "y", 0.0, 1.0, 0.0, 0.0, 1)]
    assert first.prompt_key == prompt_key(user("q")) != second.prompt_key
    assert first.n_edges == 3


def test_a_prompt_is_its_turns_with_their_roles():
    one = (Message(role="user", content="a"), Message(role="assistant", content="b"), Message(role="user", content="c"))
    other = (Message(role="system", content="a"), *one[1:])
    records = [Preference(prompt=prompt, response_a="x", response_b="y", p_a=1.0) for prompt in (one, other, one)]
    assert [group.n_edges for group in group_records(records)] == [2, 1]


def test_a_ranking_gives_the_edges_of_its_preferences_and_stays_a_ranking():
    ranking = Ranking(prompt=user("q"), responses=("x", "y", "z"), ranks=(2, 1, 2), weight=3.0)
    (group,) = group_records([pair("z", "w", 1.0), ranking])
    expected = [(p.response_a, p.response_b, p.p_a, p.weight) for p in ranking.preferences()]
    assert [row[:4] for row in edges(group)][1:] == expected
    assert group.from_ranking_E.tolist() == [False, True, True, True]
    assert group.tie_E.tolist() == [0.0, 0.0, 1.0, 0.0]
    (kept,) = group.rankings
    assert [group.exchanges[i].response for i in kept.index_K] == ["x", "y", "z"]
    assert (kept.rank_K.tolist(), kept.weight, kept.record) == ([2.0, 1.0, 2.0], 3.0, 1)


@pytest.mark.parametrize("record", [pair("same", "same", 1.0), Ranking(prompt=user("q"), responses=("x", "same", "same"), ranks=(1, 2, 3))])
def test_a_response_against_itself_is_refused_by_name(record):
    with pytest.raises(DataError, match=r"record 2: the response 'same' is compared with itself"):
        group_records([pair("a", "b", 1.0), record])


@pytest.mark.parametrize(
    ("votes", "p_a", "share"), [((), 0.5, 1.0), ((), 0.7, 0.0), ((1.0, 0.0), 0.5, 0.0), ((0.5, 1.0), 0.75, 0.5), ((0.6, 0.4), 0.5, 0.0)]
)
def test_tie_share(votes, p_a, share):
    # Two opposite votes average to 0.5 and are no tie.
    assert tie_share(pair("x", "y", p_a, votes=votes)) == share


RECORDS = st.lists(
    st.builds(
        lambda prompt, sides, p, w, m: pair(sides[0], sides[1], p, prompt=prompt, weight=w, margin=m),
        st.sampled_from("qrs"),
        st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=2, unique=True),
        st.floats(0, 1),
        st.floats(0.1, 5),
        st.none() | st.floats(0, 2),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.randoms(use_true_random=False))
def test_swapping_and_permuting_records_leaves_the_loss(records, random):
    expected = loss(group_records(records), reward)
    swapped = [record.swap() if random.random() < 0.5 else record for record in records]
    assert loss(group_records(swapped), reward) == pytest.approx(expected, rel=1e-9)
    shuffled = random.sample(records, len(records))
    groups = group_records(shuffled)
    assert loss(groups, reward) == pytest.approx(expected, rel=1e-9)
    strip = [row[:6] for group in group_records(records) for row in edges(group)]
    assert Counter(strip) == Counter(row[:6] for group in groups for row in edges(group))


def test_repeated_pairs_cost_what_their_merged_label_costs():
    # Three records, one of them reversed: wins of x are 1, 0 and 1 - 0.4 = 0.6 with weights 1, 2, 1; mean 1.6 / 4 = 0.4, weight 4.
    apart = group_records([pair("x", "y", 1.0), pair("x", "y", 0.0, weight=2.0), pair("y", "x", 0.4)])
    merged = group_records([pair("x", "y", 0.4, weight=4.0)])
    assert loss(apart, reward) == pytest.approx(loss(merged, reward), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.floats(0.02, 1.0), st.integers(2, 17), st.integers(0, 5))
def test_split_keeps_every_edge_once_and_the_limit(n, density, limit, seed):
    rng = np.random.default_rng([n, seed])
    records = [
        pair(f"r{i}", f"r{j}", float(rng.random())) for i in range(n) for j in range(i) if rng.random() < density or (i == 1 and j == 0)
    ]
    groups = group_records(records)
    parts = split_groups(groups, max_responses=limit, seed=seed)
    assert all(len(part.exchanges) <= limit and part.n_edges for part in parts)
    assert Counter(row for part in parts for row in edges(part)) == Counter(edges(groups[0]))
    assert all(part.names == {r: f"record {r + 1}" for r in set(part.record_E.tolist())} for part in parts)
    assert loss(parts, reward) == pytest.approx(loss(groups, reward), rel=1e-9)
    again = split_groups(groups, max_responses=limit, seed=seed)
    assert [edges(part) for part in again] == [edges(part) for part in parts]


def test_a_dense_group_is_cut_into_dense_parts():
    # 32 responses, 496 pairs, parts of at most 16 responses: 4 blocks of 8, so 6 pairs of blocks.
    records = [pair(f"r{i}", f"r{j}", 1.0) for i in range(32) for j in range(i)]
    parts = split_groups(group_records(records), max_responses=16, seed=0)
    # The edges inside a block fit into one of its parts and make none of their own.
    assert len(parts) == 6
    assert [len(part.exchanges) for part in parts] == [16] * 6
    assert len({part.prompt_key for part in parts}) == 1


def test_a_ranking_is_never_cut():
    ranking = Ranking(prompt=user("q"), responses=tuple("abcdefgh"), ranks=tuple(range(8)), weight=2.0)
    records = [*(pair(f"r{i}", f"r{j}", 1.0) for i in range(9) for j in range(i)), ranking, pair("a", "r1", 0.2)]
    records.append(Ranking(prompt=user("q"), responses=("c", "r2", "a"), ranks=(1, 2, 2)))
    parts = split_groups(group_records(records), max_responses=4, seed=0)
    (whole,) = [part for part in parts if part.rankings and part.rankings[0].record == 36]
    assert [whole.exchanges[i].response for i in whole.rankings[0].index_K] == list("abcdefgh")
    assert whole.n_edges == 28
    assert whole.from_ranking_E.all()
    assert sum(part.n_edges for part in parts) == 36 + 28 + 1 + 3
    assert all(len(part.exchanges) <= 4 for part in parts if not part.rankings)


def test_small_groups_are_left_alone():
    groups = group_records([pair("x", "y", 1.0), pair("x", "z", 1.0)])
    assert split_groups(groups, max_responses=3, seed=0)[0] is groups[0]
    with pytest.raises(ValueError, match="at least 2"):
        split_groups(groups, max_responses=1, seed=0)
