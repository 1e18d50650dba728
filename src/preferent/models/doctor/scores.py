"""What the rewards depend on, measured through the model's own forward, and what half precision leaves of them.

Legend: N exchanges, P pairs.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import torch

from preferent.core.records import Floats, user
from preferent.models.doctor.measured import Measured
from preferent.models.doctor.patient import RUN_ERRORS, Patient, first_line
from preferent.models.doctor.report import Check

# Of all pairs of responses to one prompt: more than this share expected to tie in bf16 is a loss of accuracy one can see.
TIES_ALLOWED = 0.02


def check_rewards(patient: Patient, measured: Measured) -> Check:
    """Finite, and not the same for everything."""
    reward_N = measured.reward_N
    if measured.crashed:
        return Check("rewards", False, "the model's forward refuses a probe", measured.reason)
    assert reward_N is not None
    if not np.isfinite(reward_N).all():
        return Check("rewards", False, f"{int((~np.isfinite(reward_N)).sum())} of {len(reward_N)} are not finite",
                     hint="the weights are damaged, or overflow in the dtype they were saved in")  # fmt: skip
    left_out = f" ({measured.too_long} longer than it takes left out)" if measured.too_long else ""
    figure = f"{len(reward_N)} probes{left_out}: mean {reward_N.mean():+.3g}, spread {measured.spread:.2g}"
    if measured.spread < 1e-6 * max(1.0, float(np.abs(reward_N).max())):
        return Check(
            "rewards", False, figure, "every exchange gets the same reward", "the head reads a token that is the same in all of them"
        )
    return Check("rewards", True, figure)


def check_repeat(patient: Patient, measured: Measured) -> Check:
    """The same input twice gives the same reward."""
    again_N = patient.rewards(measured.inputs)
    return _verdict("repeat", measured, again_N, "the model draws random numbers when it scores", "switch dropout or sampling off")


def check_batch(patient: Patient, measured: Measured) -> Check:
    """Alone or padded in batches of 2, 3 and all, on the tokenizer's own side."""
    side = _own_side(patient)
    figures, worst = [], 0.0
    for batch in (2, 3, len(measured.inputs)):
        try:
            moved = _moved(patient.rewards(measured.inputs, batch=batch, side=side), measured)
        except RUN_ERRORS as error:
            return Check(
                "batch size", False, f"batches of {batch} are refused", first_line(error), "set a pad token in tokenizer and config"
            )
        worst = max(worst, moved)
        figures.append(f"{batch}: {moved:.1e}")
    figure = f"alone against {side}-padded batches of {', '.join(figures)} (allowed {measured.allowed:.1e})"
    if worst <= measured.allowed:
        return Check("batch size", True, figure)
    return Check("batch size", False, figure, "a reward depends on what it is batched with",
                 "score one at a time; look at the pad token, the padding side and the attention mask")  # fmt: skip


def check_side(patient: Patient, measured: Measured) -> Check:
    """Left and right padding agree, where the architecture lets them."""
    side = "left" if _own_side(patient) == "right" else "right"
    try:
        moved = _moved(patient.rewards(measured.inputs, batch=3, side=side), measured)
    except RUN_ERRORS as error:
        return Check("padding side", None, "padded batches are refused", first_line(error))
    figure = f"{side}-padded against alone: {moved:.1e} (allowed {measured.allowed:.1e})"
    if moved <= measured.allowed:
        return Check("padding side", True, figure)
    if _absolute_positions(patient.model):
        return Check("padding side", None, figure, f"its positions are absolute: pad it on the {_own_side(patient)}, as its tokenizer does")
    return Check("padding side", False, figure, "the reward depends on the padding side", "pad on one side only and give position_ids")


def check_scored_token(patient: Patient, measured: Measured) -> Check:
    """Decoders: transformers reads the reward at the last token, as servers do."""
    model: Any = patient.model
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or getattr(model.config, "is_encoder_decoder", False):
        return Check("scored token", None, "an encoder", "its head reads the first token or all of them")
    backbone = getattr(model, model.base_model_prefix)
    back_N = []
    with torch.inference_mode():
        for x, reward in zip(measured.inputs, measured.reward_N if measured.reward_N is not None else (), strict=True):
            ids = torch.tensor([x.ids], device=next(model.parameters()).device)
            at_L = head(backbone(input_ids=ids, use_cache=False)[0])[0, :, 0].double().cpu().numpy()
            same = np.flatnonzero(np.abs(at_L - reward) <= measured.allowed)
            back_N.append(len(x.ids) - int(same[-1]) if len(same) else 0)
    figure = f"token {', '.join(f'-{back}' if back else '?' for back in sorted(set(back_N)))} of each of {len(back_N)} inputs"
    if set(back_N) == {1}:
        return Check("scored token", True, figure)
    return Check("scored token", False, figure, "transformers skips trailing pad ids, servers read the last token: their rewards differ",
                 "give the model a pad token that does not end the template")  # fmt: skip


def check_pad_in_text(patient: Patient, measured: Measured) -> Check:
    """A prompt that holds the pad token's text: both responses still count, alone and in a batch."""
    tokenizer = patient.tokenizer
    assert tokenizer is not None
    if tokenizer.pad_token is None:
        return Check("pad in text", None, "no pad token")
    if measured.spread <= measured.allowed:
        return Check("pad in text", None, "every exchange gets the same reward")
    pairs = []
    for exchange in sorted(measured.exchanges, key=lambda exchange: len(exchange.response))[:2]:
        prompt = user(f"What does {tokenizer.pad_token} mean here?")
        pairs.append(patient.encode(exchange.model_copy(update={"prompt": prompt})))
    if not all(tokenizer.pad_token_id in x.ids for x in pairs):
        return Check("pad in text", None, f"{tokenizer.pad_token!r} in a text is not read as the pad token")
    alone = patient.rewards(pairs)
    gap = float(np.ptp(alone))
    figure = f"two responses after {tokenizer.pad_token!r}: apart by {gap:.2g}"
    if len(set(pairs)) > 1 and gap <= measured.allowed:
        return Check("pad in text", False, figure, "the reward is read before the first pad id: the response is not seen",
                     "pool by the attention mask, not by searching for the pad id")  # fmt: skip
    return Check("pad in text", True, figure)


def check_half(patient: Patient, measured: Measured) -> Check:
    """What rounding the reward to bf16 does to pairs of responses to one prompt.

    A gap g ties with probability max(0, 1 - g/step) over where the grid falls; for gaps spread like a normal distribution around 0
    that averages to step / (sd sqrt(2 pi)), with sd taken from the median gap (0.6745 sd), which few probes give steadily.
    """
    reward_N = measured.reward_N
    assert reward_N is not None
    groups: dict[Any, list[int]] = {}
    for row, exchange in enumerate(measured.exchanges):
        groups.setdefault(exchange.prompt, []).append(row)
    pairs = [pair for rows in groups.values() for pair in combinations(rows, 2)] or list(combinations(range(len(reward_N)), 2))
    left_P, right_P = (reward_N[[pair[side] for pair in pairs]] for side in (0, 1))
    gap = float(np.median(np.abs(left_P - right_P))) if pairs else 0.0
    if gap <= measured.allowed:
        return Check("half precision", None, "the median pair of responses gets the same reward already")
    step = float(np.median(bf16_step(np.maximum(np.abs(left_P), np.abs(right_P)))))
    ties = min(1.0, step * 0.6745 / (gap * np.sqrt(2 * np.pi)))
    figure = f"about {ties:.1%} of pairs would tie in bf16 ({len(pairs)} probed: median gap {gap:.2g}, bf16 step {step:.2g})"
    if ties <= TIES_ALLOWED:
        return Check("half precision", True, figure)
    return Check("half precision", False, figure, "rewards are large beside their differences: a bf16 head rounds them to ties",
                 "keep the head in fp32, or centre the rewards")  # fmt: skip


def bf16_step(size_N: Floats) -> Floats:
    """Distance between neighbouring bf16 numbers at this size: 8 bits of precision, so 2^(floor(log2 size) - 7)."""
    return np.exp2(np.floor(np.log2(np.maximum(size_N, 1e-30))) - 7)


def _moved(other_N: Floats, measured: Measured) -> float:
    assert measured.reward_N is not None
    return float(np.abs(other_N - measured.reward_N).max())


def _verdict(name: str, measured: Measured, other_N: Floats, detail: str, hint: str) -> Check:
    moved = _moved(other_N, measured)
    figure = f"largest difference {moved:.1e} (allowed {measured.allowed:.1e})"
    return Check(name, True, figure) if moved <= measured.allowed else Check(name, False, figure, detail, hint)


def _own_side(patient: Patient) -> str:
    return getattr(patient.tokenizer, "padding_side", "right")


def _absolute_positions(model: Any) -> bool:
    """Learned positions (they move with the padding), or an encoder (its first token is read)."""
    learned = any("position" in name and isinstance(part, torch.nn.Embedding) for name, part in model.named_modules())
    return learned or hasattr(model.base_model, "wpe") or not isinstance(getattr(model, "score", None), torch.nn.Linear)
