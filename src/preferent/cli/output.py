"""Where words go: data to stdout, talk and progress to stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

# A log file is not a terminal: one plain line every so often instead of a bar, and none for work that is soon done.
SECONDS_BETWEEN_LINES = 30.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


def emit(text: str) -> None:
    """A result for people, to stdout."""
    click.echo(text)


def emit_json(data: Any) -> None:
    """A result for programs, to stdout, as strict JSON: NaN and infinities become null.

    Takes JSON's own types, numpy arrays and numbers, paths, and anything with `to_dict()`; raises TypeError for others.
    """
    click.echo(json.dumps(plain_json(data), indent=2, ensure_ascii=False, allow_nan=False))


def talk(text: str) -> None:
    """Words about the work, to stderr."""
    click.echo(text, err=True)


def plain_json(data: Any) -> Any:
    """Data as strict JSON has it: NaN and infinities become null; see `emit_json` for what is taken."""
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else None
    if data is None or isinstance(data, str | int):
        return data
    if isinstance(data, Mapping):
        return {str(key): plain_json(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain_json(value) for value in data]
    if isinstance(data, os.PathLike):
        return os.fspath(data)
    for method in ("to_dict", "tolist"):
        if hasattr(data, method):
            return plain_json(getattr(data, method)())
    raise TypeError(f"{type(data).__name__} has no JSON form: {data!r}")


class Progress:
    """A bar on stderr; where stderr is no terminal, a plain line every half minute.

    Used as a context manager, and called with the number of units just done (and, if wanted, a few words of its own).
    `total` None means that nobody knows how many there will be; `done` were done before, by a run that is being resumed.
    """

    def __init__(self, label: str, total: int | None, unit: str, *, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._before = done
        self._clock = clock
        self._started = self._spoke = clock()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = _rich_bar()
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.done, words="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, n: int = 1, words: str = "") -> None:
        self.done += n
        now = self._clock()
        rate = (self.done - self._before) / max(now - self._started, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, words=f"{rate:,.0f} {self.unit}/s {words}".rstrip())
        elif now - self._spoke >= SECONDS_BETWEEN_LINES:
            self._spoke = now
            talk(self._line(rate, words))

    def _line(self, rate: float, words: str) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        parts = [f"{self.label}: {self.done:,}{of} {self.unit}", f"{rate:,.1f} {self.unit}/s"]
        if self.total is not None and rate > 0:
            parts.append(f"{(self.total - self.done) / rate:,.0f} s left")
        return ", ".join([*parts, words] if words else parts)


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
