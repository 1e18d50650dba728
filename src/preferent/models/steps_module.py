"""The trainable part of a step model: a transformers token classifier, read at the ends of steps only.

Legend: T tokens of the row, N tokens that are read, R sequences, L longest sequence, W width of the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    BertForTokenClassification,
    GPT2ForTokenClassification,
    GPTNeoXForTokenClassification,
    ModernBertForTokenClassification,
    RobertaForTokenClassification,
)
from transformers.modeling_layers import GenericForTokenClassification

from preferent.models.heads import Family
from preferent.models.module import RewardModule, padded
from preferent.models.packing import PackedBatch


class TokenHead:
    """One linear layer on the hidden states that are read, whatever comes before it."""

    head_name: str

    def __init__(self, head_name: str, *, causal: bool) -> None:
        self.head_name = head_name
        self.causal = causal

    def position_offset(self, model: Any) -> int:
        if not isinstance(model, RobertaForTokenClassification):
            return 0
        pad = model.config.pad_token_id
        assert pad is not None
        return pad + 1

    def features(self, model: Any, hidden_TW: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        """Shape (N, W): one row per token that is read."""
        hidden_NW = hidden_TW[batch.read_N]
        if isinstance(model, ModernBertForTokenClassification):
            return model.drop(model.head(hidden_NW)).float()
        return model.dropout(hidden_NW).float()

    def linear(self, model: Any) -> nn.Module:
        return getattr(model, self.head_name)


class StepModule(RewardModule):
    """Logits of the tokens that are read, through packed rows or padded batches; both give the same ones.

    forward(batch): fp32, shape (N, 1), sequence by sequence in the order of `batch.reads`. One pass of the backbone, whatever N is.
    """

    @staticmethod
    def family_of(model: Any) -> Family | None:
        if isinstance(model, BertForTokenClassification | RobertaForTokenClassification | ModernBertForTokenClassification):
            return TokenHead("classifier", causal=False)
        if isinstance(model, GPT2ForTokenClassification | GPTNeoXForTokenClassification):
            return TokenHead("classifier", causal=True)
        bidirectional = getattr(model.config, "use_bidirectional_attention", None)
        if isinstance(model, GenericForTokenClassification) and not bidirectional:
            return TokenHead("score", causal=True)
        return None

    def forward_plain(self, batch: PackedBatch) -> torch.Tensor:
        """The same logits from a right-padded batch through the model's own forward."""
        ids_RL, mask_RL = padded(batch, self.model.config.pad_token_id)
        logits_RL = self.model(input_ids=ids_RL, attention_mask=mask_RL).logits[..., 0]
        row_N = [row for row, read in enumerate(batch.reads) for _ in read]
        offset_N = [offset for read in batch.reads for offset in read]
        return logits_RL[row_N, offset_N].float().unsqueeze(-1)


def reads_backwards_only(model: Any) -> bool:
    """Whether the number of a token depends on what comes before it only; False where that is not known."""
    family = StepModule.family_of(model)
    return family is not None and family.causal
