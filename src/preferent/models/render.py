"""One render and tokenise function for training, evaluation, scoring, serving and RL.

What the score depends on lies in the saved tokenizer: `apply_chat_template(messages)` gives the very ids that are scored.

The one rule for long input: tokens are dropped from the left, so the prompt loses its beginning and the response survives; a leading
BOS or CLS stays. Only a response longer than the limit itself loses its own beginning, and is counted as such.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from preferent.core.errors import ModelError
from preferent.core.records import Exchange, Prompt, Record

# For tokenizers without a template of their own. Both end every turn with a token that a text rarely holds.
ENCODER_TEMPLATE = (
    "{{ cls_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + sep_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
DECODER_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# A template that prints today's date gives another score tomorrow.
FIXED_DATE = "26 Jul 2024"
_DATE_CALL = re.compile(r"strftime_now\s*\([^)]*\)")


class RenderSpec(Record):
    """How an exchange becomes token ids, beside the chat template that the tokenizer holds."""

    max_length: int
    truncation: str = "left"
    keep_first: bool = True


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids that are scored; how many were dropped, and whether the response itself lost some."""

    ids: tuple[int, ...]
    dropped: int = 0
    response_cut: bool = False


def messages_of(prompt: Prompt, response: str | None = None) -> list[dict[str, str]]:
    """The chat messages of an exchange, as templates take them."""
    turns = [{"role": message.role, "content": message.content} for message in prompt]
    return turns if response is None else [*turns, {"role": "assistant", "content": response}]


def prepare_template(tokenizer: Any) -> None:
    """Give the tokenizer a template if it has none, and take the date out of one that prints it."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()))
    if not template:
        template = ENCODER_TEMPLATE if tokenizer.cls_token and tokenizer.sep_token else DECODER_TEMPLATE
        if template is DECODER_TEMPLATE and not tokenizer.eos_token:
            template = template.replace("eos_token", "'\n'")
    tokenizer.chat_template = _DATE_CALL.sub(f"'{FIXED_DATE}'", template)


def without_own_specials(tokenizer: Any) -> Any:
    """A tokenizer that adds no special tokens to a text: the template holds all of them, so rendered text tokenised the usual way
    (`tokenizer(text)`, pipelines, servers) gives the ids that are scored, without a second BOS or CLS."""
    if tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]:
        return tokenizer
    for rule in ("add_bos_token", "add_eos_token"):
        if getattr(tokenizer, rule, False):
            setattr(tokenizer, rule, False)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer
    backend.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    # Classes of one model family (BertTokenizer) put their special tokens back on loading; the general class does not.
    general = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **tokenizer.special_tokens_map,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
    )
    general.chat_template = tokenizer.chat_template
    return general


def prints_date(tokenizer: Any) -> bool:
    """Whether the template asks for the present time."""
    templates = tokenizer.chat_template
    texts = templates.values() if isinstance(templates, dict) else [templates or ""]
    return any("strftime_now" in text for text in texts)


def tokenize(tokenizer: Any, exchanges: Sequence[Exchange], spec: RenderSpec) -> list[Tokens]:
    """Token ids of each exchange, at most `spec.max_length` of them."""
    if not exchanges:
        return []
    texts = _render(tokenizer, exchanges)
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, truncation=False, verbose=False)["input_ids"]
    return [_truncate(tokenizer, ids, exchange, spec) for ids, exchange in zip(encoded, exchanges, strict=True)]


def tokenize_prompts(tokenizer: Any, prompts: Sequence[Prompt], spec: RenderSpec) -> list[tuple[int, ...]]:
    """Token ids of each prompt alone, up to where its response would begin; no response can be seen in them."""
    found = []
    for prompt in prompts:
        ids = prompt_ids(tokenizer, prompt)
        dropped = len(ids) - spec.max_length
        found.append(tuple(ids) if dropped <= 0 else _kept(tokenizer, ids, dropped, spec)[0])
    return found


def _render(tokenizer: Any, exchanges: Sequence[Exchange]) -> list[str]:
    conversations = [messages_of(exchange.prompt, exchange.response) for exchange in exchanges]
    try:
        return tokenizer.apply_chat_template(conversations, tokenize=False)
    except (jinja2.TemplateError, ValueError) as error:
        roles = sorted({tuple(turn["role"] for turn in conversation) for conversation in conversations})
        raise ModelError(
            f"the chat template of this base refuses a conversation: {error} (roles seen: {roles[:3]})",
            hint="some templates take no system turn, or only turns that alternate; rewrite those rows or choose another base",
        ) from error


def _truncate(tokenizer: Any, ids: Sequence[int], exchange: Exchange, spec: RenderSpec) -> Tokens:
    if len(ids) <= spec.max_length:
        return Tokens(tuple(ids))
    dropped = len(ids) - spec.max_length
    kept, keep = _kept(tokenizer, ids, dropped, spec)
    return Tokens(kept, dropped, response_cut=dropped + keep > len(prompt_ids(tokenizer, exchange.prompt)))


def _kept(tokenizer: Any, ids: Sequence[int], dropped: int, spec: RenderSpec) -> tuple[tuple[int, ...], bool]:
    """The ids without the `dropped` first ones, and whether a leading BOS or CLS stays in place of one more."""
    head = (tokenizer.bos_token_id, tokenizer.cls_token_id)
    keep = spec.keep_first and ids[0] in head and ids[0] is not None
    return ((ids[0], *ids[dropped + 1 :]) if keep else tuple(ids[dropped:])), keep


def prompt_ids(tokenizer: Any, prompt: Prompt) -> Sequence[int]:
    """Ids of a prompt up to where its response would begin, all of them."""
    text = tokenizer.apply_chat_template(messages_of(prompt), add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False, return_attention_mask=False, truncation=False, verbose=False)["input_ids"]
