"""Every public shape is read as what it says, row by row; every kind of bad row is refused for its own reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preferent.core.errors import ConfigError
from preferent.core.records import Message, Preference, Ranking, user
from preferent.data.formats.detect import detect, parse
from preferent.data.formats.fields import Refused
from preferent.data.ledger import Refusal
from preferent.data.read import Located, read_rows

U, A = "user", "assistant"


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def read(tmp_path: Path, *rows: Any, **options: Any) -> list[Located | Refusal]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_rows(path, **options))


def pair(row: dict[str, Any]) -> Preference:
    record = parse(row)[0].record
    assert isinstance(record, Preference)
    return record


def ranking(row: dict[str, Any]) -> Ranking:
    record = parse(row)[0].record
    assert isinstance(record, Ranking)
    return record


NATIVE = {"prompt": "p", "response_a": "x", "response_b": "y", "p_a": 0.7}


def test_native_with_everything():
    extra = {"weight": 2, "margin": 0.5, "votes": [1, 0.5], "objective": "tone", "n_judgments": 2, "source": "s", "id": 7, "meta": {"k": 1}}
    record = pair(NATIVE | extra)
    assert record == Preference(
        prompt=user("p"),
        response_a="x",
        response_b="y",
        p_a=0.7,
        weight=2.0,
        margin=0.5,
        votes=(1.0, 0.5),
        objective="tone",
        n_judgments=2,
        source="s",
        id="7",
        meta={"k": 1},
    )


def test_prompt_as_messages_keeps_roles():
    record = pair(NATIVE | {"prompt": [turn("system", "be kind"), turn(U, "p")]})
    assert [message.role for message in record.prompt] == ["system", "user"]


def test_content_in_text_parts_is_joined():
    record = pair(NATIVE | {"prompt": [{"role": U, "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})
    assert record.prompt == user("ab")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [turn(U, "q")], "chosen": [turn(A, "good")], "rejected": [turn(A, "bad")]},
        {"chosen": [turn(U, "q"), turn(A, "good")], "rejected": [turn(U, "q"), turn(A, "bad")]},
        # UltraFeedback binarized: a prompt column beside whole conversations.
        {"prompt": "q", "chosen": [turn(U, "q"), turn(A, "good")], "rejected": [turn(U, "q"), turn(A, "bad")]},
        {"prompt": [turn(U, "q")], "chosen": [turn(U, "q"), turn(A, "good")], "rejected": [turn(U, "q"), turn(A, "bad")]},
        {"prompt": [turn(U, "q")], "chosen": "good", "rejected": "bad"},
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "good", "rejected": "bad"},
        {"prompt": [turn(U, "q")], "chosen": "good", "rejected": "bad", "strength": 1.0},
    ],
)
def test_one_pair_in_many_shapes(row: dict[str, Any]):
    record = pair(row | {"margin": 0.25})
    assert (record.prompt, record.response_a, record.response_b, record.p_a, record.margin) == (user("q"), "good", "bad", 1.0, 0.25)


def test_implicit_text_prompt_is_the_common_beginning_to_a_whole_word():
    # "The sky is " is common; so is the "b" of "blue" and "black", which is no whole word.
    parsed, _ = parse({"chosen": "The sky is blue.", "rejected": "The sky is black."})
    record = parsed.record
    assert isinstance(record, Preference)
    assert (record.prompt, record.response_a, record.response_b) == (user("The sky is"), "blue.", "black.")
    assert "implicit prompt" in parsed.notes[0][0]


def test_hh_transcript_splits_at_the_last_common_human_turn():
    start = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: why?"
    record = pair({"chosen": start + "\n\nAssistant: so", "rejected": start + "\n\nAssistant: no\n\nreally"})
    assert record.prompt == (
        Message(role="user", content="hi"),
        Message(role="assistant", content="hello"),
        Message(role="user", content="why?"),
    )
    # A blank line inside an answer begins no turn.
    assert (record.response_a, record.response_b) == ("so", "no\n\nreally")


def test_strength_becomes_p_a_and_annotations_become_votes():
    labels = [{"annotator": "t1", "label": 1.0}, {"annotator": "t2", "label": 0.5}, {"annotator": "t3", "label": 0}]
    record = pair(
        {"prompt": [turn(U, "q")], "chosen": "x", "rejected": "y", "strength": 0.5, "annotations": labels, "meta": {"topic": "t"}}
    )
    assert (record.p_a, record.votes, record.n_judgments, record.meta) == (0.5, (1.0, 0.5, 0.0), 3, {"topic": "t"})


def test_ranks_and_scores_say_the_same():
    by_rank = ranking({"prompt": "q", "responses": ["a", "b", "c"], "ranks": [2, 1, 2]})
    by_score = ranking({"prompt": "q", "responses": ["a", "b", "c"], "scores": [0.1, 9, 0.1]})
    assert by_rank.ranks == by_score.ranks == (2.0, 1.0, 2.0)


def test_candidates_without_a_score_are_left_out_and_noted():
    candidates = [
        {"text": "a", "score": 3},
        {"text": "b"},
        {"text": "c", "score": 5},
        {"text": "d", "score": None},
        {"text": " ", "score": 1},
    ]
    parsed, shape = parse({"prompt": "q", "candidates": candidates})
    assert isinstance(parsed.record, Ranking)
    assert (shape, parsed.record.responses, parsed.record.ranks) == ("candidates", ("a", "c"), (2.0, 1.0))
    assert dict(parsed.notes) == {
        "responses without a score: left out of their ranking": 2,
        "responses that are empty: left out of their ranking": 1,
    }


def test_a_text_given_twice_stands_once_with_the_mean_score():
    # a: mean(1, 5) = 3 < b: 4.
    record = ranking({"prompt": "q", "candidates": [{"text": "a", "score": 1}, {"text": "b", "score": 4}, {"text": "a", "score": 5}]})
    assert (record.responses, record.ranks) == (("a", "b"), (2.0, 1.0))


def test_correct_or_not_is_a_score():
    record = ranking({"prompt": "q", "candidates": [{"text": "a", "correct": False}, {"text": "b", "correct": True}]})
    assert record.ranks == (2.0, 1.0)


def test_best_and_losers():
    parsed, _ = parse({"prompt": "q", "best": "a", "losers": ["b", "c"]})
    assert isinstance(parsed.record, Ranking)
    assert parsed.record.ranks == (1.0, 2.0, 2.0)
    assert any("share one rank" in note for note, _ in parsed.notes)


def test_ultrafeedback_prefers_the_fine_grained_score():
    completions = [
        {"response": "a", "overall_score": 10.0, "fine-grained_score": 1.5},
        {"response": "b", "overall_score": 8.0, "fine-grained_score": 4.5},
    ]
    assert ranking({"instruction": "q", "completions": completions}).ranks == (2.0, 1.0)
    overall_only = [{key: value for key, value in item.items() if key != "fine-grained_score"} for item in completions]
    assert ranking({"instruction": "q", "completions": overall_only}).ranks == (1.0, 2.0)


def test_ultrafeedback_ratings_are_averaged():
    # a: (5 + 2) / 2 = 3.5; b: 4, its N/A left out.
    a = {"response": "a", "annotations": {"helpfulness": {"Rating": "5"}, "honesty": {"Rating": "2"}}}
    b = {"response": "b", "annotations": {"helpfulness": {"Rating": "4"}, "honesty": {"Rating": "N/A"}}}
    assert ranking({"instruction": "q", "completions": [a, b]}).ranks == (2.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "p_a", "inverted"),
    [
        ({"score_chosen": 9, "score_rejected": 4}, 1.0, False),
        ({"score_chosen": 4, "score_rejected": 9}, 1.0, True),
        ({"chosen_rating": 4, "rejected_rating": 4}, 1.0, False),
        ({"meta": {"score_chosen": 4, "score_rejected": 9}}, 0.2, False),
        ({"meta": {"score_chosen": 4, "score_rejected": 9}}, 0.8, True),
        ({"score_chosen": 4}, 1.0, None),
    ],
)
def test_score_inversions(scores: dict[str, Any], p_a: float, inverted: bool | None):
    row = {"prompt": "q", "chosen": "x", "rejected": "y", "strength": p_a} | scores
    assert parse(row)[0].inverted is inverted


def test_small_extra_columns_go_to_meta_and_large_ones_are_named():
    parsed, _ = parse({"prompt": "q", "chosen": "x", "rejected": "y", "topic": "t", "tools": ["f"], "nan": float("nan"), "long": "z" * 900})
    assert parsed.record.meta == {"topic": "t", "tools": ["f"]}
    assert dict(parsed.notes) == {"columns not read: long": 1, "column 'tools' goes to meta; the reward does not see it": 1}


def test_shapes_are_detected_row_by_row(tmp_path: Path):
    found = read(tmp_path, NATIVE, {"prompt": "q", "chosen": "x", "rejected": "y"}, {"prompt": "q", "best": "a", "losers": ["b"]})
    assert [row.shape for row in found if isinstance(row, Located)] == ["native", "chosen_rejected", "best_losers"]
    assert [row.where.rpartition(":")[2] for row in found] == ["1", "2", "3"]


def test_an_explicit_format_overrides_detection(tmp_path: Path):
    both = {"prompt": "q", "chosen": "x", "rejected": "y", "strength": 0.25}
    assert detect(both) == "strength"
    (row,) = read(tmp_path, both, format="chosen_rejected")
    assert isinstance(row, Located)
    assert isinstance(row.record, Preference)
    assert row.record.p_a == 1.0
    with pytest.raises(ConfigError, match="best_losers"):
        read(tmp_path, both, format="chosen")


Q = "What is the capital of France?"
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("unknown_shape", {"text": "x"}, "known shapes"),
    ("unknown_shape", {}, "no keys"),
    ("missing_keys", {"prompt": "p", "response_a": "x", "p_a": 1}, "response_b"),
    ("missing_keys", {"prompt": "p", "response_a": "x", "response_b": "y"}, "p_a"),
    ("unknown_keys", NATIVE | {"wieght": 2}, "did you mean 'weight'"),
    ("wrong_type", NATIVE | {"response_a": None}, "null"),
    ("wrong_type", NATIVE | {"response_a": 5}, "a number"),
    ("wrong_type", NATIVE | {"prompt": None}, "null"),
    ("wrong_type", NATIVE | {"meta": "x"}, "meta"),
    ("wrong_type", NATIVE | {"id": 1.5}, "id"),
    ("wrong_type", NATIVE | {"n_judgments": True}, "n_judgments"),
    ("bad_p_a", NATIVE | {"p_a": "0.7"}, "a text"),
    ("bad_p_a", NATIVE | {"p_a": True}, "true or false"),
    ("bad_p_a", NATIVE | {"p_a": None}, "null"),
    ("bad_p_a", NATIVE | {"p_a": float("nan")}, "nan"),
    ("bad_p_a", NATIVE | {"p_a": 1.01}, "1.01"),
    ("bad_p_a", NATIVE | {"p_a": -0.1}, "-0.1"),
    ("bad_p_a", NATIVE | {"p_a": 10**400}, "1000"),
    ("bad_weight", NATIVE | {"weight": 0}, "greater than 0"),
    ("bad_weight", NATIVE | {"weight": float("inf")}, "inf"),
    ("bad_margin", NATIVE | {"margin": -1}, "-1"),
    ("bad_margin", {"prompt": "q", "chosen": "x", "rejected": "y", "margin": float("nan")}, "nan"),
    ("bad_votes", NATIVE | {"votes": [1, 2]}, "2"),
    ("bad_votes", NATIVE | {"votes": 1}, "a list"),
    ("bad_votes", {"prompt": "q", "chosen": "x", "rejected": "y", "strength": 1, "annotations": [{"label": "a"}]}, "'a'"),
    ("bad_p_a", {"prompt": "q", "chosen": "x", "rejected": "y", "strength": None}, "strength"),
    ("empty_prompt", NATIVE | {"prompt": " \n"}, "user turn"),
    ("empty_prompt", NATIVE | {"prompt": []}, "no turn"),
    ("empty_prompt", NATIVE | {"prompt": [turn("system", "s")]}, "system"),
    ("empty_prompt", {"chosen": "yes", "rejected": "no"}, "common beginning"),
    ("bad_messages", NATIVE | {"prompt": [turn("human", "s")]}, "system, user, assistant, tool"),
    ("bad_messages", NATIVE | {"prompt": ["s"]}, "role and content"),
    ("bad_messages", NATIVE | {"prompt": [turn(U, "s") | {"tool_calls": [1]}]}, "tool_calls"),
    ("wrong_type", NATIVE | {"prompt": [{"role": U, "content": None}]}, "content"),
    ("empty_response", NATIVE | {"response_b": ""}, "response b"),
    ("empty_response", NATIVE | {"response_a": " \t\n"}, "response a"),
    ("identical_responses", NATIVE | {"response_a": "y "}, "both"),
    ("prompt_in_response", {"prompt": Q, "chosen": Q + " Paris", "rejected": Q + " Rome"}, "begins with the prompt"),
    ("prompt_in_response", {"prompt": Q, "chosen": "Paris", "rejected": Q + " Rome"}, "response b"),
    ("missing_keys", {"question": "q", "chosen": "x a", "rejected": "x b"}, "rename 'question'"),
    ("wrong_type", {"prompt": "q", "chosen": "x", "rejected": [turn(A, "y")]}, "one type"),
    ("wrong_type", {"prompt": "q", "chosen": {"role": A}, "rejected": {"role": A}}, "list of messages"),
    ("bad_messages", {"prompt": "q", "chosen": [], "rejected": []}, "no message"),
    ("bad_messages", {"prompt": "q", "chosen": [turn(U, "x")], "rejected": [turn(A, "y")]}, "the user's"),
    (
        "bad_messages",
        {"prompt": "q", "chosen": [turn(A, "x"), turn(U, "w"), turn(A, "z")], "rejected": [turn(A, "x"), turn(U, "w"), turn(A, "y")]},
        "3 messages after the prompt",
    ),
    (
        "bad_messages",
        {"chosen": [turn(U, "q"), turn(A, "x"), turn(U, "w"), turn(A, "z")], "rejected": [turn(U, "q"), turn(A, "y")]},
        "more than one message",
    ),
    ("different_prompts", {"chosen": [turn(U, "q"), turn(A, "x")], "rejected": [turn(U, "r"), turn(A, "y")]}, "message 1"),
    ("different_prompts", {"prompt": "q", "chosen": [turn(U, "q"), turn(A, "x")], "rejected": [turn(A, "y")]}, "differ"),
    ("different_prompts", {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}, "turn 1"),
    (
        "different_prompts",
        {
            "chosen": "\n\nHuman: a\n\nAssistant: x\n\nHuman: c\n\nAssistant: z",
            "rejected": "\n\nHuman: a\n\nAssistant: y\n\nHuman: c\n\nAssistant: z",
        },
        "turn 2 on",
    ),
    (
        "bad_messages",
        {"chosen": "\n\nHuman: a\n\nAssistant: x\n\nHuman: b", "rejected": "\n\nHuman: a\n\nAssistant: y"},
        "not the assistant's",
    ),
    ("too_few_responses", {"prompt": "q", "candidates": [{"text": "a", "score": 1}, {"text": "b"}]}, "1 of 2"),
    ("too_few_responses", {"prompt": "q", "candidates": [{"text": "a"}, {"text": "b"}]}, "no candidate has a score"),
    ("too_few_responses", {"prompt": "q", "responses": ["a", "a"], "scores": [1, 2]}, "given twice"),
    ("bad_scores", {"prompt": "q", "responses": ["a", "b"], "scores": [1]}, "2 responses but 1 scores"),
    ("bad_scores", {"prompt": "q", "responses": ["a", "b"], "scores": [1, "2"]}, "a text"),
    ("bad_scores", {"prompt": "q", "candidates": [{"text": "a", "score": float("nan")}, {"text": "b", "score": 1}]}, "nan"),
    ("bad_scores", {"prompt": "q", "candidates": [{"text": "a", "score": True}, {"text": "b", "score": 1}]}, "true or false"),
    ("wrong_type", {"prompt": "q", "candidates": [["a", 1]]}, "object with a text"),
    ("wrong_type", {"instruction": "q", "completions": [{"text": "a"}]}, "object with a response"),
    ("wrong_type", {"prompt": "q", "best": "a", "losers": "b"}, "losers"),
]


@pytest.mark.parametrize(("reason", "row", "says"), BAD, ids=[f"{i}-{reason}" for i, (reason, _, _) in enumerate(BAD)])
def test_a_bad_row_is_refused_for_its_reason(tmp_path: Path, reason: str, row: dict[str, Any], says: str):
    before, found, after = read(tmp_path, NATIVE, row, NATIVE)
    assert isinstance(before, Located)
    assert isinstance(after, Located)
    assert isinstance(found, Refusal), found
    assert (found.reason.value, found.where) == (reason, f"{tmp_path / 'rows.jsonl'}:2")
    assert says in found.detail


def test_a_greeting_may_begin_like_its_prompt(tmp_path: Path):
    (row,) = read(tmp_path, {"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi, what?"})
    assert isinstance(row, Located)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"comparison_id": "c", "annotator_id": "x", "choice": "a", "source": "s"}, "that is a judgment, which `preferent agree`"),
        ({"item": "c", "annotator": "x", "label": "No"}, "that is a judgment"),
        (
            {"comparison_id": "c", "annotator_id": "x", "choice": "a", "prompt": "p", "response_a": "a", "response_b": "b"},
            "that is a judgment",
        ),
        ({"problem": "p", "steps": ["a"], "first_error": -1}, "that is a solution in steps"),
    ],
)
def test_a_row_of_another_kind_says_what_reads_it(row, says):
    with pytest.raises(Refused, match=says):
        detect(row)
