"""The common ground of the benches: one model, one tokenizer and four files of rows that every contestant reads.

    python bench/fixtures.py FOLDER [--shared ../shared/data] [--hh-steps 14] [--tulu-prompts 2]

FOLDER then holds
  model/            Qwen3ForSequenceClassification (num_labels=1, fp32) and its tokenizer: the weights that everyone starts from
  hh.jsonl          {id, prompt, chosen, rejected}: messages, distinct prompts, both sides at most MAX_TRAIN tokens, in file order
  tulu.jsonl        the same columns: all pairs of the scored candidates of each prompt, prompt after prompt
  shared.jsonl      {prompt, responses}: several responses to each long prompt, to score
  single.jsonl      the same with one response a prompt, of mixed length, to score
  fixture.json      what was built: sizes, lengths, seeds

The texts come from the folder of shared data beside the checkout; FOLDER therefore stays out of the repository.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20_260
MAX_TRAIN = 512  # tokens of prompt and response together; longer pairs are left out, as TRL itself leaves them out
MAX_SCORE = 1024
PAIRS_PER_STEP = 8
SCORED = 11  # scored candidates of a tulu prompt: 55 pairs
VOCABULARY = 8192
MODEL: dict[str, Any] = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,  # two queries share a key, as in Qwen3-0.6B
    "head_dim": 64,
    "max_position_embeddings": 2048,
}
# No system message, no date, no newline behind the last turn: the rendering of prompt + response ends with <|im_end|>, and the
# rendering of the prompt (with the generation prompt) is a prefix of it.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if not loop.first %}{{ '\\n' }}{% endif -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif -%}"
)

Row = dict[str, Any]
Count = Callable[[list[Row]], int]


def shared_data(given: str | None) -> Path:
    """The folder of shared data: the argument, else $PREFERENT_SHARED_DATA, else beside the checkout."""
    folder = Path(given or os.environ.get("PREFERENT_SHARED_DATA") or Path(__file__).parents[1] / "../shared/data").resolve()
    if not (folder / "hh_harmless_test.jsonl.gz").exists():
        raise SystemExit(f"{folder}: no hh_harmless_test.jsonl.gz here; give the folder with --shared or PREFERENT_SHARED_DATA")
    return folder


def rows_of(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def build_tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE trained on `texts`; pad (<|endoftext|>) is not eos (<|im_end|>)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|endoftext|>", eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = MODEL["max_position_embeddings"]
    return tokenizer


def build_model(tokenizer: Any) -> Any:
    """The 6-layer, 384-wide Qwen3 architecture with a scalar head, from a fixed seed."""
    import torch
    from transformers import AutoModelForSequenceClassification, Qwen3Config

    config = Qwen3Config(
        **MODEL,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        problem_type="regression",
        attention_dropout=0.0,
        dtype="float32",
    )
    config.num_labels = 1
    torch.manual_seed(SEED)
    return AutoModelForSequenceClassification.from_config(config)


def answer(prompt: list[Row], response: str) -> list[Row]:
    return [*prompt, {"role": "assistant", "content": response}]


def hh_pairs(source: list[Row], count: Count, n: int) -> list[Row]:
    """The first `n` pairs with a prompt of their own, two non-empty and different sides, and at most MAX_TRAIN tokens a side."""
    seen: set[str] = set()
    pairs: list[Row] = []
    for row in source:
        prompt, chosen, rejected = row["prompt"], row["chosen"].strip(), row["rejected"].strip()
        key = json.dumps(prompt)
        if key in seen or not chosen or not rejected or chosen == rejected or row["strength"] <= 0.5:
            continue
        if max(count(answer(prompt, chosen)), count(answer(prompt, rejected))) > MAX_TRAIN:
            continue
        seen.add(key)
        pairs.append({"id": row["id"], "prompt": prompt, "chosen": chosen, "rejected": rejected})
        if len(pairs) == n:
            return pairs
    raise SystemExit(f"hh_harmless_test: only {len(pairs)} pairs of at most {MAX_TRAIN} tokens; {n} asked")


def tulu_pairs(source: Iterator[Row], count: Count, prompts: int) -> list[Row]:
    """All 55 pairs of the 11 scored candidates, for the first prompts whose candidates all fit and differ; equal scores are left
    in their order, since a hard label is all that TRL knows (the figure is about speed, not about what is learned)."""
    pairs: list[Row] = []
    taken = 0
    for row in source:
        scored = [(c["text"].strip(), c["p_beats_ref"]) for c in row["candidates"] if c.get("p_beats_ref") is not None]
        texts = [text for text, _ in scored]
        if len(scored) != SCORED or len(set(texts)) != SCORED or not all(texts):
            continue
        if max(count(answer(row["prompt"], text)) for text in texts) > MAX_TRAIN:
            continue
        ranked = sorted(scored, key=lambda pair: -pair[1])
        for (i, (chosen, _)), (j, (rejected, _)) in combinations(enumerate(ranked), 2):
            pairs.append({"id": f"{row['id']}/{i}-{j}", "prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
        taken += 1
        if taken == prompts:
            return pairs
    raise SystemExit(f"tulu_bon16: only {taken} prompts whose {SCORED} scored candidates have at most {MAX_TRAIN} tokens; {prompts} asked")


class Words:
    """Texts of a wanted number of tokens, cut from a stream of real words."""

    def __init__(self, words: Sequence[str], tokenizer: Any, rng: np.random.Generator) -> None:
        self.words, self.tokenizer, self.rng = words, tokenizer, rng

    def text(self, tokens: int) -> str:
        """As many words as fit in `tokens` tokens, from a random place."""
        start = int(self.rng.integers(0, len(self.words) - 2 * tokens))
        piece = self.words[start : start + tokens]  # a word is at least one token
        low, high = 1, len(piece)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(self.tokenizer(" ".join(piece[:middle]), add_special_tokens=False)["input_ids"]) <= tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        return " ".join(piece[:low])


def shared_prompts(words: Words, overhead: int, *, prompts: int, responses: int) -> list[Row]:
    """`responses` responses of 32 to 96 tokens to each prompt of 512 tokens, the template's own included."""
    return [
        {
            "prompt": [{"role": "user", "content": words.text(512 - overhead)}],
            "responses": [words.text(int(n)) for n in words.rng.integers(32, 97, responses)],
        }
        for _ in range(prompts)
    ]


def single_responses(words: Words, *, items: int) -> list[Row]:
    """One response to each prompt; both lengths lognormal (median 90 tokens, sigma 0.7), cut to 20 to 400."""
    lengths = np.clip(np.exp(words.rng.normal(np.log(90), 0.7, (items, 2))), 20, 400).astype(int)
    return [{"prompt": [{"role": "user", "content": words.text(int(p))}], "responses": [words.text(int(r))]} for p, r in lengths]


def lengths_of(rows: list[Row], count: Count) -> Row:
    """Tokens of whole rendered sequences, for fixture.json."""
    sequences = [count(answer(row["prompt"], text)) for row in rows for text in row.get("responses") or (row["chosen"], row["rejected"])]
    return {"rows": len(rows), "sequences": len(sequences), "mean_tokens": float(np.mean(sequences)), "max_tokens": int(max(sequences))}


def build(folder: Path, shared: Path, *, hh_steps: int, tulu_prompts: int, score_prompts: int, single_items: int) -> Row:
    hh = list(rows_of(shared / "hh_harmless_test.jsonl.gz"))
    tulu = list(rows_of(shared / "tulu_bon16.jsonl.gz"))
    texts = [text for row in hh for text in (*(m["content"] for m in row["prompt"]), row["chosen"], row["rejected"])]
    tokenizer = build_tokenizer(texts)

    def count(messages: list[Row]) -> int:
        return len(tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"])

    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(tokenizer)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")

    words = Words(" ".join(texts).split(), tokenizer, np.random.default_rng(SEED))
    empty = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False, add_generation_prompt=True)
    overhead = len(tokenizer(empty, add_special_tokens=False)["input_ids"])
    files = {
        "hh": hh_pairs(hh, count, hh_steps * PAIRS_PER_STEP),
        "tulu": tulu_pairs(iter(tulu), count, tulu_prompts),
        "shared": shared_prompts(words, overhead, prompts=score_prompts, responses=16),
        "single": single_responses(words, items=single_items),
    }
    for name, rows in files.items():
        write(folder / f"{name}.jsonl", rows)
    facts = {
        "seed": SEED,
        "model": {**MODEL, "vocab_size": len(tokenizer), "parameters": sum(p.numel() for p in model.parameters())},
        "max_train": MAX_TRAIN,
        "max_score": MAX_SCORE,
        **{name: lengths_of(rows, count) for name, rows in files.items()},
    }
    (folder / "fixture.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared")
    parser.add_argument("--hh-steps", type=int, default=14)
    parser.add_argument("--tulu-prompts", type=int, default=2)
    parser.add_argument("--score-prompts", type=int, default=6)
    parser.add_argument("--single-items", type=int, default=160)
    given = vars(parser.parse_args())
    print(json.dumps(build(given.pop("folder"), shared_data(given.pop("shared")), **given)))


if __name__ == "__main__":
    main()
