"""Members on one scale, reductions by hand, and K heads whose mean everyone can load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from preferent.core.contracts import check_scorer
from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Exchange
from preferent.models.ensembles import EnsembleSpec, Member, MemberHeads, measured, on_one_scale, parse_reduction, reduced, spread
from preferent.models.reward_model import RewardModel

BLANK = EnsembleSpec(kind="heads", members=(Member(),) * 3)


def test_one_scale_by_hand() -> None:
    # sd 1, 2, 3: s = 2, a = 2, 1, 2/3. Means 0, 10, -3: the common mean is (0 + 10 - 2) / 3 = 8/3.
    unit = np.array([-1.0, 1.0] * 5)
    raw_NM = np.stack([unit, 10.0 + 2.0 * unit, -3.0 + 3.0 * unit], axis=1)
    spec = measured(BLANK, raw_NM, "10 responses")
    np.testing.assert_allclose(spec.factors, [2.0, 1.0, 2 / 3])
    same_NM = on_one_scale(spec, raw_NM)
    np.testing.assert_allclose(same_NM, np.tile((8 / 3 + 2.0 * unit)[:, None], (1, 3)))
    # No constant is left over: the mean is a weighted sum of the raw rewards.
    np.testing.assert_allclose(same_NM.mean(1), raw_NM @ spec.factors / 3.0)
    assert spread(same_NM).max() < 1e-12


def test_a_scale_of_ones_own_changes_nothing() -> None:
    """Members in other units and from another origin: the same order, spread and worst case, up to the common unit."""
    rng = np.random.default_rng(0)
    raw_NM = rng.normal(size=(200, 4))
    moved_NM = raw_NM * [0.1, 3.0, 7.0, 1.0] + [5.0, -2.0, 0.0, 100.0]
    one, other = (on_one_scale(measured(BLANK, raw, ""), raw) for raw in (raw_NM, moved_NM))
    unit = other.std(0)[0] / one.std(0)[0]
    np.testing.assert_allclose((other - other.mean()) / unit, one - one.mean(), atol=1e-9)
    assert (np.argsort(reduced(one, parse_reduction("worst"))) == np.argsort(reduced(other, parse_reduction("worst")))).all()
    # Without it the member with the largest unit alone would decide who is worst.
    assert (np.argsort(reduced(moved_NM, parse_reduction("worst"))) != np.argsort(reduced(one, parse_reduction("worst")))).any()


def test_reductions_by_hand() -> None:
    values = np.array([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    assert reduced(values, parse_reduction("mean")).tolist() == [3.0, 4.0]
    assert reduced(values, parse_reduction("worst")).tolist() == [1.0, 4.0]
    # Variance of 1, 2, 6 with M - 1: (4 + 1 + 9) / 2 = 7.
    np.testing.assert_allclose(reduced(values, parse_reduction("mean-0.5var")), [-0.5, 4.0])
    assert str(parse_reduction("mean-.5*variance")) == "mean-0.5var"
    for text in ("min", "mean-var", "mean--1var", ""):
        with pytest.raises(ConfigError, match="allowed: 'mean', 'worst'"):
            parse_reduction(text)


def test_a_member_without_spread_has_no_scale() -> None:
    with pytest.raises(ModelError, match="member 1 gives all 5 responses the same reward"):
        measured(BLANK, np.array([[1.0, 7.0, 2.0]] * 4 + [[2.0, 7.0, 1.0]]), "")


def test_heads_start_apart_and_their_mean_is_one_linear_head() -> None:
    heads = MemberHeads(EnsembleSpec(kind="heads", members=tuple(Member(mean=k, sd=k + 1.0) for k in range(3))), 8, seed=3)
    assert abs(float(torch.corrcoef(heads.weight.detach())[0, 1])) < 0.9
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    values = heads(features)
    assert values.shape == (5, 4)
    torch.testing.assert_close(values[:, -1:], features @ heads.scalar_weight().T)
    scaled = on_one_scale(heads.spec, values[:, :-1].detach().double().numpy())
    np.testing.assert_allclose(scaled.mean(1), values[:, -1].detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def ensemble(backbone_folder: Callable[[str], Path], exchanges: list[Exchange], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five heads of five scales on a Llama, measured on the exchanges."""
    model = RewardModel.create(str(backbone_folder("llama")))
    heads = model.add_members(EnsembleSpec(kind="heads", members=(Member(),) * 5), seed=1)
    with torch.no_grad():
        heads.weight.mul_(torch.tensor([1.0, 5.0, 20.0, 3.0, 9.0])[:, None] * 5.0)
    values = model.readings(exchanges).values[0]
    spec = measured(heads.spec, values[:, :-1], "12 responses")
    heads.spec = spec
    model.card = model.card.model_copy(update={"ensemble": spec})
    folder = tmp_path_factory.mktemp("ensemble")
    model.save(folder)
    return folder


@pytest.mark.parametrize("reduction", ["mean", "worst", "mean-0.5var"])
def test_the_contract(ensemble: Path, exchanges: list[Exchange], reduction: str) -> None:
    model = RewardModel.load(ensemble, reduction=reduction)
    check_scorer(model, exchanges)
    scores, members = model.score(exchanges), model.member_rewards(exchanges)
    assert members.shape == (12, 5)
    np.testing.assert_allclose(scores.reward, reduced(members, model.reduction), rtol=1e-12)
    assert scores.std is not None
    np.testing.assert_allclose(scores.std, members.std(1, ddof=1))
    assert scores.std.min() > 0.01


def test_everyone_else_loads_the_mean(ensemble: Path, exchanges: list[Exchange], tmp_path: Path) -> None:
    model = RewardModel.load(ensemble)
    plain = AutoModelForSequenceClassification.from_pretrained(ensemble).eval()
    tokens = model.tokenize(exchanges)
    with torch.no_grad():
        logits = [float(plain(torch.tensor([item.ids])).logits[0, 0]) for item in tokens]
    np.testing.assert_allclose(logits, model.score(exchanges).reward, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "again")
    again = RewardModel.load(tmp_path / "again").score(exchanges)
    np.testing.assert_array_equal(again.reward, model.score(exchanges).reward)
    np.testing.assert_array_equal(again.std, model.score(exchanges).std)


def test_one_model_has_nothing_to_reduce(healthy_llama: Path) -> None:
    assert RewardModel.load(healthy_llama).score([]).std is None
    for reduction in ("worst", "mean-1var"):
        with pytest.raises(ModelError, match="one model that states no uncertainty"):
            RewardModel.load(healthy_llama, reduction=reduction)
    with pytest.raises(ModelError, match="is no ensemble"):
        RewardModel.load(healthy_llama).member_rewards([])


def test_heads_that_are_not_there_are_named(ensemble: Path, tmp_path: Path) -> None:
    RewardModel.load(ensemble).save(tmp_path)
    (tmp_path / "heads.safetensors").unlink()
    with pytest.raises(ModelError, match=r"heads\.safetensors: cannot be read"):
        RewardModel.load(tmp_path)
