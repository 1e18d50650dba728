"""For every test: no network, no bars, one thread. torch is imported by the tests that need it, not here."""

from __future__ import annotations

import os
import sys

import pytest

# Read by these libraries when they are imported, so before any test module is.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}
os.environ.update(QUIET)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One torch thread, where a test has loaded torch at all."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_bars() -> None:
    """transformers draws a bar for every loaded checkpoint otherwise."""
    logging = sys.modules.get("transformers.utils.logging")
    if logging is not None and logging.is_progress_bar_enabled():
        logging.disable_progress_bar()
