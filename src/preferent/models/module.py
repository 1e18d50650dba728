"""The trainable part: a transformers sequence classifier that takes packed rows.

Legend: T tokens, R sequences, W width, C columns of values.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from preferent.models import attention
from preferent.models.final_layer import final_layer
from preferent.models.heads import Family, family_of, head_of
from preferent.models.packing import PackedBatch


class RewardModule(nn.Module):
    """Rewards for every sequence of a packed batch, through packed rows or, where those cannot be used, padded batches.

    `packed` says which; `share` whether common beginnings are computed once. Both paths give the same rewards. `heads` reads several
    numbers from the features that the model's own last layer reads one from: features of shape (R, W) to values of shape (R, C), the
    last column of which is the reward. Heads with `needs_prompts` are also given the features of each sequence's prompt alone.
    """

    def __init__(self, model: Any, *, packed: bool = True) -> None:
        super().__init__()
        attention.register()
        self.model = model
        self.family = self.family_of(model)
        self._native_attention = model.config._attn_implementation
        self.packed = packed and self.family is not None and _accepts_packed_attention(model)
        self.share = self.packed and self.family is not None and self.family.causal
        self._final = final_layer(model) if self.share else None
        self.heads: nn.Module | None = None
        # The head runs in fp32 whatever the backbone runs in: bf16 has steps of 0.125 near 23, which makes ties.
        head = head_of(model)[1].float()
        head.register_forward_pre_hook(_to_float)

    @staticmethod
    def family_of(model: Any) -> Family | None:
        """What is known of the architecture; None when only the plain path can run it."""
        return family_of(model)

    @property
    def causal(self) -> bool:
        return self.family is None or self.family.causal

    @property
    def position_offset(self) -> int:
        return 0 if self.family is None else self.family.position_offset(self.model)

    @property
    def needs_prompts(self) -> bool:
        """Whether a batch must hold the prompts alone as well."""
        return bool(getattr(self.heads, "needs_prompts", False))

    @property
    def columns(self) -> int:
        """Values for one sequence, the reward last; length heads, which are there in training only, are not counted."""
        return 1 if self.heads is None else int(getattr(self.heads, "columns", 1))

    @property
    def width(self) -> int:
        """Numbers in the features of one sequence."""
        return next(parameter.shape[1] for parameter in self.linear.parameters() if parameter.dim() == 2)

    def attach(self, heads: nn.Module) -> None:
        """Let `heads` read the features from now on; the model's own last layer is trained no more."""
        self.heads = heads
        for parameter in self.linear.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def fold(self, weight_1W: torch.Tensor) -> None:
        """Make this the weight of the model's own last layer, without a bias: what everyone else reads the reward with."""
        for name, parameter in self.linear.named_parameters():
            last = name.rsplit(".", 1)[-1]
            if last == "weight" and parameter.shape == weight_1W.shape:
                parameter.copy_(weight_1W)
            elif last == "bias":
                parameter.zero_()

    def use_plain(self) -> None:
        """Leave packed rows for good; the attention that the model came with returns."""
        self.packed = self.share = False
        if self.model.config._attn_implementation == attention.NAME:
            self.model.set_attn_implementation(self._native_attention)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """fp32 values, shape (R, C): one column, the reward, or those of `heads`."""
        return self.forward_packed(batch) if self.packed else self.forward_plain(batch)

    @property
    def linear(self) -> nn.Module:
        """The model's own last layer, features to one reward."""
        if self.family is not None:
            return self.family.linear(self.model)
        return [part for part in head_of(self.model)[1].modules() if isinstance(part, nn.Linear)][-1]

    def _values(self, features_SW: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        """Features of all sequences to the values of those that are not prompts alone."""
        read = self.linear if self.heads is None else self.heads
        if batch.answers_R is None:
            return read(features_SW).float()
        features_RW = features_SW[batch.answers_R]
        return (read(features_RW, features_SW[batch.prompts_R]) if self.needs_prompts else read(features_RW)).float()

    def forward_packed(self, batch: PackedBatch) -> torch.Tensor:
        assert self.family is not None
        backbone = getattr(self.model, self.model.base_model_prefix)
        extra: dict[str, Any] = {"use_cache": False} if self.family.causal else {}
        final = None if self._final is None or self._final.recomputed else self._final
        if final is not None:
            extra["final_layer"] = final.index
        with nullcontext() if final is None else final.reading(batch.needed_M):
            hidden_TW = backbone(
                input_ids=batch.input_ids_T.unsqueeze(0), position_ids=batch.position_ids_T.unsqueeze(0), layout=batch.layout, **extra
            ).last_hidden_state[0]
        with torch.autocast(hidden_TW.device.type, enabled=False):
            return self._values(self.family.features(self.model, hidden_TW, batch), batch)

    def forward_plain(self, batch: PackedBatch) -> torch.Tensor:
        """The same values from a right-padded batch through the model's own forward."""
        ids_RL, mask_RL = padded(batch, self.model.config.pad_token_id)
        if not isinstance(self.family, type(None)) and self.family.causal:
            # The model's own pooling looks for the pad id; ours knows where each sequence ends.
            backbone = getattr(self.model, self.model.base_model_prefix)
            hidden_RLW = backbone(input_ids=ids_RL, attention_mask=mask_RL, use_cache=False).last_hidden_state
            ends_R = mask_RL.sum(1) - 1
            last_RW = hidden_RLW[torch.arange(len(ends_R), device=ends_R.device), ends_R]
            with torch.autocast(last_RW.device.type, enabled=False):
                return self._values(last_RW.float(), batch)
        if self.heads is None:
            logits_S1 = self.model(input_ids=ids_RL, attention_mask=mask_RL).logits[:, :1].float()
            return logits_S1 if batch.answers_R is None else logits_S1[batch.answers_R]
        # Any architecture: what its last layer is given are the features.
        seen: list[torch.Tensor] = []
        hook = self.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.model(input_ids=ids_RL, attention_mask=mask_RL)
        finally:
            hook.remove()
        with torch.autocast(ids_RL.device.type, enabled=False):
            return self._values(seen[-1].float(), batch)


def _to_float(head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Half-precision features into the fp32 head, also where transformers' own forward calls it."""
    return tuple(x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)


def padded(batch: PackedBatch, pad_id: int | None, *, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both of shape (R, longest sequence)."""
    device = batch.input_ids_T.device
    longest = max(len(sequence) for sequence in batch.sequences)
    ids_RL = torch.full((len(batch.sequences), longest), pad_id or 0, dtype=torch.long)
    mask_RL = torch.zeros_like(ids_RL)
    for row, sequence in enumerate(batch.sequences):
        span = slice(longest - len(sequence), longest) if left else slice(0, len(sequence))
        ids_RL[row, span] = torch.tensor(sequence, dtype=torch.long)
        mask_RL[row, span] = 1
    return ids_RL.to(device), mask_RL.to(device)


def _accepts_packed_attention(model: Any) -> bool:
    """Switch the model to packed attention if its attention layers go through transformers' interface."""
    if not getattr(model, "_supports_attention_backend", False):
        return False
    if any(name.rsplit(".", 1)[-1] in attention.UNSUPPORTED for name, _ in model.named_parameters()):
        return False
    try:
        model.set_attn_implementation(attention.NAME)
    except (ValueError, ImportError):
        return False
    return True
