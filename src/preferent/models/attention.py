"""Attention over packed rows, registered with transformers under the name "preferent".

Without a layout the same function is ordinary attention, so one loaded model serves packed rows and padded batches alike.

Legend: H query heads, G key heads, T tokens of the row, D head size, Q and K tokens of one segment's queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from preferent.core.errors import ModelError
from preferent.models.packing import Layout, Segment

NAME = "preferent"
# Keyword arguments that change what attention computes and that packed attention does not know.
UNSUPPORTED = ("s_aux", "sinks", "position_bias", "head_mask")


class UnsupportedAttentionError(ModelError):
    """The backbone asks for an attention that packed rows cannot give; the caller falls back to the plain path."""


def register() -> None:
    """Make `attn_implementation="preferent"` known to transformers; harmless when repeated."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """No mask for packed rows (the layout says it all); the usual one for padded batches."""
    if attention_mask is None:
        return None
    kwargs["allow_is_causal_skip"] = kwargs["allow_is_bidirectional_skip"] = False
    return sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    final_layer: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query (1, H, T, D), key and value (1, G, T, D) -> output (1, T, H, D); heads are grouped when G < H.

    In the layer numbered `final_layer` only the tokens that are read (the last of each segment, or the ends of steps) are computed.
    """
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise UnsupportedAttentionError(f"attention with {name!r} cannot run on packed rows")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if layout is None:
        if attention_mask is None:
            raise UnsupportedAttentionError("a padded batch needs an attention mask")
        out = _attend(query, *_all_heads(query, key, value), attention_mask, (scale, softcap, dropout))
    elif query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and softcap is None and dropout == 0.0:
        return _varlen(query, key, value, layout, scale, _one_sided(sliding_window, layout)), None
    elif final_layer is not None and getattr(module, "layer_idx", None) == final_layer:
        attend = last_token_attention if layout.reads is None else read_attention
        out = attend(query, key, value, layout, (scale, softcap, dropout), window=_one_sided(sliding_window, layout))
    else:
        out = segment_attention(query, key, value, layout, (scale, softcap, dropout), window=_one_sided(sliding_window, layout))
    return out.transpose(1, 2).contiguous(), None


def _one_sided(sliding_window: int | None, layout: Layout) -> int | None:
    """Tokens visible to the left, the token itself not counted; transformers hands every model's window plus one."""
    return None if sliding_window is None else sliding_window - 1


def _all_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    share = query.shape[1] // key.shape[1]
    if share == 1:
        return key, value
    return key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)


def segment_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    how: tuple[float, float | None, float],
    *,
    window: int | None = None,
) -> torch.Tensor:
    """One attention call per segment: the CPU path, and the reference for the variable-length kernel. Returns (1, H, T, D).

    `how` is (scale, softcap, dropout).
    """
    parts = []
    for segment, q, k, v in _segments(query, key, value, layout):
        mask = _segment_mask(layout, segment, window, query.device)
        parts.append(_attend(q, k, v, mask, how, causal=layout.causal and mask is None))
    return torch.cat(parts, 2)


def last_token_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    how: tuple[float, float | None, float],
    *,
    window: int | None = None,
) -> torch.Tensor:
    """As `segment_attention` for the last token of each segment of a causal layout; zeros for the others. Returns (1, H, T, D)."""
    parts = []
    for segment, q, k, v in _segments(query, key, value, layout):
        if window is not None and window + 1 < k.shape[2]:
            k, v = k[:, :, -window - 1 :], v[:, :, -window - 1 :]
        last = _attend(q[:, :, -1:], k, v, None, how)
        parts.append(F.pad(last, (0, 0, segment.length - 1, 0)))
    return torch.cat(parts, 2)


def read_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    how: tuple[float, float | None, float],
    *,
    window: int | None = None,
) -> torch.Tensor:
    """As `segment_attention` for the tokens of a causal layout that are read; zeros for the others. Returns (1, H, T, D)."""
    assert layout.reads is not None
    parts = []
    for (segment, q, k, v), read in zip(_segments(query, key, value, layout), layout.reads, strict=True):
        part = torch.zeros_like(q)
        if read:
            mask, offset_N = _read_mask(segment, read, window, query.device)
            part = part.index_copy(2, offset_N, _attend(q.index_select(2, offset_N), k, v, mask, how))
        parts.append(part)
    return torch.cat(parts, 2)


def _read_mask(segment: Segment, read: tuple[int, ...], window: int | None, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """((N, K), True = visible; the offsets (N,)) for the tokens of a segment that are read."""
    offset_N = torch.tensor(read, device=device)
    distance_NK = (segment.prefix_length + offset_N)[:, None] - torch.arange(segment.prefix_length + segment.length, device=device)
    mask = distance_NK >= 0
    return (mask if window is None else mask & (distance_NK <= window)), offset_N


def _segments(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout
) -> Iterator[tuple[Segment, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Each segment with its queries (1, H, Q, D) and the keys and values that they may see (1, H, K, D)."""
    lengths = [segment.length for segment in layout.segments]
    # Splitting, not slicing: the gradient of a slice is a row of zeros as long as the whole, once per segment.
    query_S, key_S, value_S = (x.split(lengths, 2) for x in (query, *_all_heads(query, key, value)))
    place = {segment.start: number for number, segment in enumerate(layout.segments)}
    for segment, q, k, v in zip(layout.segments, query_S, key_S, value_S, strict=True):
        if segment.prefix_length:
            origin = place[segment.prefix_start]
            k, v = (torch.cat([x_S[origin].narrow(2, 0, segment.prefix_length), x], 2) for x_S, x in ((key_S, k), (value_S, v)))
        yield segment, q, k, v


def _segment_mask(layout: Layout, segment: Segment, window: int | None, device: torch.device) -> torch.Tensor | None:
    """(Q, K), True = visible; None when the plain causal or full attention says the same."""
    n_keys = segment.prefix_length + segment.length
    if window is not None and window >= n_keys - 1:
        window = None
    if window is None and (segment.prefix_length == 0 or not layout.causal):
        return None
    key = (segment.length, segment.prefix_length, window)
    if key not in layout.cache:
        mask = torch.ones(segment.length, n_keys, dtype=torch.bool, device=device)
        if layout.causal:
            mask = mask.tril(segment.prefix_length)
        elif window is not None:
            mask = mask.tril(window)
        if window is not None:
            mask = mask.triu(segment.prefix_length - window)
        layout.cache[key] = mask
    return layout.cache[key]  # type: ignore[return-value]


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    how: tuple[float, float | None, float],
    *,
    causal: bool = False,
) -> torch.Tensor:
    scale, softcap, dropout = how
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale)
    # Gemma 2 squeezes the logits before the softmax; no fused kernel of torch does.
    logits = softcap * torch.tanh((q @ k.transpose(2, 3)) * (scale / softcap))
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return F.dropout(logits.softmax(-1, dtype=torch.float32).to(q.dtype), dropout, training=dropout > 0) @ v


def _varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float, window: int | None) -> torch.Tensor:
    """One variable-length flash call: every segment's keys are gathered behind its prefix. Returns (1, T, H, D)."""
    from torch.nn.attention.varlen import varlen_attn

    plan = varlen_plan(layout, query.device)
    q_TND, k_TND, v_TND = (x[0].transpose(0, 1).contiguous() for x in (query, *_all_heads(query, key, value)))
    if plan.gather_K is not None:
        k_TND, v_TND = k_TND.index_select(0, plan.gather_K), v_TND.index_select(0, plan.gather_K)
    left = -1 if window is None else window
    right = 0 if layout.causal else left
    out = varlen_attn(q_TND, k_TND, v_TND, plan.starts_q, plan.starts_k, plan.max_q, plan.max_k, scale=scale, window_size=(left, right))
    assert isinstance(out, torch.Tensor)
    return out.unsqueeze(0)


class VarlenPlan:
    """Index tensors of the variable-length call; the causal corner is bottom right, as the kernel has it."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        lengths_q = [segment.length for segment in layout.segments]
        lengths_k = [segment.prefix_length + segment.length for segment in layout.segments]
        self.max_q, self.max_k = max(lengths_q), max(lengths_k)
        self.starts_q = _starts(lengths_q, device)
        self.starts_k = _starts(lengths_k, device)
        self.gather_K: torch.Tensor | None = None
        if lengths_q != lengths_k:
            pieces = []
            for segment in layout.segments:
                pieces.append(torch.arange(segment.prefix_start, segment.prefix_start + segment.prefix_length))
                pieces.append(torch.arange(segment.start, segment.start + segment.length))
            self.gather_K = torch.cat(pieces).to(device)


def _starts(lengths: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)


def varlen_plan(layout: Layout, device: torch.device) -> VarlenPlan:
    """The plan of a layout, built once per row."""
    if "varlen" not in layout.cache:
        layout.cache["varlen"] = VarlenPlan(layout, device)
    return layout.cache["varlen"]  # type: ignore[return-value]
