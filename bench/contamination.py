"""What the sketch of training prompts finds: copies with a share of their words replaced, copies inside longer prompts, and fresh prompts.

    python bench/contamination.py [--shared ../shared/data] [--out bench-out]

Training prompts: UltraFeedback (1,195), kept whole, at 1/4 and at 1/16 of the windows. Asked about: the same prompts with 0 to 20 % of
their words replaced by words of other prompts, the same prompts when training had them between 120 other words, and the prompts of files
that share none of its sources. Printed: the share that is marked, with a 95 % interval over prompts, for three rules: half of the windows
(the one used), 70 % (PaLM) and any window. Writes bench-out/contamination.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from preferent.audits.contamination import contamination
from preferent.core.estimates import clustered_mean
from preferent.core.ngrams import Sketch, sketch_prompts
from preferent.core.records import Message, Prompt, user

REPLACED = (0.0, 0.02, 0.05, 0.1, 0.2)
FRESH = ("arena_bench_v1", "tulu_bon16", "hh_harmless_test", "gsm8k_model_solutions")


def prompts(path: Path) -> list[Prompt]:
    """The distinct prompts of a file of the common shape."""
    found: list[Prompt] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            value = json.loads(line)["prompt"]
            turns = user(value) if isinstance(value, str) else tuple(Message(role=m["role"], content=m["content"]) for m in value)
            found.append(turns)
    return list(dict.fromkeys(found))


def text(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt)


def replaced(source: str, share: float, vocabulary: np.ndarray, rng: np.random.Generator) -> Prompt:
    """The text with this share of its words replaced, at random places."""
    words = source.split()
    picked = rng.random(len(words)) < share
    return user(" ".join(str(rng.choice(vocabulary)) if out else word for word, out in zip(words, picked, strict=True)))


def row(name: str, asked: list[Prompt], sketch: Sketch, rng: np.random.Generator) -> dict[str, Any]:
    found = contamination(asked, sketch)
    overlap = np.nan_to_num(found.overlap_N, nan=0.0)
    whole = found.mask_N & (overlap < 0.5)
    marks = {"half": found.mask_N, "70 %": whole | (overlap >= 0.7), "any": whole | (overlap > 0)}
    rules = {rule: clustered_mean(mark_N.astype(float), np.arange(len(asked)), rng=rng) for rule, mark_N in marks.items()}
    print(f"  {name:34}" + "".join(f"{rule:>6} {estimate!s:24}" for rule, estimate in rules.items()) + f"blind {found.n_blind}", flush=True)
    return {"asked": name, "n": len(asked), "blind": found.n_blind} | {rule: estimate.to_dict() for rule, estimate in rules.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    trained = prompts(args.shared / "ultrafeedback_1200.jsonl.gz")
    fresh = {name: prompts(args.shared / f"{name}.jsonl.gz") for name in FRESH}
    vocabulary = np.array(sorted({word for prompt in trained for word in text(prompt).split()}))

    def between(prompt: Prompt) -> Prompt:
        return user(f"{' '.join(rng.choice(vocabulary, 60))} {text(prompt)} {' '.join(rng.choice(vocabulary, 60))}")

    rows: list[dict[str, Any]] = []
    started = time.process_time()
    full = sketch_prompts(trained)
    print(f"sketch of {full.n_prompts:,} prompts, {full.n_windows:,} windows: {time.process_time() - started:.2f} s of CPU")
    for share in (1.0, 1 / 4, 1 / 16):
        sketch = full if share == 1 else sketch_prompts(trained, max_hashes=max(1, int(full.n_windows * share) + 2000))
        print(f"windows kept: {sketch.window_share:.1%}")
        for part in REPLACED:
            asked = [replaced(text(prompt), part, vocabulary, rng) for prompt in trained]
            rows.append({"kept": sketch.window_share} | row(f"copies, {part:.0%} of words replaced", asked, sketch, rng))
        around = sketch_prompts(map(between, trained), max_hashes=max(1, int(2.2 * full.n_windows * share) + 2000))
        rows.append({"kept": around.window_share} | row("trained on between 120 other words", trained, around, rng))
        for name, asked in fresh.items():
            rows.append({"kept": sketch.window_share} | row(f"fresh: {name}", asked, sketch, rng))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "contamination.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
