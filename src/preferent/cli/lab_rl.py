"""The trainer of the RL experiment: TRL's GRPO, on the small policy of `lab_rl_writer`, paid by any scorer through `optimize/trl.py`."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from preferent.cli.lab_rl_writer import new_writer, sample, save, teach, word_tokenizer
from preferent.core.errors import MissingExtraError
from preferent.core.records import Exchange, Prompt
from preferent.core.scorer import Scorer
from preferent.lab.experiments.rl import Plan, ReinforcementLearning, Snapshot

SAMPLED_AT_ONCE = 256
TEACH_BATCH = 32


def teach_writer(exchanges: Sequence[Exchange], seed: int, settings: ReinforcementLearning) -> GrpoWriter:
    """A policy of the settings' size, taught these replies. Raises MissingExtraError without TRL, before anything is computed."""
    try:
        import trl  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name != "trl":
            raise
        raise MissingExtraError("trl", "rl") from error
    import torch

    torch.set_num_threads(1)
    texts = [exchange.prompt[-1].content for exchange in exchanges] + [exchange.response for exchange in exchanges]
    tokenizer = word_tokenizer(texts)
    model = new_writer(tokenizer, width=settings.width, layers=settings.layers, seed=seed)
    losses = teach(model, tokenizer, exchanges, batch=TEACH_BATCH, rate=settings.teach_rate)
    return GrpoWriter(model, tokenizer, max_tokens=settings.max_tokens, losses=losses)


class GrpoWriter:
    """See `lab.experiments.rl.Writer`. losses: of its teaching, nats per token, batch by batch."""

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int, losses: Sequence[float] = ()) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_tokens = max_tokens
        self.losses = tuple(losses)

    def sample(self, prompts: Sequence[Prompt], seed: int) -> list[Exchange]:
        """One reply to each prompt; repeat a prompt for several."""
        import torch

        torch.manual_seed(seed)
        replies: list[Exchange] = []
        for start in range(0, len(prompts), SAMPLED_AT_ONCE):
            part = prompts[start : start + SAMPLED_AT_ONCE]
            replies += sample(self.model, None, self.tokenizer, part, max_tokens=self.max_tokens).exchanges
        return replies

    def improve(self, reward: Scorer, prompts: Sequence[Prompt], watched: Sequence[Prompt], plan: Plan) -> list[Snapshot]:
        """GRPO from this policy. Advantages are rewards less their group's mean, not divided by the group's standard deviation: that
        would undo a bounded reward. A penalty is TRL's own, against a copy of this policy."""
        import datasets
        from transformers import PrinterCallback
        from trl import GRPOTrainer  # pyright: ignore[reportMissingImports]

        from preferent.optimize.trl import TrlReward

        shots: list[Snapshot] = []
        with tempfile.TemporaryDirectory(prefix="preferent-rl-") as folder, _quiet():
            save(self.model, self.tokenizer, Path(folder) / "start")
            rows = datasets.Dataset.from_dict({"prompt": [[message.model_dump() for message in prompt] for prompt in prompts]})
            trainer = GRPOTrainer(
                str(Path(folder) / "start"),
                reward_funcs=TrlReward(reward),
                args=_config(plan, self.max_tokens, Path(folder) / "run"),
                train_dataset=rows,
                processing_class=self.tokenizer,
            )
            trainer.remove_callback(PrinterCallback)  # standard output is for results
            trainer.add_callback(self._watcher(trainer, watched, plan, shots))
            trainer.train()
        return shots

    def _watcher(self, trainer: Any, watched: Sequence[Prompt], plan: Plan, shots: list[Snapshot]) -> Any:
        """A callback that takes a reading before the first step, after every `plan.every` steps and after the last."""
        import torch
        from transformers import TrainerCallback

        def read(step: int) -> None:
            model = trainer.model
            model.eval()
            # Readings have a generator of their own: how often one looks must not change the run.
            with torch.random.fork_rng():
                torch.manual_seed(1_000_003 * plan.seed + step)
                drawn = sample(model, self.model, self.tokenizer, watched, max_tokens=self.max_tokens)
            model.train()
            shots.append(Snapshot(step, drawn.exchanges, drawn.log_ratio_N))

        class Watcher(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                read(0)

            def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                if state.global_step % plan.every == 0 or state.global_step == plan.steps:
                    read(state.global_step)

        return Watcher()


def _config(plan: Plan, max_tokens: int, folder: Path) -> Any:
    from trl import GRPOConfig  # pyright: ignore[reportMissingImports]

    return GRPOConfig(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.prompts * plan.replies,
        num_generations=plan.replies,
        max_completion_length=max_tokens,
        learning_rate=plan.rate,
        lr_scheduler_type="constant",
        beta=plan.penalty,
        loss_type="dr_grpo",  # a constant length in the denominator: long replies are not favoured
        scale_rewards="none",
        temperature=1.0,
        top_k=0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        seed=plan.seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """TRL and its kin speak of their own affairs; the experiment says what matters."""
    from transformers.utils import logging as transformers_logging

    before, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    trl_log = logging.getLogger("trl")
    level = trl_log.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    trl_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(before)
        trl_log.setLevel(level)
        if bar:
            transformers_logging.enable_progress_bar()
