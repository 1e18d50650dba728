"""Packed rows are trusted only after they agreed with the plain path once.

Some backbones accept the packed attention and still compute something else: lightning and linear layers mix along the row, some
layers build their own masks. Training compares the paths on its first batch; a scorer does it here, on token ids made for it.

Legend: R sequences.
"""

from __future__ import annotations

import torch

from preferent.models.attention import UnsupportedAttentionError
from preferent.models.module import RewardModule
from preferent.models.packing import MIN_SHARED, pack

# Of the spread of the rewards; half precision rounds each layer.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


def settle_path(module: RewardModule) -> str | None:
    """Switch packing off if it changes rewards; returns the reason, or None when packed rows stay (or were off already).

    The module must be in evaluation mode. Two forward passes of about 90 tokens.
    """
    if not module.packed:
        return None
    prompts = module.needs_prompts
    bundles = _bundles(module, prompts=prompts)
    batch = pack(bundles, causal=module.causal, share=module.share, position_offset=module.position_offset, prompts=prompts)
    parameter = next(module.parameters())
    batch = batch.to(parameter.device)
    with torch.inference_mode():
        try:
            packed_R, plain_R = module.forward_packed(batch)[:, -1], module.forward_plain(batch)[:, -1]
        except UnsupportedAttentionError as error:
            module.use_plain()
            return str(error)
    difference = float((packed_R - plain_R).abs().max())
    scale = max(float(plain_R.std(correction=0)), 0.05 * float(plain_R.abs().mean()), 1e-2)
    allowed = TOLERANCE.get(parameter.dtype, 0.1) * scale
    if difference <= allowed:
        return None
    module.use_plain()
    return f"packed rewards differ from plain ones by {difference:.1e} (allowed {allowed:.1e})"


def _bundles(module: RewardModule, *, prompts: bool) -> list[list[list[int]]]:
    """Three tails on one beginning, then two sequences of their own, all of ids the model knows; before each its prompt if wanted."""
    vocabulary = module.model.get_input_embeddings().num_embeddings
    pad = module.model.config.pad_token_id
    ids = [i for i in range(vocabulary) if i != pad]
    stride = max(1, len(ids) // 97)

    def run(start: int, length: int) -> list[int]:
        return [ids[(start + (7 * step + step * step) * stride) % len(ids)] for step in range(length)]

    beginning = run(1, MIN_SHARED + 8)
    bundles = [[beginning + run(5, 4), beginning + run(11, 9), beginning + run(3, 1)], [run(2, 13)], [run(8, 21)]]
    alone = [beginning, run(2, 5), run(8, 7)]
    return [[prompt, *bundle] for prompt, bundle in zip(alone, bundles, strict=True)] if prompts else bundles
