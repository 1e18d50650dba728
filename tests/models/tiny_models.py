"""Tiny classifiers of many architectures: 2 layers, 32 wide, weights large enough that attention matters to the reward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 64
WORDS = [
    "the",
    "a",
    "small",
    "large",
    "green",
    "river",
    "stone",
    "letter",
    "answer",
    "question",
    "walks",
    "writes",
    "opens",
    "closes",
    "because",
    "when",
    "softly",
    "early",
    "well",
]


def sentence(rng: np.random.Generator, n_words: int) -> str:
    return " ".join(rng.choice(WORDS, n_words))


def decoder_sizes(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **sizes, **more}


def encoder_sizes(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {"vocab_size": VOCABULARY, "pad_token_id": 0, **sizes, **more}


def build_config(kind: str, **more: Any) -> Any:
    """A tiny configuration with one output; `more` overrides its fields."""
    import transformers as tf

    small_neox = {key: value for key, value in decoder_sizes().items() if key != "num_key_value_heads"}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    # Windows are shorter than the sequences, so that they matter, and both kinds of layer are there.
    gemma = {"head_dim": 8, "sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
    modern = {"local_attention": 8, "global_attn_every_n_layers": 2, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1}
    table = {
        "llama": (tf.LlamaConfig, decoder_sizes()),
        "qwen3": (tf.Qwen3Config, decoder_sizes(head_dim=8)),
        "mistral": (tf.MistralConfig, decoder_sizes(sliding_window=9)),
        "gemma3": (tf.Gemma3TextConfig, decoder_sizes(**gemma)),
        "gemma2": (tf.Gemma2Config, decoder_sizes(**gemma, attn_logit_softcapping=2.0)),
        "olmo2": (tf.Olmo2Config, decoder_sizes()),
        "phi3": (tf.Phi3Config, decoder_sizes()),
        "gpt_neox": (tf.GPTNeoXConfig, small_neox),
        "gpt2": (tf.GPT2Config, gpt2),
        "bert": (tf.BertConfig, encoder_sizes()),
        "roberta": (tf.RobertaConfig, encoder_sizes(pad_token_id=1, bos_token_id=0, eos_token_id=2)),
        "modernbert": (tf.ModernBertConfig, encoder_sizes(**modern, sep_token_id=2)),
        "modernbert_mean": (tf.ModernBertConfig, encoder_sizes(**modern, sep_token_id=2, classifier_pooling="mean")),
        "deberta": (tf.DebertaV2Config, encoder_sizes()),
        "gpt_oss": (tf.GptOssConfig, decoder_sizes(head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=9)),
        "minimax": (tf.MiniMaxConfig, decoder_sizes(head_dim=8, num_local_experts=2, num_experts_per_tok=1, block_size=8)),
        "fnet": (tf.FNetConfig, encoder_sizes(use_tpu_fourier_optimizations=False)),
        "nemotron": (tf.NemotronConfig, decoder_sizes()),
    }
    cls, sizes = table[kind]
    config = cls(**{**sizes, **more})
    config.id2label, config.label2id, config.problem_type = {0: "reward"}, {"reward": 0}, "regression"
    return config


def build_classifier(kind: str, *, seed: int = 0, **more: Any) -> Any:
    """A classifier in evaluation mode whose weights are large enough that attention matters to the reward."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(build_config(kind, **more)).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, 0.0, 0.12)
    return model


def special_ids(kind: str, tokenizer: Any) -> dict[str, int]:
    """pad, bos and eos ids as the tokenizer has them."""
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id} if "bert" not in kind else {"pad_token_id": 0}


def healthy(create: Callable[[], Any], folder: Path, head: str) -> Path:
    """A saved reward model whose head looks trained and whose rewards lie around 0."""
    import torch

    from preferent.models.doctor import probe_exchanges

    model = create()
    with torch.no_grad():
        weight = model.module.model.get_parameter(head)
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)) * 0.5 + 0.02)
        bias = getattr(model.module.model.get_submodule(head.removesuffix(".weight")), "bias", None)
        if bias is not None:
            bias.copy_(torch.tensor([-model.score(probe_exchanges()).reward.mean()]))
    model.save(folder)
    return folder
