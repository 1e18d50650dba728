"""TRL's RewardTrainer on the rows of the fixture: `python bench/peers/trl_train.py FIXTURE --data hh|tulu`.

Learning rate 1e-4 constant, AdamW with torch's betas, no weight decay, gradient norm clipped at 1, no dropout, fp32, rows in file order.
The options after `--data` are what was tried in the search for TRL's best configuration; the README here has the figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from fixtures import MODEL
from matmul import Work, causal
from meter import Clock, one_thread, report, resident_mib, rows_of

MAX_LENGTH = 512
LEARNING_RATE = 1e-4


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("fixture", type=Path)
    parser.add_argument("--data", choices=("hh", "tulu"), required=True)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, which is TRL's default")
    parser.add_argument("--batch", type=int, default=8, help="pairs in one forward pass")
    parser.add_argument("--accumulate", type=int, default=1, help="forward passes in a step")
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "eager", "flex_attention"))
    parser.add_argument("--optim", default="adamw_torch_fused")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=-1, help="stop after so many steps")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before the clock starts")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def settings(given: argparse.Namespace, output: str) -> Any:
    from trl.trainer.reward_config import RewardConfig

    return RewardConfig(
        output_dir=output,
        max_length=MAX_LENGTH,
        per_device_train_batch_size=given.batch,
        gradient_accumulation_steps=given.accumulate,
        num_train_epochs=1,
        max_steps=given.steps,
        train_sampling_strategy="sequential",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim=given.optim,
        gradient_checkpointing=given.checkpointing,
        torch_compile=given.compile,
        bf16=False,
        use_cpu=True,
        disable_dropout=True,
        dataloader_num_workers=given.workers,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )


def recorder(warm_up: int) -> Any:
    """A callback that keeps the clock at the end of each step and the losses as TRL logs them."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[Clock] = []
            self.losses: list[float] = []
            self.begin: Clock | None = None
            self.start_rss = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.start_rss = resident_mib()
            self.begin = Clock.now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(Clock.now())

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "loss" in logs:
                self.losses.append(logs["loss"])

        def measured(self) -> Clock:
            if self.begin is None or len(self.ends) <= warm_up:
                raise SystemExit(f"{len(self.ends)} steps were run, {warm_up} are the warm-up: nothing is left to measure")
            return self.ends[-1] - (self.ends[warm_up - 1] if warm_up else self.begin)

    return Recorder()


def main() -> None:
    given = options()
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    one_thread(given.threads)
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl.trainer.reward_trainer import RewardTrainer

    def turns(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    rows = [
        {"prompt": row["prompt"], "chosen": turns(row["chosen"]), "rejected": turns(row["rejected"])}
        for row in rows_of(given.fixture / f"{given.data}.jsonl")
    ]
    model = AutoModelForSequenceClassification.from_pretrained(given.fixture / "model", attn_implementation=given.attention)
    keep = recorder(given.warm_up)
    with tempfile.TemporaryDirectory() as output:
        trainer = RewardTrainer(
            model=model,
            args=settings(given, output),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(given.fixture / "model"),
            callbacks=[keep],
        )
        prepared: Any = trainer.train_dataset
        if len(prepared) != len(rows):  # TRL drops over-long pairs without a word
            raise SystemExit(f"TRL kept {len(prepared)} of {len(rows)} pairs: the fixture and its max_length disagree")
        shapes = [tuple(batch["input_ids"].shape) for batch in trainer.get_train_dataloader()]
        trainer.train()
    spent = keep.measured()
    per_step = given.batch * given.accumulate
    pairs = min(len(keep.ends) * per_step, len(rows))
    # The tensors of the measured steps, padding included: what TRL computes.
    done = shapes[given.warm_up * given.accumulate : len(keep.ends) * given.accumulate]
    tokens, visible = sum(rows * length for rows, length in done), sum(rows * causal(length) for rows, length in done)
    report(
        "trl",
        "accelerate",
        task=f"train-{given.data}",
        contestant="trl",
        config={k: v for k, v in vars(given).items() if k not in ("fixture", "data")},
        pairs=pairs,
        pairs_measured=pairs - given.warm_up * per_step,
        tokens_computed=tokens,
        work_gflop=Work.of(MODEL).training(tokens, visible) / 1e9,
        cpu_seconds=spent.cpu,
        wall_seconds=spent.wall,
        losses=keep.losses,
        start_rss_mib=round(keep.start_rss, 1),
    )


if __name__ == "__main__":
    main()
