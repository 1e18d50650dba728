"""Coverage joins the parts of the graph before it counts votes; budgets pull in the next candidate instead of wasting a question."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.annotators.next_ask import AskSettings, Candidate, ask
from preferent.annotators.next_cover import Ground, cover_batch, cover_values
from preferent.annotators.pair_ends import Pair
from preferent.annotators.table import VoteTable


def test_joins_first_then_the_least_judged_ends() -> None:
    # 0-1-2 (votes 3, 4, 1) and 3-4 (2, 2) are components, 5 has no vote.
    ground = Ground(np.array([0, 0, 0, 1, 1, -1]), np.array([3, 4, 1, 2, 2, 0]))
    pairs = np.array([[0, 1], [0, 2], [1, 3], [2, 4], [2, 5], [3, 5]])
    votes = np.array([3, 0, 0, 0, 0, 0])
    assert cover_values(pairs, votes, ground).tolist() == [-3.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    taken = cover_batch(pairs, votes, 6, ground=ground, alike_Q=np.arange(6))
    # Ends of the joins have 6, 3, 1 and 2 votes: 2-5 first (now 2: 2, 5: 1). 3-5 (2 + 1) beats 2-4 (2 + 2), and joins all into one part.
    # Then by votes on the pair: 2-4 (2 + 2), 0-2 (3 + 3), 1-3 (4 + 3), and 0-1 with its three votes last.
    assert taken.tolist() == [4, 5, 3, 1, 2, 0]


def test_one_part_needs_as_many_joins_as_there_are_gaps_and_spreads() -> None:
    rng = np.random.default_rng(0)
    ground = Ground(np.full(12, -1), np.zeros(12, dtype=np.int64))
    pairs = rng.permutation(np.stack(np.triu_indices(12, 1), 1))
    taken = cover_batch(pairs, np.zeros(len(pairs), dtype=np.int64), 11, ground=ground, alike_Q=np.arange(len(pairs)))
    asked = np.bincount(pairs[taken].ravel(), minlength=12)
    assert asked.min() >= 1
    assert asked.max() <= 4  # a tree over 12 that is no star
    parts = list(range(12))
    for i, j in pairs[taken].tolist():
        assert parts[i] != parts[j]
        parts = [parts[i] if part == parts[j] else part for part in parts]
    assert len(set(parts)) == 1


def world(people: dict[str, list[str]]) -> tuple[VoteTable, dict[str, Candidate]]:
    """Who has judged which comparison; comparison "c1" shows x1 and y1."""
    rows = [(name, who) for who, names in people.items() for name in names]
    table = VoteTable.from_arrays([name for name, _ in rows], [who for _, who in rows], ["a"] * len(rows), labels=("a", "b"))
    return table, {name: Candidate(name, Pair(f"x{name}", f"y{name}")) for name in dict.fromkeys(name for name, _ in rows)}


def test_a_question_nobody_can_take_makes_room_for_the_next() -> None:
    # ann has judged all but c5 and c6, bob nothing more than c1 but has one question left: a batch of 3 used to lose two of them.
    table, judged = world({"ann": ["c1", "c2", "c3", "c4"], "bob": ["c1"], "eve": ["c5", "c6"]})
    settings = AskSettings(n=3, random_share=0.0, strategy="coverage", width=None, budgets={"ann": 2, "bob": 1}, seed=3)
    for seed in range(5):
        found = ask(table, judged, list(judged.values()), AskSettings(**{**_fields(settings), "seed": seed}))
        assert len(found.questions) == 3
        assert {q.comparison_id for q in found.questions if q.annotator_id == "ann"} <= {"c5", "c6"}
        assert sum(q.annotator_id == "bob" for q in found.questions) == 1
    short = ask(table, judged, list(judged.values()), AskSettings(n=3, width=None, budgets={"ann": 5}, random_share=0.0))
    assert {q.comparison_id for q in short.questions} == {"c5", "c6"}
    assert "budgets and what people have judged allow 2 of 3 questions" in short.notes


def _fields(settings: AskSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__slots__}


@pytest.mark.parametrize("seed", range(3))
def test_coverage_joins_what_the_judgments_left_apart(seed: int) -> None:
    """Two cliques of five responses, judged within; of 45 pairs the first asked must cross, the others go to the least judged."""
    rows = [(f"{i}-{j}", i, j) for side in (range(5), range(5, 10)) for i in side for j in side if i < j]
    table = VoteTable.from_arrays([row[0] for row in rows] * 2, ["p"] * 20 + ["q"] * 20, ["a"] * 40, labels=("a", "b"))
    judged = {name: Candidate(name, Pair(f"r{i}", f"r{j}")) for name, i, j in rows}
    new = [Candidate(f"{i}-{j}", Pair(f"r{i}", f"r{j}")) for i in range(5) for j in range(5, 10)]
    settings = AskSettings(n=6, strategy="coverage", random_share=0.0, width=None, seed=seed)
    found = ask(table, judged, [*judged.values(), *new], settings).questions
    assert [q.value for q in found] == [1.0] * 6  # all cross: the value is that before the batch
    ends = np.bincount([int(name) for q in found for name in q.comparison_id.split("-")], minlength=10)
    assert ends.max() <= 2
