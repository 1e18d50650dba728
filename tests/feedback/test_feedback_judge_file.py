"""A file of comparisons through a judge: what a judgment says, nothing lost, and a stopped run goes on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preferent.annotators.table_read import read_votes
from preferent.core.errors import ConfigError, DataError, ExistsError
from preferent.core.records import Comparison
from preferent.feedback.judge_file import JudgeOptions, judge_file
from preferent.feedback.preference_judge import Answer

OPTIONS = JudgeOptions("judge", workers=3)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(n: int = 12) -> list[dict[str, Any]]:
    return [{"id": f"c{k}", "prompt": "why?", "response_a": "x" * (k % 5 + 1), "response_b": "y" * 3} for k in range(n)]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def by(rule: Callable[[Comparison], float]) -> Callable[[Comparison], Answer]:
    return lambda comparison: Answer(rule(comparison), (f"because {rule(comparison)}",))


def longer(comparison: Comparison) -> float:
    gap = len(comparison.response_a) - len(comparison.response_b)
    return 0.9 if gap > 0 else 0.1 if gap < 0 else 0.5


def test_judgments_are_what_the_judge_says_over_both_orders(tmp_path: Path) -> None:
    source, out = write(tmp_path / "c.jsonl", rows()), tmp_path / "j.jsonl"
    seen = []
    summary = judge_file(source, out, by(longer), OPTIONS, progress=seen.append)
    found = read(out)
    assert [row["comparison_id"] for row in found] == [f"c{k}" for k in range(12)], "in the order of the input, whoever was first"
    assert [row["choice"] for row in found] == [("b", "b", "tie", "a", "a")[k % 5] for k in range(12)]
    assert found[0]["meta"]["judge"]["p_a"] == pytest.approx(0.1)
    assert found[0]["rationale"].count("because") == 2
    assert (summary.judgments, summary.turned, sum(seen)) == (12, 0, 12)
    table = read_votes(out)
    assert (table.n_items, table.n_annotators) == (12, 1)
    assert not out.with_name("j.jsonl.partial").exists()


def test_a_packed_output_is_packed_and_a_table_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "c.jsonl", rows())
    judge_file(source, tmp_path / "j.jsonl.gz", by(longer), OPTIONS)
    assert len(gzip.decompress((tmp_path / "j.jsonl.gz").read_bytes()).splitlines()) == 12
    assert read_votes(tmp_path / "j.jsonl.gz").n_items == 12
    with pytest.raises(ConfigError, match="JSON lines"):
        judge_file(source, tmp_path / "j.parquet", by(longer), OPTIONS)


def test_a_winner_that_changes_with_the_order_is_a_tie(tmp_path: Path) -> None:
    summary = judge_file(write(tmp_path / "c.jsonl", rows()), tmp_path / "j.jsonl", by(lambda _: 0.8), OPTIONS)
    assert summary.turned == 12
    assert dict(summary.choices) == {"tie": 12}
    assert "in 12 the winner changed with the order" in summary.render()


def test_one_order_is_drawn_and_recorded_and_hangs_on_the_id_alone(tmp_path: Path) -> None:
    options = JudgeOptions("judge", orders="one")
    many = rows(40)
    judge_file(write(tmp_path / "c.jsonl", many), tmp_path / "j.jsonl", by(lambda _: 0.8), options)
    judge_file(write(tmp_path / "d.jsonl", many[::-1]), tmp_path / "k.jsonl", by(lambda _: 0.8), options)
    found, other = read(tmp_path / "j.jsonl"), read(tmp_path / "k.jsonl")
    assert all(row["choice"] == row["shown_first"] for row in found), "it takes what is shown first"
    assert 8 < sum(row["shown_first"] == "a" for row in found) < 32
    assert {row["comparison_id"]: row["shown_first"] for row in found} == {row["comparison_id"]: row["shown_first"] for row in other}


def test_an_answer_that_names_no_side(tmp_path: Path) -> None:
    def ask(comparison: Comparison) -> Answer:
        silent = "x" in (comparison.response_a, comparison.response_b) and (comparison.id == "c0" or comparison.response_a == "x")
        return Answer(0.5, ("hm",), 1) if silent else Answer(longer(comparison), ("Better",), 0)

    summary = judge_file(write(tmp_path / "c.jsonl", rows(6)), tmp_path / "j.jsonl", ask, OPTIONS)
    found = read(tmp_path / "j.jsonl")
    assert found[0]["choice"] == "skip", "neither order was answered"
    assert found[5]["choice"] == "b", "one order was"
    assert summary.unread == 3


def test_a_run_that_broke_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    source, out = write(tmp_path / "c.jsonl", rows()), tmp_path / "j.jsonl"
    asked: list[str] = []

    def breaks(comparison: Comparison) -> Answer:
        if comparison.id == "c7":
            raise ConnectionError("gone")
        return Answer(longer(comparison), ("x",))

    with pytest.raises(ConnectionError):
        judge_file(source, out, breaks, JudgeOptions("judge"))
    partial = tmp_path / "j.jsonl.partial"
    assert len(read(partial)) == 7
    with partial.open("a") as file:
        file.write('{"comparison_id": "c7", "torn')

    def ask(comparison: Comparison) -> Answer:
        asked.append(comparison.id)
        return Answer(longer(comparison), ("x",))

    summary = judge_file(source, out, ask, JudgeOptions("judge"))
    assert (summary.resumed, summary.judgments) == (7, 12)
    assert sorted(asked) == sorted([f"c{k}" for k in range(7, 12)] * 2)
    whole = tmp_path / "whole.jsonl"
    judge_file(source, whole, ask, JudgeOptions("judge"))
    untimed = [[{**row, "seconds": 0} for row in read(path)] for path in (out, whole)]
    assert untimed[0] == untimed[1]
    with pytest.raises(ExistsError):
        judge_file(source, out, ask, JudgeOptions("judge"))


def test_what_another_run_left_is_not_taken_for_this_one(tmp_path: Path) -> None:
    source, out = write(tmp_path / "c.jsonl", rows()), tmp_path / "j.jsonl"

    def breaks(comparison: Comparison) -> Answer:
        if comparison.id == "c3":
            raise ConnectionError("gone")
        return Answer(0.5)

    with pytest.raises(ConnectionError):
        judge_file(source, out, breaks, JudgeOptions("judge", settings={"model": "m"}))
    for options in (JudgeOptions("judge", settings={"model": "n"}), JudgeOptions("other", settings={"model": "m"})):
        with pytest.raises(DataError, match="left by another run: line 1 was made with"):
            judge_file(source, out, by(longer), options)
    with pytest.raises(DataError, match="which the input does not have there"):
        judge_file(write(tmp_path / "d.jsonl", rows()[1:]), out, by(longer), JudgeOptions("judge", settings={"model": "m"}))
    other = tmp_path / "k.jsonl"
    other.with_name("k.jsonl.partial").write_text("[1]\n")
    with pytest.raises(DataError, match="line 1 is no judgment"):
        judge_file(source, other, by(longer), OPTIONS)
    summary = judge_file(source, out, by(longer), JudgeOptions("other", force=True))
    assert (summary.resumed, summary.judgments) == (0, 12)


def test_rows_that_are_no_comparison_are_named(tmp_path: Path) -> None:
    made = [*rows(2), {"id": "c9", "prompt": "why?", "response_a": "x"}, {"id": "c8", "prompt": 3, "response_a": "x", "response_b": "y"}]
    source = write(tmp_path / "c.jsonl", made)
    summary = judge_file(source, tmp_path / "j.jsonl", by(longer), OPTIONS)
    assert summary.judgments == 2
    assert [reason.split(": ")[0].rsplit(":", 1)[1] for reason in summary.refused] == ["3", "4"]
    assert "response_b" in summary.refused[0]
    with pytest.raises(DataError, match=r"twice\.jsonl:2: the comparison 'c0' stands at .*:1 too"):
        judge_file(write(tmp_path / "twice.jsonl", [rows()[0], rows()[0]]), tmp_path / "k.jsonl", by(longer), OPTIONS)
    with pytest.raises(DataError, match=r"no comparison to judge\n  .*e\.jsonl:1: missing_keys"):
        judge_file(write(tmp_path / "e.jsonl", [{"a": 1}]), tmp_path / "e.out", by(longer), OPTIONS)
    assert not (tmp_path / "e.out.partial").exists()
    with pytest.raises(DataError, match="no such file"):
        judge_file(tmp_path / "nowhere.jsonl", tmp_path / "n.out", by(longer), OPTIONS)
    assert not (tmp_path / "n.out.partial").exists()
    with pytest.raises(DataError, match="is the input"):
        judge_file(source, source, by(longer), OPTIONS)
