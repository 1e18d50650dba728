"""Heads for objectives: the checkpoint that everyone loads, the scorer's promises, and a gate that never sees a response."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preferent.core.contracts import check_scorer
from preferent.core.errors import ModelError
from preferent.core.records import Exchange, Scores

torch = pytest.importorskip("torch")

from preferent.models.objectives import (  # noqa: E402
    CostConstraint,
    FittedWeights,
    FixedWeights,
    Heads,
    HeadsSpec,
    Objective,
    PromptGate,
    orthogonality,
)
from preferent.models.render import messages_of  # noqa: E402
from preferent.models.reward_model import RewardModel  # noqa: E402

NAMES = ("help", "tone", "cost")
OBJECTIVES = (Objective(name="help", mean=3.0, sd=0.5), Objective(name="tone"), Objective(name="cost", mean=-1.0, sd=2.0))
WAYS = {
    "fixed": FixedWeights(weights=(1.0, -0.5, 0.25)),
    "fitted": FittedWeights(),
    "gate": PromptGate(hidden=8, mean_weights=(0.5, 0.3, 0.2)),
    "constraint": CostConstraint(weights=(1.0, 0.5, 0.0), cost="cost", budget=0.0, multiplier=0.75),
}


def model_of(folder: Path, way: str) -> RewardModel:
    """Heads whose weights are large, so that every column differs clearly between exchanges."""
    model = RewardModel.create(str(folder))
    heads = model.add_heads(HeadsSpec(objectives=OBJECTIVES, combination=WAYS[way]), seed=3)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
        for parameter in heads.gate.parameters() if heads.gate is not None else ():
            parameter.mul_(0.3)
    return model


class Column:
    """One objective of a model as a scorer of its own."""

    def __init__(self, model: RewardModel, name: str) -> None:
        self.model, self.column, self.name = model, name, f"{model.name}/{name}"

    def score(self, exchanges: list[Exchange]) -> Scores:
        return Scores(reward=self.model.score(exchanges).objectives[self.column])


@pytest.mark.parametrize("kind", ["llama", "bert", "roberta"])
@pytest.mark.parametrize("way", list(WAYS))
def test_several_heads_keep_every_promise_of_a_scorer(
    kind: str, way: str, backbone_folder: Callable[[str], Path], exchanges: list[Exchange]
) -> None:
    model = model_of(backbone_folder(kind), way)
    check_scorer(model, exchanges, tolerance=2e-5)
    for name in NAMES:
        check_scorer(Column(model, name), exchanges, tolerance=2e-5)


@pytest.mark.parametrize("kind", ["llama", "bert", "roberta", "deberta"])
@pytest.mark.parametrize("way", list(WAYS))
def test_it_loads_here_as_it_was_and_everywhere_as_the_combined_reward(
    kind: str, way: str, backbone_folder: Callable[[str], Path], exchanges: list[Exchange], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = model_of(backbone_folder(kind), way)
    before = model.score(exchanges)
    model.save(tmp_path)
    after = RewardModel.load(tmp_path, device="cpu").score(exchanges)
    np.testing.assert_allclose(after.reward, before.reward, atol=1e-6)
    for name in NAMES:
        np.testing.assert_allclose(after.objectives[name], before.objectives[name], atol=1e-6)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert plain.config.num_labels == 1
    rewards = []
    for exchange in exchanges:
        text = tokenizer.apply_chat_template(messages_of(exchange.prompt, exchange.response), tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt", truncation=True, max_length=model.card.render.max_length)
        with torch.inference_mode():
            rewards.append(float(plain(**ids).logits[0, 0]))
    if way == "gate":
        # Not linear: the one head holds the reward under the mean weights, on standard values.
        columns = [(before.objectives[item.name] - item.mean) / item.sd for item in OBJECTIVES]
        wanted = np.array([0.5, 0.3, 0.2]) @ np.array(columns)
        assert np.abs(wanted - before.reward).max() > 0.01
    else:
        wanted = before.reward
    np.testing.assert_allclose(rewards, wanted, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_no_response_changes_the_gate(kind: str, backbone_folder: Callable[[str], Path], exchanges: list[Exchange]) -> None:
    model = model_of(backbone_folder(kind), "gate")
    heads = model.module.heads
    assert isinstance(heads, Heads)
    seen: list[Any] = []
    heads.gate.register_forward_hook(lambda _, inputs, output: seen.append(torch.softmax(output, -1)))  # type: ignore[union-attr]
    prompt = exchanges[3].prompt
    responses = ["", "a", "the small green river " * 20, exchanges[5].response]
    for response in responses:
        model.score([Exchange(prompt=prompt, response=response)])
    model.score([Exchange(prompt=prompt, response=response) for response in responses])
    # The first two calls settle the path on made-up ids.
    weights_NK = torch.cat(seen[2:])
    alone_NK = weights_NK[-len(responses) :]
    assert weights_NK.sum(-1).allclose(torch.ones(len(weights_NK)))
    # The same prompt alone or packed with its responses, whatever these are: the same weights.
    assert len(weights_NK) == 2 * len(responses)
    assert float((weights_NK - alone_NK[0]).abs().max()) < 1e-5
    other = model.score([Exchange(prompt=exchanges[0].prompt, response="a")])
    assert np.isfinite(other.reward).all()
    assert not torch.allclose(seen[-1][0], alone_NK[0], atol=1e-3)


def test_values_by_hand() -> None:
    # One feature of 2: help = 2, tone = 3, cost = 1 after these head weights; 1*2 - 0.5*3 + 0.25*1 = 0.75.
    heads = Heads(HeadsSpec(objectives=OBJECTIVES, combination=WAYS["fixed"]), 1)
    with torch.no_grad():
        heads.objectives.weight.copy_(torch.tensor([[1.0], [1.5], [0.5]]))
    assert heads(torch.tensor([[2.0]])).tolist() == [[2.0, 3.0, 1.0, 0.75]]
    # Constraint: 1*2 + 0.5*3 - 0.75*1 = 2.75. The folded head is 2.75 / 2 per unit of the feature.
    bound = Heads(HeadsSpec(objectives=OBJECTIVES, combination=WAYS["constraint"]), 1)
    bound.load_state_dict(heads.state_dict())
    assert bound(torch.tensor([[2.0]]))[0, -1].item() == pytest.approx(2.75)
    assert bound.scalar_weight().item() == pytest.approx(1.375)


def test_length_heads_are_there_in_training_only_and_never_kept() -> None:
    heads = Heads(HeadsSpec(objectives=OBJECTIVES, combination=WAYS["fixed"], lengths=True), 4)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert heads.train()(x).shape == (5, 8)
    assert heads.eval()(x).shape == (5, 4)
    assert set(heads.kept()) == {"objectives.weight"}
    # (1, 0) against (1, 1) is 45 degrees; against (0, 3) 90.
    pair = orthogonality(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 3.0]]))
    assert pair.tolist() == pytest.approx([0.5**0.5, 0.0])


def test_overall_preferences_leave_the_objectives_alone_unless_told() -> None:
    for shape in (False, True):
        heads = Heads(HeadsSpec(objectives=OBJECTIVES, combination=FittedWeights()), 4, shape=shape)
        heads(torch.ones(2, 4))[:, -1].sum().backward()
        moved = heads.objectives.weight.grad
        assert (moved is not None and bool(moved.any())) is shape
        assert heads.raw_weights is not None
        assert heads.raw_weights.grad is not None


def test_what_is_missing_is_said(backbone_folder: Callable[[str], Path], exchanges: list[Exchange], tmp_path: Path) -> None:
    model = model_of(backbone_folder("llama"), "gate")
    with pytest.raises(ModelError, match="prompts alone"):
        model.module(model.pack([[[5, 6, 7]]]))
    model.save(tmp_path)
    (tmp_path / "heads.safetensors").unlink()
    with pytest.raises(ModelError, match=r"heads\.safetensors"):
        RewardModel.load(tmp_path, device="cpu")


def test_a_model_of_one_number_leaves_no_heads_of_an_earlier_one(backbone_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model_of(backbone_folder("llama"), "fixed").save(tmp_path)
    RewardModel.create(str(backbone_folder("llama"))).save(tmp_path)
    assert not (tmp_path / "heads.safetensors").exists()
    assert RewardModel.load(tmp_path, device="cpu").card.heads is None
