"""Two processes train to the same losses and weights as one, also with fewer groups than processes, and sharded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_worlds import clumped, losses, make_base, planted, rated, stepped, wordy
from safetensors.numpy import load_file

from preferent.training.config import load_config
from preferent.training.run import train

SCRIPT = Path(__file__).with_name("loop_processes.py")
SAME = {"epochs": "1", "learning_rate": "2e-3"}
TOO_HIGH = {"learning_rate": "1e30", "max_steps": "4", "epochs": "9"}


def run_two(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run something in two processes on CPUs, to its end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def two(*arguments: str) -> str:
    """Run the script in two processes; its stderr."""
    return run_two(str(SCRIPT), *arguments).stderr


def apart(one: Path, other: Path) -> float:
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.fixture(scope="module")
def pairs_of_runs(base: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Name -> (folder of the run in one process, in two). All runs of two processes follow each other in the same two."""
    folder = tmp_path_factory.mktemp("processes")
    jobs: dict[str, dict[str, Any]] = {
        "pairs": {"config": {"base": base(), **SAME}, "data": ["planted", 120]},
        # A step of one group leaves a process without any; small passes leave one with fewer than the other.
        "few groups": {"config": {"base": base(), **SAME, "batch.pairs": "1", "micro_tokens": "100"}, "data": ["clumped", 12]},
        "encoder": {"config": {"base": base("bert"), **SAME, "loss.kind": "davidson"}, "data": ["planted", 60]},
        "early": {
            "config": {"base": base(), **SAME, "epochs": "2", "evaluate_every": "2", "early_stopping.patience": "9", "save_every": "5"},
            "data": ["planted", 60],
        },
        # SIGTERM reaches one process, and both save and stop; then they go on.
        "stopped": {"config": {"base": base(), **SAME}, "data": ["planted", 120], "stop_at": 3},
        "gate": {"config": {"base": base(), **SAME, "combination.kind": "gate", "micro_tokens": "100"}, "data": ["rated", 20]},
        "odin": {"config": {"base": base(), **SAME, "decorrelation.kind": "odin", "micro_tokens": "100"}, "data": ["wordy", 60]},
        "heads": {"config": {"base": base(), **SAME, "ensemble.kind": "heads", "micro_tokens": "100"}, "data": ["planted", 60]},
        "adapters": {
            "config": {"base": base(), **SAME, "adapter.kind": "lora", "ensemble.kind": "adapters", "ensemble.size": "2"},
            "data": ["planted", 60],
        },
        "steps": {"config": {"base": base(), **SAME, "micro_tokens": "150", "batch.pairs": "6"}, "data": ["stepped", 12]},
        "not a number": {"config": {"base": base(), **TOO_HIGH}, "data": ["planted", 60]},
    }
    made = {"planted": planted, "clumped": clumped, "rated": rated, "stepped": stepped, "wordy": wordy}
    for name, job in jobs.items():
        job["output"] = str(folder / "two" / name)
        if name != "not a number":
            data = [made[job["data"][0]](job["data"][1], seed=seed) for seed in (0, 1)]
            train(data[0], data[1], load_config(None, job["config"]), folder / "one" / name)
    resumed = {**jobs["stopped"], "resume": True, "stop_at": None}
    (folder / "jobs.json").write_text(json.dumps([*jobs.values(), resumed]))
    two("trainings", str(folder / "jobs.json"))
    return {name: (folder / "one" / name, folder / "two" / name) for name in jobs}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pairs", "few groups", "encoder", "early", "stopped", "gate", "odin", "heads", "adapters", "steps"])
def test_two_processes_train_as_one(pairs_of_runs: dict[str, tuple[Path, Path]], name: str) -> None:
    one, both = pairs_of_runs[name]
    for key in ("loss", "held_out_nll", "held_out_accuracy", "grad_norm"):
        np.testing.assert_allclose(losses(both, key), losses(one, key), atol=1e-4, err_msg=key)
    assert apart(one, both) < 1e-4
    print(f"{name}: weights {apart(one, both):.2e} apart")
    cards = [json.loads((folder / "preferent.json").read_text())["metrics"] for folder in (one, both)]
    assert cards[0].get("best_step") == cards[1].get("best_step")


@pytest.mark.slow
def test_both_processes_stop_at_a_loss_that_is_no_number(pairs_of_runs: dict[str, tuple[Path, Path]]) -> None:
    _, both = pairs_of_runs["not a number"]
    for rank in (0, 1):
        words = (both / f"error-{rank}").read_text()
        assert "step 2" in words
        assert "not a finite number" in words or "not finite" in words
        assert "r" in words.split("rows")[1]
    assert not (both / "preferent.json").exists()


@pytest.mark.slow
def test_a_sharded_trainee_is_the_same_trainee(tmp_path: Path) -> None:
    """FSDP2's fully_shard on two CPU processes: rewards, steps, the state of a run through its files, and the gathering at the end."""
    make_base(tmp_path / "base")
    two("sharded", str(tmp_path))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["shared tokens"] > 0
    assert found["rewards"] <= 1e-6
    assert found["fall"] > 0.05
    assert found["losses"] <= 1e-5
    assert found["weights"] <= 1e-4
    assert found["best"] == 0.0
    print(found)


@pytest.mark.slow
def test_the_command_in_two_processes_leaves_one_report(tmp_path: Path) -> None:
    rows = [{"prompt": f"say {n}", "chosen": f"{n} good words", "rejected": f"{n} bad words"} for n in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["train", str(tmp_path / "pairs.jsonl"), "--base", "tiny", "-o", str(tmp_path / "run"), "--max-steps", "2", "--json"]
    done = run_two("-m", "preferent", *asked)
    assert json.loads(done.stdout)["steps"] == 2
    assert "<html" in (tmp_path / "run/report.html").read_text()
