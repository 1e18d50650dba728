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
from preferent.models.ensembles import EnsembleSpec
from preferent.models.intervals import IntervalSpec
from preferent.models.laplace import Laplace, LaplaceSpec, from_tensors
from preferent.models.length import LengthSpec
from preferent.models.objectives import HeadsSpec
from preferent.models.quiet import quiet_transformers
from preferent.models.render import RenderSpec
from preferent.models.steps_spec import StepsSpec

CARD = "preferent.json"
HEADS = "heads.safetensors"
LAPLACE = "laplace.safetensors"


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
    `heads.safetensors` holds, None for a model of one number. ensemble: of several members, whose mean is the reward. laplace: of the last
    layer, with `laplace.safetensors`. length: the curve that is taken out of the reward, if its gate says so. intervals: conformal ones.
    initial: a digest of the weights before the first step of training; models with the same one may be averaged. steps: of a step model,
    None for others; its calibration makes the logit of a step the probability that it is right, sigmoid(logit / temperature).
    """

    format: Literal[1] = 1
    version: str
    base: str
    render: RenderSpec
    objectives: tuple[str, ...] = ("reward",)
    calibration: Calibration | None = None
    calibrations: dict[str, Calibration] = {}
    heads: HeadsSpec | None = None
    ensemble: EnsembleSpec | None = None
    laplace: LaplaceSpec | None = None
    length: LengthSpec | None = None
    intervals: tuple[IntervalSpec, ...] = ()
    initial: str | None = None
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


def read_laplace(folder: Path, spec: LaplaceSpec) -> Laplace:
    """The last layer's covariance. Raises ModelError when it is not there or does not fit the card."""
    try:
        return from_tensors(spec, load_file(folder / LAPLACE))
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder / LAPLACE}: cannot be read: {error}", hint="its card names it, so the folder is incomplete: copy all of it"
        ) from error


def write_checkpoint(
    folder: Path,
    model: Any,
    tokenizer: Any,
    card: Card,
    *,
    heads: dict[str, torch.Tensor] | None = None,
    laplace: Laplace | None = None,
) -> None:
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
        _put_card(Path(scratch), card, laplace)
        _move_in(Path(scratch), folder)
    if heads is None:
        (folder / HEADS).unlink(missing_ok=True)
    if laplace is None:
        (folder / LAPLACE).unlink(missing_ok=True)


def write_card(folder: Path, card: Card, *, laplace: Laplace | None = None) -> None:
    """Replace the card of a checkpoint folder, and the covariance that belongs to it; the weights stay as they are."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        _put_card(Path(scratch), card, laplace)
        _move_in(Path(scratch), folder)
    if laplace is None:
        (folder / LAPLACE).unlink(missing_ok=True)


def _put_card(scratch: Path, card: Card, laplace: Laplace | None) -> None:
    if laplace is not None:
        save_file(laplace.tensors(), scratch / LAPLACE)
    card_text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    (scratch / CARD).write_text(card_text + "\n", encoding="utf-8")


def _move_in(scratch: Path, folder: Path) -> None:
    """Every file to its place, what makes it a checkpoint last: between old weights and new ones the folder is none, never a mixture."""
    last = ("config.json", CARD)
    names = sorted(os.listdir(scratch), key=lambda name: last.index(name) if name in last else -1)
    if "config.json" in names:
        for name in last:
            (folder / name).unlink(missing_ok=True)
    for name in names:
        target = folder / name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(scratch / name, target)


def _finish_tokenizer_config(path: Path, tokenizer: Any) -> None:
    """What transformers leaves out: the sides that were set after loading, and a class name that all its versions know."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config |= {"padding_side": tokenizer.padding_side, "truncation_side": tokenizer.truncation_side}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
