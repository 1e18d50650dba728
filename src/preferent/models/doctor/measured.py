"""The probe exchanges as the model takes them, and its reward for each alone: what the other measurements are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from preferent.core.records import Exchange, Floats
from preferent.models.doctor.patient import RUN_ERRORS, Input, Patient, first_line, refused


@dataclass(frozen=True, slots=True)
class Measured:
    """Exchanges that render and fit, their token ids, and rewards of shape (N,); `reward_N` is None when there is nothing to run.

    `reason` then says why, and `crashed` whether the model's forward did it. `refusals` holds what the chat template said about others;
    `too_long` counts those with more tokens than the model takes.
    """

    exchanges: tuple[Exchange, ...]
    inputs: tuple[Input, ...]
    refusals: tuple[str, ...]
    reward_N: Floats | None
    reason: str = ""
    crashed: bool = False
    too_long: int = 0

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
    refusals = tuple(reason for reason in said if reason is not None)
    rendered = [exchange for exchange, reason in zip(exchanges, said, strict=True) if reason is None]
    encoded = [(exchange, patient.encode(exchange)) for exchange in rendered]
    limit = _longest(patient)
    fitting = [(exchange, x) for exchange, x in encoded if len(x.ids) <= limit]
    kept, inputs = tuple(exchange for exchange, _ in fitting), tuple(x for _, x in fitting)
    measured = Measured(kept, inputs, refusals, None, too_long=len(encoded) - len(fitting))
    if patient.model is None:
        return replace(measured, reason=patient.trouble or "there is no head")
    if patient.head_missing:
        return replace(measured, reason="the head is a random draw")
    if not kept:
        return replace(
            measured, reason="the chat template refuses every probe" if refusals else f"every probe is longer than {limit} tokens"
        )
    try:
        return replace(measured, reward_N=patient.rewards(inputs))
    except RUN_ERRORS as error:
        return replace(measured, reason=first_line(error), crashed=True)


def _longest(patient: Patient) -> int:
    """The most tokens a probe may have."""
    stated = [
        getattr(patient.config.get_text_config(), "max_position_embeddings", None),
        getattr(patient.config, "n_positions", None),
        None if patient.tokenizer is None else patient.tokenizer.model_max_length,
    ]
    # RoBERTa's positions start at its pad id + 1, so two of them are never used.
    return min([int(limit) for limit in stated if limit and limit > 4], default=4096) - 2
