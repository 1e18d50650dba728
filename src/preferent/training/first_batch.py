"""The first batch is scored by every path before any training: a backbone that packed rows do not suit is found here."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from preferent.models.attention import UnsupportedAttentionError
from preferent.models.packing import PackedBatch
from preferent.training.trainee import Trainee

# Of the spread of the rewards; half precision rounds each layer.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


@dataclass(frozen=True, slots=True)
class PathCheck:
    """Which path the run takes, the largest difference from the plain path, and a sentence for the log."""

    path: str
    difference: float | None
    note: str


def choose_path(model: torch.nn.Module, trainee: Trainee, batch: PackedBatch, dtype: torch.dtype) -> PathCheck:
    """Compare packed rewards with the plain ones on one batch and switch packing off if they differ.

    `model` is `trainee` as wrapped for distribution. The state of `trainee.reward` is changed, nothing else.
    """
    reward = trainee.reward
    if not reward.packed:
        return PathCheck("plain", None, "padded batches: this backbone's attention does not go through transformers' interface")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            reward.packed = False
            plain_R = model(batch).reward_R
            reward.packed = True
            try:
                packed_R = model(batch).reward_R
            except UnsupportedAttentionError as error:
                reward.use_plain()
                return PathCheck("plain", None, f"padded batches: {error}")
    finally:
        model.train(was_training)
    difference = float((packed_R - plain_R).abs().max())
    allowed = TOLERANCE[dtype] * max(float(plain_R.std(correction=0)), 1e-2)
    if not difference <= allowed:
        reward.use_plain()
        note = f"padded batches: packed rewards differ from plain ones by {difference:.2e} (allowed {allowed:.2e}) on the first batch"
        return PathCheck("plain", difference, note)
    path = "shared" if reward.share else "packed"
    return PathCheck(path, difference, f"{path} rows: the first batch agrees with the plain path within {difference:.1e}")
