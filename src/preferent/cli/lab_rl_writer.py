"""The policy of the RL experiment: a decoder small enough for one core, first taught by likelihood to write as the world's own writer does.

A word-level tokenizer keeps replies short: one token is a word with the space before it, so texts come back exactly as they were.

Legend: B sequences of a batch, L tokens of a prompt, T tokens of a reply, N replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preferent.core.records import Exchange, Floats, Prompt

PAD, END, UNKNOWN, REPLY = "<pad>", "<end>", "<unknown>", "<reply>"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}" + REPLY + "{% endif %}"
PIECES = r" ?\w+| ?[^\w\s]|\s"
HEADS = 4
# Sampled from the whole distribution: anything else is another policy than the one whose log-probabilities are read.
PLAIN_SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


@dataclass(frozen=True, slots=True)
class Samples:
    """Replies of a policy. log_ratio_N: log-probability under the policy less that under the reference, in nats, summed over the tokens
    (the end included); its mean is an unbiased estimate of KL(policy || reference) per reply. tokens_N: length."""

    exchanges: list[Exchange]
    log_ratio_N: Floats
    tokens_N: Floats


def word_tokenizer(texts: Sequence[str]) -> Any:
    """A tokenizer with one token for every word (with the space before it) and mark in `texts`; others are unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    special = [PAD, END, UNKNOWN, REPLY]
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=8192, special_tokens=special, show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN)
    fast.add_special_tokens({"additional_special_tokens": [REPLY]})
    fast.chat_template = TEMPLATE
    fast.padding_side = "left"
    return fast


def new_writer(tokenizer: Any, *, width: int, layers: int, seed: int) -> Any:
    """A decoder with random weights drawn from `seed`."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=max(8, width // HEADS),
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(config)


def as_text(tokenizer: Any, prompt: Prompt) -> str:
    """The prompt as the policy reads it."""
    messages = [message.model_dump() for message in prompt]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def teach(model: Any, tokenizer: Any, exchanges: Sequence[Exchange], *, batch: int, rate: float) -> list[float]:
    """One pass of maximum likelihood over the replies, in the order given; returns the loss (nats per token of a reply) of each batch."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    n_steps = max(1, len(exchanges) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=n_steps, pct_start=0.1)
    losses = []
    model.train()
    for start in range(0, n_steps * batch, batch):
        ids_BL, seen_BL, labels_BL = _batch(tokenizer, exchanges[start : start + batch])
        loss = model(input_ids=ids_BL, attention_mask=seen_BL, labels=labels_BL).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def _batch(tokenizer: Any, exchanges: Sequence[Exchange]) -> tuple[Any, Any, Any]:
    """Ids, mask and labels (only replies and their end), padded on the right."""
    import torch

    rows = []
    for one in exchanges:
        head = tokenizer(as_text(tokenizer, one.prompt), add_special_tokens=False)["input_ids"]
        tail = tokenizer(one.response, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        rows.append((head, tail))
    length = max(len(head) + len(tail) for head, tail in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    labels, seen = torch.full_like(ids, -100), torch.zeros_like(ids)
    for i, (head, tail) in enumerate(rows):
        end = len(head) + len(tail)
        ids[i, :end] = torch.tensor(head + tail)
        labels[i, len(head) : end] = torch.tensor(tail)
        seen[i, :end] = 1
    return ids, seen, labels


def sample(model: Any, reference: Any, tokenizer: Any, prompts: Sequence[Prompt], *, max_tokens: int) -> Samples:
    """One reply to each prompt (repeat a prompt for several), drawn with torch's generator, and how far it is from the reference (None: the
    model itself, all log-ratios 0)."""
    import torch

    texts = [as_text(tokenizer, prompt) for prompt in prompts]
    read = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(
            input_ids=read["input_ids"], attention_mask=read["attention_mask"], max_new_tokens=max_tokens, **PLAIN_SAMPLING
        )
        start = read["input_ids"].shape[1]
        reply_NT = ids[:, start:]
        ended_NT = torch.cumsum(reply_NT == tokenizer.eos_token_id, dim=1)
        # Up to the first end, that one included.
        counts_NT = (ended_NT == 0) | ((ended_NT == 1) & (reply_NT == tokenizer.eos_token_id))
        mask = torch.cat([read["attention_mask"], counts_NT.to(read["attention_mask"].dtype)], dim=1)
        ratio_N = torch.zeros(len(ids))
        if reference is not None:
            gap_NT = _log_probabilities(model, ids, mask, start) - _log_probabilities(reference, ids, mask, start)
            ratio_N = (gap_NT * counts_NT).sum(dim=1)
    replies = tokenizer.batch_decode(reply_NT, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    exchanges = [Exchange(prompt=prompt, response=reply) for prompt, reply in zip(prompts, replies, strict=True)]
    return Samples(exchanges, ratio_N.double().numpy(), counts_NT.sum(dim=1).double().numpy())


def _log_probabilities(model: Any, ids: Any, mask: Any, start: int) -> Any:
    """log p of each token from `start` on, shape (N, T)."""
    position = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=position).logits[:, start - 1 : -1]
    return logits.log_softmax(dim=-1).gather(2, ids[:, start:, None]).squeeze(2)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """As TRL loads it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def lengths(tokenizer: Any, exchanges: Sequence[Exchange]) -> Floats:
    """Tokens of the replies, the end included, shape (N,)."""
    return np.array([len(tokenizer(one.response, add_special_tokens=False)["input_ids"]) + 1 for one in exchanges], dtype=np.float64)
