"""`preferent label-steps` and `preferent check` on step files, as a shell sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preferent.cli.main import main
from preferent.core.records import StepLabels
from preferent.data.steps_write import write_steps
from preferent.lab.steps import NoisyJudge, StepsPolicy, StepsWorld

POLICY = "preferent.lab.steps:demo_policy"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_steps(tmp_path / "in.jsonl", StepsWorld(1, length=4).solutions(6, StepsPolicy(error=0.15)))
    return tmp_path / "in.jsonl"


def judge(record: StepLabels) -> tuple[float | None, ...]:
    return NoisyJudge(1.0)(record)


def test_labels_go_to_the_file_and_the_summary_to_stdout_as_json(source, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert main(["label-steps", str(source), "-o", str(out), "--policy", POLICY, "--rollouts", "4", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["solutions"], summary["calls"], summary["finished"]) == (6, 6 * 3 * 4, True)
    assert summary["settings"] == {"method": "monte-carlo", "rollouts": 4, "threshold": None, "policy": POLICY}
    assert main(["check", str(out), "--json"]) == 0
    ledger = json.loads(capsys.readouterr().out)
    assert (ledger["kind"], ledger["kept"], ledger["refused"]) == ("steps", 6, 0)


def test_a_limit_ends_the_run_with_exit_1_and_the_next_run_goes_on(source, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    words = ["label-steps", str(source), "-o", str(out), "--policy", POLICY, "--rollouts", "4", "--threshold", "0.3"]
    assert main([*words, "--max-calls", "30"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "stopped at the limit of calls" in captured.err
    assert main(words) == 0
    assert "2 of them from an earlier run" in capsys.readouterr().err


def test_consensus_with_a_judge_of_ones_own(source, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    out = tmp_path / "out.jsonl"
    words = ["label-steps", str(source), "-o", str(out), "--policy", POLICY, "--method", "binary-search", "--rollouts", "16"]
    assert main([*words, "--threshold", "0.3", "--judge", "test_cli_label_steps:judge", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["method"], settings["by"], settings["judge"]) == ("consensus", "binary-search", "test_cli_label_steps:judge")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --endpoint with --model, or --policy"),
        (["--endpoint", "http://127.0.0.1:9/v1"], "--endpoint needs --model"),
        (["--policy", "nothing"], "write module:function"),
        (["--policy", "preferent.lab.steps:nothing"], "has no attribute 'nothing'"),
        (["--policy", "preferent.lab.steps:SOURCE"], "not a function"),
        (["--method", "judge"], "an endpoint as judge needs --endpoint and --model"),
    ],
)
def test_usage_errors_say_what_to_give(source, tmp_path, capsys, words, said):
    assert main(["label-steps", str(source), "-o", str(tmp_path / "o.jsonl"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("o.jsonl*"))


def test_a_row_without_an_answer_is_the_users_mistake_and_named(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"prompt": StepsWorld(0).problems(1)[0][0].content, "steps": ["a", "b"]}) + "\n", encoding="utf-8")
    assert main(["label-steps", str(path), "-o", str(tmp_path / "o.jsonl"), "--policy", POLICY]) == 1
    err = capsys.readouterr().err
    assert f"{path}:1" in err
    assert "--answer-key" in err


def test_check_lists_refused_step_rows_and_takes_a_format(tmp_path, capsys):
    path = tmp_path / "s.jsonl"
    rows = [{"prompt": "Q?", "steps": ["a", "b"], "labels": [1, 0]}, {"prompt": "Q?", "steps": ["a"], "labels": [7]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["check", str(path)]) == 0
    assert (
        f"{path}:2: bad_label: labels[0] must be true, false, a number from 0 to 1, or null, found a number: 7" in capsys.readouterr().out
    )
    assert main(["check", str(path), "--format", "steps", "--strict"]) == 1
    assert main(["check", str(path), "--format", "native"]) == 1
