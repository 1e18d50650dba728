"""`RewardModel`: the torch `Scorer`. Weights, tokenizer, render spec and calibration, saved and loaded as one folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from preferent.core.errors import ModelError
from preferent.core.records import Exchange, Floats, Prompt, Scores
from preferent.models.agreement import settle_path
from preferent.models.backbones import ensure_pad, input_limit, load_backbone, load_pretrained, longest_input
from preferent.models.checkpoint import Card, read_card, read_heads, read_laplace, write_card, write_checkpoint
from preferent.models.ensemble_files import copy_ensemble, load_adapters, member_folders, weights_folder
from preferent.models.ensembles import MEAN, EnsembleSpec, MemberHeads, on_one_scale, parse_reduction
from preferent.models.laplace import Laplace, in_order, reading_features
from preferent.models.module import RewardModule
from preferent.models.objectives import Heads, HeadsSpec
from preferent.models.packing import PackedBatch, pack, packed_length
from preferent.models.readout import Readings, Readout, raw_members, refuse_reduction
from preferent.models.render import RenderSpec, Tokens, prepare_template, tokenize, tokenize_prompts

PROMPTS_AT_ONCE = 8
log = logging.getLogger(__name__)


class RewardModel:
    """Scores exchanges; the reward of one never depends on what it is scored with."""

    def __init__(self, module: RewardModule, tokenizer: Any, card: Card, *, name: str) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.card = card
        self.name = name
        self.reduction = MEAN
        self.laplace: Laplace | None = None
        # Of an ensemble of adapters: what switches between them. Of one of members: those beside this one. The folder they came from.
        self.adapters: PeftModel | None = None
        self.others: tuple[RewardModel, ...] = ()
        self.folder: Path | None = None
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
        length = input_limit(base, backbone.longest, max_length)
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
        reduction: str = "mean",
    ) -> RewardModel:
        """A checkpoint of ours, or anyone's sequence classifier with one output (folder or hub id).

        Default device: CUDA where there is one; default dtype: bf16 there, fp32 on a CPU. reduction: how the members of an ensemble
        become one reward: "mean", "worst", or the mean less a multiple of the variance, as in "mean-0.5var" (the last also with a
        Laplace head). Raises ModelError, ConfigError.
        """
        wanted = parse_reduction(reduction)
        _refuse_adapter(Path(path))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
        card = read_card(Path(path))
        ensemble = None if card is None else card.ensemble
        model, tokenizer = load_pretrained(weights_folder(path, ensemble), trust_remote_code=trust_remote_code, dtype=dtype)
        if model.config.num_labels != 1:
            raise ModelError(
                f"{str(path)!r} has {model.config.num_labels} outputs; a reward model has one",
                hint="if it was trained with one, its config lacks a one-entry id2label",
            )
        if card is not None and card.steps is not None:
            raise ModelError(f"{str(path)!r} is a step model", hint="StepRewardModel.load loads it")
        if card is None:
            card = _foreign_card(str(path), model, tokenizer)
        loaded = cls(RewardModule(model), tokenizer, card, name=Path(path).name or str(path))
        if card.heads is not None:
            loaded.add_heads(card.heads, tensors=read_heads(Path(path)))
        loaded._load_parts(Path(path), {"device": device, "dtype": dtype, "trust_remote_code": trust_remote_code})
        refuse_reduction(wanted, card, loaded.laplace, loaded.name)
        loaded.reduction = wanted
        loaded.module.to(device).eval()
        return loaded

    def _load_parts(self, path: Path, how: dict[str, Any]) -> None:
        """What a card names beside weights and objectives: the members of an ensemble, the covariance of the last layer."""
        spec = self.card.ensemble
        self.folder = path
        if spec is not None and spec.kind == "heads":
            self.add_members(spec, tensors=read_heads(path))
        elif spec is not None and spec.kind == "adapters":
            self.adapters = load_adapters(self.module, path, spec)
        elif spec is not None:
            self.others = tuple(type(self).load(folder, **how) for folder in member_folders(path, spec))
        if self.card.laplace is not None:
            self.laplace = read_laplace(path, self.card.laplace)

    def add_members(self, spec: EnsembleSpec, *, seed: int = 0, tensors: dict[str, torch.Tensor] | None = None) -> MemberHeads:
        """Give the model one head per member, fresh ones drawn from `seed` or those saved as `tensors`. Raises ModelError when these do
        not fit."""
        heads = MemberHeads(spec, self.module.width, seed=seed)
        if tensors is not None:
            try:
                heads.load_state_dict(tensors)
            except RuntimeError as error:
                raise ModelError(f"{self.name}: the saved heads do not fit the card: {str(error).splitlines()[-1].strip()}") from error
        self.module.attach(heads.to(self.device))
        self.card = self.card.model_copy(update={"ensemble": spec})
        return heads

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
        computation. Ensembles and models with a Laplace head state a standard deviation; `reduction` says what their reward is.

        `batch_tokens` bounds the tokens of one forward pass; `progress` is called with the number of exchanges just scored.
        """
        found = self.readings(exchanges, batch_tokens=batch_tokens, progress=progress, features=self.laplace is not None)
        return Readout(self.reduction, self.laplace).scores(self.card, found, exchanges)

    def member_rewards(self, exchanges: Sequence[Exchange], *, batch_tokens: int | None = None) -> Floats:
        """The rewards of every member of an ensemble on their common scale, shape (n, members): for the spread of a difference, or a rule
        of one's own. Raises ModelError for a model that is none."""
        if self.card.ensemble is None:
            raise ModelError(f"{self.name} is no ensemble")
        return on_one_scale(self.card.ensemble, raw_members(self.card, self.readings(exchanges, batch_tokens=batch_tokens)))

    def readings(
        self,
        exchanges: Sequence[Exchange],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
        features: bool = False,
    ) -> Readings:
        """What every network of this model says of the exchanges: one, or one for each adapter or member. `progress` follows the last."""
        if self.adapters is not None and self.card.ensemble is not None:
            values = []
            count = len(self.card.ensemble.members)
            for number in range(count):
                self.adapters.set_adapter(str(number))
                values.append(self._values(exchanges, batch_tokens, progress if number == count - 1 else None))
            return Readings(tuple(values))
        with reading_features(self.module) if features else nullcontext([]) as seen:
            first = self._values(exchanges, batch_tokens, None if self.others else progress, seen if features else None)
        last = len(self.others) - 1
        rest = [model._values(exchanges, batch_tokens, progress if k == last else None) for k, model in enumerate(self.others)]
        return Readings((first, *rest), seen[0].double().numpy() if features else None)

    def _values(
        self,
        exchanges: Sequence[Exchange],
        batch_tokens: int | None,
        progress: Callable[[int], None] | None,
        seen: list[torch.Tensor] | None = None,
    ) -> Floats:
        """The columns of this model's network, shape (n, C). The features that `seen` collects pass by pass are put in the same order."""
        value_NC = np.full((len(exchanges), self.module.columns), np.nan)
        order: list[int] = []
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
                    order.extend(flat)
                    if progress is not None:
                        progress(len(flat))
        finally:
            self.module.train(was_training)
        if seen is not None:
            seen[:] = [in_order(seen, order, self.module.width)]
        return value_NC

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
        if self.card.ensemble is not None and self.card.ensemble.kind != "heads" and self.folder is not None:
            # Its weights lie in many files, none of which has changed since it was loaded.
            copy_ensemble(self.folder, Path(folder))
            write_card(Path(folder), self.card, laplace=self.laplace)
            return
        heads = self.module.heads
        kept = None
        if isinstance(heads, Heads | MemberHeads):
            self.module.fold(heads.scalar_weight())
            kept = heads.kept()
        write_checkpoint(Path(folder), self.module.model, self.tokenizer, self.card, heads=kept, laplace=self.laplace)


def _halved(rows: list[int], cost_of: Callable[[Sequence[int]], int], budget: int) -> list[list[int]]:
    """One prompt's rows, halved until each part fits the budget."""
    if cost_of(rows) <= budget or len(rows) == 1:
        return [rows]
    middle = len(rows) // 2
    return _halved(rows[:middle], cost_of, budget) + _halved(rows[middle:], cost_of, budget)


def _refuse_adapter(path: Path) -> None:
    """ModelError for a folder that holds an adapter and no model."""
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ModelError(
            f"{str(path)!r} holds a LoRA adapter, not a whole reward model",
            hint="the folder that `preferent train` wrote it into holds the merged model; peft loads the adapter onto its base",
        )


def _foreign_card(name: str, model: Any, tokenizer: Any) -> Card:
    """A card for somebody else's model: its own template, the longest input it states."""
    ensure_pad(model, tokenizer)
    prepare_template(tokenizer)
    limits = [limit for limit in (longest_input(model.config), tokenizer.model_max_length) if limit and limit < 1_000_000]
    return Card(version=version("preferent"), base=name, render=RenderSpec(max_length=min(limits, default=4096)))
