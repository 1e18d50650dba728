"""LoRA: the head is trained and saved with the adapter, and merging changes no reward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from preferent.core.errors import ModelError  # noqa: E402
from preferent.core.records import Exchange  # noqa: E402
from preferent.models.heads import head_of  # noqa: E402
from preferent.models.lora import add_lora, merge_lora, save_adapter  # noqa: E402
from preferent.models.module import RewardModule  # noqa: E402
from preferent.models.quiet import quiet_peft  # noqa: E402
from preferent.models.reward_model import RewardModel  # noqa: E402

KINDS = ["llama", "gpt2", "bert", "modernbert", "deberta"]


def trained(model: RewardModel, exchanges: list[Exchange]) -> tuple[Any, np.ndarray]:
    """(peft's wrapper, rewards) after a few steps that move adapters and head."""
    wrapped = add_lora(model.module, rank=2, alpha=4, dropout=0.0, targets="all-linear")
    parameters = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    batch = model.pack([[tokens.ids] for tokens in model.tokenize(exchanges)])
    model.module.eval()
    for _ in range(3):
        optimizer.zero_grad()
        (model.module(batch)[:, 0] * torch.linspace(-1, 1, len(exchanges))).sum().backward()
        optimizer.step()
    return wrapped, model.score(exchanges).reward


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_trained_saved_and_merged(
    kind: str, backbone_folder: Callable[[str], Path], exchanges: list[Exchange], tmp_path: Path
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file

    folder = str(backbone_folder(kind))
    model = RewardModel.create(folder, max_length=400, seed=1)
    head, _ = head_of(model.module.model)
    backbone_before = {name: parameter.clone() for name, parameter in model.module.model.named_parameters() if f"{head}." not in name}
    start_N = model.score(exchanges).reward
    wrapped, reward_N = trained(model, exchanges)
    assert np.abs(reward_N - start_N).max() > 1e-2, "training must have moved the rewards"

    save_adapter(wrapped, tmp_path / "adapter")
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any(f".{head}." in name for name in names), "an adapter without the head reloads to noise"
    assert not [file.name for file in (tmp_path / "adapter").iterdir() if file.suffix in (".bin", ".pt")]

    # Another head, from another seed: the adapter's own must replace it.
    fresh = RewardModel.create(folder, max_length=400, seed=2)
    with quiet_peft():
        PeftModel.from_pretrained(fresh.module.model, str(tmp_path / "adapter"))
    np.testing.assert_allclose(fresh.score(exchanges).reward, reward_N, atol=1e-5)

    merged = merge_lora(wrapped)
    whole = RewardModel(RewardModule(merged), model.tokenizer, model.card, name="merged")
    np.testing.assert_allclose(whole.score(exchanges).reward, reward_N, atol=1e-5)
    whole.save(tmp_path / "merged")
    np.testing.assert_allclose(RewardModel.load(tmp_path / "merged").score(exchanges).reward, reward_N, atol=1e-5)
    assert any(not torch.equal(merged.get_parameter(name), before) for name, before in backbone_before.items())


def test_only_adapters_and_head_learn(backbone_folder: Callable[[str], Path]) -> None:
    model = RewardModel.create(str(backbone_folder("llama")), max_length=400)
    wrapped = add_lora(model.module, rank=2, alpha=4, dropout=0.0, targets=["q_proj", "v_proj"])
    names = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
    assert {("lora_" in name) or ("score" in name) for name in names} == {True}
    # 2 layers x 2 targets x (A, B), and the head.
    assert len(names) == 9


def test_targets_that_fit_nothing_are_an_error(backbone_folder: Callable[[str], Path]) -> None:
    model = RewardModel.create(str(backbone_folder("llama")), max_length=400)
    with pytest.raises(ModelError, match="nowhere") as caught:
        add_lora(model.module, rank=2, alpha=4, dropout=0.0, targets=["nowhere"])
    assert "all-linear" in str(caught.value.hint)
