"""`StepRewardModel`: a process reward model. Every step of a solution gets a probability of being right, in one forward pass.

The whole solution is one sequence, read at the last token of each step. On a decoder that token has seen the problem and the steps up to
its own, so solutions can be scored while they are written, and the score of a step does not change when more follow. An encoder has seen
the whole solution: its scores are judgments in hindsight, good for labelling and choosing among finished solutions, and those of an
unfinished one are of something that it has not been trained on; `sees_later_steps` says which kind a model is.

Legend: n solutions, T steps of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit

from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Exchange, Floats, Prompt, Scores
from preferent.core.step_rewards import Aggregation
from preferent.models.backbones import input_limit, load_backbone, load_pretrained
from preferent.models.checkpoint import Card, read_card
from preferent.models.packing import PackedBatch, pack, shared_length
from preferent.models.render import RenderSpec, Tokens
from preferent.models.reward_model import RewardModel
from preferent.models.steps_module import StepModule, reads_backwards_only
from preferent.models.steps_render import StepTokens, Window, check_separator, default_separator, tokenize_steps
from preferent.models.steps_spec import CARD, Split, StepsSpec, split_steps

# Above this many, finding the solution that shares most with the others costs more than it saves.
MOST_COMPARED = 32


class Solution(NamedTuple):
    """A prompt and the steps of one answer to it."""

    prompt: Prompt
    steps: tuple[str, ...]


class _Piece(NamedTuple):
    """A window as something to pack: whose prompt it is bundled by, which solution it belongs to, whether it is the last of it."""

    prompt: Prompt
    solution: int
    window: Window
    ends: bool


class StepRewardModel(RewardModel):
    """A scorer of solutions in steps; the score of a step never depends on what its solution is scored with.

    A response to be scored is split into steps by the rule of the checkpoint; `score_steps` takes steps as they are given.
    """

    @classmethod
    def create(
        cls,
        base: str,
        *,
        max_length: int | None = None,
        texts: Iterable[str] | None = None,
        seed: int = 0,
        trust_remote_code: bool = False,
        separator: str | None = None,
        split: Split = "auto",
    ) -> StepRewardModel:
        """A fresh step model on `base`: an alias (`minilm`, `tiny`), a folder, or a hub id.

        separator: the text that ends every step; None: a blank line, or the mask token where the tokenizer drops line breaks. Raises
        ModelError, ConfigError.
        """
        backbone = load_backbone(base, texts=texts, seed=seed, trust_remote_code=trust_remote_code, kind="step")
        length = input_limit(base, backbone.longest, max_length)
        backbone.tokenizer.model_max_length = length
        if separator is None:
            separator = default_separator(backbone.tokenizer)
        check_separator(backbone.tokenizer, separator)
        steps = StepsSpec(separator=separator, split=split, sees_later_steps=not reads_backwards_only(backbone.model))
        card = Card(version=version("preferent"), base=base, render=RenderSpec(max_length=length), objectives=("steps",), steps=steps)
        return cls(StepModule(backbone.model), backbone.tokenizer, card, name=base)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        trust_remote_code: bool = False,
        reduction: str = "mean",
    ) -> StepRewardModel:
        """A step model's checkpoint folder. Raises ModelError for anything else: how steps were marked in training cannot be guessed; and
        ConfigError for a reduction other than "mean", since a step model has one member."""
        if reduction != "mean":
            raise ConfigError(f"reduction {reduction!r}: a step model has one member, allowed: 'mean'")
        card = read_card(Path(path))
        if card is None or card.steps is None:
            raise ModelError(
                f"{str(path)!r} is no step model of preferent: its {CARD} {'is missing' if card is None else 'has no entry `steps`'}",
                hint="`preferent train` on a file of step labels makes one",
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
        model, tokenizer = load_pretrained(path, trust_remote_code=trust_remote_code, dtype=dtype, kind="step")
        if model.config.num_labels != 1:
            raise ModelError(f"{str(path)!r} has {model.config.num_labels} outputs per token; a step model has one")
        loaded = cls(StepModule(model), tokenizer, card, name=Path(path).name or str(path))
        loaded.module.to(device).eval()
        return loaded

    @property
    def steps(self) -> StepsSpec:
        """How steps are marked, split and made one reward."""
        assert self.card.steps is not None
        return self.card.steps

    @property
    def sees_later_steps(self) -> bool:
        """Whether the score of a step depends on the steps after it."""
        return self.steps.sees_later_steps

    def settle(self, *, aggregation: Aggregation | None = None, threshold: float | None = None) -> None:
        """Keep an aggregation, or a threshold, in the card from now on; what is None stays as it was."""
        now = self.steps
        update = {
            "aggregation": now.aggregation if aggregation is None else aggregation,
            "threshold": now.threshold if threshold is None else threshold,
        }
        self.card = self.card.model_copy(update={"steps": now.model_copy(update=update)})

    def split(self, exchange: Exchange) -> Solution:
        """The steps of a response, by the rule of the checkpoint."""
        return Solution(exchange.prompt, split_steps(exchange.response, self.steps.split))

    def tokenize_solutions(self, solutions: Sequence[Solution]) -> list[StepTokens]:
        """Token ids and step ends: the one function of every path."""
        return tokenize_steps(self.tokenizer, solutions, self.card.render, self.steps.separator)

    def score(
        self,
        exchanges: Sequence[Exchange],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Scores:
        """Probabilities of the steps of each response and, by the aggregation of the checkpoint, its reward, in [0, 1], shape (n,).

        Raises ModelError where no aggregation has been chosen.
        """
        if self.steps.aggregation is None:
            raise ModelError(
                f"{self.name}: no aggregation of step scores has been chosen, so a solution has no reward",
                hint="train with held-out solutions, right ones and wrong ones; or model.settle(aggregation=Aggregation('minimum'))",
            )
        steps = self.score_steps([self.split(exchange) for exchange in exchanges], batch_tokens=batch_tokens, progress=progress)
        return Scores(reward=self.steps.aggregation(steps), steps=steps)

    def score_steps(
        self,
        solutions: Sequence[Solution],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Floats, ...]:
        """The probability that each step is right, one array of shape (T,) per solution. Solutions to one problem share its computation."""
        logits = self.step_logits(solutions, batch_tokens=batch_tokens, progress=progress)
        return tuple(np.asarray(expit(logit_T / self.temperature), dtype=np.float64) for logit_T in logits)

    def step_logits(
        self,
        solutions: Sequence[Solution],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Floats]:
        """Raw numbers at the step ends, before the temperature, one array of shape (T,) per solution. Raises ModelError for a solution
        without steps."""
        if not all(solution.steps for solution in solutions):
            raise ModelError("a solution needs at least one step", hint="leave out solutions without steps")
        found = [np.full(len(solution.steps), np.nan) for solution in solutions]
        budget = batch_tokens or (32_768 if self.device.type == "cuda" else 4_096)
        tokens = self.tokenize_solutions(solutions)
        pieces = [
            _Piece(solutions[n].prompt, n, window, window is item.windows[-1]) for n, item in enumerate(tokens) for window in item.windows
        ]
        # What the batching looks at: prompts, and the ids of each row.
        rows = [Exchange(prompt=piece.prompt, response="") for piece in pieces]
        was_training = self.module.training
        self.module.eval()
        try:
            self._settle_path()
            with torch.inference_mode():
                for bundles in self._batches(rows, [Tokens(piece.window.ids) for piece in pieces], [], budget):
                    self._score_batch([[pieces[row] for row in bundle] for bundle in bundles], found)
                    if progress is not None:
                        progress(sum(pieces[row].ends for bundle in bundles for row in bundle))
        finally:
            self.module.train(was_training)
        return found

    def _score_batch(self, bundles: list[list[_Piece]], found: list[Floats]) -> None:
        bundles = [[bundle[row] for row in hub_first([piece.window.ids for piece in bundle])] for bundle in bundles]
        flat = [piece for bundle in bundles for piece in bundle]
        batch = self.pack_steps([[piece.window.ids for piece in bundle] for bundle in bundles], [piece.window.reads for piece in flat])
        logit_N = self.module(batch.to(self.device))[:, 0].double().cpu().numpy()
        start = 0
        for piece in flat:
            end = start + len(piece.window.steps)
            found[piece.solution][list(piece.window.steps)] = logit_N[start:end]
            start = end

    def pack_steps(self, bundles: Sequence[Sequence[Sequence[int]]], reads: Sequence[Sequence[int]]) -> PackedBatch:
        """A packed batch that is read at these offsets of each sequence, in the order of the bundles."""
        module = self.module
        return pack(bundles, causal=module.causal, share=module.share, position_offset=module.position_offset, reads=reads)


def hub_first(sequences: Sequence[Sequence[int]]) -> list[int]:
    """An order of the sequences of a bundle: first the one that has most in common with the others, since they share with the first."""
    n = len(sequences)
    if n < 3 or n > MOST_COMPARED:
        return list(range(n))
    common = np.zeros(n)
    for i in range(n):
        for j in range(i + 1, n):
            length = shared_length([sequences[i], sequences[j]])
            common[i] += length
            common[j] += length
    hub = int(common.argmax())
    return [hub, *(i for i in range(n) if i != hub)]
