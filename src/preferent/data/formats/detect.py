"""Which shape a row has, told by its own keys: rows of several shapes may stand in one file."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, get_args

from preferent.core.errors import ConfigError
from preferent.data.formats import chosen_rejected, hh_rlhf, native, ranked, strength, ultrafeedback
from preferent.data.formats.fields import Parsed, Refused, Row, listed
from preferent.data.formats.steps_detect import step_shape
from preferent.data.ledger import Reason

Shape = Literal["native", "chosen_rejected", "hh_rlhf", "strength", "ultrafeedback", "responses", "candidates", "best_losers"]
Format = Literal["auto", Shape]
SHAPES: tuple[Shape, ...] = get_args(Shape)

PARSERS: dict[Shape, Callable[[Row], Parsed]] = {
    "native": native.parse,
    "chosen_rejected": chosen_rejected.parse,
    "hh_rlhf": hh_rlhf.parse,
    "strength": strength.parse,
    "ultrafeedback": ultrafeedback.parse,
    "responses": ranked.parse_responses,
    "candidates": ranked.parse_candidates,
    "best_losers": ranked.parse_best_losers,
}
_KEYS_OF: dict[Shape, str] = {
    "native": "prompt, response_a, response_b, p_a",
    "chosen_rejected": "chosen, rejected and usually prompt",
    "hh_rlhf": "chosen, rejected as Human:/Assistant: transcripts",
    "strength": "prompt, chosen, rejected, strength",
    "ultrafeedback": "instruction, completions",
    "responses": "prompt, responses, ranks or scores",
    "candidates": "prompt, candidates",
    "best_losers": "prompt, best, losers",
}
_JUDGMENT = ({"comparison_id", "annotator_id", "choice"}, {"item", "annotator", "label"})


@lru_cache(maxsize=1024)
def _shape_of_keys(keys: tuple[str, ...]) -> Shape | None:
    has = frozenset(keys)
    if has & {"response_a", "response_b", "p_a"}:
        return "native"
    if {"chosen", "rejected"} <= has:
        return "strength" if "strength" in has else "chosen_rejected"
    if "completions" in has and has & {"instruction", "prompt"}:
        return "ultrafeedback"
    if "responses" in has and has & {"ranks", "scores"}:
        return "responses"
    if "candidates" in has:
        return "candidates"
    return "best_losers" if {"best", "losers"} <= has else None


def detect(row: Row) -> Shape:
    """The shape of one row by its keys; transcripts are told from other texts by how they begin.

    Raises Refused with the keys found and the shapes that exist.
    """
    shape = _shape_of_keys(tuple(row))
    # A judgment may carry its texts, which alone look like a preference without its p_a.
    if shape is None or (shape == "native" and "p_a" not in row and _is_judgment(row)):
        raise Refused(Reason.UNKNOWN_SHAPE, f"the row has {listed(list(row)[:12])}; {_elsewhere(row)}")
    if shape == "chosen_rejected" and "prompt" not in row and hh_rlhf.is_transcript(row["chosen"]):
        return "hh_rlhf"
    return shape


def _is_judgment(row: Row) -> bool:
    return any(keys <= row.keys() for keys in _JUDGMENT)


def _elsewhere(row: Row) -> str:
    """What reads a row that is no preference, or the shapes of preferences."""
    if _is_judgment(row):
        return "that is a judgment, which `preferent agree`, `aggregate`, `annotators`, `next` and `train` read"
    if step_shape(row) is not None:
        return "that is a solution in steps, which `preferent check`, `train`, `evaluate` and `label-steps` read"
    shapes = "; ".join(f"{name} ({keys})" for name, keys in _KEYS_OF.items())
    return f"known shapes: {shapes}; rating (prompt, response, values)"


def check_format(format: str) -> None:
    """Raises ConfigError for a format that does not exist."""
    if format != "auto" and format not in PARSERS:
        raise ConfigError(f"format must be one of auto, {', '.join(SHAPES)}, found {format!r}")


def parse(row: Row, format: Format = "auto") -> tuple[Parsed, Shape]:
    """One row as a record, with the shape it was read as. Raises Refused."""
    shape = detect(row) if format == "auto" else format
    return PARSERS[shape](row), shape
