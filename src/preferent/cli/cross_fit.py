"""Margins that no model gave to what it was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preferent.cli.output import Progress, talk
from preferent.core.records import Floats, Preference, Ranking
from preferent.core.scorer import Scorer


def margins(scorer: Scorer, pairs: Sequence[Preference]) -> Floats:
    """Reward of a minus reward of b, shape (N,); every distinct exchange is scored once. Raises ModelError for rewards that are no
    numbers."""
    from preferent.audits.battery import score_once

    sides = [exchange for pair in pairs for exchange in pair.exchanges()]
    with Progress("scoring", None, "texts") as progress:
        done = 0

        def step(scored: int, _: int) -> None:
            nonlocal done
            progress(scored - done)
            done = scored

        rewards = score_once(scorer, sides, progress=step)
    return np.array([rewards[a] - rewards[b] for a, b in zip(sides[::2], sides[1::2], strict=True)])


def trained_on(model: str, pairs: Sequence[Preference]) -> list[str]:
    """A warning where the model's checkpoint says that it was trained on these prompts; empty where it says not, or nothing."""
    from preferent.core.ngrams import Hasher, member
    from preferent.data.sketch import SKETCH, read_sketch

    if not Path(model, SKETCH).is_file():
        return []
    sketch = read_sketch(model)
    hasher = Hasher(sketch.window)
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    share = float(member(np.array([hasher.whole(prompt) for prompt in prompts]), sketch.whole_H).mean())
    if share == 0.0:
        return []
    return [
        f"warning: {model} was trained on {share:.0%} of these prompts"
        f"{' or more' if sketch.whole_share < 1 else ''}; a model that fits its training labels closely remembers the wrong ones "
        "too and contradicts few of them: use --folds, or a model of other data"
    ]


def cross_fitted(records: Sequence[Preference | Ranking], given: dict[str, Any]) -> Floats:
    """Margins of every pair of the records by models trained without its prompt (or group), shape (M, N).

    One model per fold and member; the members differ by their seeds and share the folds. Rewards are taken as logits, as the loss
    takes them: no held-out labels are left to fit a temperature on.
    """
    from preferent.cli.augmenting import group_of, pairs_of
    from preferent.cli.scorers import refuse_unreachable_base
    from preferent.data.folds import folds_by_prompt
    from preferent.models.reward_model import RewardModel
    from preferent.training.config import load_config
    from preferent.training.run import train

    overrides = {"held_out": "0", **({} if given["base"] is None else {"base": given["base"]})}
    overrides |= {} if given["threads"] is None else {"threads": str(given["threads"])}
    config = load_config(given["toml"], overrides).model_copy(update={"early_stopping": None})
    refuse_unreachable_base(config.base)
    groups = None if given["group_key"] is None else [group_of(record, given["group_key"]) for record in records]
    fold_N = folds_by_prompt([record.prompt for record in records], given["folds"], seed=given["seed"], groups=groups)
    pairs = [pair for record in records for pair in pairs_of(record)]
    fold_of = np.repeat(fold_N, [len(pairs_of(record)) for record in records])
    margin_MN = np.full((given["members"], len(pairs)), np.nan)
    for member_ in range(given["members"]):
        own = config.model_copy(update={"seed": config.seed + given["seed"] + member_})
        for fold in range(given["folds"]):
            inside = [record for record, place in zip(records, fold_N, strict=True) if place != fold]
            out = np.flatnonzero(fold_of == fold)
            talk(f"fold {fold + 1} of {given['folds']}, member {member_ + 1} of {given['members']}: {len(inside)} records to train on")
            with tempfile.TemporaryDirectory() as folder:
                train(inside, [], own, Path(folder, "run"))
                model = RewardModel.load(Path(folder, "run"), trust_remote_code=given["trust_remote_code"])
                margin_MN[member_, out] = margins(model, [pairs[k] for k in out])
    return margin_MN
