"""Which shape a row of step data has, told by its own keys: rows of several shapes may stand in one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from preferent.core.errors import ConfigError
from preferent.data.formats import steps, steps_public
from preferent.data.formats.fields import Refused, Row, listed
from preferent.data.formats.steps_fields import ParsedSteps
from preferent.data.ledger import Reason

StepShape = Literal["steps", "trl_stepwise", "processbench", "first_error", "prm800k", "math_shepherd", "prmbench", "mr_ben"]
StepFormat = Literal["auto", StepShape]
STEP_SHAPES: tuple[StepShape, ...] = get_args(StepShape)

PARSERS: dict[StepShape, Callable[[Row], ParsedSteps]] = {
    "steps": steps.parse_native,
    "trl_stepwise": steps.parse_trl,
    "processbench": steps.parse_processbench,
    "first_error": steps.parse_first_error,
    "prm800k": steps_public.parse_prm800k,
    "math_shepherd": steps_public.parse_math_shepherd,
    "prmbench": steps_public.parse_prmbench,
    "mr_ben": steps_public.parse_mr_ben,
}
_KEYS_OF: dict[StepShape, str] = {
    "steps": "prompt, steps, labels",
    "trl_stepwise": "prompt, completions, labels",
    "processbench": "problem, steps, label",
    "first_error": "problem, steps, first_error or labels",
    "prm800k": "question, label as objects",
    "math_shepherd": "input, label",
    "prmbench": "modified_process, error_steps",
    "mr_ben": "Model_Solution_Steps",
}


def step_shape(row: Row) -> StepShape | None:
    """The shape of one row by its keys, None for a row that holds no steps."""
    has = row.keys()
    if "Model_Solution_Steps" in has:
        return "mr_ben"
    if "modified_process" in has:
        return "prmbench"
    if "steps" in has:
        if "label" in has and "labels" not in has:
            return "processbench"
        return "steps" if "prompt" in has and "first_error" not in has else "first_error"
    if {"prompt", "completions", "labels"} <= has:
        return "trl_stepwise"
    if isinstance(row.get("question"), dict) and isinstance(row.get("label"), dict):
        return "prm800k"
    return "math_shepherd" if {"input", "label"} <= has and steps_public.MARK in str(row["input"]) else None


def is_step_format(format: Any) -> bool:
    """Whether a name is that of a shape of step data."""
    return format in PARSERS


def check_step_format(format: str) -> None:
    """Raises ConfigError for a format that does not exist."""
    if format != "auto" and format not in PARSERS:
        raise ConfigError(f"format of step data must be one of auto, {', '.join(STEP_SHAPES)}, found {format!r}")


def parse_steps(row: Row, format: StepFormat = "auto") -> tuple[ParsedSteps, StepShape]:
    """One row as solutions, with the shape it was read as. Raises Refused."""
    shape = step_shape(row) if format == "auto" else format
    if shape is None:
        shapes = "; ".join(f"{name} ({keys})" for name, keys in _KEYS_OF.items())
        raise Refused(Reason.UNKNOWN_SHAPE, f"the row has {listed(list(row)[:12])}; known shapes of step data: {shapes}")
    return PARSERS[shape](row), shape
