"""Public shapes of step data, each read from a row whose labels are known by hand."""

from __future__ import annotations

from typing import Any

import pytest

from preferent.core.errors import ConfigError
from preferent.data.formats.fields import Refused
from preferent.data.formats.steps_detect import STEP_SHAPES, check_step_format, parse_steps, step_shape
from preferent.data.ledger import Reason

PROBLEM = "A box holds 3 red pens and 4 blue ones. How many pens are there?"


def labels_of(row: dict[str, Any], shape: str) -> list[tuple[float | None, ...]]:
    parsed, found = parse_steps(row)
    assert found == shape
    return [record.labels for record in parsed.records]


def refused(row: dict[str, Any]) -> tuple[Reason, str]:
    with pytest.raises(Refused) as caught:
        parse_steps(row)
    return caught.value.reason, caught.value.detail


def test_our_own_shape_keeps_hard_soft_and_missing_labels():
    row = {"prompt": PROBLEM, "steps": ["a", "b", "c", "d"], "labels": [True, 0.25, None, 0], "meta": {"answer": "7"}, "id": 5}
    (record,) = parse_steps(row)[0].records
    assert record.labels == (1.0, 0.25, None, 0.0)
    assert (record.meta, record.id, record.prompt[0].content) == ({"answer": "7"}, "5", PROBLEM)


def test_a_misspelt_key_of_our_shape_names_the_right_one():
    reason, detail = refused({"prompt": PROBLEM, "steps": ["a"], "lables": [1]})
    assert reason == Reason.UNKNOWN_KEYS
    assert "did you mean 'labels'" in detail


def test_trl_stepwise_reads_booleans_and_does_not_round_numbers():
    """TRL's own collator took int(0.9) = 0."""
    row = {"prompt": PROBLEM, "completions": ["3 + 4 = 7.", "So 8."], "labels": [True, False]}
    assert labels_of(row, "trl_stepwise") == [(1.0, 0.0)]
    assert labels_of(row | {"labels": [0.9, 0.2]}, "trl_stepwise") == [(0.9, 0.2)]


@pytest.mark.parametrize(
    ("label", "expected"), [(-1, (1.0, 1.0, 1.0)), (0, (0.0, None, None)), (1, (1.0, 0.0, None)), (2, (1.0, 1.0, 0.0))]
)
def test_processbench_labels_nothing_after_the_first_error(label, expected):
    row = {"id": "gsm8k-1", "generator": "g", "problem": PROBLEM, "steps": ["a", "b", "c"], "final_answer_correct": False, "label": label}
    assert labels_of(row, "processbench") == [expected]


def test_first_error_files_and_their_labels_must_agree():
    row = {"problem": PROBLEM, "steps": ["a", "b", "c"], "first_error": 1}
    assert labels_of(row, "first_error") == [(1.0, 0.0, None)]
    # labels say more than the place of the first error, and are taken; -1 is wrong where it stands beside 1
    assert labels_of(row | {"labels": [1, -1, 1]}, "first_error") == [(1.0, 0.0, 1.0)]
    reason, detail = refused(row | {"labels": [1, 1, -1]})
    assert reason == Reason.BAD_LABEL
    assert detail == "first_error is 1, but by the labels it is 2"


def test_zero_beside_minus_one_may_mean_two_things_and_is_refused():
    reason, detail = refused({"problem": PROBLEM, "steps": ["a", "b", "c"], "labels": [1, 0, -1]})
    assert reason == Reason.BAD_LABEL
    assert "wrong or neutral" in detail


def test_a_place_after_a_blank_step_cannot_be_trusted():
    row = {"problem": PROBLEM, "steps": ["a", "", "b", "c"]}
    reason, detail = refused(row | {"first_error": 2})
    assert reason == Reason.EMPTY_STEP
    assert detail.startswith("first_error is 2, but step 1 is blank")
    parsed, _ = parse_steps(row | {"first_error": 0})
    assert (parsed.records[0].steps, parsed.records[0].labels) == (("a", "b", "c"), (0.0, None, None))
    assert ("blank steps left out", 1) in parsed.notes


# ---- PRM800K ----


def completion(text: str, rating: int | None) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": None}


def place(*completions: dict[str, Any], chosen: int | None = 0, human: Any = None) -> dict[str, Any]:
    return {"completions": list(completions), "human_completion": human, "chosen_completion": chosen}


def prm800k(*steps: dict[str, Any], finish: str = "solution") -> dict[str, Any]:
    return {
        "labeler": "x",
        "generation": 2,
        "question": {"problem": PROBLEM, "ground_truth_answer": "7", "pre_generated_steps": ["long " * 200]},
        "label": {"steps": list(steps), "total_time": 5, "finish_reason": finish},
    }


def test_prm800k_follows_the_chosen_path_and_neutral_is_right():
    row = prm800k(
        place(completion("first", 0)),
        place(completion("bad", -1), completion("good", 1), chosen=1),
        place(completion("also bad", -1), chosen=None, human="a person's"),
    )
    parsed, shape = parse_steps(row)
    path, *others = parsed.records
    assert shape == "prm800k"
    assert path.steps == ("first", "good", "a person's")
    assert path.labels == (1.0, 1.0, 1.0)
    # every other rated completion is a solution with one label; its beginning is not labelled a second time
    assert [(o.steps, o.labels) for o in others] == [
        (("first", "bad"), (None, 0.0)),
        (("first", "good", "also bad"), (None, None, 0.0)),
    ]
    assert (path.meta["answer"], path.meta["finish_reason"]) == ("7", "solution")
    notes = dict(parsed.notes)
    assert notes["neutral ratings (0): read as right"] == 1
    assert notes["steps written by a person: read as right"] == 1


def test_prm800k_stops_where_labelling_stopped():
    """Phase 2: at the first error nothing is chosen; the first completion is the solution's own step."""
    row = prm800k(
        place(completion("fine", 1)),
        place(completion("wrong", -1), completion("other", 0), completion("unrated", None), chosen=None),
        place(completion("never", 1)),
        finish="found_error",
    )
    path, *others = parse_steps(row)[0].records
    assert (path.steps, path.labels) == (("fine", "wrong"), (1.0, 0.0))
    assert [(o.steps, o.labels) for o in others] == [(("fine", "other"), (None, 1.0))]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (prm800k(place(completion("a", 2))), "rating must be -1, 0, 1 or null, found 2"),
        (prm800k(place(completion("a", 1), chosen=3)), "must name one of 1 completions, found 3"),
    ],
)
def test_prm800k_says_what_is_wrong(row, words):
    reason, detail = refused(row)
    assert reason == Reason.BAD_LABEL
    assert words in detail


# ---- Math-Shepherd ----

SHEPHERD = f"{PROBLEM} Step 1: There are 3 + 4 = 7 pens. ки\nStep 2: 7 - 1 = 6 - 0. ки\nStep 3: The answer is: 6 ки"


@pytest.mark.parametrize(
    "label",
    [
        f"{PROBLEM} Step 1: There are 3 + 4 = 7 pens. +\nStep 2: 7 - 1 = 6 - 0. -\nStep 3: The answer is: 6 -",
        f"{PROBLEM} Step 1: There are 3 + 4 = 7 pens. ки +\nStep 2: 7 - 1 = 6 - 0. ки -\nStep 3: The answer is: 6 ки -",
        "+--",
        "+ - -",
        ["+", "-", "-"],
        [True, False, False],
    ],
)
def test_math_shepherd_in_its_several_forms(label):
    parsed, shape = parse_steps({"input": SHEPHERD, "label": label, "task": "GSM8K"})
    (record,) = parsed.records
    assert shape == "math_shepherd"
    assert record.prompt[0].content == PROBLEM
    assert record.steps == ("Step 1: There are 3 + 4 = 7 pens.", "Step 2: 7 - 1 = 6 - 0.", "Step 3: The answer is: 6")
    assert record.labels == (1.0, 0.0, 0.0)
    assert record.meta == {"task": "GSM8K"}


def test_math_shepherd_soft_estimates_stay_soft_and_question_marks_are_no_text():
    row = {"input": SHEPHERD.replace("ки", "ки ?"), "label": [1.0, 0.375, 0.0]}
    assert labels_of(row, "math_shepherd") == [(1.0, 0.375, 0.0)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": "+-"}, Reason.LENGTHS_DIFFER),
        ({"label": "Step 1: other text +"}, Reason.BAD_LABEL),
        ({"input": SHEPHERD + " and more"}, Reason.LENGTHS_DIFFER),
        ({"input": "Step 1: no problem before it ки", "label": "+"}, Reason.EMPTY_PROMPT),
    ],
)
def test_math_shepherd_refuses_what_does_not_fit(change, reason):
    assert refused({"input": SHEPHERD, "label": "+--"} | change)[0] == reason


# ---- PRMBench, MR-Ben ----


def test_prmbench_gives_the_original_and_the_modified_solution():
    row = {
        "original_question": PROBLEM,
        "modified_question": PROBLEM + " (They are new.)",
        "original_process": ["1. Add.", "2. 7."],
        "modified_process": ["1. Add.", "2. 8.", "3. 8, then."],
        "modified_steps": [2],
        "error_steps": [2, 3],
        "reason": "because",
        "idx": "circular_prm_test_p1_0",
        "question": PROBLEM,
        "classification": "circular",
    }
    parsed, shape = parse_steps(row)
    original, modified = parsed.records
    assert shape == "prmbench"
    assert original.labels == (1.0, 1.0)
    assert modified.labels == (1.0, 0.0, 0.0)
    assert modified.prompt[0].content.endswith("(They are new.)")
    assert original.meta["idx"] == modified.meta["idx"] == "prm_test_p1_0"
    assert refused(row | {"error_steps": [4]}) == (Reason.BAD_LABEL, "error_steps must be from 1 to 3 (counted from 1), found 4")


def mr_ben(**change: Any) -> dict[str, Any]:
    return {
        "Question_UUID": "u",
        "Question": PROBLEM,
        "Options": "A: 7\nB: 8",
        "Sampled_Model": "m",
        "Model_Solution_Steps": ["Step 1: Add.", "", "Step 2: 3 + 4 = 8.", "", "Step 3: Done.", "", "Solution: B"],
        "Model_Solution_Correctness": "incorrect",
        "Model_Solution_First_Error_Step": "2",
    } | change


def test_mr_ben_counts_steps_by_the_number_they_carry_not_by_the_line():
    """Blank lines stand between the steps of some models: the second line is blank, the second step is the third line."""
    (record,) = parse_steps(mr_ben())[0].records
    assert record.steps == ("Step 1: Add.", "Step 2: 3 + 4 = 8.", "Step 3: Done.", "Solution: B")
    assert record.labels == (1.0, 0.0, None, None)
    assert record.prompt[0].content == PROBLEM + "\nA: 7\nB: 8"
    assert record.meta["Question_UUID"] == "u"


def test_mr_ben_without_an_error_and_without_a_place():
    right = mr_ben(Model_Solution_Correctness="correct", Model_Solution_First_Error_Step="N/A")
    assert labels_of(right, "mr_ben") == [(1.0, 1.0, 1.0, 1.0)]
    assert refused(mr_ben(Model_Solution_First_Error_Step="N/A"))[0] == Reason.NO_LABELS
    assert refused(mr_ben(Model_Solution_First_Error_Step="9"))[0] == Reason.BAD_LABEL


# ---- detection ----


def test_rows_of_pairs_are_no_steps_and_the_shapes_are_named():
    assert step_shape({"prompt": "p", "chosen": "a", "rejected": "b"}) is None
    assert step_shape({"prompt": "p", "completions": [{"response": "x"}]}) is None
    reason, detail = refused({"text": "x"})
    assert reason == Reason.UNKNOWN_SHAPE
    assert all(shape in detail for shape in STEP_SHAPES)
    with pytest.raises(ConfigError, match="one of auto, steps, trl_stepwise"):
        check_step_format("parquet")


def test_a_format_given_by_name_reads_every_row_as_that_shape():
    row = {"prompt": PROBLEM, "steps": ["a"], "labels": [1], "colour": "red"}
    with pytest.raises(Refused):
        parse_steps(row)
    assert parse_steps(row, "first_error")[0].records[0].meta == {"colour": "red"}
