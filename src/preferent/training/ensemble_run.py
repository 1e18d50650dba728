"""An ensemble of adapters or of whole members: one training after the other, then one folder.

OUTPUT/members/K   while it runs: a run of its own each, resumed like any other. When all are done, adapters go to OUTPUT/adapters/K, and
                   member 0 into OUTPUT itself (see `models.ensemble_files`)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from preferent.core.errors import ConfigError, DataError, ExistsError, FitError
from preferent.core.settings import to_toml
from preferent.models.checkpoint import CARD, Calibration, read_card, write_card
from preferent.models.ensemble_files import ADAPTERS, MEMBERS, save_backbone
from preferent.models.ensembles import EnsembleSpec, Member, correlations, measured
from preferent.models.readout import raw_members
from preferent.models.reward_model import RewardModel
from preferent.training.config import AdaptersEnsemble, Lora, MembersEnsemble, OneMember, TrainConfig
from preferent.training.ensemble import member_seed
from preferent.training.ensemble_setup import OWN_WEIGHTS
from preferent.training.finish import TrainResult
from preferent.training.observer import Observer
from preferent.training.pairs import overall_pairs
from preferent.training.refine import temperature_of
from preferent.training.state import step_folders

CONFIG = "config.toml"
# Responses that members are measured on where none are held out.
MOST_RESPONSES = 4000
TrainOne = Callable[..., TrainResult]
Records = tuple[Sequence[Any], Sequence[Any]]


def train_members(
    how: tuple[TrainOne, Callable[[TrainConfig], RewardModel]],
    records: Records,
    config: TrainConfig,
    output: Path,
    *,
    data: dict[str, Any],
    resume: bool,
    observer: Observer,
) -> TrainResult:
    """Train every member, and make one checkpoint of them. `records` is (training, held-out); `how` trains one model, and makes one as it
    is before training.

    Raises what a training raises; ConfigError for adapters without LoRA.
    """
    train_one, create = how
    kind = config.ensemble
    assert isinstance(kind, AdaptersEnsemble | MembersEnsemble)
    if isinstance(kind, AdaptersEnsemble) and not isinstance(config.adapter, Lora):
        raise ConfigError("ensemble.kind is 'adapters', and adapter.kind is 'full'", hint="set adapter.kind = 'lora'")
    _refuse(output, resume=resume)
    results = []
    for number in range(kind.size):
        folder = output / MEMBERS / str(number)
        if resume and (folder / CARD).exists():
            continue
        goes_on = resume and _has_state(folder)
        telling = _Telling(observer, number, kind.size, output, config)
        own = member_config(config, number)
        result = train_one(records[0], records[1], own, folder, data=data, resume=goes_on, observer=telling)
        if result.stopped == "signal":
            return replace(result, output=output)
        results.append(result)
    nll = accuracy = calibration = None
    if PartialState().is_main_process:
        _assemble(output, config, data, lambda: create(member_config(config, 0)))
        nll, accuracy, calibration = _settle(output, records, config, observer)
    steps, path = sum(result.steps for result in results), results[-1].path if results else "resumed when all members were done"
    over_long, cut = (results[-1].over_long, results[-1].response_cut) if results else (0, 0)
    return TrainResult(output, steps, None, path, nll, accuracy, calibration, (), over_long, cut)


def _has_state(folder: Path) -> bool:
    """Whether a member's run can be taken up; what one that was cut off before its first state has left is cleared. The same on every
    process."""
    processes = PartialState()
    if processes.is_main_process and folder.exists() and not step_folders(folder / "checkpoints"):
        shutil.rmtree(folder)
    processes.wait_for_everyone()
    return bool(step_folders(folder / "checkpoints"))


def member_config(config: TrainConfig, number: int) -> TrainConfig:
    """The settings of one member's run: its own seed, and what it shares with the others."""
    kind = config.ensemble
    assert isinstance(kind, AdaptersEnsemble | MembersEnsemble)
    adapters = isinstance(kind, AdaptersEnsemble)
    shared = adapters or (isinstance(kind, MembersEnsemble) and kind.start == "shared")
    own = OneMember(number=number, bootstrap=kind.bootstrap, start_seed=config.seed if shared else None, own_head=adapters)
    return config.model_copy(update={"seed": member_seed(config.seed, number), "ensemble": own})


class _Telling(Observer):
    """Says which member a sentence is about; the first step of the first member leaves the settings of the whole in the folder."""

    def __init__(self, to: Observer, number: int, size: int, output: Path, config: TrainConfig) -> None:
        self._to, self._number, self._size, self._output, self._config = to, number, size, output, config

    def started(self, *, total_steps: int, done_steps: int) -> None:
        (self._output / CONFIG).write_text(to_toml(self._config), encoding="utf-8")
        self._to.noted(f"member {self._number + 1} of {self._size}")
        self._to.started(total_steps=total_steps, done_steps=done_steps)

    def noted(self, text: str) -> None:
        self._to.noted(text)

    def stepped(self, row: Mapping[str, Any]) -> None:
        self._to.stepped({**row, "member": self._number})

    def evaluated(self, row: Mapping[str, Any]) -> None:
        self._to.evaluated({**row, "member": self._number})


def _assemble(output: Path, config: TrainConfig, data: dict[str, Any], backbone: Callable[[], RewardModel]) -> None:
    """Put the files of the finished members where a checkpoint has them, its card last: a run that is cut off here does it again."""
    kind = config.ensemble
    assert isinstance(kind, AdaptersEnsemble | MembersEnsemble)
    first = output / MEMBERS / "0"
    card = read_card(first)
    if card is None:
        raise DataError(f"{first}: the first member is missing", hint="train it again")
    for path in first.iterdir():
        if path.name not in (CONFIG, CARD) and path.is_file():
            shutil.copy2(path, output / path.name)
    if isinstance(kind, AdaptersEnsemble):
        for number in range(kind.size):
            shutil.copytree(output / MEMBERS / str(number) / "adapter", output / ADAPTERS / str(number), dirs_exist_ok=True)
        save_backbone(backbone().module.model, output)
    spec = EnsembleSpec(kind=kind.kind, members=(Member(),) * kind.size, bootstrap=kind.bootstrap, own_weights=OWN_WEIGHTS[kind.kind])
    whole = {"config": config.model_dump(mode="json"), "calibration": None, "calibrations": {}, "ensemble": spec}
    fingerprint = {"fingerprint": card.data.get("fingerprint"), **data}
    write_card(output, card.model_copy(update={**whole, "data": fingerprint}))
    shutil.rmtree(output / MEMBERS if isinstance(kind, AdaptersEnsemble) else first)


def _settle(
    output: Path, records: Records, config: TrainConfig, observer: Observer
) -> tuple[float | None, float | None, Calibration | None]:
    """Measure the members on held-out responses (or training ones), and fit the temperature of their mean. (NLL, accuracy, temperature)."""
    model = RewardModel.load(output, trust_remote_code=config.trust_remote_code)
    held_out = overall_pairs(records[1])
    pairs, on = (held_out, "held-out") if len(held_out.p_E) else (overall_pairs(records[0]), "training")
    exchanges = pairs.exchanges[:MOST_RESPONSES]
    assert model.card.ensemble is not None
    raw_NM = raw_members(model.card, model.readings(exchanges))
    spec = measured(model.card.ensemble, raw_NM, f"{len(exchanges)} {on} responses")
    model.card = model.card.model_copy(update={"ensemble": spec})
    observer.noted(f"members measured on {spec.measured_on}: their rewards correlate {correlations(raw_NM)}")
    calibration = nll = accuracy = None
    if on == "held-out":
        margin_E = pairs.margins(model.score(pairs.exchanges).reward)
        nll, accuracy = pairs.nll(margin_E), pairs.accuracy(margin_E)
        try:
            calibration = temperature_of(pairs, margin_E)
        except FitError as error:
            observer.noted(f"no temperature: {error.message}")
    metrics = {**model.card.metrics, "held_out_nll": nll, "held_out_accuracy": accuracy}
    write_card(output, model.card.model_copy(update={"calibration": calibration, "metrics": metrics}))
    return nll, accuracy, calibration


def _refuse(output: Path, *, resume: bool) -> None:
    if resume:
        if (output / CARD).exists():
            raise ExistsError(f"{output}: this run has finished; there is nothing to resume", hint="choose another folder for a new run")
        if not (output / MEMBERS).is_dir():
            raise DataError(f"{output}: no saved state to resume from", hint="leave out --resume to start the run")
    elif output.exists() and any(output.iterdir()):
        raise ExistsError(f"{output}: the folder is not empty", hint="--resume goes on with a run in it; or choose another folder")
