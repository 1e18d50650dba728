"""Every row is answered, in order, once; a run that was killed goes on where it stopped, and never mixes two runs."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preferent.core.errors import DataError, ExistsError, ModelError
from preferent.core.records import Exchange, Scores
from preferent.core.scorer import FakeScorer, length_scorer
from preferent.data.score_file import score_file

ROWS = [{"id": f"r{i}", "prompt": "q", "response": "x" * i} for i in range(100)]


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Stops:
    """Scores `n` exchanges by length, then fails as a killed process would: without a word to anyone."""

    name = "stops"

    def __init__(self, n: int) -> None:
        self.left = n

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        self.left -= len(exchanges)
        if self.left < 0:
            raise KeyboardInterrupt
        return length_scorer().score(exchanges)


def test_rewards_in_the_order_of_the_input(tmp_path: Path):
    rows = [
        {"id": 1, "prompt": "q", "response": "xx", "note": "passed over"},
        {"id": "b", "prompt": [{"role": "user", "content": "q"}], "responses": ["x", "xxx", ""]},
        {"id": "c", "prompt": "q", "responses": []},
        {"prompt": "q", "response": ""},
    ]
    seen: list[int] = []
    done = score_file(length_scorer(), write(tmp_path / "in", rows), tmp_path / "out.jsonl", batch=3, progress=seen.append)
    assert read(tmp_path / "out.jsonl") == [
        {"id": 1, "reward": 2.0},
        {"id": "b", "rewards": [1.0, 3.0, 0.0]},
        {"id": "c", "rewards": []},
        {"id": None, "reward": 0.0},
    ]
    assert (int(done), done.failed, done.resumed, seen) == (4, 0, 0, [3, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.jsonl"]


@pytest.mark.parametrize(
    ("row", "id", "says"),
    [
        ({"id": "a", "prompt": "q"}, "a", "missing_keys: needs either response or responses"),
        ({"id": "a", "prompt": "q", "response": "x", "responses": []}, "a", "either"),
        ({"id": "a", "response": "x"}, "a", "missing 'prompt'"),
        ({"id": "a", "prompt": "q", "response": None}, "a", "null"),
        ({"id": "a", "prompt": "q", "responses": "x"}, "a", "a list"),
        ({"id": "a", "prompt": "q", "responses": ["x", 3]}, "a", "responses[1]"),
        ({"id": "a", "prompt": [], "response": "x"}, "a", "no message"),
        ({"id": "a", "prompt": [{"role": "bot", "content": ""}], "response": "x"}, "a", "bot"),
        ({"id": [1], "prompt": "q", "response": "x"}, None, "id must be"),
        ('{"id": "a", "prompt', None, "invalid_json"),
        ("7", None, "not_an_object"),
    ],
)
def test_a_bad_row_is_answered_with_its_reason(tmp_path: Path, row: Any, id: str | None, says: str):
    source = write(tmp_path / "in", [ROWS[1], row, ROWS[2]])
    done = score_file(length_scorer(), source, tmp_path / "out")
    first, bad, last = read(tmp_path / "out")
    assert (first["reward"], last["reward"]) == (1.0, 2.0)
    assert (bad["id"], bad["reward"]) == (id, None)
    assert bad["error"].startswith(f"{source}:2: ")
    assert says in bad["error"]
    assert (done.rows, done.failed) == (3, 1)
    assert "1 could not be scored" in done.render()


def test_a_reward_that_is_no_number_is_an_error_and_not_nan(tmp_path: Path):
    scorer = FakeScorer(lambda exchange: float("nan") if exchange.response == "x" else float("inf"))
    rows = [ROWS[1], {"id": "b", "prompt": "q", "responses": ["x", "y"]}]
    assert score_file(scorer, write(tmp_path / "in", rows), tmp_path / "out").failed == 2
    one, many = read(tmp_path / "out")
    assert (one["reward"], many["rewards"]) == (None, [None, None])
    assert "finite" in one["error"]


class Rich:
    name = "rich"

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        n = np.array([float(len(exchange.response)) for exchange in exchanges])
        return Scores(reward=n, std=n / 10, objectives={"tone": -n})


@pytest.mark.parametrize("name", ["out.jsonl.gz", "out.parquet", "out.jsonl"])
def test_std_and_objectives_in_every_output(tmp_path: Path, name: str):
    rows = [ROWS[10], {"id": 5, "prompt": "q", "responses": ["x", "xx"]}, {"id": "bad"}]
    score_file(Rich(), write(tmp_path / "in", rows), tmp_path / name)
    if name.endswith("parquet"):
        found = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / name).to_pylist()
        found = [{key: value for key, value in row.items() if value is not None} for row in found]
    else:
        data = (tmp_path / name).read_bytes()
        found = [json.loads(line) for line in (gzip.decompress(data) if name.endswith("gz") else data).splitlines()]
    assert found[0] == {"id": "r10", "reward": 10.0, "std": 1.0, "objectives": {"tone": -10.0}}
    found[1]["id"] = int(found[1]["id"])
    assert found[1] == {"id": 5, "rewards": [1.0, 2.0], "stds": [0.1, 0.2], "objectives_each": [{"tone": -1.0}, {"tone": -2.0}]}
    assert "missing 'prompt'" in found[2]["error"]
    assert not (tmp_path / (name + ".partial")).exists()


def test_parquet_in(tmp_path: Path):
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(ROWS), tmp_path / "in.parquet")
    score_file(length_scorer(), tmp_path / "in.parquet", tmp_path / "out")
    assert [row["reward"] for row in read(tmp_path / "out")] == [float(i) for i in range(100)]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_stopped_run_goes_on_and_gives_the_same_file(tmp_path: Path, name: str):
    source = write(tmp_path / "in", ROWS)
    score_file(length_scorer(), source, tmp_path / "whole" / name)
    with pytest.raises(KeyboardInterrupt):
        score_file(Stops(45), source, tmp_path / name, batch=10)
    partial = tmp_path / (name + ".partial")
    assert len(read(partial)) == 40
    # A torn last line, as a kill leaves it.
    with partial.open("ab") as file:
        file.write(b'{"id": "r40", "rew')
    scorer = Stops(60 + 4)
    done = score_file(scorer, source, tmp_path / name, batch=10)
    assert (done.rows, done.resumed, scorer.left) == (100, 40, 0)
    assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not partial.exists()


@pytest.mark.parametrize("n", [0, 1, 39, 40, 41])
def test_wherever_the_file_is_cut_the_end_is_the_same(tmp_path: Path, n: int):
    source = write(tmp_path / "in", [*ROWS[:20], "broken", {"id": "m", "prompt": "q", "responses": ["x", "yy"]}])
    score_file(length_scorer(), source, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "out.partial").write_bytes(whole[: len(whole) * n // 41])
    done = score_file(length_scorer(), source, tmp_path / "out", batch=7)
    assert (tmp_path / "out").read_bytes() == whole
    assert (done.rows, done.failed) == (22, 1)


def test_kill_nine(tmp_path: Path):
    source = write(tmp_path / "in", ROWS * 20)
    code = textwrap.dedent(
        f"""
        import time
        from preferent.core.scorer import length_scorer
        from preferent.data.score_file import score_file
        class Slow:
            name = "slow"
            def score(self, exchanges):
                time.sleep(0.02)
                return length_scorer().score(exchanges)
        score_file(Slow(), {str(source)!r}, {str(tmp_path / "out")!r}, batch=5)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    partial = tmp_path / "out.partial"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (partial.exists() and partial.stat().st_size > 500):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    done = score_file(length_scorer(), source, tmp_path / "out")
    assert 0 < done.resumed < 2000
    assert [row["reward"] for row in read(tmp_path / "out")] == [float(i) for i in range(100)] * 20


def test_two_runs_are_never_mixed(tmp_path: Path):
    source = write(tmp_path / "in", ROWS)
    with pytest.raises(KeyboardInterrupt):
        score_file(Stops(50), source, tmp_path / "out", batch=10)
    before = (tmp_path / "out.partial").read_bytes()
    with pytest.raises(DataError, match="line 1 answers id 'r0', but the input has id 'r1'"):
        score_file(length_scorer(), write(tmp_path / "other", ROWS[1:]), tmp_path / "out")
    with pytest.raises(DataError, match="no more rows"):
        score_file(length_scorer(), write(tmp_path / "short", ROWS[:7]), tmp_path / "out")
    with pytest.raises(DataError, match="with another scorer"):
        score_file(FakeScorer(lambda exchange: -1.0), source, tmp_path / "out")
    assert (tmp_path / "out.partial").read_bytes() == before
    done = score_file(FakeScorer(lambda exchange: -1.0), source, tmp_path / "out", force=True)
    assert (done.resumed, {row["reward"] for row in read(tmp_path / "out")}) == (0, {-1.0})


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path: Path):
    source = write(tmp_path / "in", ROWS)
    write(tmp_path / "out", ["mine"])
    with pytest.raises(ExistsError):
        score_file(length_scorer(), source, tmp_path / "out")
    with pytest.raises(DataError, match="is the input"):
        score_file(length_scorer(), source, source, force=True)
    with pytest.raises(DataError, match="no such file"):
        score_file(length_scorer(), tmp_path / "none", tmp_path / "new")
    write(tmp_path / "blank", [""])
    with pytest.raises(DataError, match="holds no rows"):
        score_file(length_scorer(), tmp_path / "blank", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blank", "in", "out"]
    assert (tmp_path / "out").read_text() == "mine\n"


def test_a_scorer_that_loses_rewards_is_an_error(tmp_path: Path):
    class Loses:
        name = "loses"

        def score(self, exchanges: Sequence[Exchange]) -> Scores:
            return Scores(reward=np.zeros(len(exchanges) - 1))

    with pytest.raises(ModelError, match="99 rewards for 100"):
        score_file(Loses(), write(tmp_path / "in", ROWS), tmp_path / "out")
