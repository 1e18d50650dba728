"""Packed rows give what the unmodified classifier gives to each sequence alone: rewards, hidden states and gradients."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tiny_models import build_classifier  # noqa: E402

from preferent.models.agreement import settle_path  # noqa: E402
from preferent.models.attention import NAME, UnsupportedAttentionError  # noqa: E402
from preferent.models.module import RewardModule, padded  # noqa: E402
from preferent.models.packing import PackedBatch, pack  # noqa: E402

DECODERS = ["llama", "qwen3", "mistral", "gemma3", "gemma2", "olmo2", "phi3", "gpt_neox", "gpt2"]
ENCODERS = ["bert", "roberta", "modernbert", "modernbert_mean"]


def sequences_of(seed: int = 1) -> list[list[list[int]]]:
    """Three tails on one prompt of 20, a lone sequence, and a pair whose common beginning is too short to share."""
    generator = torch.Generator().manual_seed(seed)

    def run(n: int) -> list[int]:
        return torch.randint(3, 64, (n,), generator=generator).tolist()

    prompt, short = run(20), run(4)
    return [[prompt + run(5), prompt + run(9), prompt + run(1)], [run(7)], [short + run(18), short + run(26)]]


def batch_for(module: RewardModule, bundles: list[list[list[int]]], *, share: bool) -> PackedBatch:
    return pack(bundles, causal=module.causal, share=share, position_offset=module.position_offset)


def rewards_alone(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Each sequence by itself through transformers' own forward and its own attention."""
    return torch.cat([model(input_ids=torch.tensor([sequence])).logits[:, 0] for sequence in batch.sequences])


def gradients(model: Any, reward_R: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of an arbitrary function that weighs every reward differently."""
    model.zero_grad()
    (reward_R * torch.linspace(-1.0, 1.0, len(reward_R))).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("kind", DECODERS)
def test_decoder_packed_shared_and_plain_equal_alone(kind: str) -> None:
    reference = build_classifier(kind)
    module = RewardModule(build_classifier(kind)).eval()
    assert module.packed
    assert module.share
    shared, apart = (batch_for(module, sequences_of(), share=share) for share in (True, False))
    assert shared.n_tokens == apart.n_tokens - 2 * 20
    alone_R = rewards_alone(reference, apart)
    expected, alone_R = gradients(reference, alone_R), alone_R.detach()
    assert float(alone_R.std()) > 0.05, "the test must be able to see a difference"
    for how, reward_R in {
        "shared": module.forward_packed(shared)[:, 0],
        "packed": module.forward_packed(apart)[:, 0],
        "plain": module.forward_plain(shared)[:, 0],
    }.items():
        assert reward_R.dtype == torch.float32
        assert float((reward_R.detach() - alone_R).abs().max()) <= 1e-6, how
        assert largest_difference(gradients(module.model, reward_R), expected) <= 1e-5, how


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoder_packed_and_plain_equal_alone(kind: str) -> None:
    reference = build_classifier(kind)
    module = RewardModule(build_classifier(kind)).eval()
    assert module.packed
    assert not module.share
    batch = batch_for(module, sequences_of(), share=False)
    alone_R = rewards_alone(reference, batch)
    expected, alone_R = gradients(reference, alone_R), alone_R.detach()
    for how, reward_R in {"packed": module.forward_packed(batch)[:, 0], "plain": module.forward_plain(batch)[:, 0]}.items():
        assert float((reward_R.detach() - alone_R).abs().max()) <= 1e-6, how
        assert largest_difference(gradients(module.model, reward_R), expected) <= 1e-5, how


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_hidden_states_of_every_token_agree(kind: str) -> None:
    reference, module = build_classifier(kind), RewardModule(build_classifier(kind)).eval()
    batch = batch_for(module, sequences_of(), share=True)
    backbone = getattr(module.model, module.model.base_model_prefix)
    with torch.no_grad():
        packed_TW = backbone(input_ids=batch.input_ids_T[None], position_ids=batch.position_ids_T[None], layout=batch.layout)[0][0]
    for segment, sequence in zip(batch.layout.segments, batch.sequences, strict=True):
        with torch.no_grad():
            alone_LW = getattr(reference, reference.base_model_prefix)(input_ids=torch.tensor([sequence]))[0][0]
        own_TW = packed_TW[segment.start : segment.start + segment.length]
        assert float((own_TW - alone_LW[segment.prefix_length :]).abs().max()) <= 3e-6


def test_deberta_has_no_attention_interface_and_takes_the_plain_path() -> None:
    reference, module = build_classifier("deberta"), RewardModule(build_classifier("deberta")).eval()
    assert not module.packed
    assert not module.share
    batch = batch_for(module, sequences_of(), share=False)
    assert float((module(batch)[:, 0] - rewards_alone(reference, batch)).detach().abs().max()) <= 1e-6


@pytest.mark.parametrize("kind", ["llama", "gemma2", "bert"])
def test_gradient_checkpointing_changes_no_gradient(kind: str) -> None:
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if kind == "bert" else {}
    kept, saved = (RewardModule(build_classifier(kind, **no_dropout)).train() for _ in range(2))
    # The older name of the same switch warns from transformers 5.2x on.
    switch = getattr(saved.model, "activation_checkpointing_enable", saved.model.gradient_checkpointing_enable)
    switch({"use_reentrant": False})
    batch = batch_for(kept, sequences_of(), share=kept.share)
    assert largest_difference(gradients(saved.model, saved(batch)), gradients(kept.model, kept(batch))) <= 1e-5
    # A checkpointed last layer finishes every token; compared with the same arithmetic, recomputing changes next to nothing.
    kept._final = None
    kept.model.zero_grad()
    assert largest_difference(gradients(saved.model, saved(batch)), gradients(kept.model, kept(batch))) <= 1e-7


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "bert", "modernbert"])
def test_a_neighbour_changes_nothing(kind: str) -> None:
    module = RewardModule(build_classifier(kind)).eval()
    bundles = sequences_of()
    with torch.no_grad():
        together_R = module(batch_for(module, bundles, share=module.share))
        reversed_R = module(batch_for(module, [bundle[::-1] for bundle in bundles[::-1]], share=module.share))
        others_R = module(batch_for(module, [bundles[0], sequences_of(seed=9)[1]], share=module.share))
    assert float((together_R - reversed_R.flip(0)).abs().max()) <= 1e-6
    assert float((together_R[:3] - others_R[:3]).abs().max()) <= 1e-6


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_left_and_right_padding_agree_through_the_packed_attention(kind: str) -> None:
    """The registered attention also serves padded batches of transformers' own forward."""
    reference, module = build_classifier(kind), RewardModule(build_classifier(kind)).eval()
    assert module.model.config._attn_implementation == NAME
    batch = batch_for(module, sequences_of(), share=False)
    with torch.no_grad():
        alone_R = rewards_alone(reference, batch)
        for left in (False, True):
            ids_RL, mask_RL = padded(batch, 0, left=left)
            reward_R = module.model(input_ids=ids_RL, attention_mask=mask_RL).logits[:, 0]
            assert float((reward_R - alone_R).abs().max()) <= 2e-6, f"left={left}"


def test_attention_sinks_are_not_packed() -> None:
    module = RewardModule(build_classifier("gpt_oss")).eval()
    assert not module.packed
    batch = batch_for(module, sequences_of(), share=False)
    with torch.no_grad():
        assert float((module(batch)[:, 0] - rewards_alone(build_classifier("gpt_oss"), batch)).abs().max()) <= 2e-6


@pytest.mark.parametrize(("kind", "reason"), [("minimax", "differ from plain ones"), ("nemotron", "needs an attention mask")])
def test_a_backbone_that_packing_would_change_is_found_and_scored_plain(kind: str, reason: str) -> None:
    module = RewardModule(build_classifier(kind)).eval()
    assert module.packed, "it accepts the attention, so only the comparison can tell"
    why = settle_path(module)
    assert why is not None
    assert reason in why
    assert not module.packed
    batch = batch_for(module, sequences_of(), share=False)
    with torch.no_grad():
        assert float((module(batch)[:, 0] - rewards_alone(build_classifier(kind), batch)).abs().max()) <= 2e-6


@pytest.mark.parametrize("kind", ["llama", "gemma3", "modernbert"])
def test_a_backbone_that_agrees_stays_packed(kind: str) -> None:
    module = RewardModule(build_classifier(kind)).eval()
    assert settle_path(module) is None
    assert module.packed


def test_packed_attention_refuses_what_it_does_not_know() -> None:
    from preferent.models.attention import packed_attention

    q = torch.zeros(1, 1, 2, 4)
    with pytest.raises(UnsupportedAttentionError, match="s_aux"):
        packed_attention(torch.nn.Identity(), q, q, q, None, s_aux=torch.zeros(1))
    with pytest.raises(UnsupportedAttentionError, match="needs an attention mask"):
        packed_attention(torch.nn.Identity(), q, q, q, None)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "roberta", "modernbert", "deberta"])
def test_a_half_precision_backbone_keeps_an_fp32_head_on_every_path(kind: str) -> None:
    exact = RewardModule(build_classifier(kind)).eval()
    module = RewardModule(build_classifier(kind).to(torch.bfloat16)).eval()
    batch = batch_for(module, sequences_of(), share=module.share)
    with torch.no_grad():
        expected_R = exact(batch)[:, 0]
        ids_RL, mask_RL = padded(batch, module.model.config.pad_token_id)
        own_R = module.model(input_ids=ids_RL, attention_mask=mask_RL).logits[:, 0]
        for reward_R in (module(batch)[:, 0], module.forward_plain(batch)[:, 0], own_R):
            assert reward_R.dtype == torch.float32
            # bf16 keeps 8 bits; a head in bf16 would round rewards of this size to steps of 0.002 to 0.008.
            assert float((reward_R - expected_R).abs().max()) < 0.03
            assert not torch.equal(reward_R, reward_R.bfloat16().float())
