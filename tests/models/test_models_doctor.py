"""Models broken on purpose: exactly the lines that name the fault fail, and a healthy model passes all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_models import healthy  # noqa: E402

from preferent.core.errors import ModelError  # noqa: E402
from preferent.models.doctor import examine, probe_exchanges  # noqa: E402
from preferent.models.doctor.measured import measure  # noqa: E402
from preferent.models.doctor.patient import open_patient  # noqa: E402
from preferent.models.reward_model import RewardModel  # noqa: E402


@pytest.fixture
def sick(healthy_llama: Path, tmp_path: Path) -> Path:
    """A copy of the healthy decoder, to be broken."""
    return Path(shutil.copytree(healthy_llama, tmp_path / "sick"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_template(folder: Path, change: Callable[[str], str]) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")


def failed(folder: Path, **kwargs: Any) -> set[str]:
    return {check.name for check in examine(folder, **kwargs).failed}


def test_a_healthy_decoder_passes_every_line(healthy_llama: Path) -> None:
    examination = examine(healthy_llama)
    assert {check.sign for check in examination.checks} == {"pass"}, examination.render()
    assert examination.healthy
    assert len(examination.checks) == 19
    assert len({check.name for check in examination.checks}) == 19


def test_a_healthy_encoder_passes_every_line_that_applies(healthy_bert: Path) -> None:
    examination = examine(healthy_bert)
    assert not examination.failed, examination.render()
    assert {check.name for check in examination.checks if check.passed is None} == {"scored token", "padding side"}
    assert "pad it on the right" in examination["padding side"].detail
    # One probe has more than 512 tokens in this vocabulary of 400, and BERT no more positions.
    assert examination["rewards"].figure.startswith("15 probes (1 longer than it takes left out)")


def test_pad_is_eos_and_the_template_ends_with_it(sick: Path) -> None:
    edit_json(sick / "tokenizer_config.json", lambda config: config.update(pad_token="<|im_end|>"))
    edit_json(sick / "config.json", lambda config: config.update(pad_token_id=2))
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"pad token", "scored token"}
    # <|im_end|> closes the template and is skipped as padding: the token before it is read.
    assert examination["scored token"].figure.startswith("token -2 ")


def test_two_outputs(sick: Path) -> None:
    edit_json(sick / "config.json", lambda config: config.update(id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1}))
    edit_weights(sick, lambda tensors: tensors.update({"score.weight": tensors["score.weight"].repeat(2, 1)}))
    assert failed(sick) == {"num_labels"}
    assert examine(sick)["num_labels"].figure == "2 outputs"


def test_a_config_that_forgot_its_one_output(sick: Path) -> None:
    edit_json(sick / "config.json", lambda config: (config.pop("id2label"), config.pop("label2id")))
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"num_labels"}
    assert examination["num_labels"].figure == "config says 2, the head in the files has 1"
    assert examination["rewards"].passed, "the other questions are asked of the head that is there"


def test_no_problem_type(sick: Path) -> None:
    edit_json(sick / "config.json", lambda config: config.pop("problem_type"))
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"problem_type", "vLLM"}
    assert "sigmoid(reward)" in examination["vLLM"].figure


@pytest.mark.parametrize("name", ["LlamaForRewardModeling", "RewardModel"])
def test_a_class_name_that_servers_take_for_an_embedding(sick: Path, name: str) -> None:
    edit_json(sick / "config.json", lambda config: config.update(architectures=[name]))
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"vLLM"}
    assert "embed" in examination["vLLM"].figure


def test_a_causal_language_model_is_a_backbone_without_a_head(sick: Path) -> None:
    edit_json(sick / "config.json", lambda config: config.update(architectures=["LlamaForCausalLM"]))
    edit_weights(sick, lambda tensors: tensors.pop("score.weight"))
    assert failed(sick) == {"vLLM", "head"}


def test_a_bias_that_servers_drop(sick: Path) -> None:
    edit_weights(sick, lambda tensors: tensors.update({"score.bias": torch.ones(1)}))
    assert failed(sick) == {"vLLM"}


def test_a_dated_template(sick: Path) -> None:
    edit_template(sick, lambda text: "{{ '<|im_start|>Today: ' + strftime_now('%d %b %Y') + '<|im_end|>' }}" + text)
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"date"}
    moved = float(examination["date"].figure.partition("by up to ")[2].split()[0])
    assert moved > 0
    assert examination["preferent"].passed is None


def test_the_head_is_missing(sick: Path) -> None:
    edit_weights(sick, lambda tensors: tensors.pop("score.weight"))
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"head"}
    assert examination["rewards"].passed is None, "rewards of a random head say nothing"


def test_a_fresh_head_is_a_warning(backbone_folder: Callable[[str], Path], tmp_path: Path) -> None:
    # 32 weights drawn at initializer_range 0.02; this seed's draw has the standard deviation of a fresh one.
    model = RewardModel.create(str(backbone_folder("llama")))
    with torch.no_grad():
        weight = model.module.model.score.weight
        values = torch.linspace(-1, 1, weight.numel())
        weight.copy_((values / values.std() * 0.02).reshape(weight.shape))
    model.save(tmp_path)
    check = examine(tmp_path)["head"]
    assert (check.passed, check.warning, check.sign) == (True, True, "warn")


def test_a_lost_layer(sick: Path) -> None:
    edit_weights(sick, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"loads"}
    assert "up_proj" in examination["loads"].detail


def test_a_doubled_beginning(sick: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_file(str(sick / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer.save(str(sick / "tokenizer.json"))
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"doubled BOS"}
    assert "two <|im_start|> at the start; the reward moves by up to" in examination["doubled BOS"].figure


def test_no_template(sick: Path) -> None:
    (sick / "chat_template.jinja").unlink()
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"chat template"}
    assert {check.name for check in examination.checks if check.passed is None} == {"date", "doubled BOS", "template end", "preferent"}


def test_a_template_that_drops_words(sick: Path) -> None:
    edit_template(sick, lambda text: text.replace("message['content']", "message['content'].split('.')[0]"))
    assert "chat template" in failed(sick)


def test_a_template_that_refuses_a_conversation(sick: Path) -> None:
    edit_template(sick, lambda text: "{% if messages|length > 2 %}{{ raise_exception('one turn only') }}{% endif %}" + text)
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"chat template"}
    # Two of the eight probes have three turns before the response, with two responses each.
    assert examination["chat template"].figure == "12 of 16 conversations rendered"
    assert examination["chat template"].detail == "one turn only"


def test_a_template_that_always_invites_another_turn(sick: Path) -> None:
    edit_template(sick, lambda text: text.replace("{% if add_generation_prompt %}", "{% if true %}"))
    assert failed(sick) == {"template end"}


def test_pickled_weights(sick: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(sick / "model.safetensors"), sick / "pytorch_model.bin")
    check = examine(sick)["safetensors"]
    assert (check.passed, check.sign) == (True, "warn")
    (sick / "model.safetensors").unlink()
    assert failed(sick) == {"safetensors"}


def test_a_cut_file_still_gets_a_report(sick: Path) -> None:
    whole = (sick / "model.safetensors").read_bytes()
    (sick / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    examination = examine(sick)
    assert {check.name for check in examination.failed} == {"loads"}
    assert examination["num_labels"].passed
    assert examination["rewards"].passed is None


def test_no_pad_token(sick: Path) -> None:
    edit_json(sick / "tokenizer_config.json", lambda config: config.pop("pad_token"))
    edit_json(sick / "config.json", lambda config: config.update(pad_token_id=None))
    assert failed(sick) == {"pad token", "batch size"}


def test_tokenizer_and_model_disagree_about_the_pad(sick: Path) -> None:
    edit_json(sick / "config.json", lambda config: config.update(pad_token_id=5))
    examination = examine(sick)
    assert {"pad token", "batch size"} <= {check.name for check in examination.failed}


def test_a_dead_head(sick: Path) -> None:
    edit_weights(sick, lambda tensors: tensors["score.weight"].zero_())
    assert failed(sick) == {"rewards"}


def test_rewards_that_are_not_numbers(sick: Path) -> None:
    edit_weights(sick, lambda tensors: tensors["score.weight"].fill_(float("nan")))
    assert "rewards" in failed(sick)


def test_large_rewards_tie_in_half_precision(healthy_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(healthy_bert, tmp_path / "far"))
    edit_weights(folder, lambda tensors: tensors["classifier.bias"].fill_(200.0))
    assert failed(folder) == {"half precision"}


def test_an_architecture_that_sees_its_padding(backbone_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """FNet mixes tokens by a Fourier transform over the whole row, padding included."""
    healthy(lambda: RewardModel.create(str(backbone_folder("fnet"))), tmp_path, "classifier.weight")
    assert failed(tmp_path) == {"batch size", "preferent"}


def test_absolute_positions_only_pad_on_the_right(backbone_folder: Callable[[str], Path], tmp_path: Path) -> None:
    healthy(lambda: RewardModel.create(str(backbone_folder("gpt2"))), tmp_path, "score.weight")
    examination = examine(tmp_path)
    assert not examination.failed
    assert examination["padding side"].passed is None
    edit_json(tmp_path / "tokenizer_config.json", lambda config: config.update(padding_side="left"))
    assert failed(tmp_path) == {"batch size"}


@pytest.mark.parametrize("with_head", [True, False])
def test_lora_adapters(with_head: bool, backbone_folder: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from preferent.models.lora import add_lora, save_adapter

    model = RewardModel.create(str(backbone_folder("llama")))
    wrapped = add_lora(model.module, rank=2, alpha=4, dropout=0.0, targets="all-linear")
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    save_adapter(wrapped, tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    if with_head:
        examination = examine(tmp_path)
        assert not examination.failed, examination.render()
        exchanges = probe_exchanges()
        measured = measure(open_patient(tmp_path), exchanges)
        np.testing.assert_allclose(measured.reward_N, model.score(exchanges).reward, atol=1e-5)
        return
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "score" not in name}, tmp_path / "adapter_model.safetensors")
    examination = examine(tmp_path)
    assert {check.name for check in examination.failed} == {"head"}, examination.render()
    assert examination["head"].figure == "an adapter without a head"


def test_a_forward_that_refuses_is_a_failed_line(sick: Path) -> None:
    edit_json(sick / "config.json", lambda config: config.update(vocab_size=40))
    edit_weights(sick, lambda tensors: tensors.update({"model.embed_tokens.weight": tensors["model.embed_tokens.weight"][:40].clone()}))
    examination = examine(sick)
    assert examination["rewards"].passed is False
    assert "refuses a probe" in examination["rewards"].figure


def test_nothing_to_examine(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no config"):
        examine(tmp_path)
    with pytest.raises(ModelError, match="neither a folder nor a model") as caught:
        examine("no-such-owner/no-such-model")
    assert "network" in str(caught.value.hint)
