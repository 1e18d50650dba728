"""How each architecture turns hidden states into the features of a reward, over packed rows.

transformers' own classes stay in charge of the weights, so what is saved is what everyone else loads; only the reading of the
pooled position is ours: by the known end of each sequence, never by searching for the pad id.

Legend: T tokens of the row, R sequences, W width of the model.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn
from transformers import (
    BertForSequenceClassification,
    ModernBertForSequenceClassification,
    RobertaForSequenceClassification,
)

from preferent.core.errors import ModelError
from preferent.models.packing import PackedBatch

# What a backbone without a head may lack: all of it is ours to train, and to save.
FRESH = ("score", "classifier", "pooler", "head")


class Family(Protocol):
    """What must be known of an architecture to run it on packed rows."""

    causal: bool
    head_name: str

    def position_offset(self, model: Any) -> int:
        """What the first token's position is."""
        ...

    def features(self, model: Any, hidden_TW: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        """What the last linear layer reads, fp32, shape (R, W)."""
        ...

    def linear(self, model: Any) -> nn.Module:
        """The last linear layer: features to one reward."""
        ...


class LastToken:
    """Decoders: a bias-free `score` on the last token."""

    causal = True
    head_name = "score"

    def position_offset(self, model: Any) -> int:
        return 0

    def features(self, model: Any, hidden_TW: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        return hidden_TW[batch.last_R].float()

    def linear(self, model: Any) -> nn.Module:
        return model.score


class BertPooler:
    """BERT: the pooler on the first token, then `classifier`."""

    causal = False
    head_name = "classifier"

    def position_offset(self, model: Any) -> int:
        return 0

    def features(self, model: Any, hidden_TW: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        pooled_RW = model.bert.pooler(hidden_TW[batch.first_R].unsqueeze(1))
        return model.dropout(pooled_RW).float()

    def linear(self, model: Any) -> nn.Module:
        return model.classifier


class RobertaHead:
    """RoBERTa: its two-layer head on the first token."""

    causal = False
    head_name = "classifier"

    def position_offset(self, model: Any) -> int:
        return model.config.pad_token_id + 1

    def features(self, model: Any, hidden_TW: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        head = model.classifier
        dense_RW = torch.tanh(head.dense(head.dropout(hidden_TW[batch.first_R].float())))
        return head.dropout(dense_RW)

    def linear(self, model: Any) -> nn.Module:
        return model.classifier.out_proj


class ModernBertHead:
    """ModernBERT: first token or mean, its prediction head, then `classifier`."""

    causal = False
    head_name = "classifier"

    def position_offset(self, model: Any) -> int:
        return 0

    def features(self, model: Any, hidden_TW: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        if model.config.classifier_pooling == "cls":
            pooled_RW = hidden_TW[batch.first_R]
        else:
            pooled_RW = torch.stack([hidden_TW[s.start : s.start + s.length].mean(0) for s in batch.layout.segments])
        return model.drop(model.head(pooled_RW)).float()

    def linear(self, model: Any) -> nn.Module:
        return model.classifier


def family_of(model: Any) -> Family | None:
    """The family of a sequence classifier, or None when only the plain path can run it."""
    if isinstance(model, BertForSequenceClassification):
        return BertPooler()
    if isinstance(model, RobertaForSequenceClassification):
        return RobertaHead()
    if isinstance(model, ModernBertForSequenceClassification):
        return ModernBertHead()
    if isinstance(getattr(model, "score", None), nn.Linear) and not getattr(model.config, "is_encoder_decoder", False):
        return LastToken()
    return None


def head_of(model: Any) -> tuple[str, nn.Module]:
    """(name, module) of the classification head: the part a fresh reward model has to learn from nothing."""
    for name in ("score", "classifier"):
        if isinstance(getattr(model, name, None), nn.Module):
            return name, getattr(model, name)
    raise ModelError(
        f"{type(model).__name__} has no `score` or `classifier` head",
        hint="use a backbone that transformers can load as a sequence classifier",
    )


def fresh_parts(model: nn.Module) -> list[str]:
    """Names of the modules that no backbone brings along, outermost only: the head, and the pooler or dense layer before it."""
    names: list[str] = []
    for name, _ in model.named_modules():
        if name.rsplit(".", 1)[-1] in FRESH and not any(name.startswith(f"{outer}.") for outer in names):
            names.append(name)
    return names
