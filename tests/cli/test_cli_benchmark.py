"""`preferent benchmark` from a shell's view: output, JSON, exit codes, and a trained checkpoint that knows what it was trained on."""

from __future__ import annotations

import json

import pytest

from preferent.cli import main as cli
from preferent.core.records import Preference, user
from preferent.data.sketch import SKETCH, write_sketch
from preferent.data.write import write_preferences


@pytest.fixture
def rows(tmp_path):
    """8 rows of one subset: the longer response is right in the even ones."""
    path = tmp_path / "rb.jsonl"
    lines = [
        {"id": n, "prompt": f"Please answer question number {n} about item {n * n}", "subset": "hep-js",
         "chosen": "long " * (3 if n % 2 == 0 else 1), "rejected": "long long"}
        for n in range(8)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_table_for_people(rows, capsys):
    assert cli.main(["benchmark", "rewardbench", str(rows), "--model", "length"]) == 0
    out = capsys.readouterr().out
    assert "RewardBench: length" in out
    assert "* score" in out
    assert "0.500" in out
    assert "rule: right when chosen > rejected" in out


def test_json_for_programs_and_the_contaminated_part(rows, tmp_path, capsys):
    """Of the prompts 0, 1 and 2 that were trained on two are right: 4/8 with them, 2/5 without."""
    prompts = [f"please answer QUESTION number {n} about item {n * n}!" for n in range(3)]
    write_sketch(tmp_path, [Preference(prompt=user(text), response_a="a", response_b="b", p_a=1.0) for text in prompts])
    argv = ["benchmark", "rewardbench", str(rows), "--model", "length", "--sketch", str(tmp_path), "--json"]
    assert cli.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"]["value"] == 0.5
    assert (found["contamination"]["n_whole"], found["contamination"]["n_prompts"]) == (3, 8)
    assert found["without_contaminated"]["score"]["value"] == pytest.approx(2 / 5)
    assert cli.main(argv[:-1]) == 0
    out = capsys.readouterr().out
    assert "3 of 8 distinct prompts were in the training data" in out
    assert "without the contaminated items: score 0.400" in out


def test_exit_codes(rows, tmp_path, capsys):
    argv = ["benchmark", "rewardbench", str(rows), "--model", "length"]
    assert cli.main([*argv, "--fail-under", "0.4"]) == 0
    assert cli.main([*argv, "--fail-under", "0.6"]) == 1
    assert "under 0.6" in capsys.readouterr().err
    assert cli.main(["benchmark", "rewardbench", str(rows)]) == 2
    assert cli.main(["benchmark", "mmlu", str(rows), "--model", "length"]) == 1
    assert cli.main([*argv, "--threshold", "0"]) == 1
    assert cli.main(["benchmark", "rewardbench", str(tmp_path / "none.jsonl"), "--model", "length"]) == 1
    capsys.readouterr()
    rows.write_text(rows.read_text() + "half a li", encoding="utf-8")
    assert cli.main(argv) == 1
    assert f"{rows}:9" in capsys.readouterr().err


def test_the_list(capsys):
    assert cli.main(["benchmark", "--list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)][:2] == ["rewardbench", "rewardbench2"]
    assert cli.main(["benchmark", "--list"]) == 0
    assert "RM-Bench" in capsys.readouterr().out


def test_a_trained_checkpoint_knows_its_prompts(rows, tmp_path, capsys):
    """Half of the benchmark's prompts are in the training file: the command says so of the checkpoint, without being told."""
    pytest.importorskip("transformers")
    texts = [f"Please answer question number {n} about item {n * n}" for n in range(4)] + [
        f"Tell me of thing {n} and of {n + 1}" for n in range(20)
    ]
    pairs = [Preference(prompt=user(text), response_a="good answer", response_b="bad", p_a=1.0) for text in texts]
    write_preferences(tmp_path / "train.jsonl", pairs)
    model = tmp_path / "model"
    settings = ["--base", "tiny", "--epochs", "1", "--max-length", "64", "--held-out", "0", "--threads", "1"]
    assert cli.main(["train", str(tmp_path / "train.jsonl"), "-o", str(model), *settings]) == 0
    assert (model / SKETCH).is_file()
    capsys.readouterr()
    assert cli.main(["benchmark", "rewardbench", str(rows), "--model", str(model), "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["contamination"]["n_whole"] == 4
    (model / SKETCH).unlink()
    assert cli.main(["benchmark", "rewardbench", str(rows), "--model", str(model), "--json", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["contamination"] is None
    assert "contamination is not known" in captured.err
