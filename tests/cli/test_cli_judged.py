"""`preferent train` on judgments: aggregated or jointly, with the texts in the rows or beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preferent.cli.main import main

WORDS = ["cat", "sat", "mat", "dog", "ate", "all"]
QUICK = ["--base", "tiny", "--max-steps", "6", "--threads", "1", "--held-out", "0.3"]


def judgments(n: int = 30) -> list[dict[str, Any]]:
    """Three votes on each of n comparisons, by two who count cats and one who says the opposite."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(3)]
        a, b = f"{texts[0]} cat", texts[1].replace("cat", "dog")
        for who in range(3):
            row = {"comparison_id": f"c{number}", "annotator_id": f"p{who}", "choice": "b" if who == 2 else "a", "shown_first": "a"}
            rows.append(row | {"prompt": f"say {texts[2]}", "response_a": a, "response_b": b})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_judgments_are_aggregated_and_pass_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = judgments()
    rows += [{**row, "comparison_id": "same", "response_b": row["response_a"]} for row in rows[:3]]
    assert main(["train", write(tmp_path / "j.jsonl", rows), "-o", str(tmp_path / "rm"), *QUICK, "--votes.model", "majority"]) == 0
    said = capsys.readouterr().err
    assert "93 judgments by 3 annotators on 31 comparisons, aggregated by majority" in said
    soft = [json.loads(line) for line in (tmp_path / "rm.preferences.jsonl").read_text().splitlines()]
    assert {row["id"]: row["p_a"] for row in soft}["c0"] == pytest.approx(2 / 3)
    ledger = json.loads((tmp_path / "rm" / "ledger.json").read_text())
    assert [refusal["reason"] for refusal in ledger["refusals"]] == ["identical_responses"]
    assert not (tmp_path / "rm" / "annotators.jsonl").exists()


def test_somebody_who_judged_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = judgments()
    path = write(tmp_path / "j.jsonl", [*rows, rows[0]])
    asked = ["train", path, "-o", str(tmp_path / "rm"), *QUICK, "--votes.model", "majority"]
    assert main(asked) == 1
    assert "--repeats merge" in capsys.readouterr().err
    assert main([*asked, "--repeats", "merge"]) == 0
    assert "90 judgments by 3 annotators" in capsys.readouterr().err


def test_joint_training_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = judgments()
    texts = ("prompt", "response_a", "response_b")
    known = {row["comparison_id"]: {"id": row["comparison_id"], **{key: row[key] for key in texts}} for row in rows}
    bare = write(tmp_path / "j.jsonl", [{key: value for key, value in row.items() if key not in texts} for row in rows])
    beside = write(tmp_path / "c.jsonl", list(known.values()))
    joint = ["--votes.kind", "joint", "--json"]
    assert main(["train", bare, "--comparisons", beside, "-o", str(tmp_path / "rm"), *QUICK, *joint]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["annotator_id"] for one in said["annotators"]] == ["p0", "p1", "p2"]
    held_out = json.loads((tmp_path / "rm" / "evaluation.json").read_text())["numbers"]["accuracy"]["n"]
    # Three votes on every comparison that is not held out.
    assert sum(one["votes"] for one in said["annotators"]) == 3 * (30 - held_out)


def test_two_groups_of_people_get_a_head_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for number in range(40):
        a, b = (" ".join(rng.choice(WORDS, 6)) for _ in range(2))
        for who in range(8):
            lover = a.count("cat") >= b.count("cat")
            row = {"comparison_id": f"c{number}", "annotator_id": f"p{who}", "choice": "a" if lover == (who < 5) else "b"}
            rows.append(row | {"prompt": f"say {number}", "response_a": a, "response_b": f"{b} {number}"})
    said = ["--votes.kind", "groups", "--votes.groups", "2"]
    assert main(["train", write(tmp_path / "j.jsonl", rows), "-o", str(tmp_path / "rm"), *QUICK, *said]) == 0
    err = capsys.readouterr().err
    assert "2 preference groups of annotators, a head each: group 1 6" in err
    card = json.loads((tmp_path / "rm" / "preferent.json").read_text())
    assert [one["name"] for one in card["heads"]["objectives"]] == ["group 1", "group 2"]
    soft = [json.loads(line) for line in (tmp_path / "rm.preferences.jsonl").read_text().splitlines()]
    both = {row["id"]: row["p_a"] for row in soft}
    assert np.mean([abs(both[f"c{n}/1"] - both[f"c{n}/2"]) for n in range(40)]) > 0.9
    assert sum(row["weight"] for row in soft) == pytest.approx(320, abs=1)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("no texts", [], "the judgments have no texts"),
        ("preferences", ["--comparisons", "{preferences}"], "--comparisons goes with judgments"),
        ("both", [], "no judgments, and other files are"),
    ],
)
def test_what_cannot_be_trained_on_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, more: list[str], message: str
) -> None:
    preferences = write(tmp_path / "p.jsonl", [{"prompt": "a", "response_a": "b", "response_b": "c", "p_a": 1}] * 2)
    bare = [{key: row[key] for key in ("comparison_id", "annotator_id", "choice")} for row in judgments(2)]
    files = {"no texts": ["{judgments}"], "preferences": ["{preferences}"], "both": ["{judgments}", "{preferences}"]}[name]
    paths = {"judgments": write(tmp_path / "j.jsonl", bare), "preferences": preferences}
    assert main(["train", *[word.format(**paths) for word in (*files, *more)], "-o", str(tmp_path / "rm"), *QUICK]) in (1, 2)
    assert message in capsys.readouterr().err
