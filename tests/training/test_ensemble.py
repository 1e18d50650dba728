"""Ensembles from training to scorer: each member's own resample, every kind in one folder, stopped and resumed, averaged."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_worlds import planted, rankings
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from preferent.core.contracts import check_scorer
from preferent.core.errors import ConfigError, ExistsError, ModelError
from preferent.core.records import Exchange, Rating, user
from preferent.models.reward_model import RewardModel
from preferent.models.warm import average
from preferent.training.config import BradleyTerry, PlackettLuce, load_config
from preferent.training.ensemble import Draw, members_loss, resampled
from preferent.training.groups import Column, group_records
from preferent.training.objective import summed_loss
from preferent.training.observer import Observer
from preferent.training.prepare import TokenGroup
from preferent.training.run import train
from preferent.training.trainee import Outputs

Base = Callable[..., str]
KINDS: dict[str, dict[str, str]] = {
    "heads": {"ensemble.kind": "heads", "ensemble.size": "4"},
    "adapters": {"ensemble.kind": "adapters", "ensemble.size": "2", "adapter.kind": "lora"},
    "members": {"ensemble.kind": "members", "ensemble.size": "3", "ensemble.start": "shared"},
}


def settings(base: str, **more: str) -> dict[str, str]:
    return {"base": base, "epochs": "2", "batch.pairs": "8", "learning_rate": "5e-3", **more}


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An ensemble of each kind, on 80 pairs of which a tenth are labelled wrongly."""
    folder = tmp_path_factory.mktemp("ensembles")
    for kind, more in KINDS.items():
        train(planted(80, noise=0.1), planted(60, seed=1, noise=0.1), load_config(None, settings(base(), **more)), folder / kind)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="module")
def unseen() -> list[Exchange]:
    return [exchange for record in planted(12, seed=2) for exchange in record.exchanges()]


# ---- the bootstrap ----


def test_counts_are_poisson_and_a_function_of_seed_and_unit() -> None:
    draw = Draw("pairs", 3, 4)
    counts = np.array([draw.of("00", record) for record in range(2000)])
    # Poisson(1): mean 1, variance 1, a share of e^-1 zeros; standard errors .011, .011 (of the mean and about that of the share), .02.
    assert abs(counts.mean() - 1.0) < 0.05
    assert abs(counts.var() - 1.0) < 0.1
    assert abs((counts == 0).mean() - np.exp(-1)) < 0.03
    assert abs(np.corrcoef(counts, rowvar=False)[np.triu_indices(4, 1)]).max() < 0.08
    assert (draw.of("ff", 7) == counts[7]).all()
    by_prompt = Draw("prompts", 3, 4)
    assert (by_prompt.of("0a", 1) == by_prompt.of("0a", 2)).all()
    assert any((by_prompt.of(f"{k:x}", 1) != by_prompt.of("0a", 1)).any() for k in range(5))


@pytest.mark.parametrize("unit", ["prompts", "pairs", "none"])
@pytest.mark.parametrize("loss", [BradleyTerry(label_smoothing=0.1, centring=0.01), PlackettLuce()], ids=["pairs", "rankings"])
def test_the_loss_of_k_heads_is_the_mean_of_k_losses_on_their_resamples(unit: Any, loss: Any) -> None:
    """Records there as often as each member drew them, through the ordinary loss."""
    records = [*planted(15), *rankings(6)]
    groups = group_records(records)
    draw = Draw(unit, 5, 3)
    count = sum(len(group.exchanges) for group in groups)
    values = torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    items = [TokenGroup(tuple(np.zeros(1, dtype=np.int32) for _ in group.exchanges), group) for group in groups]
    found = members_loss(Outputs(values), items, loss, draw=draw)
    expected = 0.0
    for member in range(3):
        repeated = []
        for group in groups:
            for record, times in draw.records(group).items():
                repeated += [records[record]] * int(times[member])
        again = group_records(repeated)
        place = {exchange: row for row, exchange in enumerate(exchange for group in groups for exchange in group.exchanges)}
        rows = [place[exchange] for group in again for exchange in group.exchanges]
        tokens = [TokenGroup(tuple(np.zeros(1, dtype=np.int32) for _ in group.exchanges), group) for group in again]
        expected += float(summed_loss(Outputs(values[rows][:, member : member + 1]), tokens, loss)) / 3
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_a_resample_keeps_ratings_and_drops_what_was_not_drawn() -> None:
    rated = [Rating(prompt=user(f"q{k}"), response="r", values={"tone": float(k)}) for k in range(40)]
    groups = group_records([*planted(40), *rated], columns={"tone": Column(0)})
    draw = Draw("prompts", 1)
    found = resampled(groups, draw)
    wanted = sum(int(draw.of(group.prompt_key, 0)[0]) for group in groups)
    labels = sum(float(group.weight_E.sum()) + len(group.ratings.value_M) for group in found)
    assert labels == wanted
    assert len(found) < len(groups)
    assert resampled(groups, Draw("none", 1)) == groups


# ---- every kind, in one folder ----


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_scorer_that_learned_and_doubts(trained: dict[str, Path], unseen: list[Exchange], kind: str) -> None:
    model = RewardModel.load(trained[kind])
    check_scorer(model, unseen)
    scores = model.score(unseen)
    assert scores.std is not None
    assert scores.std.min() > 0.0
    spec = model.card.ensemble
    assert spec is not None
    assert (spec.kind, len(spec.members), spec.measured_on) == (kind, int(KINDS[kind]["ensemble.size"]), "120 held-out responses")
    assert spec.own_weights
    held_out = planted(60, seed=1, noise=0.1)
    reward = model.score([exchange for record in held_out for exchange in record.exchanges()]).reward.reshape(-1, 2)
    right = np.sign(reward[:, 0] - reward[:, 1]) == np.sign([record.p_a - 0.5 for record in held_out])
    assert right.mean() > 0.7
    assert model.card.metrics["held_out_accuracy"] == pytest.approx(right.mean())
    for reduction in ("worst", "mean-2var"):
        cautious = RewardModel.load(trained[kind], reduction=reduction)
        check_scorer(cautious, unseen)
        assert (cautious.score(unseen).reward <= scores.reward + 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_says_the_same(trained: dict[str, Path], unseen: list[Exchange], tmp_path: Path, kind: str) -> None:
    model = RewardModel.load(trained[kind])
    model.save(tmp_path / "copy")
    one, other = model.score(unseen), RewardModel.load(tmp_path / "copy").score(unseen)
    np.testing.assert_array_equal(one.reward, other.reward)
    np.testing.assert_array_equal(one.std, other.std)


def test_the_own_weights_of_a_folder_are_what_its_card_says(trained: dict[str, Path], unseen: list[Exchange]) -> None:
    for kind, folder in trained.items():
        model = RewardModel.load(folder)
        plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        with torch.no_grad():
            logits = [float(plain(torch.tensor([tokens.ids])).logits[0, 0]) for tokens in model.tokenize(unseen)]
        raw = model.readings(unseen).values[0][:, -1]
        np.testing.assert_allclose(logits, raw, rtol=1e-3, atol=1e-4)
        if kind == "heads":
            np.testing.assert_allclose(logits, model.score(unseen).reward, rtol=1e-3, atol=1e-4)


def test_members_are_models_of_their_own(trained: dict[str, Path], unseen: list[Exchange]) -> None:
    folder = trained["members"]
    whole = RewardModel.load(folder)
    raw = whole.readings(unseen).values
    np.testing.assert_array_equal(raw[2], RewardModel.load(folder / "members" / "2").readings(unseen).values[0])
    assert not (folder / "members" / "0").exists()
    heads = load_file(trained["heads"] / "heads.safetensors")["weight"]
    assert heads.shape == (4, 32)
    # No two heads, adapters or members are the same.
    for kind, path in trained.items():
        members = RewardModel.load(path).member_rewards(unseen)
        apart = [float(np.abs(members[:, a] - members[:, b]).max()) for a in range(members.shape[1]) for b in range(a)]
        assert min(apart) > 1e-3, kind


def test_parts_that_are_missing_are_named(trained: dict[str, Path], tmp_path: Path) -> None:

    for kind, part in (("members", "members/1"), ("adapters", "adapters/1")):
        shutil.copytree(trained[kind], tmp_path / kind)
        shutil.rmtree(tmp_path / kind / part)
        with pytest.raises(ModelError, match=f"{part}: this part of the ensemble is missing"):
            RewardModel.load(tmp_path / kind)


def test_without_held_out_data_members_are_measured_on_what_they_learned_from(base: Base, tmp_path: Path) -> None:
    for kind in ("heads", "members"):
        more = {"ensemble.kind": kind, "ensemble.size": "2", "max_steps": "2"}
        result = train(planted(30), [], load_config(None, settings(base(), **more)), tmp_path / kind)
        card = RewardModel.load(tmp_path / kind).card
        assert card.ensemble is not None
        assert card.ensemble.measured_on.endswith(" training responses")
        assert (card.calibration, result.calibration, result.held_out_nll) == (None, None, None)


# ---- stopping ----


class StopInMember(Observer):
    """SIGTERM after step 3 of a member."""

    def __init__(self, member: int) -> None:
        self.member = member

    def stepped(self, row: Any) -> None:
        if row["member"] == self.member and row["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_members_are_resumed_to_the_same_bytes(base: Base, tmp_path: Path) -> None:
    config = load_config(None, settings(base(), **{"ensemble.kind": "members", "ensemble.size": "2", "ensemble.bootstrap": "pairs"}))
    data = (planted(48), planted(30, seed=1))
    train(*data, config, tmp_path / "whole")
    cut = tmp_path / "cut"
    assert train(*data, config, cut, observer=StopInMember(1)).stopped == "signal"
    assert (cut / "members" / "0" / "preferent.json").exists()
    assert not (cut / "preferent.json").exists()
    with pytest.raises(ExistsError, match="not empty"):
        train(*data, config, cut)
    assert train(*data, config, cut, resume=True).stopped is None
    for name in ("model.safetensors", "members/1/model.safetensors", "preferent.json"):
        one, other = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in (tmp_path / "whole", cut))
        assert one == other, name
    with pytest.raises(ExistsError, match="has finished"):
        train(*data, config, cut, resume=True)


# ---- settings that do not go together ----


def test_what_cannot_be_an_ensemble(base: Base, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ensemble\.kind is 'adapters', and adapter\.kind is 'full'"):
        train(planted(20), [], load_config(None, settings(base(), **{"ensemble.kind": "adapters"})), tmp_path / "a")
    rated = [Rating(prompt=user(f"q{k}"), response="r", values={"tone": float(k)}) for k in range(9)]
    with pytest.raises(ConfigError, match="ensembles of heads or adapters are for one reward"):
        train(rated, [], load_config(None, settings(base(), **{"ensemble.kind": "heads"})), tmp_path / "b")


# ---- weight averaging ----


def test_the_mean_of_weights_is_one_ordinary_model(trained: dict[str, Path], unseen: list[Exchange], tmp_path: Path) -> None:
    folder = trained["members"]
    model = average([folder], tmp_path / "mean")
    parts = [load_file(path / "model.safetensors") for path in (folder, folder / "members" / "1", folder / "members" / "2")]
    mean = load_file(tmp_path / "mean" / "model.safetensors")
    for name in mean:
        torch.testing.assert_close(mean[name], sum(part[name].double() for part in parts).div(3).float())
    assert (model.card.ensemble, model.card.calibration, model.card.metrics) == (None, None, {"averaged": 3})
    check_scorer(model, unseen)
    assert model.score(unseen).std is None
    # The same from its parts, two of them.
    two = average([folder / "members" / "1", folder / "members" / "2"], tmp_path / "two")
    assert two.card.initial == model.card.initial
    with pytest.raises(ExistsError, match="holds a model"):
        average([folder], tmp_path / "two")


def test_other_starts_are_refused(base: Base, trained: dict[str, Path], tmp_path: Path) -> None:
    short = {"max_steps": "1"}
    for seed in ("0", "1"):
        train(planted(16), [], load_config(None, settings(base(), seed=seed, **short)), tmp_path / seed)
    # The same backbone, and heads drawn from other seeds.
    with pytest.raises(ModelError, match="started from different weights"):
        average([tmp_path / "0", tmp_path / "1"], tmp_path / "mean")
    with pytest.raises(ModelError, match="ensemble of heads on one backbone"):
        average([trained["heads"], tmp_path / "0"], tmp_path / "mean")
    with pytest.raises(ConfigError, match="1 model to average"):
        average([tmp_path / "0"], tmp_path / "mean")
    model = RewardModel.load(tmp_path / "0")
    model.save(tmp_path / "unknown", model.card.model_copy(update={"initial": None}))
    with pytest.raises(ModelError, match="does not say what weights it started from"):
        average([tmp_path / "0", tmp_path / "unknown"], tmp_path / "mean")
