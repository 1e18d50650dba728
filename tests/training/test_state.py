"""The state on disk: what it holds, what is kept of it, and that a round trip changes nothing."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from preferent.core.errors import DataError
from preferent.training import state
from preferent.training.loop import step_seed
from preferent.training.signals import stop_on_sigterm


def small(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Two layers of which one bias is frozen, and an optimizer with two groups."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    model[2].bias.requires_grad_(False)
    groups = [{"params": [model[0].weight, model[2].weight], "weight_decay": 0.1}, {"params": [model[0].bias], "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    torch.manual_seed(number)
    model(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_round_trip_through_the_files_continues_bitwise(tmp_path: Path) -> None:
    model, optimizer = small(0)
    for number in range(3):
        step(model, optimizer, number)
    state.save_step(tmp_path, 3, state.capture(model, optimizer), {"step": 3, "best_step": None})
    other, other_optimizer = small(1)
    # The frozen bias is the base's, which a state does not keep.
    other[2].bias.data.copy_(model[2].bias)
    tensors, saved = state.read_state(state.step_folder(tmp_path, 3))
    assert saved == {"step": 3, "best_step": None}
    assert "model/2.bias" not in tensors
    state.restore(other, other_optimizer, tensors)
    assert [group["weight_decay"] for group in other_optimizer.param_groups] == [0.1, 0.0]
    for number in range(3, 6):
        step(model, optimizer, number)
        step(other, other_optimizer, number)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_weights_go_back_alone(tmp_path: Path) -> None:
    model, optimizer = small(0)
    step(model, optimizer, 0)
    kept = state.capture(model, optimizer)
    step(model, optimizer, 1)
    moments = {name: tensor for name, tensor in state.capture(model, optimizer).items() if name.startswith("optimizer/")}
    state.restore_weights(model, kept)
    now = state.capture(model, optimizer)
    assert all(torch.equal(now[name], kept[name]) for name in kept if name.startswith("model/"))
    assert all(torch.equal(now[name], moments[name]) for name in moments)


def test_only_safetensors_and_json_are_written(tmp_path: Path) -> None:
    model, optimizer = small(0)
    step(model, optimizer, 0)
    state.save_step(tmp_path, 1, state.capture(model, optimizer), {"best_step": None})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"tensors.safetensors", "state.json"}
    assert json.loads((files[0].parent / "state.json").read_text()) == {"best_step": None}
    # A safetensors file starts with the length of its JSON header: no pickle anywhere.
    head = (files[0].parent / "tensors.safetensors").read_bytes()
    assert head[8:9] == b"{"
    assert json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")]).keys() >= {"model/0.weight", "optimizer/0.weight/exp_avg"}


def test_the_two_newest_states_are_kept_and_the_best_weights_they_name(tmp_path: Path) -> None:
    tensors = {"model/x": torch.zeros(1)}
    for number, best in [(3, 2), (5, 4), (7, 4), (9, 6)]:
        state.write_state(state.best_folder(tmp_path, best), tensors, {"step": best})
        state.save_step(tmp_path, number, tensors, {"best_step": best})
    assert [path.name for path in state.step_folders(tmp_path)] == ["step-00000007", "step-00000009"]
    assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-00000004", "best-00000006"]


def test_half_written_folders_are_not_states(tmp_path: Path) -> None:
    tensors = {"model/x": torch.zeros(1)}
    state.save_step(tmp_path, 3, tensors, {"best_step": None})
    half = tmp_path / ".step-00000006.writing"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"half")
    (tmp_path / "step-00000009").mkdir()
    assert [path.name for path in state.step_folders(tmp_path)] == ["step-00000003"]
    state.save_step(tmp_path, 6, tensors, {"best_step": None})
    assert not half.exists()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    state.save_step(tmp_path, 3, {"model/x": torch.zeros(100)}, {"best_step": None})
    folder = state.step_folder(tmp_path, 3)
    (folder / name).write_bytes((folder / name).read_bytes()[:-5])
    with pytest.raises(DataError, match=str(folder)):
        state.read_state(folder)


def test_every_step_and_process_draws_its_own(tmp_path: Path) -> None:
    seeds = [step_seed(0, step, process) for step in range(50) for process in range(4)]
    assert len(set(seeds)) == 200
    assert seeds == [step_seed(0, step, process) for step in range(50) for process in range(4)]
    assert step_seed(1, 0, 0) != step_seed(0, 0, 0)


def test_the_handler_of_sigterm_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(RuntimeError, match="boom"), stop_on_sigterm():
        raise RuntimeError("boom")
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_train_without_a_handler() -> None:
    seen: list[object] = []

    def work() -> None:
        with stop_on_sigterm() as stop:
            seen.extend([stop.requested, signal.getsignal(signal.SIGTERM)])

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, before]
