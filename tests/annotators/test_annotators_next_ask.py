"""Questions from judgments: look-alikes, what a reward model does not know, and votes on comparisons as votes on pairs."""

import numpy as np
import pytest

from preferent.annotators.next_ask import AskSettings, Candidate, ask, open_pairs
from preferent.annotators.next_order import order_batch
from preferent.annotators.next_pair import Knowledge, next_batch, reward_uncertainty, vote_entropy
from preferent.annotators.pair_ends import Pair, alone, paired_votes
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError, DataError


def test_what_a_reward_model_does_not_know_by_hand():
    # One member that is sure of its gap knows everything it can know; its vote may still be open.
    assert reward_uncertainty([[0.0, 2.0]]).tolist() == [0.0, 0.0]
    assert vote_entropy([0.0, np.log(3)]) == pytest.approx([np.log(2), -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))])
    # Two members, one sure of a and one sure of b: the vote tells which is right, log 2. A small sd: p (1 - p) sd^2 / 2.
    assert reward_uncertainty([[50.0], [-50.0]]) == pytest.approx([np.log(2)])
    assert reward_uncertainty([[0.0]], [[0.01]]) == pytest.approx([1e-4 / 8], rel=1e-3)
    # Members that are unsure of the same gap agree with one that is: no more is learned from two copies.
    assert reward_uncertainty([[1.0], [1.0]], [[0.7], [0.7]]) == pytest.approx(reward_uncertainty([[1.0]], [[0.7]]))


@pytest.mark.parametrize("shape", ["matching", "forest", "free"])
def test_of_look_alikes_one_is_taken(shape):
    pairs = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    alike = np.array([7, 7, 9, 7])
    it = Knowledge(pairs, np.zeros(4), np.array([4.0, 3.0, 2.0, 1.0]), np.zeros(4, int), alike_Q=alike)
    for share in (0.0, 0.5, 1.0):
        batch = next_batch(it, 4, rng=np.random.default_rng(0), strategy="information", random_share=share, shape=shape)
        assert len(batch) == 2
        assert set(alike[batch.chosen_B].tolist()) == {7, 9}
    picked = next_batch(it, 4, rng=np.random.default_rng(0), strategy="information", random_share=0.0, shape=shape).chosen_B
    assert picked.tolist() == [0, 2]
    chosen, _ = order_batch(pairs, np.zeros(4), np.eye(8), 2, alike_Q=alike)
    assert set(alike[chosen].tolist()) == {7, 9}


def test_comparisons_as_pairs_of_responses():
    table = VoteTable.from_columns(
        {
            "item": ["x", "x", "y", "z"],
            "annotator": ["p", "q", "p", "p"],
            "label": ["a", "tie", "b", "a"],
            "shown_first": ["b", "a", None, "a"],
        },
        labels=("a", "b", "tie"),
    )
    pairs = {"x": Pair("s", "r", None, "four", "sixsix"), "y": Pair("r", "t", None, "sixsix", "ten")}
    found = paired_votes(table, pairs)
    assert found.responses == ("r", "s", "t", "z/a", "z/b")
    assert found.known == 2
    votes = found.votes
    assert [(int(i), int(j)) for i, j in zip(votes.item_i_V, votes.item_j_V, strict=True)] == [(1, 0), (1, 0), (0, 2), (3, 4)]
    assert votes.outcome_V.tolist() == [1.0, 0.5, 0.0, 1.0]
    assert votes.first_V is not None
    assert votes.first_V.tolist() == [-1.0, 1.0, 0.0, 1.0]
    assert paired_votes(table, pairs, lengths=True).votes.length_V is None  # z has no texts
    known = paired_votes(table.where(table.item_V < 2), pairs, lengths=True).votes.length_V
    assert known == pytest.approx([np.log(4 / 6), np.log(4 / 6), np.log(6 / 3)])
    with pytest.raises(DataError, match="on both sides"):
        paired_votes(table, {"x": Pair("s", "s")})


def test_pairs_nobody_judged():
    found = open_pairs(["r1", "r2", "r3", "q1"], ["P", "P", "P", "Q"], {frozenset(("r1", "r3"))})
    assert found == [("r1", "r2"), ("r2", "r3")]


def test_a_pair_is_done_when_its_interval_is_narrow():
    rows = [("c", f"p{k}", "a" if k % 2 else "b") for k in range(200)] + [("d", "p0", "a")]
    table = VoteTable.from_arrays(*map(list, zip(*rows, strict=True)), labels=("a", "b", "tie"))
    candidates = [Candidate(name, alone(name)) for name in ("c", "d")]
    found = ask(table, {}, candidates, AskSettings(width=0.2, random_share=0.0))
    assert (found.done, [question.comparison_id for question in found.questions]) == (1, ["d"])
    everything = ask(table, {}, candidates, AskSettings(width=None, random_share=0.0))
    assert [question.votes_needed for question in everything.questions] == [None, None]
    with pytest.raises(ConfigError, match="uncertainty"):
        ask(table, {}, candidates, AskSettings(strategy="uncertainty"))
    with pytest.raises(DataError, match="no pair"):
        ask(table, {}, [])
