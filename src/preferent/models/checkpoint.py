"""One folder that loads everywhere: transformers' files, and `preferent.json` beside them.

The folder is complete or it is not a checkpoint: files are written beside their final place and moved, `preferent.json` last.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from preferent.core.errors import ModelError
from preferent.core.records import Record
from preferent.models.objectives import HeadsSpec
from preferent.models.quiet import quiet_transformers
from preferent.models.render import RenderSpec
from preferent.models.steps_spec import StepsSpec

CARD = "preferent.json"
HEADS = "heads.safetensors"


class Calibration(Record):
    """P(a preferred) = sigmoid((r_a - r_b) / temperature), fitted on held-out pairs; `low` and `high` bound it at 95 %."""

    temperature: float
    low: float | None = None
    high: float | None = None
    n_pairs: int
    nll_before: float
    nll_after: float


class Card(Record):
    """What the weights do not say: how text becomes ids, what the reward means, and where it came from.

    calibration: of the reward; calibrations: of the objectives that have held-out comparisons of their own, by name. heads: what
    `heads.safetensors` holds, None for a model of one number. steps: of a step model, None for others; its calibration makes the logit of
    a step the probability that it is right, sigmoid(logit / temperature).
    """

    format: Literal[1] = 1
    version: str
    base: str
    render: RenderSpec
    objectives: tuple[str, ...] = ("reward",)
    calibration: Calibration | None = None
    calibrations: dict[str, Calibration] = {}
    heads: HeadsSpec | None = None
    steps: StepsSpec | None = None
    data: dict[str, Any] = {}
    config: dict[str, Any] = {}
    metrics: dict[str, Any] = {}


def read_card(folder: Path) -> Card | None:
    """The card of a checkpoint folder; None when it is somebody else's. Raises ModelError when it is damaged."""
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: not a card of this version: {str(error).splitlines()[0]}", hint="the folder is damaged or newer than this preferent"
        ) from error


def read_heads(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of `heads.safetensors`. Raises ModelError when they are not there."""
    try:
        return load_file(folder / HEADS)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder / HEADS}: cannot be read: {error}", hint="its card names objectives, so the folder is incomplete: copy all of it"
        ) from error


def write_checkpoint(folder: Path, model: Any, tokenizer: Any, card: Card, *, heads: dict[str, torch.Tensor] | None = None) -> None:
    """Write weights (safetensors), tokenizer, card and the tensors of further heads into `folder`, which may already hold other files."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        model.config.architectures = [type(model).__name__]
        with quiet_transformers():
            model.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
        if heads is not None:
            save_file(heads, Path(scratch, HEADS))
        _finish_tokenizer_config(Path(scratch, "tokenizer_config.json"), tokenizer)
        card_text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        Path(scratch, CARD).write_text(card_text + "\n", encoding="utf-8")
        names = sorted(os.listdir(scratch), key=lambda name: name == CARD)
        for name in names:
            target = folder / name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(Path(scratch, name), target)
    if heads is None:
        (folder / HEADS).unlink(missing_ok=True)


def _finish_tokenizer_config(path: Path, tokenizer: Any) -> None:
    """What transformers leaves out: the sides that were set after loading, and a class name that all its versions know."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config |= {"padding_side": tokenizer.padding_side, "truncation_side": tokenizer.truncation_side}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
