"""What a step model's checkpoint says beside its weights: where steps end, how a text is split into them, what their scores become."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from preferent.core.records import Record
from preferent.core.step_rewards import Aggregation

CARD = "preferent.json"
Split = Literal["auto", "blank_lines", "lines"]
_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")


class StepsSpec(Record):
    """separator: the text that ends every step, whose last token is where the step is scored. split: the rule that makes steps of a
    response (see `split_steps`). sees_later_steps: an encoder reads a whole solution at once, so that the score of a step is one in
    hindsight and changes when steps are added after it; a decoder's does not. aggregation: of step probabilities to one reward, None
    until it has been chosen on validation data. threshold: a step whose probability is below it is called wrong, None until chosen.
    """

    separator: str
    split: Split = "auto"
    sees_later_steps: bool
    aggregation: Aggregation | None = None
    threshold: float | None = None


def split_steps(response: str, rule: Split) -> tuple[str, ...]:
    """The steps of a response, at least one: its paragraphs ("blank_lines"), its lines ("lines"), or its paragraphs where it has several
    and its lines where not ("auto"). Empty pieces are no steps; white space around a step is kept out of it."""
    text = response.strip()
    parts = _BLANK_LINES.split(text) if rule != "lines" else [text]
    if rule == "lines" or (rule == "auto" and len(parts) == 1):
        parts = text.split("\n")
    steps = tuple(part.strip() for part in parts if part.strip())
    return steps or (response,)


def is_step_model(path: str | Path) -> bool:
    """Whether a folder holds a step model's checkpoint; looks at its card only."""
    try:
        card = json.loads(Path(path, CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("steps") is not None
