"""Strict JSON on stdout, words on stderr, and progress that is quiet in a log file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from preferent.cli import output
from preferent.core.estimates import Estimate


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def refuse(constant: str):
    raise AssertionError(f"{constant} is no JSON")


def test_json_is_strict_and_goes_to_stdout(capsys):
    output.emit_json(
        {
            "nan": float("nan"),
            "inf": np.float32("-inf"),
            "count": np.int64(3),
            "flag": np.bool_(True),
            "rewards": np.array([1.5, np.nan]),
            "path": Path("a/b"),
            "estimate": Estimate(0.5, float("nan"), float("nan"), 4, "one prompt only"),
            "nested": ({"ü": None},),
            1: True,
        }
    )
    out, err = capsys.readouterr()
    assert err == ""
    assert "ü" in out
    assert json.loads(out, parse_constant=refuse) == {
        "nan": None,
        "inf": None,
        "count": 3,
        "flag": True,
        "rewards": [1.5, None],
        "path": "a/b",
        "estimate": {"value": 0.5, "low": None, "high": None, "n": 4, "method": "one prompt only"},
        "nested": [{"ü": None}],
        "1": True,
    }


def test_what_has_no_json_form_is_an_error_not_its_repr():
    with pytest.raises(TypeError, match="set has no JSON form"):
        output.emit_json({"a": {1, 2}})


def test_talk_goes_to_stderr_and_results_to_stdout(capsys):
    output.talk("working")
    output.emit("the table")
    out, err = capsys.readouterr()
    assert (out, err) == ("the table\n", "working\n")


def test_short_work_says_nothing_in_a_log(capsys):
    with output.Progress("scoring", 100, "rows") as progress:
        for _ in range(100):
            progress(1)
    assert capsys.readouterr() == ("", "")


def test_long_work_writes_a_plain_line_every_half_minute(capsys):
    """10 rows every 10 s: 1 row/s, so 970 s are left after 30 rows and 940 after 60."""
    clock = Clock()
    with output.Progress("scoring", 1000, "rows", clock=clock) as progress:
        for _ in range(6):
            clock.now += 10
            progress(10, "loss 0.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "scoring: 30 of 1,000 rows, 1.0 rows/s, 970 s left, loss 0.5",
        "scoring: 60 of 1,000 rows, 1.0 rows/s, 940 s left, loss 0.5",
    ]


def test_resumed_work_counts_what_was_done_but_not_its_speed(capsys):
    clock = Clock()
    with output.Progress("training", 100, "steps", done=50, clock=clock) as progress:
        clock.now = 40
        progress(10)
    assert capsys.readouterr().err == "training: 60 of 100 steps, 0.2 steps/s, 160 s left\n"


def test_work_of_unknown_length_promises_no_end(capsys):
    clock = Clock()
    with output.Progress("reading", None, "rows", clock=clock) as progress:
        clock.now = 40
        progress(80)
    assert capsys.readouterr().err == "reading: 80 rows, 2.0 rows/s\n"


def test_a_terminal_gets_a_bar_on_stderr(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with output.Progress("scoring", 4, "rows") as progress:
        progress(4)
    assert "scoring" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert capsys.readouterr().out == ""
