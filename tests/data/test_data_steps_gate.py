"""The gate for step data: every row accounted for, repeats and contradictions merged, splits by problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preferent.core.errors import DataError
from preferent.core.records import StepLabels, user
from preferent.data.steps_gate import check_steps, together
from preferent.data.steps_read import holds_steps
from preferent.data.steps_split import problem_groups, split_by_problem
from preferent.data.steps_write import write_steps


def put(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def row(labels: list[Any], problem: str = "How many?", steps: list[str] | None = None) -> dict[str, Any]:
    return {"prompt": problem, "steps": steps or [f"step {t}" for t in range(len(labels))], "labels": labels}


def test_every_row_is_accounted_for_with_its_place_and_reason(tmp_path):
    path = put(
        tmp_path / "s.jsonl",
        row([1, 0]),
        row([1, 2]),
        '{"prompt": "q", "steps": ["a"], "labels": [NaN]}',
        row([1], steps=["a", "b"]),
        {"prompt": "q", "steps": [], "labels": []},
        row([None, None]),
        {"prompt": "q", "steps": ["a", " "], "labels": [1, 0]},
        row([1], problem=" "),
        "{half",
        row([1, None], problem="Another?"),
    )
    ledger = check_steps(path).ledger
    assert (ledger.rows, ledger.kept, ledger.refused, ledger.merged) == (10, 2, 8, 0)
    assert [(refusal.where, refusal.reason.value) for refusal in ledger.refusals] == [
        (f"{path}:2", "bad_label"),
        (f"{path}:3", "bad_label"),
        (f"{path}:4", "lengths_differ"),
        (f"{path}:5", "no_steps"),
        (f"{path}:6", "no_labels"),
        (f"{path}:7", "empty_step"),
        (f"{path}:8", "empty_prompt"),
        (f"{path}:9", "invalid_json"),
    ]
    assert (ledger.steps, ledger.unlabelled, ledger.soft, ledger.with_error) == (4, 1, 0, 1)
    # 2 of the 3 labelled steps are right
    assert ledger.right.value == pytest.approx(2 / 3)
    with pytest.raises(DataError, match=r"8 of 10 rows refused"):
        check_steps(path, strict=True)


def test_repeats_stand_once_and_contradictions_become_a_soft_label(tmp_path):
    path = put(
        tmp_path / "s.jsonl",
        row([1, 1], problem="same?"),
        row([1, 1], problem="same?"),
        row([1, 1], problem="against?"),
        row([1, 0], problem="against?"),
        row([1, 0], problem="against?"),
        row([1, None], problem="joined?"),
        row([None, 0], problem="joined?"),
    )
    checked = check_steps(path)
    ledger = checked.ledger
    assert (ledger.merged_exact, ledger.merged_agreeing, ledger.merged_contradictory, ledger.contradictions) == (1, 1, 2, 1)
    assert ledger.kept + ledger.refused + ledger.merged == ledger.rows + ledger.further
    labels = {record.prompt[0].content: record.labels for record in checked.records()}
    # (1 + 0 + 0) / 3 for the second step; null says nothing against a label
    assert labels == {"same?": (1.0, 1.0), "against?": (1.0, round(1 / 3, 12)), "joined?": (1.0, 0.0)}
    # the ledger counts what is kept: labels 1 1, 1 .33, 1 0
    assert (ledger.steps, ledger.soft, ledger.with_error) == (6, 1, 2)
    assert ledger.right.value == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("rows", "labels", "contradictory"),
    [
        ([(1.0,), (0.0,)], (0.5,), True),
        ([(1.0,), (0.6,)], (0.8,), False),
        ([(1.0,), (0.5,)], (0.75,), False),
        ([(None, 1.0), (None, None)], (None, 1.0), False),
    ],
)
def test_labels_of_several_rows_together(rows, labels, contradictory):
    assert together(rows) == (labels, contradictory)
    assert together(rows[::-1]) == (labels, contradictory)


def test_solutions_beyond_the_first_of_a_row_are_counted(tmp_path):
    bench = {"original_question": "Q?", "original_process": ["a", "b"], "modified_process": ["a", "c"], "error_steps": [2]}
    ledger = check_steps(put(tmp_path / "p.jsonl", bench, bench)).ledger
    assert (ledger.rows, ledger.further, ledger.kept, ledger.merged_exact) == (2, 2, 2, 2)


def test_a_file_that_changes_after_the_check_is_noticed(tmp_path):
    path = put(tmp_path / "s.jsonl", row([1, 0]))
    checked = check_steps(path)
    put(path, row([1, 0, 1]))
    with pytest.raises(DataError, match="changed since it was checked"):
        list(checked.records())


def test_a_file_of_nothing_that_can_be_used_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no row can be used, of 1"):
        check_steps(put(tmp_path / "s.jsonl", row([None])))


def test_over_long_solutions_are_counted_and_kept(tmp_path):
    path = put(tmp_path / "s.jsonl", row([1, 1]), row([1] * 9, problem="Long?"))
    ledger = check_steps(path, count_tokens=lambda e: len(e.response.split("\n")), max_length=5).ledger
    assert (ledger.over_long, ledger.kept) == (1, 2)


def test_writing_and_reading_again_gives_the_same_records(tmp_path):
    records = [
        StepLabels(prompt=user("p"), steps=("a", "b"), labels=(1.0, None), id="1", source="s", meta={"answer": "7"}),
        StepLabels(prompt=user("q"), steps=("a",), labels=(0.25,)),
    ]
    write_steps(tmp_path / "s.jsonl.gz", records)
    assert list(check_steps(tmp_path / "s.jsonl.gz").records()) == records


def test_step_files_are_told_from_pairs_by_their_first_rows(tmp_path):
    assert holds_steps(put(tmp_path / "s.jsonl", "{half", row([1])))
    assert not holds_steps(put(tmp_path / "p.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"}))


# ---- splits ----


def solution(problem: str, idx: str | None = None) -> StepLabels:
    return StepLabels(prompt=user(problem), steps=("a",), labels=(1.0,), meta={} if idx is None else {"idx": idx})


def test_near_duplicates_and_named_problems_stand_on_one_side():
    one = "A farmer has seven apples and gives two of them to each of his three neighbours on Monday, how many are left?"
    records = [
        solution(one),
        solution(one.replace("Monday", "Sunday")),
        solution("Something else entirely about trains", idx="p1"),
        solution("The modified question of the same item", idx="p1"),
        solution("A third thing", idx="p2"),
    ]
    groups = problem_groups(records)
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 3
    # names and split do not depend on the order
    order = [3, 0, 4, 1, 2]
    assert problem_groups([records[i] for i in order]) == [groups[i] for i in order]
    held = split_by_problem(records, held_out=0.4, seed=1)
    assert held[0] == held[1]
    assert held[2] == held[3]
    assert 0 < held.sum() < 5
    np.testing.assert_array_equal(split_by_problem([records[i] for i in order], held_out=0.4, seed=1), held[order])


def test_chains_of_names_and_near_duplicates_join():
    records = [solution("first wording of it", idx="p1"), solution("second wording here", idx="p1"), solution("Second wording here!")]
    assert len(set(problem_groups(records))) == 1
    assert len(set(problem_groups(records, group_keys=()))) == 2
