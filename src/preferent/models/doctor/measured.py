"""The probe exchanges as the model takes them, and its reward for each alone: what the other measurements are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preferent.core.records import Exchange, Floats
from preferent.models.doctor.patient import Input, Patient, refused


@dataclass(frozen=True, slots=True)
class Measured:
    """Exchanges that render, their token ids, and rewards of shape (N,); `reward_N` is None when there is nothing to run.

    `reason` then says why. `refusals` holds what the chat template said about the others.
    """

    exchanges: tuple[Exchange, ...]
    inputs: tuple[Input, ...]
    refusals: tuple[str, ...]
    reward_N: Floats | None
    reason: str = ""

    @property
    def spread(self) -> float:
        """Standard deviation of the rewards."""
        return float("nan") if self.reward_N is None else float(np.std(self.reward_N))

    @property
    def allowed(self) -> float:
        """How far a reward may move and still count as the same: a ten-thousandth of the spread, and fp32 rounding."""
        largest = 0.0 if self.reward_N is None else float(np.abs(self.reward_N).max())
        return 1e-4 * self.spread + 2e-6 * max(1.0, largest)


def measure(patient: Patient, exchanges: Sequence[Exchange]) -> Measured:
    """Encode what the template takes and score each exchange alone."""
    if patient.tokenizer is None:
        return Measured((), (), (), None, "no tokenizer")
    said = [refused(patient, exchange) for exchange in exchanges]
    kept = tuple(exchange for exchange, reason in zip(exchanges, said, strict=True) if reason is None)
    refusals = tuple(reason for reason in said if reason is not None)
    limit = _longest(patient)
    encoded = (patient.encode(exchange) for exchange in kept)
    inputs = tuple(Input(x.ids[-limit:], None if x.types is None else x.types[-limit:]) for x in encoded)
    if patient.model is None:
        return Measured(kept, inputs, refusals, None, patient.trouble or "not loaded")
    if patient.head_missing:
        return Measured(kept, inputs, refusals, None, "the head is a random draw")
    if not kept:
        return Measured(kept, inputs, refusals, None, "the chat template refuses every probe")
    return Measured(kept, inputs, refusals, patient.rewards(inputs))


def _longest(patient: Patient) -> int:
    """The most tokens a probe may have."""
    stated = [
        getattr(patient.config.get_text_config(), "max_position_embeddings", None),
        getattr(patient.config, "n_positions", None),
        None if patient.tokenizer is None else patient.tokenizer.model_max_length,
    ]
    # RoBERTa's positions start at its pad id + 1, so two of them are never used.
    return min([int(limit) for limit in stated if limit and limit > 4], default=4096) - 2
