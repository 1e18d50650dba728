"""preferent check, train and score on ratings and named objectives, from files to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from preferent.cli.main import preferent
from preferent.core.errors import DataError

WORDS = ["sat", "mat", "ate", "all", "my", "home", "said", "tree"]
QUICK = ["--base", "tiny", "--max-steps", "3", "--max-length", "64", "--threads", "1", "--held-out", "0.3"]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def ratings(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        prompt = " ".join(rng.choice(WORDS, 6)) + f" {number}"
        for place in range(3):
            count = int(rng.integers(0, 4))
            response = " ".join(["cat"] * count + rng.choice(WORDS, 4).tolist()) + f" {place}"
            rows.append({"prompt": prompt, "response": response, "values": {"tone": count, "safety": float(rng.normal())}})
    return rows


def pairs(rows: list[dict[str, Any]], objective: str | None) -> list[dict[str, Any]]:
    made = []
    for one, other in zip(rows[::3], rows[1::3], strict=True):
        row = {"prompt": one["prompt"], "response_a": one["response"], "response_b": other["response"], "p_a": 0.8}
        made.append(row if objective is None else {**row, "objective": objective})
    return made


def run(*words: str) -> Any:
    result = CliRunner().invoke(preferent, words, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result


def test_a_mixed_file_from_check_to_score(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = ratings(14)
    file = write(
        tmp_path / "mixed.jsonl", [*rows, *pairs(rows, "tone"), *pairs(rows, None), {"prompt": "p", "response": "r", "values": {}}]
    )
    checked = json.loads(run("check", file, "--json").stdout)
    assert (checked["kept"], checked["ratings"]["kept"], checked["ratings"]["refused"]) == (28, 42, 1)
    output = tmp_path / "out"
    done = run("train", file, "-o", str(output), *QUICK, "--combination.kind", "gate", "--adapter.kind", "lora", "--json")
    assert "2 objectives, one head each: safety" in done.stderr
    told = json.loads(done.stdout)
    assert set(told["objectives"]["heads"]) == {"tone", "safety"}
    assert told["evaluation"] is not None
    page = (output / "report.html").read_text(encoding="utf-8")
    for words in ("Each objective and what people said", "most weight on tone", "What can be had at once", "Worst mistakes"):
        assert words in page
    # Every objective in every row that is scored.
    asked = write(tmp_path / "asked.jsonl", [{"id": "1", "prompt": "all my", "responses": ["cat", "tree mat"]}])
    run("score", str(output), asked, "-o", str(tmp_path / "scored.jsonl"))
    row = json.loads((tmp_path / "scored.jsonl").read_text(encoding="utf-8"))
    assert len(row["rewards"]) == 2
    assert [set(each) for each in row["objectives_each"]] == [{"safety", "tone"}] * 2


def test_ratings_alone_have_a_report_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = write(tmp_path / "ratings.jsonl", ratings(14))
    done = run("train", file, "-o", str(tmp_path / "out"), *QUICK)
    assert "Objectives, on" in done.stdout
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "with people&#39;s ratings" in page
    assert "Each objective and what people said" in page
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_objectives_are_never_ignored_in_silence(tmp_path: Path) -> None:
    rows = ratings(10)
    file = write(tmp_path / "pairs.jsonl", [*pairs(rows, "tone"), *pairs(rows, "safety")])
    with pytest.raises(DataError, match=r"the data name objectives \(safety, tone\) and combination.kind is 'single'"):
        run("train", file, "-o", str(tmp_path / "one"), *QUICK, "--combination.kind", "single")
    done = run("train", file, "-o", str(tmp_path / "two"), *QUICK)
    assert "2 objectives, one head each: safety (7 comparisons), tone (7 comparisons)" in done.stderr
    card = json.loads((tmp_path / "two" / "preferent.json").read_text(encoding="utf-8"))
    assert card["objectives"] == ["safety", "tone"]


def test_one_objective_is_evaluated_as_the_reward(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = write(tmp_path / "pairs.jsonl", pairs(ratings(16), "tone"))
    done = run("train", file, "-o", str(tmp_path / "out"), *QUICK)
    assert "Accuracy" in done.stdout
    assert (tmp_path / "out" / "evaluation.json").exists()
