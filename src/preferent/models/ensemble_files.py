"""Where the parts of an ensemble lie in its folder.

heads      FOLDER/heads.safetensors, K rows; the weights in FOLDER give the mean reward to everyone
adapters   FOLDER/adapters/backbone, and FOLDER/adapters/0 to K - 1 as peft loads them; the weights in FOLDER are adapter 0, merged
members    FOLDER itself is member 0, FOLDER/members/1 to K - 1 are checkpoints of their own
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel

from preferent.core.errors import ModelError
from preferent.models.ensembles import EnsembleSpec
from preferent.models.module import RewardModule
from preferent.models.quiet import quiet_peft, quiet_transformers

ADAPTERS, MEMBERS, BACKBONE = "adapters", "members", "backbone"
# Of a run, not of a checkpoint.
LEFT_BEHIND = ("checkpoints", ".saving-*")


def weights_folder(folder: str | Path, spec: EnsembleSpec | None) -> str | Path:
    """Where the weights are that this ensemble is built on."""
    return Path(folder) / ADAPTERS / BACKBONE if spec is not None and spec.kind == "adapters" else folder


def member_folders(folder: Path, spec: EnsembleSpec) -> list[Path]:
    """Folders of the members beside the first. Raises ModelError when one is not there."""
    return [_there(folder / MEMBERS / str(number)) for number in range(1, len(spec.members))] if spec.kind == "members" else []


def load_adapters(module: RewardModule, folder: Path, spec: EnsembleSpec) -> PeftModel:
    """Put every adapter, with its head, on the backbone of `module`; the first is switched on."""
    first, *others = [_there(folder / ADAPTERS / str(number)) for number in range(len(spec.members))]
    with quiet_peft():
        wrapped = PeftModel.from_pretrained(module.model, str(first), adapter_name="0")
        for number, path in enumerate(others, start=1):
            wrapped.load_adapter(str(path), adapter_name=str(number))
    for parameter in wrapped.parameters():
        parameter.requires_grad_(False)
    return wrapped


def copy_ensemble(source: Path, target: Path) -> None:
    """All files of a checkpoint folder; what belongs to an unfinished run stays behind."""
    if source.resolve() != target.resolve():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))


def save_backbone(model: Any, root: Path) -> None:
    """The frozen weights that adapters sit on, with the tokenizer of the folder around them."""
    place = root / ADAPTERS / BACKBONE
    with quiet_transformers():
        model.save_pretrained(place)
    for pattern in ("tokenizer*", "chat_template*", "special_tokens_map.json", "vocab*", "merges.txt"):
        for path in root.glob(pattern):
            shutil.copy2(path, place / path.name)


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(f"{folder}: this part of the ensemble is missing", hint="the folder is incomplete: copy all of it")
    return folder
