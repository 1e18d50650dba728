"""Share of the vote, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from preferent.annotators.votes import soft_preferences, without_votes
from preferent.core.errors import DataError
from preferent.core.records import Comparison, Judgment, user


def comparison(id: str) -> Comparison:
    return Comparison(id=id, prompt=user(f"question {id}"), response_a="yes", response_b="no", source="s", meta={"k": id})


def judgment(id: str, who: str, choice: Any, objective: str | None = None) -> Judgment:
    return Judgment(comparison_id=id, annotator_id=who, choice=choice, objective=objective)


def test_shares_by_hand() -> None:
    judgments = [
        judgment("2", "ann", "b"),
        judgment("1", "ann", "a"),
        judgment("1", "bob", "tie"),
        judgment("1", "cy", "b"),
        judgment("1", "di", "a"),
        judgment("1", "eve", "skip"),
    ]
    one, two = soft_preferences([comparison("1"), comparison("2")], judgments)
    # (1 + 1/2 + 0 + 1) / 4; the skip does not vote.
    assert (one.p_a, one.votes, one.n_judgments) == (0.625, (1.0, 0.5, 0.0, 1.0), 4)
    assert (two.p_a, two.votes, two.n_judgments) == (0.0, (0.0,), 1)
    assert (one.id, one.source, one.meta, one.prompt) == ("1", "s", {"k": "1"}, user("question 1"))


def test_everybody_has_one_vote() -> None:
    # ann says a, a, b: her vote is 2/3. bob says b. p_a = (2/3 + 0) / 2 = 1/3 from four judgments.
    judgments = [judgment("1", "ann", choice) for choice in "aab"] + [judgment("1", "bob", "b")]
    (one,) = soft_preferences([comparison("1")], judgments)
    assert one.p_a == pytest.approx(1 / 3)
    assert one.n_judgments == 4


def test_swapping_sides_swaps_the_preference() -> None:
    mirror: dict[str, Any] = {"a": "b", "b": "a", "tie": "tie"}
    judgments = [judgment("1", str(i), choice) for i, choice in enumerate(["a", "a", "tie", "b"])]
    mirrored = [judgment("1", j.annotator_id, mirror[j.choice]) for j in judgments]
    assert soft_preferences([comparison("1").swap()], mirrored) == [soft_preferences([comparison("1")], judgments)[0].swap()]


def test_objective_is_kept_and_never_mixed() -> None:
    (one,) = soft_preferences([comparison("1")], [judgment("1", "ann", "a", "tone")])
    assert one.objective == "tone"
    with pytest.raises(DataError, match="different objectives"):
        soft_preferences([comparison("1")], [judgment("1", "ann", "a", "tone"), judgment("1", "bob", "a")])


def test_unknown_comparison_is_an_error() -> None:
    with pytest.raises(DataError, match="unknown comparison '9'"):
        soft_preferences([comparison("1")], [judgment("9", "ann", "a")])


def test_two_comparisons_of_one_id_are_an_error() -> None:
    with pytest.raises(DataError, match="id '1'"):
        soft_preferences([comparison("1"), comparison("1")], [])


def test_comparisons_without_votes_are_named() -> None:
    pairs = [comparison("1"), comparison("2"), comparison("3")]
    judgments = [judgment("1", "ann", "a"), judgment("2", "ann", "skip")]
    with pytest.raises(DataError, match=r"2 of 3 comparisons have no vote: \['2', '3'\]"):
        soft_preferences(pairs, judgments)
    assert without_votes(pairs, judgments) == ["2", "3"]
    assert soft_preferences([], []) == []
