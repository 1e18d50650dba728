"""The run's metrics as JSON lines, one per step or evaluation; a resumed run drops the lines its checkpoint does not know."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "metrics.jsonl"


class MetricsLog:
    """Appends rows to `metrics.jsonl` in the run's folder."""

    def __init__(self, folder: Path, *, keep_until: int) -> None:
        self.path = folder / NAME
        rows = [row for row in read_metrics(folder) if row["step"] <= keep_until]
        scratch = self.path.with_suffix(".tmp")
        scratch.write_text("".join(_line(row) for row in rows), encoding="utf-8")
        os.replace(scratch, self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(_line(row))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All complete rows so far; a line torn by a kill is left out."""
    path = folder / NAME
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _line(row: Mapping[str, Any]) -> str:
    clean = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
    return json.dumps(clean, ensure_ascii=False) + "\n"
