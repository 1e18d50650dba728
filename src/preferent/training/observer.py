"""What a run tells while it runs. The loop calls these on the main process; the command line draws a bar, tests keep lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Observer:
    """Does nothing; override what you want to hear."""

    def started(self, *, total_steps: int, done_steps: int) -> None:
        """Before the first step; `done_steps` > 0 when a run is resumed."""

    def noted(self, text: str) -> None:
        """A sentence worth knowing: the path taken, rows truncated, an early stop."""

    def stepped(self, row: Mapping[str, Any]) -> None:
        """After each optimiser step: step, epoch, loss, learning_rate, grad_norm, pairs, tokens, seconds."""

    def evaluated(self, row: Mapping[str, Any]) -> None:
        """After each evaluation: step, held_out_nll, held_out_accuracy."""
