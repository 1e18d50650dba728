"""`RewardModel`: the torch `Scorer`. Weights, tokenizer, render spec and calibration, saved and loaded as one folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Exchange, Floats, Prompt, Scores
from preferent.models.agreement import settle_path
from preferent.models.backbones import ensure_pad, load_backbone, load_pretrained, longest_input
from preferent.models.checkpoint import Card, read_card, read_heads, write_checkpoint
from preferent.models.module import RewardModule
from preferent.models.objectives import Heads, HeadsSpec
from preferent.models.packing import PackedBatch, pack, packed_length
from preferent.models.render import RenderSpec, Tokens, prepare_template, tokenize, tokenize_prompts

DEFAULT_MAX_LENGTH = 1024
PROMPTS_AT_ONCE = 8
log = logging.getLogger(__name__)


class RewardModel:
    """Scores exchanges; the reward of one never depends on what it is scored with."""

    def __init__(self, module: RewardModule, tokenizer: Any, card: Card, *, name: str) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.card = card
        self.name = name
        self._path_settled = False

    @classmethod
    def create(
        cls,
        base: str,
        *,
        max_length: int | None = None,
        texts: Iterable[str] | None = None,
        seed: int = 0,
        trust_remote_code: bool = False,
    ) -> RewardModel:
        """A fresh reward model on `base`: an alias (`minilm`, `tiny`), a folder, or a hub id.

        `max_length` in tokens; None takes 1024 or what the base has positions for, if less. Raises ModelError, ConfigError.
        """
        backbone = load_backbone(base, texts=texts, seed=seed, trust_remote_code=trust_remote_code)
        limit = backbone.longest
        if max_length is not None and limit is not None and max_length > limit:
            raise ConfigError(
                f"max_length {max_length} is more than the {limit} positions of {base!r}", hint=f"set max_length to {limit} or less"
            )
        length = max_length or min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)
        backbone.tokenizer.model_max_length = length
        card = Card(version=version("preferent"), base=base, render=RenderSpec(max_length=length))
        return cls(RewardModule(backbone.model), backbone.tokenizer, card, name=base)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        trust_remote_code: bool = False,
    ) -> RewardModel:
        """A checkpoint of ours, or anyone's sequence classifier with one output (folder or hub id).

        Default device: CUDA where there is one; default dtype: bf16 there, fp32 on a CPU. Raises ModelError.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
        model, tokenizer = load_pretrained(path, trust_remote_code=trust_remote_code, dtype=dtype)
        if model.config.num_labels != 1:
            raise ModelError(
                f"{str(path)!r} has {model.config.num_labels} outputs; a reward model has one",
                hint="if it was trained with one, its config lacks a one-entry id2label",
            )
        card = read_card(Path(path))
        if card is None:
            card = _foreign_card(str(path), model, tokenizer)
        loaded = cls(RewardModule(model), tokenizer, card, name=Path(path).name or str(path))
        if card.heads is not None:
            loaded.add_heads(card.heads, tensors=read_heads(Path(path)))
        loaded.module.to(device).eval()
        return loaded

    def add_heads(self, spec: HeadsSpec, *, seed: int = 0, shape: bool = True, tensors: dict[str, torch.Tensor] | None = None) -> Heads:
        """Give the model one head per objective, fresh ones drawn from `seed` or those saved as `tensors`. Raises ModelError when these do
        not fit."""
        heads = Heads(spec, self.module.width, seed=seed, shape=shape)
        if tensors is not None:
            try:
                heads.load_state_dict(tensors)
            except RuntimeError as error:
                raise ModelError(f"{self.name}: the saved heads do not fit the card: {str(error).splitlines()[-1].strip()}") from error
        self.module.attach(heads.to(self.device))
        self.card = self.card.model_copy(update={"heads": spec, "objectives": spec.names})
        return heads

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def temperature(self) -> float:
        """1 when the model has not been calibrated."""
        return 1.0 if self.card.calibration is None else self.card.calibration.temperature

    def tokenize(self, exchanges: Sequence[Exchange]) -> list[Tokens]:
        """Render and tokenise: the one function of every path."""
        return tokenize(self.tokenizer, exchanges, self.card.render)

    def tokenize_prompts(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        """The prompts alone, for heads that look at them."""
        return tokenize_prompts(self.tokenizer, prompts, self.card.render)

    def score(
        self,
        exchanges: Sequence[Exchange],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Scores:
        """Raw rewards in the order given, shape (n,), and every objective in the units of its ratings. Responses to one prompt share its
        computation.

        `batch_tokens` bounds the tokens of one forward pass; `progress` is called with the number of exchanges just scored.
        """
        spec = self.card.heads
        value_NC = np.full((len(exchanges), 1 if spec is None else len(spec.objectives) + 1), np.nan)
        tokens = self.tokenize(exchanges)
        alone = self._alone(exchanges)
        budget = batch_tokens or (32_768 if self.device.type == "cuda" else 4_096)
        was_training = self.module.training
        self.module.eval()
        try:
            self._settle_path()
            with torch.inference_mode():
                for rows in self._batches(exchanges, tokens, alone, budget):
                    flat = [row for bundle in rows for row in bundle]
                    prompts = [alone[bundle[0]] for bundle in rows] if alone else None
                    batch = self.pack([[tokens[row].ids for row in bundle] for bundle in rows], prompts)
                    value_NC[flat] = self.module(batch.to(self.device)).double().cpu().numpy()
                    if progress is not None:
                        progress(len(flat))
        finally:
            self.module.train(was_training)
        names = () if spec is None else spec.objectives
        return Scores(
            reward=value_NC[:, -1].copy(),
            objectives={item.name: value_NC[:, k] * item.sd + item.mean for k, item in enumerate(names)},
        )

    def _alone(self, exchanges: Sequence[Exchange]) -> list[tuple[int, ...]]:
        """The prompt of each exchange alone, where the heads look at it; empty otherwise."""
        if not self.module.needs_prompts:
            return []
        place: dict[Prompt, int] = {}
        for exchange in exchanges:
            place.setdefault(exchange.prompt, len(place))
        found = self.tokenize_prompts(list(place))
        return [found[place[exchange.prompt]] for exchange in exchanges]

    def gate_weights(self, prompts: Sequence[Sequence[int]]) -> Floats:
        """How the heads weigh their objectives for prompts that were tokenised alone, shape (n, K). Raises ModelError without a gate."""
        heads = self.module.heads
        if not isinstance(heads, Heads) or heads.gate is None:
            raise ModelError(f"{self.name} has no gate: its weights are the same for every prompt")
        found: list[torch.Tensor] = []
        hook = heads.gate.register_forward_hook(lambda _, __, logits: found.append(torch.softmax(logits, dim=-1)))
        try:
            with torch.inference_mode():
                for start in range(0, len(prompts), PROMPTS_AT_ONCE):
                    part = prompts[start : start + PROMPTS_AT_ONCE]
                    self.module(self.pack([[ids] for ids in part], part).to(self.device))
        finally:
            hook.remove()
        return torch.cat(found).double().cpu().numpy()

    def _settle_path(self) -> None:
        """Once per model: packed rows where they agree with padded batches, padded batches otherwise."""
        if self._path_settled:
            return
        reason = settle_path(self.module)
        self._path_settled = True
        if reason is not None:
            log.warning("%s: scored in padded batches, which is slower: %s", self.name, reason)

    def pack(self, bundles: Sequence[Sequence[Sequence[int]]], prompts: Sequence[Sequence[int]] | None = None) -> PackedBatch:
        """A packed batch as this model takes it. `prompts`: of each bundle, the prompt alone, where the heads look at it."""
        module = self.module
        if prompts is not None:
            bundles = [[prompt, *bundle] for prompt, bundle in zip(prompts, bundles, strict=True)]
        return pack(
            bundles,
            causal=module.causal,
            share=module.share,
            position_offset=module.position_offset,
            prompts=prompts is not None,
        )

    def _batches(
        self, exchanges: Sequence[Exchange], tokens: Sequence[Tokens], alone: Sequence[tuple[int, ...]], budget: int
    ) -> list[list[list[int]]]:
        """Row numbers, bundled by prompt, in batches of at most `budget` tokens (one sequence may exceed it alone)."""
        by_prompt: dict[Any, list[int]] = {}
        for row, exchange in enumerate(exchanges):
            by_prompt.setdefault(exchange.prompt if self.module.share or alone else row, []).append(row)

        def cost_of(rows: Sequence[int]) -> int:
            first = [alone[rows[0]]] if alone else []
            return packed_length([*first, *(tokens[row].ids for row in rows)], share=self.module.share)

        bundles = [part for rows in by_prompt.values() for part in _halved(rows, cost_of, budget)]
        # Padded batches want like lengths together; packed rows do not care.
        bundles.sort(key=lambda rows: max(len(tokens[row].ids) for row in rows))
        batches: list[list[list[int]]] = []
        size = budget + 1
        for rows in bundles:
            cost = cost_of(rows)
            if size + cost > budget:
                batches.append([])
                size = 0
            batches[-1].append(rows)
            size += cost
        return batches

    def save(self, folder: str | Path, card: Card | None = None) -> None:
        """Write the checkpoint; the folder then loads here, in transformers, and in servers for sequence classifiers."""
        if card is not None:
            self.card = card
        heads = self.module.heads
        if not isinstance(heads, Heads):
            write_checkpoint(Path(folder), self.module.model, self.tokenizer, self.card)
            return
        self.module.fold(heads.scalar_weight())
        write_checkpoint(Path(folder), self.module.model, self.tokenizer, self.card, heads=heads.kept())


def _halved(rows: list[int], cost_of: Callable[[Sequence[int]], int], budget: int) -> list[list[int]]:
    """One prompt's rows, halved until each part fits the budget."""
    if cost_of(rows) <= budget or len(rows) == 1:
        return [rows]
    middle = len(rows) // 2
    return _halved(rows[:middle], cost_of, budget) + _halved(rows[middle:], cost_of, budget)


def _foreign_card(name: str, model: Any, tokenizer: Any) -> Card:
    """A card for somebody else's model: its own template, the longest input it states."""
    ensure_pad(model, tokenizer)
    prepare_template(tokenizer)
    limits = [limit for limit in (longest_input(model, tokenizer), tokenizer.model_max_length) if limit and limit < 1_000_000]
    return Card(version=version("preferent"), base=name, render=RenderSpec(max_length=min(limits, default=4096)))
