"""The last part of a run: what its settings ask to be fitted on the finished model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelerate import PartialState

from preferent.core.errors import DataError, FitError
from preferent.models.checkpoint import write_card
from preferent.models.reward_model import RewardModel
from preferent.training.config import OneMember, TrainConfig
from preferent.training.finish import TrainResult
from preferent.training.observer import Observer
from preferent.training.refine import Asked, refine


def asked_of(config: TrainConfig) -> Asked:
    """What a run's settings ask for; a member of an ensemble leaves it to the whole."""
    if isinstance(config.ensemble, OneMember):
        return Asked()
    return Asked(length=config.length_calibration, laplace=config.uncertainty.laplace, level=config.uncertainty.interval)


def refined(
    result: TrainResult, records: tuple[Sequence[object], Sequence[object]], config: TrainConfig, observer: Observer
) -> TrainResult:
    """The result with what was asked for fitted and written into the checkpoint, on the main process. `records` is (training, held-out).

    Data that do not suffice are said, and the model stays as it was: a run of hours is not lost for it.
    """
    asked = asked_of(config)
    if asked == Asked() or result.stopped == "signal" or not PartialState().is_main_process:
        return result
    model = RewardModel.load(result.output, trust_remote_code=config.trust_remote_code)
    try:
        told = refine(model, records[1], records[0], asked, seed=config.seed)
    except (DataError, FitError) as error:
        observer.noted(f"not fitted: {error.message}")
        return result
    for sentence in told:
        observer.noted(sentence)
    write_card(result.output, model.card, laplace=model.laplace)
    return replace(result, calibration=model.card.calibration)
