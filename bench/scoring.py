"""What the scoring contestants share: the rows of the fixture as items, the search over batch sizes, and the result line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from meter import Clock, one_thread, report, resident_mib, rows_of

MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Item:
    prompt: list[dict[str, Any]]
    response: str

    def messages(self) -> list[dict[str, Any]]:
        return [*self.prompt, {"role": "assistant", "content": self.response}]


def options(*forms: str) -> argparse.Namespace:
    """The command line; `forms` are the ways in which the peer can be handed an item, the first by default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("fixture", type=Path)
    parser.add_argument("--data", choices=("shared", "single"), required=True)
    parser.add_argument("--batch", type=int, default=0, help="sequences in one forward pass (preferent: tokens); 0: its default")
    parser.add_argument("--form", choices=forms, default=forms[0], help="how the peer is handed the items")
    parser.add_argument("--items", type=int, help="only the first so many")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    one_thread(given.threads)
    return given


def items_of(given: argparse.Namespace) -> list[Item]:
    rows = rows_of(given.fixture / f"{given.data}.jsonl")
    return [Item(row["prompt"], response) for row in rows for response in row["responses"]][: given.items]


def measure(given: argparse.Namespace, contestant: str, score: Callable[[list[Item]], Sequence[float]], *packages: str) -> None:
    """Score two items to warm up, then all of them under the clock: from messages to floats, rendering and tokenising inside."""
    items = items_of(given)
    score(items[:2])
    start_rss, begin = resident_mib(), Clock.now()
    scores = [float(value) for value in score(items)]
    spent = Clock.now() - begin
    facts: dict[str, Any] = {
        "task": f"score-{given.data}",
        "contestant": contestant,
        "config": {"batch": given.batch, "form": given.form, "threads": given.threads},
        "items": len(items),
        "cpu_seconds": spent.cpu,
        "wall_seconds": spent.wall,
        "scores": scores,
        "start_rss_mib": round(start_rss, 1),
    }
    report(*packages, **facts)
