"""A planted preference is learned, by every loss, adapter and kind of base; and how the work is cut up does not matter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_worlds import clumped, losses, planted, rankings
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from preferent.core.records import Exchange, Preference
from preferent.models.reward_model import RewardModel
from preferent.training.config import load_config
from preferent.training.finish import TrainResult
from preferent.training.observer import Observer
from preferent.training.run import train

Base = Callable[..., str]


class Notes(Observer):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def noted(self, text: str) -> None:
        self.texts.append(text)


def go(output: Path, base: str, data: Any = None, held_out: Any = None, observer: Observer | None = None, **settings: str) -> TrainResult:
    given = {"base": base, "epochs": "3", "learning_rate": "5e-3"} | {key.replace("__", "."): value for key, value in settings.items()}
    data = planted(240) if data is None else data
    held_out = planted(100, seed=1) if held_out is None else held_out
    return train(data, held_out, load_config(None, given), output, observer=observer)


def margins(model: RewardModel, records: list[Preference]) -> np.ndarray:
    reward_N = model.score([exchange for record in records for exchange in record.exchanges()]).reward
    return reward_N[::2] - reward_N[1::2]


@pytest.mark.parametrize("kind", ["qwen3", "bert"])
def test_a_planted_preference_is_learned(base: Base, tmp_path: Path, kind: str) -> None:
    result = go(tmp_path, base(kind))
    assert result.path == {"qwen3": "shared", "bert": "packed"}[kind]
    assert result.held_out_accuracy is not None
    assert result.held_out_accuracy >= 0.95
    # Not only by the loop's own word.
    records = planted(100, seed=2)
    d_N = margins(RewardModel.load(tmp_path), records)
    assert np.mean((d_N > 0) == np.array([record.p_a > 0.5 for record in records])) >= 0.95


@pytest.mark.slow
def test_the_embedded_base_learns_offline(tmp_path: Path) -> None:
    result = go(tmp_path, "tiny", planted(160), epochs="2", learning_rate="2e-3")
    assert result.held_out_accuracy is not None
    assert result.held_out_accuracy >= 0.95


@pytest.mark.parametrize("kind", ["davidson", "rao_kupper"])
def test_ties_are_learned_as_ties(base: Base, tmp_path: Path, kind: str) -> None:
    result = go(tmp_path, base(), planted(300, ties=0.3), planted(150, seed=1, ties=0.3), loss__kind=kind, epochs="6")
    assert result.held_out_accuracy is not None
    assert result.held_out_accuracy >= 0.95
    records = planted(150, seed=2, ties=0.3)
    tie_N = np.array([record.p_a == 0.5 for record in records])
    size_N = np.abs(margins(RewardModel.load(tmp_path), records))
    assert np.median(size_N[tie_N]) < 0.2 * np.median(size_N[~tie_N])
    # Both parameters start where equals tie one time in three; equals always tie here, so ties must have become more likely.
    assert json.loads((tmp_path / "preferent.json").read_text())["metrics"]["tie_parameter"] > 0.1


def test_rankings_are_learned(base: Base, tmp_path: Path) -> None:
    result = go(tmp_path, base(), rankings(100), rankings(40, seed=1), loss__kind="plackett_luce", epochs="4")
    assert result.held_out_accuracy is not None
    assert result.held_out_accuracy >= 0.95
    exchanges = [Exchange(prompt=r.prompt, response=response) for r in rankings(40, seed=2) for response in r.responses]
    reward_NK = RewardModel.load(tmp_path).score(exchanges).reward.reshape(-1, 4)
    rank_NK = np.array([r.ranks for r in rankings(40, seed=2)])
    assert np.mean(np.argsort(-reward_NK) == np.argsort(rank_NK)) >= 0.9


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # peft's own, when it loads an adapter
@pytest.mark.parametrize("kind", ["qwen3", "bert"])
def test_lora_is_learned_and_its_adapter_is_the_checkpoint(base: Base, tmp_path: Path, kind: str) -> None:
    from peft import PeftModel

    # Frozen layers need something in them to adapt.
    folder = base(kind, initializer_range=0.1)
    settings = {"adapter__kind": "lora", "adapter__rank": "8", "learning_rate": "1e-2", "epochs": "4"}
    result = go(tmp_path, folder, **settings)
    assert result.held_out_accuracy is not None
    assert result.held_out_accuracy >= 0.95
    merged = RewardModel.load(tmp_path)
    exchanges = [exchange for record in planted(10, seed=3) for exchange in record.exchanges()]
    # The adapter on the bare base, by peft and transformers alone: a head that was not saved would be random here.
    bare = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=merged.tokenizer.pad_token_id)
    adapted = PeftModel.from_pretrained(bare, str(tmp_path / "adapter")).eval()
    ids = [list(tokens.ids) for tokens in merged.tokenize(exchanges)]
    with torch.no_grad():
        reward_N = np.array([adapted(input_ids=torch.tensor([row])).logits[0, 0].item() for row in ids])
    np.testing.assert_allclose(reward_N, merged.score(exchanges).reward, atol=1e-5)


def test_the_checkpoint_loads_without_us(base: Base, tmp_path: Path) -> None:
    go(tmp_path, base(), planted(60), epochs="1")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    exchange = planted(1)[0].exchanges()[0]
    messages = [{"role": "user", "content": exchange.prompt[0].content}, {"role": "assistant", "content": exchange.response}]
    ids = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        assert model(**ids).logits.item() == pytest.approx(RewardModel.load(tmp_path).score([exchange]).reward[0], abs=1e-5)
    # The state to resume from is gone, the settings and the metrics stay.
    assert not (tmp_path / "checkpoints").exists()
    assert {"config.toml", "metrics.jsonl", "model.safetensors", "preferent.json"} <= {path.name for path in tmp_path.iterdir()}
    assert load_config(tmp_path / "config.toml").base == base()


def test_losses_do_not_depend_on_how_the_work_is_cut(base: Base, tmp_path: Path) -> None:
    ways = {
        "plain": {},
        "small passes": {"micro_tokens": "60"},
        "one prompt per response": {"share_prompts": "false"},
        "recomputed": {"gradient_checkpointing": "true"},
    }
    found = {}
    for name, settings in ways.items():
        result = go(tmp_path / name, base(), clumped(30), clumped(10, seed=1), epochs="2", batch__pairs="24", **settings)
        assert result.path == ("packed" if "share_prompts" in settings else "shared")
        found[name] = [value for _, value in losses(tmp_path / name) + losses(tmp_path / name, "held_out_nll")]
    assert len(found["plain"]) > 10
    for name in ways:
        np.testing.assert_allclose(found[name], found["plain"], atol=1e-5, err_msg=name)


def test_one_step_of_everything_is_the_same_by_pairs_and_by_tokens(base: Base, tmp_path: Path) -> None:
    for kind in ("pairs", "tokens"):
        go(tmp_path / kind, base(), clumped(8), [], epochs="4", **{"batch__kind": kind, f"batch__{kind}": "100000"})
    assert len(losses(tmp_path / "pairs")) == 4
    np.testing.assert_allclose(losses(tmp_path / "pairs"), losses(tmp_path / "tokens"), atol=1e-6)


def test_epochs_are_passes_over_every_pair(base: Base, tmp_path: Path) -> None:
    """Steps that are filled to a token budget are not equally many in every epoch."""
    from preferent.training.groups import group_records

    data = clumped(30)
    n_pairs = sum(group.n_edges for group in group_records(data))
    go(tmp_path / "whole", base(), data, [], epochs="3", batch__kind="tokens", batch__tokens="400")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [sum(row["pairs"] for row in rows if row["epoch"] == epoch) for epoch in range(3)] == [n_pairs] * 3
    # Half an epoch of 240 pairs is 120: 8 steps of 16.
    assert go(tmp_path / "half", base(), None, [], epochs="0.5").steps == 8
    assert go(tmp_path / "more", base(), None, [], epochs="1.25").steps == 15 + 4
    assert go(tmp_path / "few", base(), None, [], epochs="9", max_steps="3").steps == 3


def test_a_backbone_that_ignores_positions_is_trained_on_the_plain_path(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Qwen3Model

    forward = Qwen3Model.forward
    monkeypatch.setattr(Qwen3Model, "forward", lambda self, *args, position_ids=None, **more: forward(self, *args, **more))
    assert falls_back(base, tmp_path) >= 0.95


def test_a_backbone_that_mixes_along_the_row_is_trained_on_the_plain_path(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As linear attention does: every token sees the mean of all before it, also of other sequences in the row."""
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

    forward = Qwen3MLP.forward

    def leaky(self: Any, x: torch.Tensor) -> torch.Tensor:
        mean = x.cumsum(-2) / torch.arange(1, x.shape[-2] + 1)[:, None]
        return forward(self, x + mean)

    monkeypatch.setattr(Qwen3MLP, "forward", leaky)
    assert falls_back(base, tmp_path) >= 0.95


def falls_back(base: Base, output: Path) -> float:
    """The held-out accuracy of a run whose first batch must say that packed rows differ."""
    notes = Notes()
    result = go(output, base(), clumped(40), clumped(20, seed=1), observer=notes, epochs="4")
    assert result.path == "plain"
    assert result.held_out_accuracy is not None
    assert any("packed rewards differ from plain ones" in text for text in notes.texts)
    # A pass holds each prompt once per response now, and is counted so.
    exchanges = {exchange for record in clumped(40) for exchange in record.exchanges()}
    tokens = RewardModel.load(output).tokenize(sorted(exchanges, key=repr))
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["tokens"] for row in rows if row.get("epoch") == 0) == sum(len(row.ids) for row in tokens)
    return result.held_out_accuracy
