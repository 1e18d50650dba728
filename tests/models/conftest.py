"""A tokenizer, exchanges, and folders of tiny backbones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import build_classifier, healthy, sentence, special_ids

from preferent.core.records import Exchange, Message, user


@pytest.fixture(scope="session")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [sentence(rng, 12) for _ in range(60)]


@pytest.fixture(scope="session")
def exchanges() -> list[Exchange]:
    """Four prompts, one of several turns, with three responses each; 3 to 60 words."""
    rng = np.random.default_rng(1)
    chat = (
        Message(role="user", content=sentence(rng, 9)),
        Message(role="assistant", content=sentence(rng, 14)),
        Message(role="user", content=sentence(rng, 5)),
    )
    prompts = [user(sentence(rng, 3)), user(sentence(rng, 25)), user(sentence(rng, 60)), chat]
    lengths = (3, 11, 40)
    return [Exchange(prompt=prompt, response=sentence(rng, n)) for prompt in prompts for n in lengths]


@pytest.fixture(scope="session")
def decoder_tokenizer(texts: list[str]) -> Any:
    """Byte-pair tokenizer with <|pad|>, <|im_start|>, <|im_end|> as ids 0, 1, 2."""
    from preferent.models.tiny import tiny_tokenizer

    return tiny_tokenizer(texts, 400)


@pytest.fixture(scope="session")
def encoder_tokenizer(texts: list[str]) -> Any:
    """The same vocabulary with [CLS], [SEP] and no template of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", model_max_length=512
    )


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory, decoder_tokenizer: Any, encoder_tokenizer: Any) -> Any:
    """backbone_folder(kind) -> folder of a backbone without a head, as a hub base would be; made once per kind."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            encoder = "bert" in kind
            tokenizer = encoder_tokenizer if encoder else decoder_tokenizer
            model = build_classifier(kind, vocab_size=len(tokenizer), **special_ids(kind, tokenizer))
            made[kind] = tmp_path_factory.mktemp(kind)
            getattr(model, model.base_model_prefix).save_pretrained(made[kind])
            tokenizer.save_pretrained(made[kind])
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def healthy_llama(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from preferent.models.reward_model import RewardModel

    folder = tmp_path_factory.mktemp("llama-healthy")
    return healthy(lambda: RewardModel.create(str(backbone_folder("llama"))), folder, "score.weight")


@pytest.fixture(scope="session")
def healthy_bert(backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from preferent.models.reward_model import RewardModel

    folder = tmp_path_factory.mktemp("bert-healthy")
    return healthy(lambda: RewardModel.create(str(backbone_folder("bert"))), folder, "classifier.weight")
