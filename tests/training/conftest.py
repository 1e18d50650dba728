"""Bases for whole trainings, made once, and the process that runs trainings to be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """base(kind, **config) -> folder of a random 2-layer backbone."""
    from loop_worlds import make_base
    from transformers.utils import logging

    logging.disable_progress_bar()
    made: dict[str, Path] = {}

    def folder(kind: str = "qwen3", **more: Any) -> str:
        key = f"{kind} {sorted(more.items())}"
        if key not in made:
            made[key] = make_base(tmp_path_factory.mktemp(kind), kind, **more)
        return str(made[key])

    return folder


@pytest.fixture(scope="module")
def run_job() -> Iterator[Callable[..., int]]:
    """run_job(output=..., config={...}, ...) -> exit code of a training in a process of its own, minus the signal that killed it."""
    script = Path(__file__).with_name("loop_worlds.py")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    server = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def run(**job: Any) -> int:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(job, default=str) + "\n")
        server.stdin.flush()
        for line in server.stdout:
            if line.startswith('{"status"'):
                return json.loads(line)["status"]
        raise AssertionError("the process that runs the trainings has died")

    yield run
    assert server.stdin is not None
    server.stdin.close()
    server.wait(timeout=30)
    assert server.stdout is not None
    server.stdout.close()
