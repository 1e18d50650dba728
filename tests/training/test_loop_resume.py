"""A run that is killed at any moment and resumed ends with the same bytes; a run is taken up by itself only."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loop_worlds import losses, planted

from preferent.core.errors import DataError, ExistsError
from preferent.training.config import load_config
from preferent.training.observer import Observer
from preferent.training.run import train

Base = Callable[..., str]
RunJob = Callable[..., int]
KILLED, TERMINATED = -signal.SIGKILL, 0


def settings(base: str, **more: str) -> dict[str, str]:
    """60 pairs, 4 a step, 2 epochs: 30 steps; states at 3, 6, 9, ... and evaluations at 4, 8, 12, ..."""
    given = {"base": base, "epochs": "2", "batch.pairs": "4", "learning_rate": "5e-3", "save_every": "3", "evaluate_every": "4"}
    return given | {key.replace("__", "."): value for key, value in more.items()}


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def same_run(one: Path, other: Path) -> None:
    assert weights(one) == weights(other)
    assert losses(one) == losses(other)
    assert losses(one, "held_out_nll") == losses(other, "held_out_nll")
    cards = [json.loads((folder / "preferent.json").read_text()) for folder in (one, other)]
    assert cards[0] == cards[1]


@pytest.fixture(scope="module")
def whole(base: Base, run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert run_job(output=output, config=settings(base())) == 0
    assert [step for step, _ in losses(output)] == list(range(1, 31))
    return output


@pytest.mark.parametrize("step", [3, 10, 16, 29, 30])
def test_killed_after_a_step(base: Base, run_job: RunJob, whole: Path, tmp_path: Path, step: int) -> None:
    output = tmp_path / "out"
    assert run_job(output=output, config=settings(base()), signal_at=[step, signal.SIGKILL]) == KILLED
    if step == 3:
        # The bell rings before the state of step 3 is written, so there is nothing to resume, and the folder must be cleared.
        with pytest.raises(DataError, match="no saved state to resume from"):
            train(planted(60), [], load_config(None, settings(base())), output, resume=True)
        assert run_job(output=output, config=settings(base())) == 1
        return
    assert run_job(output=output, config=settings(base()), resume=True) == 0
    same_run(output, whole)


@pytest.mark.parametrize("moment", [{"torn_at": 2}, {"fsync_at": 6}, {"fsync_at": 7}, {"fsync_at": 8}, {"fsync_at": 12}], ids=str)
def test_killed_while_a_state_is_written(base: Base, run_job: RunJob, whole: Path, tmp_path: Path, moment: dict[str, int]) -> None:
    """Each state calls fsync four times: weights, JSON, folder, and the parent after the move."""
    output = tmp_path / "out"
    assert run_job(output=output, config=settings(base()), **moment) == KILLED
    names = {path.name for path in (output / "checkpoints").iterdir()}
    # The third state is in place at fsync 12; it is there before the oldest goes.
    third = {"step-00000003", "step-00000006", "step-00000009"}
    half = {"step-00000003", ".step-00000006.writing"}
    assert names == {12: third, 8: {"step-00000003", "step-00000006"}}.get(moment.get("fsync_at", 0), half)
    assert run_job(output=output, config=settings(base()), resume=True) == 0
    same_run(output, whole)


def test_killed_again_and_again(base: Base, run_job: RunJob, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for number, step in enumerate([5, 8, 14, 22]):
        assert run_job(output=output, config=settings(base()), resume=number > 0, signal_at=[step, signal.SIGKILL]) == KILLED
    assert run_job(output=output, config=settings(base()), resume=True) == 0
    same_run(output, whole)


def test_sigterm_saves_where_it_stands(base: Base, run_job: RunJob, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run_job(output=output, config=settings(base()), signal_at=[11, signal.SIGTERM]) == TERMINATED
    assert not (output / "preferent.json").exists()
    assert (output / "checkpoints" / "step-00000011").is_dir()
    assert [step for step, _ in losses(output)] == list(range(1, 12))
    assert run_job(output=output, config=settings(base()), resume=True) == 0
    same_run(output, whole)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("bert", {"dropout": "true"}),
        ("bert", {"adapter.kind": "lora", "adapter.dropout": "0.1"}),
        ("qwen3", {"loss.kind": "davidson"}),
        ("qwen3", {"ensemble.kind": "heads"}),
    ],
    ids=["dropout", "lora", "tie parameter", "member heads"],
)
def test_killed_with_more_to_restore(base: Base, run_job: RunJob, tmp_path: Path, kind: str, more: dict[str, str]) -> None:
    config = settings(base(kind), **more)
    assert run_job(output=tmp_path / "whole", config=config) == 0
    assert run_job(output=tmp_path / "cut", config=config, signal_at=[11, signal.SIGKILL]) == KILLED
    assert run_job(output=tmp_path / "cut", config=config, resume=True) == 0
    same_run(tmp_path / "cut", tmp_path / "whole")
    if "dropout" in more:
        # The masks did something: without them the losses are others.
        assert run_job(output=tmp_path / "dry", config=settings(base(kind))) == 0
        assert losses(tmp_path / "dry")[0] != losses(tmp_path / "whole")[0]


@pytest.mark.parametrize(
    ("world", "more"),
    [("rated", {"combination.kind": "gate", "adapter.kind": "lora"}), ("wordy", {"decorrelation.kind": "odin", "micro_tokens": "100"})],
    ids=["gate", "odin"],
)
def test_heads_are_restored_to_the_byte(base: Base, run_job: RunJob, tmp_path: Path, world: str, more: dict[str, str]) -> None:
    config = {**settings(base(initializer_range=0.1)), **more}
    assert run_job(output=tmp_path / "whole", config=config, world=world) == 0
    assert run_job(output=tmp_path / "cut", config=config, world=world, signal_at=[7, signal.SIGKILL]) == KILLED
    assert run_job(output=tmp_path / "cut", config=config, world=world, resume=True) == 0
    same_run(tmp_path / "cut", tmp_path / "whole")
    one, other = ((tmp_path / name / "heads.safetensors").read_bytes() for name in ("cut", "whole"))
    assert one == other


@pytest.mark.parametrize("later", [6, 16])
def test_the_best_weights_survive(base: Base, run_job: RunJob, tmp_path: Path, later: int) -> None:
    """A third of the labels are wrong and the rate is high: the held-out loss falls, then rises, and the run stops early."""
    config = settings(base(), epochs="8", early_stopping__patience="4", learning_rate="1e-2", schedule="constant")
    job = {"config": config, "noise": 0.33}
    assert run_job(output=tmp_path / "whole", **job) == 0
    metrics = json.loads((tmp_path / "whole" / "preferent.json").read_text())["metrics"]
    evaluations = losses(tmp_path / "whole", "held_out_nll")
    assert metrics["stopped"] == "early"
    assert metrics["best_step"] == min(evaluations, key=lambda row: row[1])[0] == evaluations[-5][0]
    assert metrics["held_out_nll"] == pytest.approx(min(nll for _, nll in evaluations), abs=1e-12)
    assert metrics["steps"] == metrics["best_step"] + 16
    # After the early stop only the end is left to do, and a resumed run must not train on.
    death = {"die_in_finish": True} if later == 16 else {"signal_at": [metrics["best_step"] + later, signal.SIGKILL]}
    assert run_job(output=tmp_path / "cut", **job, **death) == KILLED
    # The folder of the best weights is kept as long as a state refers to it.
    assert (tmp_path / "cut" / "checkpoints" / f"best-{metrics['best_step']:08d}").is_dir()
    assert run_job(output=tmp_path / "cut", **job, resume=True) == 0
    same_run(tmp_path / "cut", tmp_path / "whole")


class Stop(Observer):
    """SIGTERM to ourselves after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, row: Any) -> None:
        if row["step"] == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def stopped(base: Base, tmp_path: Path) -> Path:
    before = signal.getsignal(signal.SIGTERM)
    result = train(planted(60), planted(40, seed=1), load_config(None, settings(base())), tmp_path / "out", observer=Stop(2))
    assert (result.stopped, result.steps) == ("signal", 2)
    assert signal.getsignal(signal.SIGTERM) is before
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": "4e-3"}, r"learning_rate was 0.005 and is 0.004"),
        ({"loss.kind": "davidson"}, r"loss.kind was 'bradley_terry' and is 'davidson'"),
        ({"loss.centring": "0.01"}, r"loss.centring was 0.0 and is 0.01"),
        ({"epochs": "3"}, r"epochs was 2.0 and is 3.0"),
        ({"seed": "1"}, r"seed was 0 and is 1"),
        ({"dropout": "true", "batch.pairs": "8"}, r"batch.pairs was 4 and is 8; dropout was False and is True"),
        ({"precision": "bf16"}, r"precision was 'no' and is 'bf16'"),
        ({"max_length": "16"}, r"max_length was 1024 and is 16; the training data are others"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_another_run_is_not_resumed(base: Base, stopped: Path, change: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        train(planted(60), planted(40, seed=1), load_config(None, settings(base(), **change)), stopped, resume=True)


def test_other_data_are_not_resumed(base: Base, stopped: Path) -> None:
    config, data, held_out = load_config(None, settings(base())), planted(60), planted(40, seed=1)
    flipped = [*data[:-1], data[-1].model_copy(update={"p_a": 0.25})]
    with pytest.raises(DataError, match="the training data are others"):
        train(flipped, held_out, config, stopped, resume=True)
    with pytest.raises(DataError, match="run: the held-out data are others"):
        train(data, held_out[1:], config, stopped, resume=True)


def test_what_does_not_change_a_run_may_change(base: Base, stopped: Path) -> None:
    free = {"save_every": "100", "micro_tokens": "200", "gradient_checkpointing": "true", "threads": "1"}
    result = train(planted(60), planted(40, seed=1), load_config(None, settings(base(), **free)), stopped, resume=True)
    assert (result.stopped, result.steps) == (None, 30)


def test_another_frozen_base_is_not_resumed(base: Base, tmp_path: Path) -> None:
    """With LoRA the state holds the adapter only: on other frozen weights it would mean something else."""
    import shutil

    from loop_worlds import make_base

    folder = shutil.copytree(base(), tmp_path / "base")
    config = load_config(None, settings(str(folder), adapter__kind="lora"))
    train(planted(60), [], config, tmp_path / "out", observer=Stop(2))
    make_base(folder, initializer_range=0.03)
    with pytest.raises(DataError, match="the weights of the base are others"):
        train(planted(60), [], config, tmp_path / "out", resume=True)


def test_folders_that_cannot_be_used(base: Base, stopped: Path, tmp_path: Path) -> None:
    config = load_config(None, settings(base()))
    with pytest.raises(ExistsError, match="not empty") as error:
        train(planted(60), [], config, stopped)
    assert "--resume" in str(error.value)
    with pytest.raises(DataError, match="no saved state"):
        train(planted(60), [], config, tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(DataError, match="no records"):
        train([], [], config, tmp_path / "nothing")
    done = tmp_path / "done"
    train(planted(60), [], load_config(None, settings(base(), max_steps="2")), done)
    with pytest.raises(ExistsError, match="has finished"):
        train(planted(60), [], config, done, resume=True)
    with pytest.raises(ExistsError, match="not empty"):
        train(planted(60), [], config, done)


def test_a_damaged_state_says_what_to_do(base: Base, stopped: Path) -> None:
    config, newest = load_config(None, settings(base())), stopped / "checkpoints" / "step-00000002"
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot read the state") as error:
        train(planted(60), planted(40, seed=1), config, stopped, resume=True)
    assert str(newest) in str(error.value)
    assert "delete this folder" in str(error.value)
