"""What a run writes down about itself: metrics, the best weights, the temperature, trackers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_worlds import losses, planted, rankings

from preferent.models.reward_model import RewardModel
from preferent.training.config import load_config, resolved_learning_rate, schedule_factor
from preferent.training.metrics_log import MetricsLog, read_metrics
from preferent.training.observer import Observer
from preferent.training.run import train

Base = Callable[..., str]
STEP = {"step", "epoch", "loss", "learning_rate", "grad_norm", "pairs", "tokens", "seconds"}


def settings(base: str, **more: str) -> Any:
    given = {"base": base, "epochs": "2", "learning_rate": "5e-3"}
    return load_config(None, given | {key.replace("__", "."): value for key, value in more.items()})


class Listener(Observer):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def started(self, *, total_steps: int, done_steps: int) -> None:
        self.heard.append((total_steps, done_steps))

    def stepped(self, row: Any) -> None:
        self.heard.append(dict(row))

    evaluated = stepped


def nll(d_N: np.ndarray, p_N: np.ndarray) -> float:
    return float(np.mean(p_N * np.logaddexp(0, -d_N) + (1 - p_N) * np.logaddexp(0, d_N)))


def test_every_step_is_written_and_told(base: Base, tmp_path: Path) -> None:
    listener, config = Listener(), settings(base(), evaluate_every="4", weight_decay="0.01")
    train(planted(100), planted(40, seed=1), config, tmp_path, observer=listener)
    rows = read_metrics(tmp_path)
    # 100 pairs, 16 a step, are 7 steps; evaluations at 4, 8, 12 and the end.
    assert listener.heard[0] == (14, 0)
    assert listener.heard[1:] == rows
    stepped, evaluated = [row for row in rows if "loss" in row], [row for row in rows if "loss" not in row]
    assert [row["step"] for row in stepped] == list(range(1, 15))
    assert [row["step"] for row in evaluated] == [4, 8, 12, 14]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert all(set(row) == STEP for row in stepped)
    assert all(set(row) == {"step", "held_out_nll", "held_out_accuracy"} for row in evaluated)
    assert [row["epoch"] for row in stepped] == [0] * 7 + [1] * 7
    assert sum(row["pairs"] for row in stepped) == 200
    peak = resolved_learning_rate(config)
    assert [row["learning_rate"] for row in stepped] == [peak * schedule_factor(step, 14, config.schedule) for step in range(14)]
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_the_first_loss_is_that_of_the_bare_model(base: Base, tmp_path: Path) -> None:
    data = planted(12)
    train(data, [], settings(base(), batch__pairs="12", max_steps="1"), tmp_path)
    bare = RewardModel.create(base())
    reward_N = bare.score([exchange for record in data for exchange in record.exchanges()]).reward
    expected = nll(reward_N[::2] - reward_N[1::2], np.array([record.p_a for record in data]))
    assert losses(tmp_path) == [(1, pytest.approx(expected, abs=1e-6))]


def test_weights_and_duplicates_count_alike(base: Base, tmp_path: Path) -> None:
    """A record of weight 2 is that record twice: the same loss and the same step."""
    data = planted(12)
    heavy = [record.model_copy(update={"weight": 2.0}) if number < 4 else record for number, record in enumerate(data)]
    for name, records in {"heavy": heavy, "twice": data + data[:4]}.items():
        train(records, [], settings(base(), batch__pairs="100", max_steps="3"), tmp_path / name)
    np.testing.assert_allclose(losses(tmp_path / "heavy"), losses(tmp_path / "twice"), atol=1e-6)


def test_the_best_weights_are_kept_with_their_temperature(base: Base, tmp_path: Path) -> None:
    """A third of the labels are flipped, so that the held-out loss rises in the end and margins are too wide for it."""
    held_out = planted(200, seed=1, noise=0.3)
    early = {"epochs": "10", "early_stopping__patience": "3", "schedule": "constant", "evaluate_every": "5"}
    result = train(planted(150, noise=0.3), held_out, settings(base(), learning_rate="1e-2", **early), tmp_path)
    evaluations = losses(tmp_path, "held_out_nll")
    assert result.stopped == "early"
    assert result.held_out_nll == pytest.approx(min(value for _, value in evaluations), abs=1e-9)
    assert result.held_out_nll < evaluations[-1][1]
    # What is logged is what anyone can compute from the saved model.
    model = RewardModel.load(tmp_path)
    reward_N = model.score([exchange for record in held_out for exchange in record.exchanges()]).reward
    d_N, p_N = reward_N[::2] - reward_N[1::2], np.array([record.p_a for record in held_out])
    assert nll(d_N, p_N) == pytest.approx(result.held_out_nll, abs=1e-6)
    assert np.mean((d_N > 0) == (p_N > 0.5)) == result.held_out_accuracy
    # The temperature is stored with its interval, is used, and is better than its neighbours.
    calibration = model.card.calibration
    assert calibration == result.calibration
    assert calibration is not None
    assert model.temperature == calibration.temperature
    assert calibration.low is not None
    assert calibration.high is not None
    assert calibration.low < calibration.temperature < calibration.high
    assert calibration.n_pairs == 200
    assert calibration.nll_before == pytest.approx(nll(d_N, p_N), abs=1e-6)
    at = {factor: nll(d_N / (model.temperature * factor), p_N) for factor in (0.95, 1.0, 1.05)}
    assert at[1.0] == min(at.values()) == pytest.approx(calibration.nll_after, abs=1e-6)


def test_the_interval_of_the_temperature_counts_prompts(base: Base, tmp_path: Path) -> None:
    """Eight copies of every held-out pair, in parts of one prompt, say no more than one: the interval must not shrink."""
    held_out = planted(60, seed=1, noise=0.3)
    wide = []
    for record in held_out:
        # Rewards of these need not be equal, but they are of one prompt, cut into parts of two responses each.
        wide += [record.model_copy(update={"response_b": record.response_b + end}) for end in ("", " dog", " tree", " blue")]
    widths = []
    for name, records in {"one": held_out, "many": wide}.items():
        config = settings(base(), max_responses="2", max_steps="12")
        calibration = train(planted(100), records, config, tmp_path / name).calibration
        assert calibration is not None
        assert calibration.low is not None
        assert calibration.high is not None
        widths.append(math.log(calibration.high / calibration.low))
    # Four independent pairs in place of one would halve it.
    assert widths[1] > 0.75 * widths[0]


def test_without_held_out_pairs_nothing_is_claimed(base: Base, tmp_path: Path) -> None:
    result = train(planted(20), [], settings(base(), early_stopping__patience="1"), tmp_path)
    assert (result.held_out_nll, result.held_out_accuracy, result.calibration) == (None, None, None)
    card = json.loads((tmp_path / "preferent.json").read_text())
    assert card["calibration"] is None
    assert card["metrics"] == {"steps": 4, "stopped": None}


def test_held_out_rankings_are_measured_by_their_pairs(base: Base, tmp_path: Path) -> None:
    held_out = rankings(12, seed=1)
    result = train(rankings(30), held_out, settings(base(), loss__kind="plackett_luce", epochs="1"), tmp_path)
    pairs = [pair for ranking in held_out for pair in ranking.preferences()]
    reward_N = RewardModel.load(tmp_path).score([exchange for pair in pairs for exchange in pair.exchanges()]).reward
    d_N, p_N = reward_N[::2] - reward_N[1::2], np.array([pair.p_a for pair in pairs])
    assert result.held_out_nll == pytest.approx(nll(d_N, p_N), abs=1e-6)
    assert result.held_out_accuracy == pytest.approx(np.mean((d_N > 0) == (p_N > 0.5)))


def test_a_torn_or_later_line_is_dropped_on_resume(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}, {"step": 2, "held_out_nll": 0.6}, {"step": 3, "loss": 0.3}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    log = MetricsLog(tmp_path, keep_until=2)
    log.write({"step": 3, "loss": math.nan})
    log.close()
    assert read_metrics(tmp_path) == [*lines[:3], {"step": 3, "loss": None}]


def test_tensorboard_is_told_too(base: Base, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(planted(48), planted(20, seed=1), settings(base(), trackers="tensorboard", epochs="1"), tmp_path)
    folder = next(path.parent for path in tmp_path.rglob("events.out.tfevents*"))
    events = EventAccumulator(str(folder)).Reload()
    assert {"loss", "learning_rate", "grad_norm", "held_out_nll", "held_out_accuracy"} <= set(events.Tags()["scalars"])
    told = [(event.step, event.value) for event in events.Scalars("loss")]
    np.testing.assert_allclose(told, losses(tmp_path), rtol=1e-6)
