"""A prompt and steps as token ids, with the place where each step ends.

The ids are put together step by step: those of the prompt up to where a response begins, then those of each step with its separator,
tokenised by itself. So the end of a step is known from counting; it is never searched for, and no token straddles two steps, whatever
the tokenizer would make of the text as a whole.

Long input: tokens are dropped from the left, as for responses, so that the prompt loses its beginning. Steps that would be dropped are
scored in a second window that ends with the last of them, and so on: every step gets its score, from as many windows as are needed.

Legend: T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preferent.core.errors import ConfigError
from preferent.core.records import Prompt
from preferent.models.render import RenderSpec, prompt_ids

LINES = "\n\n"


@dataclass(frozen=True, slots=True)
class Window:
    """A sequence of token ids, the steps that are scored in it, and the offset of the last token of each."""

    ids: tuple[int, ...]
    steps: tuple[int, ...]
    reads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepTokens:
    """A solution as it is scored: one window, or several where it is longer than the limit; how many tokens of the prompt and of the
    steps the window of the last step lacks."""

    windows: tuple[Window, ...]
    dropped: int = 0

    @property
    def response_cut(self) -> bool:
        """Whether some steps did not fit beside the last one."""
        return len(self.windows) > 1


def default_separator(tokenizer: Any) -> str:
    """A blank line, or where a tokenizer makes nothing of white space its mask token, or its separator token. Raises ConfigError where
    it has neither.

    An encoder has learned to fill a mask from what stands around it, and to look away to a separator when there is nothing to look at: read
    at masks, step models learn from fewer solutions (design/step-models.md).
    """
    if _ids(tokenizer, [LINES])[0]:
        return LINES
    found = tokenizer.mask_token or tokenizer.sep_token
    if found:
        return found
    raise ConfigError(
        "this tokenizer drops line breaks and has no mask or separator token", hint="state steps.separator, a text that it keeps"
    )


def check_separator(tokenizer: Any, separator: str) -> None:
    """Raise ConfigError for a separator that leaves no token behind: an empty step would end where the one before it does."""
    if not _ids(tokenizer, [separator])[0]:
        raise ConfigError(f"steps.separator {separator!r} is no token for this tokenizer", hint="state a text that it keeps, as [MASK]")


def tokenize_steps(tokenizer: Any, solutions: Sequence[tuple[Prompt, Sequence[str]]], spec: RenderSpec, separator: str) -> list[StepTokens]:
    """Token ids of each solution and the ends of its steps, in windows of at most `spec.max_length` tokens."""
    if not solutions:
        return []
    prompts: dict[Prompt, list[int]] = {}
    for prompt, _ in solutions:
        if prompt not in prompts:
            prompts[prompt] = list(prompt_ids(tokenizer, prompt))
    parts = iter(_ids(tokenizer, [f"{step}{separator}" for _, steps in solutions for step in steps]))
    found = []
    for prompt, steps in solutions:
        ids, ends = list(prompts[prompt]), []
        for _ in steps:
            ids.extend(next(parts))
            ends.append(len(ids) - 1)
        windows = _windows(tokenizer, ids, list(enumerate(ends)), spec)
        found.append(StepTokens(tuple(windows), max(0, len(ids) - spec.max_length)))
    return found


def _windows(tokenizer: Any, ids: Sequence[int], ends: list[tuple[int, int]], spec: RenderSpec) -> list[Window]:
    """Windows in the order of their steps; `ends` are (step, place of its last token)."""
    dropped = max(0, len(ids) - spec.max_length)
    if not dropped:
        return [Window(tuple(ids), tuple(step for step, _ in ends), tuple(end for _, end in ends))]
    keep = spec.keep_first and ids[0] is not None and ids[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id)
    kept = (ids[0], *ids[dropped + 1 :]) if keep else tuple(ids[dropped:])
    inside = [(step, end) for step, end in ends if end >= dropped + keep]
    last = Window(kept, tuple(step for step, _ in inside), tuple(end - dropped for _, end in inside))
    lost = ends[: len(ends) - len(inside)]
    return [*_windows(tokenizer, ids[: lost[-1][1] + 1], lost, spec), last] if lost else [last]


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, truncation=False, verbose=False)["input_ids"]
