"""Which optional extra brings which package, so that a missing one is named by what to install."""

from __future__ import annotations

from preferent.core.errors import MissingExtraError

EXTRA_OF = {
    "torch": "train",
    "transformers": "train",
    "tokenizers": "train",
    "safetensors": "train",
    "huggingface_hub": "train",
    "accelerate": "train",
    "peft": "train",
    "datasets": "data",
    "pyarrow": "data",
    "matplotlib": "plots",
    "tensorboard": "trackers",
    "httpx2": "http",
    "trl": "rl",
}


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error to raise instead of `error`, or None when the module that is missing belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    return MissingExtraError(package, EXTRA_OF[package]) if package in EXTRA_OF else None
