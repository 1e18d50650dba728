"""The main job once: train on records, evaluate on the held-out ones, leave a report. `train` and `demo` both run it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preferent.audits.evaluate import evaluate
from preferent.audits.evaluation import Evaluation
from preferent.audits.objectives import ObjectiveStudy
from preferent.audits.page import Section
from preferent.cli.objectives import part, report_sections, study
from preferent.cli.output import Progress, talk
from preferent.cli.scorers import WithProgress
from preferent.core.errors import ExistsError
from preferent.core.records import Preference, Ranking, Rating, Vote
from preferent.data.sketch import write_sketch
from preferent.training.config import TrainConfig
from preferent.training.metrics_log import NAME as METRICS
from preferent.training.observer import Observer

if TYPE_CHECKING:
    from preferent.models.reward_model import RewardModel
    from preferent.training.finish import TrainResult

Record = Preference | Ranking | Rating
REPORT = "report.html"
# What a run writes into its folder; --force removes a folder only if it holds one of these.
MARKS = ("config.toml", METRICS, "preferent.json", "checkpoints")


@dataclass(frozen=True, slots=True)
class Done:
    """What the job made. `model`, `evaluation` and `study` are None on processes other than the main one, and after an interruption;
    `evaluation` also where no overall preference was held out, `study` where nothing held out speaks about an objective. `sections`:
    the study for the report."""

    result: TrainResult
    model: RewardModel | None = None
    evaluation: Evaluation | None = None
    study: ObjectiveStudy | None = None
    sections: tuple[Section, ...] = ()

    @property
    def has_report(self) -> bool:
        """Whether anything was evaluated."""
        return self.evaluation is not None or self.study is not None

    def objectives(self) -> dict[str, Any]:
        """The study for the JSON of a command; nothing where there is none."""
        return {} if self.study is None else {"objectives": self.study.to_dict()}


class Bar(Observer):
    """Shows a run on stderr: pairs and tokens per second, the loss, the time left."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tokens = self._pairs = 0
        self._seconds = 0.0
        self._held_out = ""

    def started(self, *, total_steps: int, done_steps: int) -> None:
        # An ensemble starts one run after the other.
        self.close()
        if done_steps:
            talk(f"resumed after step {done_steps}")
        self._progress = Progress("training", total_steps, "steps", done=done_steps).__enter__()

    def noted(self, text: str) -> None:
        talk(text)

    def stepped(self, row: Mapping[str, Any]) -> None:
        self._tokens += row["tokens"]
        self._pairs += row["pairs"]
        self._seconds += row["seconds"]
        rate = f"{self._pairs / self._seconds:,.1f} pairs/s, {self._tokens / self._seconds:,.0f} tokens/s"
        if self._progress is not None:
            self._progress(1, f"{rate}, loss {row['loss']:.3f}{self._held_out}")

    def evaluated(self, row: Mapping[str, Any]) -> None:
        if "held_out_nll" in row:
            self._held_out = f", held-out NLL {row['held_out_nll']:.3f}"
        else:
            self._held_out = f", held-out ratings off by {row['held_out_rating_rmse']:.3f} sd"

    def close(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)


def is_main_process() -> bool:
    """Whether this is the process that talks and writes, also before any process group exists."""
    return int(os.environ.get("RANK", "0")) == 0


def clear(output: Path) -> None:
    """Remove an earlier run. Raises ExistsError for a folder that does not look like one."""
    if not output.exists():
        return
    if any(output.iterdir()) and not any((output / mark).exists() for mark in MARKS):
        raise ExistsError(f"{output}: this folder holds something that is not a run of preferent, so --force leaves it alone")
    shutil.rmtree(output)


def train_and_evaluate(
    records: Sequence[Record | Vote],
    held_out: Sequence[Record],
    config: TrainConfig,
    output: Path,
    *,
    ledger: Mapping[str, Any],
    resume: bool = False,
) -> Done:
    """Train, then evaluate the checkpoint on `held_out`; beside it: ledger.json, evaluation.json (and
    objectives.json, where objectives are named) and a sketch of the training prompts."""
    from preferent.models.reward_model import RewardModel
    from preferent.training.run import train

    bar = Bar()
    try:
        summary = {key: value for key, value in ledger.items() if key != "refusals"}
        result = train(records, held_out, config, output, data=summary, resume=resume, observer=bar)
    finally:
        bar.close()
    if not is_main_process():
        return Done(result)
    _write_json(output / "ledger.json", ledger)
    if result.stopped == "signal":
        return Done(result)
    write_sketch(output, records)
    model = RewardModel.load(output, trust_remote_code=config.trust_remote_code)
    if not held_out:
        return Done(result, model)
    parts = part(model, held_out)
    found = None
    with Progress("evaluating", None, "responses") as progress:
        scorer = WithProgress(model, progress)
        if parts.overall:
            found = evaluate(scorer, parts.overall, temperature=parts.temperature, seed=config.seed)
        of_heads = study(model, scorer, parts.named, seed=config.seed)
    if found is not None:
        _write_json(output / "evaluation.json", found.to_dict())
    if of_heads is None:
        return Done(result, model, found)
    _write_json(output / "objectives.json", of_heads.to_dict())
    return Done(result, model, found, of_heads, tuple(report_sections(model, of_heads, held_out)))


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
