"""What the lab's experiments are given when they run from the command line: trainers, a policy, shaping, the monitor."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from preferent.core.records import Exchange, Preference
from preferent.core.scorer import Scorer
from preferent.lab.experiments.outcome import Fit, Parts
from preferent.lab.experiments.rl import Writer


def parts(scorer: str, say: Callable[[str], None]) -> Parts:
    """Parts with the trainer named in the settings: `ngrams` or `tiny`."""
    from preferent.optimize import monitor, shaping

    return Parts(fit=_trainer(scorer), par=shaping.par, tilt=shaping.tilt, stop=monitor.stop, say=say, teach=_teach)


def _teach(exchanges: Sequence[Exchange], seed: int, settings: Any) -> Writer:
    from preferent.cli.lab_rl import teach_writer

    return teach_writer(exchanges, seed, settings)


def _trainer(scorer: str) -> Fit:
    from preferent.lab.ngrams import NgramTrainer

    return fit_tiny if scorer == "tiny" else NgramTrainer()


def fit_tiny(preferences: Sequence[Preference], seed: int, *, epochs: float = 4.0, **settings: Any) -> Scorer:
    """The tiny transformer by the same path as `preferent train --base tiny`; its folder is removed, the model stays in memory."""
    import torch

    from preferent.models.reward_model import RewardModel
    from preferent.training.config import TrainConfig
    from preferent.training.run import train

    torch.set_num_threads(1)
    config = TrainConfig(base="tiny", epochs=epochs, seed=seed, max_length=512, threads=1, **settings)
    with tempfile.TemporaryDirectory(prefix="preferent-lab-") as folder:
        output = Path(folder) / "run"
        train(preferences, [], config, output)
        return RewardModel.load(output)
