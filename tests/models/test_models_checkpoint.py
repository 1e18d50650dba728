"""What lies in a saved folder, and what is refused when it is not whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from preferent.core.errors import ConfigError, MissingExtraError, ModelError  # noqa: E402
from preferent.core.records import Exchange  # noqa: E402
from preferent.models import backbones  # noqa: E402
from preferent.models.checkpoint import Card, read_card  # noqa: E402
from preferent.models.reward_model import RewardModel  # noqa: E402


@pytest.fixture(scope="module")
def folder(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved `tiny` reward model; tests copy it before they break it."""
    place = tmp_path_factory.mktemp("tiny-rm")
    RewardModel.create("tiny", texts=texts, max_length=200).save(place)
    return place


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def edit_config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**config_of(folder), **changes}), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_facts_that_make_it_load_everywhere(folder: Path) -> None:
    from safetensors import safe_open
    from transformers import AutoTokenizer

    config = config_of(folder)
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert config["id2label"] == {"0": "reward"}
    assert config["label2id"] == {"reward": 0}
    assert config["problem_type"] == "regression"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert config["pad_token_id"] == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.model_max_length == 200
    assert tokenizer.truncation_side == "left"
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        heads = [name for name in tensors.keys() if "score" in name]  # noqa: SIM118
        assert heads == ["score.weight"]
        assert tensors.get_slice("score.weight").get_shape() == [1, 128]
        assert tensors.get_slice("score.weight").get_dtype() == "F32"
    assert "strftime_now" not in tokenizer.chat_template


def test_no_file_runs_code_when_it_is_loaded(folder: Path) -> None:
    names = {file.name for file in folder.iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "preferent.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_tokenizer_class_is_one_that_every_transformers_knows(folder: Path) -> None:
    assert json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_the_card_is_what_was_given(folder: Path, tmp_path: Path) -> None:
    model = RewardModel.load(folder)
    card = read_card(folder)
    assert card == model.card
    assert card is not None
    assert (card.base, card.render.max_length, card.render.truncation, card.objectives) == ("tiny", 200, "left", ("reward",))
    model.save(tmp_path, card.model_copy(update={"metrics": {"accuracy": 0.75}}))
    again = read_card(tmp_path)
    assert again is not None
    assert again.metrics == {"accuracy": 0.75}
    assert read_card(tmp_path / "nowhere") is None


def test_saving_over_a_checkpoint_replaces_it_and_leaves_other_files(copy: Path, texts: list[str], exchanges: list[Exchange]) -> None:
    (copy / "notes.txt").write_text("kept", encoding="utf-8")
    other = RewardModel.create("tiny", texts=texts, max_length=150, seed=5)
    other.save(copy)
    assert RewardModel.load(copy).score(exchanges[:2]).reward == pytest.approx(other.score(exchanges[:2]).reward)
    assert (copy / "notes.txt").read_text(encoding="utf-8") == "kept"
    assert not [file.name for file in copy.iterdir() if file.name.startswith(".saving")]


def test_a_save_that_is_cut_short_leaves_no_checkpoint_rather_than_a_mixture(
    copy: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, replace, moved = RewardModel.create("tiny", texts=texts, max_length=150, seed=5), os.replace, []

    def cut(source: Path, target: Path) -> None:
        if moved:
            raise OSError("no space left on device")
        moved.append(target)
        replace(source, target)

    monkeypatch.setattr("preferent.models.checkpoint.os.replace", cut)
    with pytest.raises(OSError, match="no space left"):
        other.save(copy)
    with pytest.raises(ModelError, match="cannot load"):
        RewardModel.load(copy)


def test_an_adapter_alone_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="holds a LoRA adapter") as caught:
        RewardModel.load(tmp_path)
    assert "merged model" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_half_written_folder_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match="cannot load"):
        RewardModel.load(copy)


def test_a_cut_weight_file_is_refused(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot load"):
        RewardModel.load(copy)


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": 1}', '{"format": 2, "version": "9", "base": "x", "render": {"max_length": 3}}', "\xff"]
)
def test_a_damaged_card_is_refused_with_its_place(copy: Path, text: str) -> None:
    (copy / "preferent.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"preferent\.json: not a card") as caught:
        RewardModel.load(copy)
    assert "damaged or newer" in str(caught.value.hint)


def test_an_unknown_key_in_the_card_is_refused(copy: Path) -> None:
    card = json.loads((copy / "preferent.json").read_text(encoding="utf-8"))
    (copy / "preferent.json").write_text(json.dumps({**card, "templates": "x"}), encoding="utf-8")
    with pytest.raises(ModelError, match="not a card"):
        RewardModel.load(copy)


def test_two_outputs_are_refused_with_the_reason(copy: Path) -> None:
    edit_config(copy, id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})
    edit_weights(copy, lambda tensors: tensors.update({"score.weight": torch.randn(2, 128)}))
    with pytest.raises(ModelError, match="2 outputs") as caught:
        RewardModel.load(copy)
    assert "id2label" in str(caught.value.hint)


def test_a_config_that_forgot_its_one_output_is_refused(copy: Path) -> None:
    """One row in the file, two by default in the config: transformers would draw a random head."""
    config = config_of(copy)
    del config["id2label"], config["label2id"]
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot load|outputs"):
        RewardModel.load(copy)


def test_a_checkpoint_without_its_head_is_refused(copy: Path) -> None:
    edit_weights(copy, lambda tensors: tensors.pop("score.weight"))
    with pytest.raises(ModelError, match=r"lacks the weights \['score.weight'\]") as caught:
        RewardModel.load(copy)
    assert "without its head" in str(caught.value.hint)


def test_a_backbone_without_its_layers_is_no_base_either(copy: Path) -> None:
    edit_weights(copy, lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.weight"))
    with pytest.raises(ModelError, match="up_proj"):
        RewardModel.create(str(copy))


def test_a_hub_id_without_a_network_is_a_model_error() -> None:
    for call in (RewardModel.load, RewardModel.create):
        with pytest.raises(ModelError, match="cannot load 'no-such-owner/no-such-model'") as caught:
            call("no-such-owner/no-such-model")
        assert "minilm" in str(caught.value.hint)


def test_a_pickle_is_not_loaded(copy: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load"):
        RewardModel.load(copy)


def test_tiny_needs_texts() -> None:
    with pytest.raises(ModelError, match="texts"):
        RewardModel.create("tiny")


def test_minilm_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "MINILM_PACKAGE", "gt-no-such-package")
    with pytest.raises(MissingExtraError, match=r"preferent\[minilm\]"):
        RewardModel.create("minilm")


def test_a_length_beyond_the_positions_is_refused(backbone_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="512 positions"):
        RewardModel.create(str(backbone_folder("bert")), max_length=513)
    # RoBERTa's positions start at its pad id + 1 = 2: of 512, 510 can be used.
    assert RewardModel.create(str(backbone_folder("roberta"))).card.render.max_length == 512 - 1


def test_pad_is_never_eos(backbone_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone_folder("llama"))
    tokenizer.pad_token = tokenizer.eos_token
    backbone = AutoModel.from_pretrained(backbone_folder("llama"))
    rows = backbone.get_input_embeddings().num_embeddings
    backbone.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = RewardModel.create(str(tmp_path), max_length=100)
    pad = model.tokenizer.pad_token_id
    assert pad is not None
    assert pad != model.tokenizer.eos_token_id
    assert model.module.model.config.pad_token_id == pad
    assert model.module.model.get_input_embeddings().num_embeddings >= max(rows, pad + 1)


def test_a_card_holds_json_only() -> None:
    with pytest.raises(ValueError, match="nope"):
        Card.model_validate({"version": "0", "base": "x", "render": {"max_length": 3}, "nope": 1})
