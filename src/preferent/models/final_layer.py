"""A reward is read at the last token of each sequence, so the last layer need not finish the others.

Keys and values of every token are needed; queries and the feed-forward block only where a reward is read. In a model of six layers the last
feed-forward block is an eighth of all matrix products. The result is the same to the last bit that matters, and the first-batch
check compares it with the plain path like everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

LAYERS = ("layers", "h")
# A block that routes tokens to experts may count them, or return more than one tensor.
ROUTED = ("experts", "router")


class FinalLayer:
    """Lets the last feed-forward block of a decoder see only the rows that are read; outside `reading` it is untouched."""

    def __init__(self, layer: nn.Module, block: nn.Module, index: int) -> None:
        self.index = index
        self._layer = layer
        self._rows: torch.Tensor | None = None
        self._length = 0
        block.register_forward_pre_hook(self._select)
        block.register_forward_hook(self._scatter)

    @property
    def recomputed(self) -> bool:
        """Whether the layer runs again in the backward pass, when it is no longer known which rows are read."""
        return bool(getattr(self._layer, "gradient_checkpointing", False))

    @contextmanager
    def reading(self, rows: torch.Tensor) -> Iterator[None]:
        """While inside, only the tokens numbered `rows` of the packed row pass through the block; the others come out as 0."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def _select(self, block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._rows is None:
            return inputs
        hidden = inputs[0]
        self._length = hidden.shape[1]
        return (hidden.index_select(1, self._rows), *inputs[1:])

    def _scatter(self, block: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if self._rows is None:
            return output
        whole = output.new_zeros(output.shape[0], self._length, output.shape[2])
        return whole.index_copy(1, self._rows, output)


def final_layer(model: Any) -> FinalLayer | None:
    """The last layer of a decoder whose feed-forward block works token by token; None where that is not known."""
    backbone = getattr(model, model.base_model_prefix)
    layers = next((getattr(backbone, name) for name in LAYERS if isinstance(getattr(backbone, name, None), nn.ModuleList)), None)
    if layers is None or len(layers) == 0:
        return None
    block = getattr(layers[-1], "mlp", None)
    if not isinstance(block, nn.Module) or any(part in name for name, _ in block.named_modules() for part in ROUTED):
        return None
    return FinalLayer(layers[-1], block, len(layers) - 1)
