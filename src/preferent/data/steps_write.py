"""Solutions in steps as rows of a file, in the shape that `steps_gate.check_steps` reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from preferent.core.records import StepLabels
from preferent.data.write import write_jsonl


def step_row(record: StepLabels) -> dict[str, Any]:
    """A solution as a native row; a prompt of one user turn is written as its text, defaults are left out."""
    turns = record.prompt
    one = len(turns) == 1 and turns[0].role == "user"
    row: dict[str, Any] = {
        "prompt": turns[0].content if one else [{"role": turn.role, "content": turn.content} for turn in turns],
        "steps": list(record.steps),
        "labels": list(record.labels),
    }
    beside = {"source": record.source, "id": record.id, "meta": record.meta or None}
    return row | {name: value for name, value in beside.items() if value is not None}


def write_steps(path: str | Path, records: Iterable[StepLabels], *, force: bool = False) -> int:
    """Write solutions as JSON lines; returns how many. Raises as `write.write_jsonl` does."""
    return write_jsonl(path, (step_row(record) for record in records), force=force)
