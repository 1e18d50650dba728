"""What a run is: its data, its settings, its base. A saved state is taken up by the same run only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from preferent.core.errors import DataError
from preferent.training.config import TrainConfig, resolved_learning_rate
from preferent.training.prepare import Prepared

# Settings that say how a run is carried out, not what it computes (up to rounding), so that they may change when it is resumed.
# The share and the key of the split show in the data.
FREE = frozenset(
    {"threads", "trackers", "save_every", "micro_tokens", "gradient_checkpointing", "trust_remote_code", "held_out", "group_key"}
)
# Values looked at of each frozen weight.
SAMPLE = 1024


def identity_of(
    config: TrainConfig, train: Prepared, held_out: Prepared | None, trainee: torch.nn.Module, *, precision: str
) -> dict[str, Any]:
    """The identity of a run, as JSON keeps it. `trainee` before it is wrapped; `precision` as resolved on this machine."""
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in FREE}
    settings |= {"learning_rate": resolved_learning_rate(config), "precision": precision}
    return {
        "data": train.fingerprint,
        "held_out": None if held_out is None else held_out.fingerprint,
        "frozen": _frozen(trainee),
        "settings": settings,
    }


def refuse_other(folder: Path, saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise DataError, naming what differs, unless the run saved in `folder` is the one set up now."""
    before, after = _flat(saved.get("settings", {})), _flat(now["settings"])
    changes = [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    words = {"data": "the training data", "held_out": "the held-out data", "frozen": "the weights of the base"}
    changes += [f"{word} are others" for key, word in words.items() if saved.get(key) != now[key]]
    if changes:
        raise DataError(
            f"{folder}: this state belongs to another run: {'; '.join(changes)}",
            hint="resume with the data and settings that the run was started with (its config.toml), or start a new run",
        )


def _frozen(trainee: torch.nn.Module) -> str:
    """A digest of the weights that are not trained, which no state keeps: evenly spaced values of each, so that it costs nothing."""
    digest = hashlib.sha256()
    for name, parameter in trainee.named_parameters():
        if not parameter.requires_grad:
            flat = parameter.detach().reshape(-1)
            sample = flat[:: max(1, len(flat) // SAMPLE)].float().cpu().numpy()
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            digest.update(sample.tobytes())
    return digest.hexdigest()


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Dotted names, as one types them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat
