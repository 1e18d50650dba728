"""What every contestant is measured with, and the line of JSON that it hands back.

A contestant is one process. It prints progress to stderr and, as the last line of stdout, one JSON object:

training  {"task", "contestant", "config", "pairs", "pairs_measured", "cpu_seconds", "wall_seconds", "losses", "peak_rss_mib",
           "start_rss_mib", "tokens_computed", "work_gflop", "versions"}
scoring   {"task", "contestant", "config", "items", "cpu_seconds", "wall_seconds", "scores", "peak_rss_mib", "start_rss_mib", "versions"}

cpu_seconds are user + system seconds of the process (getrusage), wall_seconds the clock's, both over the same stretch: in training from
the end of the warm-up steps to the end of the last step (`pairs_measured` pairs; tokenising is outside), in scoring from texts to
floats, tokenising inside. Imports and building the model are outside. peak_rss_mib is the process's highest resident memory, imports
included; start_rss_mib the resident memory when the measured work begins. work_gflop are the operations of the matrix products in the
measured stretch for the tokens that the contestant computes, its padding included, recomputation not (matmul.Work).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment in CPU seconds of this process and in wall seconds."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Clock:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(cpu=used.ru_utime + used.ru_stime, wall=time.perf_counter())

    def __sub__(self, earlier: Clock) -> Clock:
        return Clock(cpu=self.cpu - earlier.cpu, wall=self.wall - earlier.wall)


def resident_mib() -> float:
    """Resident memory at this moment."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_rss_mib() -> float:
    """Highest resident memory of this process: VmHWM, which unlike ru_maxrss does not start from the parent's memory at the fork."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def one_thread(threads: int) -> None:
    """The same thread setting for every contestant; OMP_NUM_THREADS must already be in the environment before torch is imported."""
    import torch

    if os.environ.get("OMP_NUM_THREADS") != str(threads):
        print(f"OMP_NUM_THREADS is {os.environ.get('OMP_NUM_THREADS')!r}, not {threads}: start through bench/run.py", file=sys.stderr)
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(threads)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report(*packages: str, **facts: Any) -> None:
    """Print the result line; `packages` are named with their versions."""
    facts["peak_rss_mib"] = round(peak_rss_mib(), 1)
    facts["versions"] = {name: version(name) for name in ("torch", "transformers", *packages)}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
