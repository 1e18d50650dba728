"""Labelling a file: in order, resumable, within a limit of calls, and readable by the gate."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from preferent.core.errors import ConfigError, DataError, ExistsError
from preferent.core.records import StepLabels
from preferent.data.steps_gate import check_steps
from preferent.data.steps_write import write_steps
from preferent.feedback.label_file import LabelOptions, label_file
from preferent.feedback.labellers import Labeller
from preferent.lab.steps import NoisyJudge, StepsPolicy, StepsWorld, check_chain

POLICY = StepsPolicy(error=0.1, correction=0.05)


def labeller(**given) -> Labeller:
    return Labeller(**({"method": "monte-carlo", "policy": POLICY, "checker": check_chain, "n": 4} | given))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    records = [
        r.model_copy(update={"labels": (None,) * len(r.steps)}) for r in StepsWorld(2, length=5).solutions(12, StepsPolicy(error=0.1))
    ]
    write_steps(tmp_path / "in.jsonl", records)
    return tmp_path / "in.jsonl"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_solution_is_labelled_in_order_and_the_gate_reads_it(source, tmp_path):
    done: list[int] = []
    summary = label_file(source, tmp_path / "out.jsonl", labeller(), progress=done.append)
    assert (summary.solutions, summary.steps, summary.labelled_steps, summary.calls, summary.finished) == (12, 60, 60, 12 * 4 * 4, True)
    assert sum(done) == 12
    rows = lines(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in lines(source)]
    facts = rows[0]["meta"]["auto_labels"]
    assert (facts["method"], facts["rollouts"], facts["threshold"], facts["calls"]) == ("monte-carlo", 4, None, 16)
    assert rows[0]["labels"] == [s / k for s, k in zip(facts["successes"], facts["tried"], strict=True)]
    assert rows[0]["meta"]["answer"] == lines(source)[0]["meta"]["answer"]
    assert check_steps(tmp_path / "out.jsonl").ledger.kept == 12
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_a_name_in_gz_is_gzipped_and_parquet_is_refused(source, tmp_path):
    label_file(source, tmp_path / "out.jsonl.gz", labeller())
    assert (tmp_path / "out.jsonl.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert check_steps(tmp_path / "out.jsonl.gz").ledger.kept == 12
    assert not (tmp_path / "out.jsonl.gz.partial").exists()
    with pytest.raises(ConfigError, match="JSON lines"):
        label_file(source, tmp_path / "out.parquet", labeller())


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(source, tmp_path):
    label_file(source, tmp_path / "whole.jsonl", labeller())
    whole = (tmp_path / "whole.jsonl").read_bytes()
    torn = whole.splitlines(keepends=True)
    (tmp_path / "out.jsonl.partial").write_bytes(b"".join(torn[:5]) + torn[5][:20])
    summary = label_file(source, tmp_path / "out.jsonl", labeller())
    assert (summary.resumed, summary.solutions, summary.calls) == (5, 12, 192)
    assert (tmp_path / "out.jsonl").read_bytes() == whole


def test_the_limit_of_calls_is_never_passed_and_counts_earlier_runs(source, tmp_path):
    # a solution of 5 steps costs 16; 50 is enough for three
    first = label_file(source, tmp_path / "out.jsonl", labeller(), LabelOptions(max_calls=50))
    assert (first.finished, first.solutions, first.calls) == (False, 3, 48)
    assert not (tmp_path / "out.jsonl").exists()
    assert "stopped at the limit of calls" in first.render()
    again = label_file(source, tmp_path / "out.jsonl", labeller(), LabelOptions(max_calls=50))
    assert (again.solutions, again.calls, again.resumed) == (3, 48, 3)
    last = label_file(source, tmp_path / "out.jsonl", labeller(), LabelOptions(max_calls=192))
    assert (last.finished, last.solutions, last.calls) == (True, 12, 192)


def test_what_binary_search_saves_can_be_spent(source, tmp_path):
    """5 steps can cost 4 x 3 rollouts, but right answers cost none: with 24 calls more than two solutions are done."""
    summary = label_file(source, tmp_path / "out.jsonl", labeller(method="binary-search"), LabelOptions(max_calls=24))
    assert summary.calls <= 24
    assert summary.solutions > 2


def test_workers_change_nothing_but_the_time(source, tmp_path):
    label_file(source, tmp_path / "one.jsonl", labeller())
    together = threading.Barrier(3, timeout=10)
    met = []

    def policy(prompt, steps, n):
        if len(steps) == 1 and len(met) < 3:
            met.append(1)
            together.wait()
        return POLICY(prompt, steps, n)

    label_file(source, tmp_path / "three.jsonl", labeller(policy=policy), LabelOptions(workers=3))
    assert len(met) == 3
    assert lines(tmp_path / "three.jsonl") == lines(tmp_path / "one.jsonl")
    limited = label_file(source, tmp_path / "few.jsonl", labeller(), LabelOptions(workers=3, max_calls=100))
    assert (limited.solutions, limited.calls) == (6, 96)


def test_other_settings_and_other_input_are_told_from_the_run_before(source, tmp_path):
    label_file(source, tmp_path / "out.jsonl", labeller(), LabelOptions(max_calls=50, settings={"model": "a"}))
    with pytest.raises(DataError, match=r"line 1 was made with .*'model': 'a'"):
        label_file(source, tmp_path / "out.jsonl", labeller(), LabelOptions(settings={"model": "b"}))
    with pytest.raises(DataError, match="'rollouts': 4"):
        label_file(source, tmp_path / "out.jsonl", labeller(n=5), LabelOptions(settings={"model": "a"}))
    write_steps(tmp_path / "other.jsonl", StepsWorld(3, length=5).solutions(4, POLICY))
    with pytest.raises(DataError, match="left by another run"):
        label_file(tmp_path / "other.jsonl", tmp_path / "out.jsonl", labeller(), LabelOptions(settings={"model": "a"}))
    done = label_file(tmp_path / "other.jsonl", tmp_path / "out.jsonl", labeller(), LabelOptions(force=True))
    assert (done.solutions, done.resumed) == (4, 0)


def test_an_error_in_the_middle_keeps_what_is_done(source, tmp_path):
    calls = []

    def failing(prompt, steps, n):
        calls.append(n)
        if len(calls) > 10:
            raise DataError("the line is dead")
        return POLICY(prompt, steps, n)

    with pytest.raises(DataError, match="the line is dead"):
        label_file(source, tmp_path / "out.jsonl", labeller(policy=failing))
    assert len(lines(tmp_path / "out.jsonl.partial")) == 2
    assert label_file(source, tmp_path / "out.jsonl", labeller()).resumed == 2


def test_disagreements_are_kept_without_labels_and_counted(source, tmp_path):
    summary = label_file(source, tmp_path / "out.jsonl", labeller(judge=NoisyJudge(0.4), threshold=0.4, n=16))
    rows = lines(tmp_path / "out.jsonl")
    apart = [row for row in rows if not row["meta"]["auto_labels"]["agree"]]
    assert len(rows) == 12
    assert summary.unlabelled == len(apart) > 0
    assert all(label is None for row in apart for label in row["labels"])
    ledger = check_steps(tmp_path / "out.jsonl").ledger
    assert (ledger.kept, ledger.refused) == (12 - len(apart), len(apart))
    assert rows[0]["meta"]["auto_labels"]["method"] == "consensus"


def test_rows_that_are_no_solution_are_listed(tmp_path):
    good = {"problem": StepsWorld(0, length=3).problems(1)[0][0].content, "steps": ["x", "y", "z"], "meta": {"answer": "1"}}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(good) + "\n{broken\n", encoding="utf-8")
    summary = label_file(path, tmp_path / "out.jsonl", labeller())
    assert summary.solutions == 1
    assert summary.refused[0].startswith(f"{path}:2: invalid_json")
    assert lines(tmp_path / "out.jsonl")[0]["id"] == f"{path}:1"


def test_usual_refusals(source, tmp_path):
    (tmp_path / "out.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(ExistsError):
        label_file(source, tmp_path / "out.jsonl", labeller())
    with pytest.raises(DataError, match="is the input"):
        label_file(source, source, labeller(), LabelOptions(force=True))
    with pytest.raises(ConfigError, match="workers=0"):
        label_file(source, tmp_path / "new.jsonl", labeller(), LabelOptions(workers=0))
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no solution in steps"):
        label_file(tmp_path / "pairs.jsonl", tmp_path / "new.jsonl", labeller())
    assert not list(tmp_path.glob("new*"))
    assert isinstance(next(check_steps(source_with_labels(tmp_path)).records()), StepLabels)


def source_with_labels(tmp_path: Path) -> Path:
    write_steps(tmp_path / "labelled.jsonl", StepsWorld(1, length=3).solutions(2, POLICY))
    return tmp_path / "labelled.jsonl"
