"""`preferent aggregate --rule`: two planted groups, what each rule makes of them, and rows that train a head for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli.main import preferent
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Preference
from preferent.data.gate import check

# 14 people are of the first group, 6 of the second; on responses 0 to 4 they want the opposite, on 5 to 9 the same.
TASTE = np.stack([np.r_[2.5, 1.5, 0, -1.5, -2.5, 3, 1.5, 0, -1.5, -3], np.r_[-2.5, -1.5, 0, 1.5, 2.5, 3, 1.5, 0, -1.5, -3]])
SECOND = 6


def run(*words: object) -> str:
    result = CliRunner().invoke(preferent, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def judgments(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for person in range(20):
        own = TASTE[int(person < SECOND)]
        for i, j in zip(*(ends.tolist() for ends in np.triu_indices(10, 1)), strict=True):
            choice = "a" if rng.random() < 1 / (1 + np.exp(own[j] - own[i])) else "b"
            rows.append({"comparison_id": f"{i}-{j}", "annotator_id": f"p{person}", "choice": choice, "prompt": "q",
                         "response_a": f"text {i}", "response_b": f"text {j}"})  # fmt: skip
    path = tmp_path / "judgments.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_rules_differ_where_groups_do(judgments: Path, tmp_path: Path) -> None:
    told, rows = {}, {}
    for rule in ("utilitarian", "borda", "worst-off"):
        out = tmp_path / f"{rule}.jsonl"
        told[rule] = json.loads(run("aggregate", judgments, "-o", out, "--rule", rule, "--groups", 2, "--json"))
        rows[rule] = {row["comparison_id"]: row for row in read(out)}
        assert len(rows[rule]) == 45
        assert all(row["low"] <= row["p_a"] <= row["high"] for row in rows[rule].values())
    first, second = told["borda"]["groups"]
    assert first["share"]["low"] < 0.7 < first["share"]["high"]
    # 10 of 45 pairs are between responses 0 to 4, on which the smaller group is overruled; on pairs across it may be as well.
    assert second["against"]["low"] > 10 / 45 / 2
    assert first["against"]["value"] < second["against"]["value"]
    assert rows["borda"]["0-4"]["p_a"] > 0.6  # 70 % want a
    assert abs(rows["worst-off"]["0-4"]["p_a"] - 0.5) < 0.1  # nobody's loss counts more
    assert all(rows[rule]["5-9"]["p_a"] > 0.9 for rule in rows)
    assert told["worst-off"]["groups"][1]["regret"]["value"] < told["borda"]["groups"][1]["regret"]["value"]


def test_groups_are_found_and_said(judgments: Path, tmp_path: Path) -> None:
    people, responses = tmp_path / "people.jsonl", tmp_path / "responses.jsonl"
    text = run(
        "aggregate", judgments, "-o", tmp_path / "o.jsonl", "--rule", "utilitarian", "--annotators", people, "--responses", responses
    )
    assert "2 groups of annotators, rule utilitarian" in text
    assert "a decided group counts for more" in text
    assert text.count("overruled on") == 2
    member = {row["annotator_id"]: row["groups"]["group 2"] for row in read(people)}
    assert {name for name, chance in member.items() if chance > 0.5} == {f"p{k}" for k in range(SECOND)}
    told = {row["response"]: row for row in read(responses)}
    assert told["text 0"]["variance"] > 3 * told["text 5"]["variance"]
    ends = [group["score"] for group in told["text 0"]["groups"]]
    assert ends[0] > ends[1]


def test_a_row_for_each_group_is_what_train_reads(judgments: Path, tmp_path: Path) -> None:
    rows = {row["comparison_id"]: row for row in read(judgments)}
    comparisons, out = tmp_path / "comparisons.jsonl", tmp_path / "o.jsonl"
    comparisons.write_text("".join(
        json.dumps({"id": name, "prompt": [{"role": "user", "content": "q"}], "response_a": row["response_a"],
                    "response_b": row["response_b"]}) + "\n" for name, row in rows.items()), encoding="utf-8")  # fmt: skip
    told = json.loads(run("aggregate", judgments, "-o", out, "--rule", "per-group", "--groups", 2, "--comparisons", comparisons, "--json"))
    assert told["rows"] == 90
    records = [record for record in check(str(out)).records() if isinstance(record, Preference)]
    assert len(records) == 90
    assert {record.objective for record in records} == {"group 1", "group 2"}
    weight = np.array([record.weight for record in records]).reshape(45, 2)
    np.testing.assert_allclose(weight.sum(axis=1), 20.0)  # every vote counts once
    conflict = {record.objective: record.p_a for record in records if {record.response_a, record.response_b} == {"text 0", "text 4"}}
    assert conflict["group 1"] > 0.9
    assert conflict["group 2"] < 0.1


def test_without_responses_every_comparison_stands_alone(judgments: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    names = ("comparison_id", "annotator_id", "choice")
    bare.write_text("".join(json.dumps({name: row[name] for name in names}) + "\n" for row in read(judgments)), encoding="utf-8")
    run("aggregate", bare, "-o", tmp_path / "o.jsonl", "--rule", "borda", "--groups", 2)
    found = {row["comparison_id"]: row["p_a"] for row in read(tmp_path / "o.jsonl")}
    assert found["5-9"] > 0.8 > found["0-4"] > 0.5
    with pytest.raises(ConfigError, match="do not say which responses"):
        run("aggregate", bare, "-o", tmp_path / "p.jsonl", "--rule", "borda", "--responses", tmp_path / "r.jsonl")


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (("--groups", "2"), ConfigError, "none is named"),
        (("--rule", "borda", "--groups", "two"), ConfigError, "allowed are auto and whole numbers"),
        (("--rule", "borda", "--model", "davidson"), ConfigError, "not with --model davidson"),
        (("--rule", "borda", "--groups", "21"), ConfigError, "21 groups of 20 annotators"),
    ],
)
def test_what_does_not_go_together(judgments: Path, tmp_path: Path, words: tuple[str, ...], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        run("aggregate", judgments, "-o", tmp_path / "o.jsonl", *words)
    assert not (tmp_path / "o.jsonl").exists()


def test_one_annotator_has_no_groups(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"comparison_id": "c", "annotator_id": "p", "choice": "a"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="one annotator is one group"):
        run("aggregate", path, "-o", tmp_path / "o.jsonl", "--rule", "borda")
