"""`preferent train`, `evaluate` and `score` on step labels, from a file to numbers."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch")

from preferent.cli.main import main
from preferent.core.records import Exchange, user
from preferent.data.steps_write import write_steps
from preferent.lab.steps import StepsPolicy, StepsWorld


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


def run(*words: Any) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 problems with two solutions each, about half of which go wrong somewhere."""
    path = tmp_path_factory.mktemp("steps") / "steps.jsonl"
    write_steps(path, StepsWorld(3, length=(3, 6)).solutions(48, StepsPolicy(error=0.15), per_problem=2))
    return path


@pytest.fixture(scope="module")
def trained(file: Path) -> tuple[Path, Result]:
    folder = file.parent / "prm"
    words = ("--base", "tiny", "--max-steps", 2, "--held-out", 0.5, "--threads", 1, "--batch.pairs", 8, "--max-length", 256)
    return folder, run("train", file, "-o", folder, *words)


def test_a_step_file_trains_a_step_model(trained: tuple[Path, Result]) -> None:
    folder, done = trained
    assert done.exit_code == 0, done.stderr
    config = json.loads((folder / "config.json").read_text())
    card = json.loads((folder / "preferent.json").read_text())
    assert config["architectures"] == ["Qwen3ForTokenClassification"]
    assert len(config["id2label"]) == 1
    assert card["steps"]["separator"] == "\n\n"
    assert card["steps"]["threshold"] is not None
    assert card["steps"]["aggregation"]["how"] in {"product", "minimum", "mean", "last", "weighted"}
    assert card["data"]["kind"] == "steps"
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["threshold"]["value"] == card["steps"]["threshold"]
    assert set(found["first_error"]) == {"scorer", "constant", "length"}
    assert {"ledger.json", "prompts.sketch.npz", "config.toml", "metrics.jsonl"} <= {path.name for path in folder.iterdir()}
    for words in ("by problem", "to choose on", "aggregation of steps", "step model:"):
        assert words in done.stderr
    for words in ("first-error F1", "AUROC per step", "constant", "length", "the best constant"):
        assert words in done.stdout


def test_evaluate_prints_what_is_beaten_and_on_what_it_was_chosen(trained: tuple[Path, Result], file: Path) -> None:
    folder, _ = trained
    done = run("evaluate", folder, file)
    assert done.exit_code == 0, done.stderr
    assert "threshold of the checkpoint; constant and length rules chosen on these very solutions" in done.stdout
    assert "beat" in done.stdout
    found = json.loads(run("evaluate", folder, file, "--json").stdout)["evaluation"]
    assert found["n_solutions"] == 96
    assert found["threshold"]["validation_f1"] is None, "it was not chosen here"
    assert 0.0 <= found["auroc"]["scorer"]["auroc"]["low"] <= found["auroc"]["scorer"]["auroc"]["high"] <= 1.0
    assert found["beats"].keys() == {"constant", "length"}


def test_train_leaves_a_report(trained: tuple[Path, Result]) -> None:
    folder, done = trained
    page = (folder / "report.html").read_text()
    assert f"report: {folder / 'report.html'}" in done.stderr
    for words in ("tiny on steps.jsonl", "beat the best", "Worst disagreements", "rows", "Configuration", "max_steps"):
        assert words in page, words
    if "The plots are left out" not in page:
        assert "Training curves" in page


def test_evaluate_writes_a_report_and_nothing_over_another(trained: tuple[Path, Result], file: Path, tmp_path: Path) -> None:
    folder, _ = trained
    path = tmp_path / "page.html"
    done = run("evaluate", folder, file, "-o", path, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(run("evaluate", folder, file, "--json").stdout), "the report changes no number"
    page = path.read_text()
    found = json.loads(done.stdout)["evaluation"]
    assert f"{found['first_error']['scorer']['f1']['value']:.3f}" in page
    assert f"{found['auroc']['scorer']['auroc']['value']:.3f}" in page
    assert "96 solutions of" in page
    again = run("evaluate", folder, file, "-o", path)
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert again.stdout == "", "it is refused before the work"
    assert run("evaluate", folder, file, "-o", path, "--force").exit_code == 0


def test_other_models_are_not_held_against_step_labels(file: Path) -> None:
    done = run("evaluate", "length", file)
    assert done.exit_code == 1
    assert "is no step model" in done.stderr


def test_score_answers_with_steps(trained: tuple[Path, Result], tmp_path: Path) -> None:
    from preferent.models.steps import StepRewardModel

    folder, _ = trained
    rows = [
        {"id": 1, "prompt": "Start with 3.", "response": "3 plus 4 is 7.\n\n7 times 3 is 1."},
        {"id": 2, "prompt": "Start with 3.", "responses": ["3 plus 4 is 7.", "one\ntwo\nthree"]},
        {"id": 3, "prompt": "Start with 3."},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("score", folder, tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "--threads", 1)
    assert done.exit_code == 0, done.stderr
    first, second, third = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    model = StepRewardModel.load(folder)
    expected = model.score([Exchange(prompt=user("Start with 3."), response=rows[0]["response"])])
    assert expected.steps is not None
    assert first["steps"] == pytest.approx(expected.steps[0].tolist(), abs=1e-5)
    assert first["reward"] == pytest.approx(expected.reward[0], abs=1e-5)
    assert [len(steps) for steps in second["steps_each"]] == [1, 3]
    assert len(second["rewards"]) == 2
    assert third["reward"] is None
    assert "steps" not in third
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    assert run("score", folder, tmp_path / "in.jsonl", "-o", tmp_path / "out.parquet").exit_code == 0
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert table[0]["steps"] == pytest.approx(first["steps"], abs=1e-5)
    assert [len(steps) for steps in table[1]["steps_each"]] == [1, 3]


def test_held_out_file_and_group_key(file: Path, tmp_path: Path) -> None:
    done = run("train", file, "-o", tmp_path / "a", "--base", "tiny", "--group-key", "nothing")
    assert done.exit_code == 1
    assert "96 of 96 solutions have no such key" in done.stderr
    words = ("--base", "tiny", "--max-steps", 1, "--held-out-file", file, "--batch.pairs", 2, "--json")
    done = run("train", file, "-o", tmp_path / "b", *words)
    assert done.exit_code == 0, done.stderr
    assert "48 problems of" in done.stderr
    assert json.loads(done.stdout)["evaluation"]["kind"] == "steps"
