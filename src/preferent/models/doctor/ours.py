"""Whether this package scores the model as transformers does: packed rows, shared prompts and batches against one at a time."""

from __future__ import annotations

import numpy as np

from preferent.core.errors import PreferentError
from preferent.models.doctor.measured import Measured
from preferent.models.doctor.patient import Patient
from preferent.models.doctor.report import Check
from preferent.models.reward_model import RewardModel

# If one of these failed, transformers' own reward is not one to agree with.
EXPLAIN = ("loads", "safetensors", "head", "num_labels", "chat template", "date", "scored token", "rewards")


def check_ours(patient: Patient, measured: Measured, before: tuple[Check, ...], *, trust_remote_code: bool, device: str) -> Check:
    """`RewardModel.load(...).score` on all probes at once against the model's own forward on each."""
    if patient.adapter is not None:
        return Check("preferent", None, "an adapter", "RewardModel.load takes whole models: merge it into its base")
    reasons = [check.name for check in before if check.passed is False and check.name in EXPLAIN]
    if reasons:
        return Check("preferent", None, "not compared", f"{reasons[0]} failed")
    assert measured.reward_N is not None
    try:
        model = RewardModel.load(patient.folder, device=device, dtype=next(_parameters(patient)).dtype, trust_remote_code=trust_remote_code)
        ours_N = model.score(measured.exchanges).reward
    except PreferentError as error:
        return Check("preferent", False, "refused", error.message, error.hint)
    moved = float(np.abs(ours_N - measured.reward_N).max())
    path = "shared" if model.module.share else "packed" if model.module.packed else "padded"
    figure = f"{path} rows against one at a time: {moved:.1e} (allowed {measured.allowed:.1e})"
    if moved <= measured.allowed:
        return Check("preferent", True, figure)
    return Check("preferent", False, figure, "this package and transformers read the model differently",
                 "if preferent.json lies beside it, its render spec and the tokenizer disagree")  # fmt: skip


def _parameters(patient: Patient):  # type: ignore[no-untyped-def]
    assert patient.model is not None
    return patient.model.parameters()
