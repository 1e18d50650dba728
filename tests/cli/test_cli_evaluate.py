"""`preferent evaluate`: one reward, and heads against what people said of single objectives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preferent.cli.main import main


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def ratings(n: int = 24) -> list[dict[str, Any]]:
    words = ["cat", "dog", "tree", "house"]
    return [
        {"prompt": f"say {k // 2}", "response": " ".join(words[: 1 + k % 4]) + f" {k}",
         "values": {"tone": float(k % 4), "accuracy": float(k % 3)}}
        for k in range(n)
    ]  # fmt: skip


def pairs(n: int = 6) -> list[dict[str, Any]]:
    return [{"prompt": f"ask {k}", "response_a": "dog " * (k + 1), "response_b": "cat", "p_a": float(k % 2)} for k in range(n)]


@pytest.mark.slow
def test_a_model_with_heads_is_held_against_ratings_and_preferences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rated, both = write(tmp_path / "r.jsonl", ratings()), write(tmp_path / "both.jsonl", ratings() + pairs())
    rm = str(tmp_path / "rm")
    assert main(["train", rated, "--base", "tiny", "--max-steps", "4", "--threads", "1", "--held-out", "0.3", "-o", rm]) == 0
    capsys.readouterr()
    assert main(["evaluate", rm, rated, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["evaluation"] is None
    assert {"tone", "accuracy"} <= set(json.dumps(alone["objectives"]).replace('"', " ").split())
    page = tmp_path / "report.html"
    assert main(["evaluate", rm, both, "--json", "-o", str(page)]) == 0
    mixed = json.loads(capsys.readouterr().out)
    assert mixed["evaluation"]["numbers"]["accuracy"]["n"] == 6
    assert "tone" in page.read_text(encoding="utf-8")


def test_one_reward_is_not_held_against_ratings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rated, both = write(tmp_path / "r.jsonl", ratings()), write(tmp_path / "both.jsonl", ratings() + pairs())
    assert main(["evaluate", "length", rated]) == 1
    assert "length gives one reward, and every row rates single objectives" in capsys.readouterr().err
    assert main(["evaluate", "length", both, "--json"]) == 0
    # The longer side is preferred in the three odd rows of six.
    assert json.loads(capsys.readouterr().out)["evaluation"]["numbers"]["accuracy"]["value"] == pytest.approx(0.5)
