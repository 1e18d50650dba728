"""The surroundings of a run: processes, precision, threads, random state. Left as they were found, except for a process group."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import DistributedType, GradientAccumulationPlugin

from preferent.core.errors import ConfigError, MissingExtraError
from preferent.training.config import TrainConfig

SUPPORTED = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
    DistributedType.FSDP,
)


@contextmanager
def session(config: TrainConfig, output: Path) -> Iterator[Accelerator]:
    """The accelerator of one run. Runs with other settings may follow in the same process.

    Raises ConfigError for a launcher or a precision that the loop does not know, MissingExtraError for a tracker that is not there.
    """
    _refuse_missing_trackers(config)
    threads = torch.get_num_threads()
    state_is_ours = not is_initialized()
    try:
        accelerator = _accelerator(config, output)
        # After the accelerator, which sets the number of threads when it starts several processes on CPUs.
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        cards = [accelerator.device] if accelerator.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=cards):
                yield accelerator
        finally:
            for tracker in accelerator.trackers:
                tracker.finish()
    finally:
        torch.set_num_threads(threads)
        # The process group stays: taken down and set up again between runs, it loses connections to processes that are slower.
        if state_is_ours:
            AcceleratorState._reset_state()


def _accelerator(config: TrainConfig, output: Path) -> Accelerator:
    precision = {"fp32": "no", "bf16": "bf16"}.get(config.precision)
    if precision is None and torch.cuda.is_available() and torch.cuda.is_bf16_supported():
        precision = "bf16"
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            log_with=list(config.trackers) or None,
            project_dir=str(output),
            # The loop accumulates by itself; a number from the launcher's environment would only shrink the gradients.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
    except ValueError as error:
        raise ConfigError(f"precision {config.precision!r} cannot be used here: {error}", hint="set precision = 'fp32'") from error
    if accelerator.mixed_precision not in ("no", "bf16"):
        asked = f"the launcher asks for the precision {accelerator.mixed_precision!r}, allowed: no, bf16"
        raise ConfigError(asked, hint="set precision = 'fp32' or 'bf16'")
    kind = accelerator.distributed_type
    plugin = accelerator.state.fsdp_plugin if kind == DistributedType.FSDP else None
    old = plugin is not None and plugin.fsdp_version != 2
    if old or kind not in SUPPORTED:
        hint = "accelerate launch --multi_gpu, or --use_fsdp --fsdp_version 2"
        raise ConfigError(f"launched with {'FSDP 1' if old else kind.value}, allowed: one process, DDP, FSDP2", hint=hint)
    return accelerator


def _refuse_missing_trackers(config: TrainConfig) -> None:
    """accelerate leaves a tracker that is not installed out without a word."""
    if "tensorboard" in config.trackers and not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        raise MissingExtraError("tensorboard", "trackers")
    if "wandb" in config.trackers and importlib.util.find_spec("wandb") is None:
        raise ConfigError("trackers: 'wandb' is not installed", hint="pip install wandb")
