"""The state of a run on disk: safetensors and JSON, complete or not there, in the same form for one process, DDP and FSDP2.

    checkpoints/step-00000120/   tensors.safetensors  state.json
    checkpoints/best-00000100/   the same, at the step with the lowest held-out NLL so far

A folder is written under another name, flushed to disk and renamed: `kill -9` at any moment leaves the previous one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from preferent.core.errors import DataError

KEEP = 2
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_LOAD = StateDictOptions(full_state_dict=True, strict=False)
_Moments = dict[str, Any]


def capture(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Trainable weights and optimizer moments as flat names -> CPU tensors; every process must call it.

    There is no random state to keep: the loop seeds every step from its number.
    """
    saved = get_state_dict(model, optimizer, options=_FULL)
    weights, moments = cast("tuple[dict[str, torch.Tensor], _Moments]", saved)
    flat = {f"model/{name}": tensor for name, tensor in weights.items()}
    # Sharded, only the main process is given the gathered tensors.
    for name, entry in moments.get("state", {}).items():
        flat |= {f"optimizer/{name}/{key}": torch.as_tensor(value) for key, value in entry.items()}
    # A view would drag its whole storage into the file, or be refused as shared.
    return {name: tensor.detach().contiguous().clone() for name, tensor in flat.items()}


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `capture` took; every process must call it."""
    # Not the gathered state, of which only the main process would get the groups.
    now = cast("_Moments", get_optimizer_state_dict(model, optimizer))
    entries: dict[str, dict[str, torch.Tensor]] = {}
    for name in sorted(tensors):
        if name.startswith("optimizer/"):
            parameter, key = name.removeprefix("optimizer/").rsplit("/", 1)
            entries.setdefault(parameter, {})[key] = tensors[name]
    # The learning rate is the loop's, and the rest of the optimizer's settings are the same: the run was checked to be the same.
    moments: Any = {"state": entries, "param_groups": now.get("param_groups", [])}
    set_state_dict(model, optimizer, model_state_dict=_weights(tensors), optim_state_dict=moments, options=_LOAD)


def restore_weights(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put back the weights alone; every process must call it."""
    set_model_state_dict(model, _weights(tensors), options=_LOAD)


def _weights(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    # In one order on all processes, since sharded ones are sent their parts tensor by tensor.
    return {name.removeprefix("model/"): tensors[name] for name in sorted(tensors) if name.startswith("model/")}


def write_state(folder: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write one state folder atomically."""
    scratch = folder.with_name(f".{folder.name}.writing")
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True)
    save_file(tensors, scratch / "tensors.safetensors")
    (scratch / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    for name in ("tensors.safetensors", "state.json"):
        _flush(scratch / name)
    _flush(scratch)
    # The same step of the same run has the same content, so what stands there can go.
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)
    _flush(folder.parent)


def read_state(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, state) of one folder. Raises DataError when it is damaged."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return load_file(folder / "tensors.safetensors"), state
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"{folder}: cannot read the state of the run: {error}", hint="delete this folder to resume from the one before"
        ) from error


def save_step(checkpoints: Path, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write the state after `step` optimiser steps; keep the newest ones and the best weights that they refer to."""
    write_state(step_folder(checkpoints, step), tensors, state)
    for old in step_folders(checkpoints)[:-KEEP]:
        shutil.rmtree(old)
    wanted = {json.loads((kept / "state.json").read_text(encoding="utf-8")).get("best_step") for kept in step_folders(checkpoints)}
    for best in checkpoints.glob("best-*"):
        if int(best.name.removeprefix("best-")) not in wanted:
            shutil.rmtree(best)


def step_folder(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:08d}"


def best_folder(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"best-{step:08d}"


def step_folders(checkpoints: Path) -> list[Path]:
    """Complete state folders, oldest first."""
    return sorted(path for path in checkpoints.glob("step-*") if (path / "state.json").is_file())


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
