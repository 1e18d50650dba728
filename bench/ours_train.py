"""preferent's trainer on the rows of the fixture: `python bench/ours_train.py FIXTURE --data hh|tulu --pairs-per-step 8`.

The same mathematics as peers/trl_train.py: learning rate 1e-4 constant, AdamW with torch's betas, no weight decay, gradient norm
clipped at 1, no dropout, fp32, rows in file order. The result line is described in meter.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from fixtures import MAX_TRAIN, MODEL
from matmul import Work, tree_size
from meter import Clock, one_thread, report, resident_mib, rows_of


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("fixture", type=Path)
    parser.add_argument("--data", choices=("hh", "tulu"), required=True)
    parser.add_argument("--pairs-per-step", type=int, default=8)
    parser.add_argument("--micro-tokens", type=int, help="tokens in one forward pass; without it, the trainer's default")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before the clock starts")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def settings(given: argparse.Namespace) -> Any:
    from preferent.training.config import Constant, Pairs, TrainConfig

    chosen: dict[str, Any] = {} if given.micro_tokens is None else {"micro_tokens": given.micro_tokens}
    return TrainConfig(
        base=str(given.fixture / "model"),
        max_length=MAX_TRAIN,
        max_steps=given.steps,
        batch=Pairs(pairs=given.pairs_per_step),
        learning_rate=1e-4,
        schedule=Constant(),
        weight_decay=0.0,
        clip=1.0,
        order="given",
        precision="fp32",
        gradient_checkpointing=given.checkpointing,
        threads=given.threads,
        **chosen,
    )


def recorder() -> Any:
    """An observer that keeps the clock and the row of each step."""
    from preferent.training.observer import Observer

    class Recorder(Observer):
        def __init__(self) -> None:
            self.moments: list[Clock] = []
            self.rows: list[Mapping[str, Any]] = []
            self.start_rss = 0.0

        def started(self, *, total_steps: int, done_steps: int) -> None:
            self.start_rss = resident_mib()
            self.moments.append(Clock.now())

        def noted(self, text: str) -> None:
            print(text, file=sys.stderr)

        def stepped(self, row: Mapping[str, Any]) -> None:
            self.moments.append(Clock.now())
            self.rows.append(row)

    return Recorder()


def computed(fixture: Path, data: str, *, skip: int, pairs: int) -> tuple[int, int, int, int]:
    """(tokens, visible pairs, sequences, their lengths together) of `pairs` pairs behind the first `skip`: each prompt's common beginning
    once, each distinct rest once."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(fixture / "model")
    sequences: dict[str, set[tuple[int, ...]]] = {}
    for row in rows_of(fixture / f"{data}.jsonl")[skip : skip + pairs]:
        for side in ("chosen", "rejected"):
            text = tokenizer.apply_chat_template([*row["prompt"], {"role": "assistant", "content": row[side]}], tokenize=False)
            ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
            sequences.setdefault(json.dumps(row["prompt"]), set()).add(ids)
    sizes = []
    whole = [len(ids) for group in sequences.values() for ids in group]
    for group in sequences.values():
        first, last = min(group), max(group)  # in the order of lists, what these two share is shared by all
        common = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
        sizes.append(tree_size(common, [len(ids) - common for ids in group]))
    return sum(tokens for tokens, _ in sizes), sum(visible for _, visible in sizes), len(whole), sum(whole)


def main() -> None:
    given = options()
    one_thread(given.threads)
    from preferent.core.records import Message, Preference
    from preferent.training.run import train

    records = [
        Preference(
            prompt=tuple(Message(**turn) for turn in row["prompt"]),
            response_a=row["chosen"],
            response_b=row["rejected"],
            p_a=1.0,
            id=row["id"],
        )
        for row in rows_of(given.fixture / f"{given.data}.jsonl")
    ]
    keep = recorder()
    with tempfile.TemporaryDirectory() as output:
        train(records, [], settings(given), Path(output) / "run", observer=keep)
    if len(keep.rows) <= given.warm_up:
        raise SystemExit(f"{len(keep.rows)} steps were run, {given.warm_up} are the warm-up: nothing is left to measure")
    spent = keep.moments[-1] - keep.moments[given.warm_up]
    skipped, pairs = (sum(row["pairs"] for row in rows) for rows in (keep.rows[: given.warm_up], keep.rows))
    tokens, visible, read, visible_read = computed(given.fixture, given.data, skip=skipped, pairs=pairs - skipped)
    stated = sum(row["tokens"] for row in keep.rows[given.warm_up :])
    if tokens != stated:
        raise SystemExit(f"{tokens} tokens were expected, the trainer says {stated}: the share of the machine's rate would be wrong")
    work = Work.of(MODEL)
    # The last layer is finished only where rewards are read, unless it is run again in the backward pass.
    skipped_work = 0.0 if given.checkpointing else work.unread(tokens, visible, read, visible_read)
    report(
        "accelerate",
        task=f"train-{given.data}",
        contestant="preferent",
        config={k: v for k, v in vars(given).items() if k not in ("fixture", "data")},
        pairs=pairs,
        pairs_measured=pairs - skipped,
        tokens_computed=tokens,
        work_gflop=(work.training(tokens, visible) - skipped_work) / 1e9,
        cpu_seconds=spent.cpu,
        wall_seconds=spent.wall,
        losses=[row["loss"] for row in keep.rows],
        start_rss_mib=round(keep.start_rss, 1),
    )


if __name__ == "__main__":
    main()
