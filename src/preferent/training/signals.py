"""SIGTERM becomes a request that the loop answers after the step at hand, with its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopRequest:
    requested: bool = False


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Set the request on SIGTERM while inside; outside the main thread signals cannot be caught and it stays unset."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        request.requested = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield request
    finally:
        # None stands for a handler that was not installed from Python and cannot be put back from it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
