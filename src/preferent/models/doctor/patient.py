"""The model under examination, loaded raw by transformers so that one which `RewardModel.load` refuses still gets a report.

Legend: N exchanges, L longest input of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from preferent.core.errors import ModelError
from preferent.core.records import Exchange, Floats
from preferent.models.quiet import quiet_peft, quiet_transformers
from preferent.models.render import messages_of

# What from_pretrained raises for files that are absent, damaged, of another shape, or that need code it may not run.
LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, TypeError, SafetensorError)
# What a forward raises for an input it does not take.
RUN_ERRORS = (ValueError, RuntimeError, IndexError, TypeError)
HEADS = ("score", "classifier")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py"]


@dataclass(frozen=True, slots=True)
class Input:
    """Token ids of one exchange, and segment ids where the tokenizer marks prompt and response apart."""

    ids: tuple[int, ...]
    types: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """`model` and `tokenizer` are None when they do not load; `trouble` says why. `shapes` are the tensors in the safetensors files.

    `stated_labels` is the number of outputs that the config states; `missing` the weights that no file holds.
    """

    name: str
    folder: Path
    config: Any
    stated_labels: int
    shapes: dict[str, tuple[int, ...]]
    adapter: dict[str, Any] | None
    model: Any | None = None
    tokenizer: Any | None = None
    missing: tuple[str, ...] = ()
    trouble: str | None = None

    @property
    def headless(self) -> bool:
        """An adapter that holds no head: there is nothing to score with."""
        return self.adapter is not None and not any(_is_head(name) for name in self.shapes)

    @property
    def head_missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.missing if _is_head(name))

    def encode(self, exchange: Exchange, **template: Any) -> Input:
        """By the chat template; without one, as a pair (encoders) or one text after the other. `template` goes to the template."""
        tokenizer = self.tokenizer
        assert tokenizer is not None
        if tokenizer.chat_template:
            messages = messages_of(exchange.prompt, exchange.response)
            return Input(tuple(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **template)))
        prompt = "\n".join(message.content for message in exchange.prompt)
        if tokenizer.sep_token is not None:
            encoded = tokenizer(prompt, exchange.response, verbose=False)
            types = encoded.get("token_type_ids")
            return Input(tuple(encoded["input_ids"]), None if types is None else tuple(types))
        return Input(tuple(tokenizer(f"{prompt}\n{exchange.response}", verbose=False)["input_ids"]))

    def rewards(self, inputs: Sequence[Input], *, batch: int = 1, side: str = "right") -> Floats:
        """First output of the model's own forward, shape (N,), padded on `side` in batches of `batch`. Raises what the model raises."""
        with torch.inference_mode():
            parts = [self._logits(inputs[start : start + batch], side) for start in range(0, len(inputs), batch)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _logits(self, inputs: Sequence[Input], side: str) -> Floats:
        assert self.model is not None
        pad = self.pad_id
        longest = max(len(x.ids) for x in inputs)
        ids_NL = torch.full((len(inputs), longest), 0 if pad is None else pad)
        mask_NL, types_NL = torch.zeros_like(ids_NL), torch.zeros_like(ids_NL)
        for row, x in enumerate(inputs):
            span = slice(0, len(x.ids)) if side == "right" else slice(longest - len(x.ids), longest)
            ids_NL[row, span] = torch.tensor(x.ids)
            mask_NL[row, span] = 1
            if x.types is not None:
                types_NL[row, span] = torch.tensor(x.types)
        device = next(self.model.parameters()).device
        extra = {"token_type_ids": types_NL.to(device)} if inputs[0].types is not None else {}
        out = self.model(input_ids=ids_NL.to(device), attention_mask=mask_NL.to(device), **extra)
        return out.logits[:, 0].double().cpu().numpy()

    @property
    def pad_id(self) -> int | None:
        """What a caller would pad with: the tokenizer's token, else the config's."""
        own = None if self.tokenizer is None else self.tokenizer.pad_token_id
        return config_value(self.config, "pad_token_id") if own is None else own


def config_value(config: Any, name: str) -> Any:
    """A value of the config or of its text part."""
    value = getattr(config, name, None)
    return getattr(config.get_text_config(), name, None) if value is None else value


def _is_head(name: str) -> bool:
    return any(part in HEADS for part in name.split("."))


def open_patient(path: str | Path, *, trust_remote_code: bool = False, device: str = "cpu") -> Patient:
    """Everything that can be read of a model, in fp32. Raises ModelError when there is no model to look at."""
    folder = _folder(path)
    adapter_file = folder / "adapter_config.json"
    adapter = json.loads(adapter_file.read_text(encoding="utf-8")) if adapter_file.is_file() else None
    base: str | Path = folder if adapter is None else adapter.get("base_model_name_or_path") or folder
    extra = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(base, **extra)
    except LOAD_ERRORS as error:
        raise ModelError(
            f"{str(path)!r}: no config that transformers knows: {first_line(error)}",
            hint="a folder holds config.json, or adapter_config.json with a base that can be found; custom code needs trust_remote_code",
        ) from error
    shapes = _shapes(folder)
    patient = Patient(str(path), folder, config, int(config.num_labels or 0), shapes, adapter)
    outputs = {
        shape[0]
        for name, shape in shapes.items()
        if _is_head(name) and name.endswith(("score.weight", "classifier.weight", "out_proj.weight"))
    }
    if len(outputs) == 1:
        # Load the head that the files hold, whatever the config says, so that the other questions can still be asked.
        config.num_labels = outputs.pop()
    elif adapter is not None:
        config.num_labels = 1
    return _load(patient, base, device, extra)


def _load(patient: Patient, base: str | Path, device: str, extra: dict[str, Any]) -> Patient:
    parts = {} if patient.headless else _load_model(patient, base, device, extra)
    for place in (patient.folder, base):
        try:
            parts["tokenizer"] = AutoTokenizer.from_pretrained(place, **extra)
            break
        except LOAD_ERRORS as error:
            parts.setdefault("trouble", f"tokenizer: {first_line(error)}")
    return replace(patient, **parts)


def _load_model(patient: Patient, base: str | Path, device: str, extra: dict[str, Any]) -> dict[str, Any]:
    try:
        with quiet_transformers():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                base, config=patient.config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **extra
            )
            missing = {*info["missing_keys"], *(name if isinstance(name, str) else name[0] for name in info["mismatched_keys"])}
            if patient.adapter is not None:
                model = _with_adapter(model, patient.folder)
                missing -= {name for name in missing if any(key.endswith(name) for key in patient.shapes)}
    except LOAD_ERRORS as error:
        return {"trouble": first_line(error)}
    return {"model": model.to(device).eval(), "missing": tuple(sorted(missing))}


def _with_adapter(model: Any, folder: Path) -> Any:
    """The adapter merged into its base, as one plain classifier."""
    from peft import PeftModel

    with quiet_peft():
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(str(path), allow_patterns=HUB_FILES))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{str(path)!r} is neither a folder nor a model that can be fetched from the hub: {first_line(error)}",
            hint="give the folder of a checkpoint; a hub id needs a network, or a copy fetched earlier",
        ) from error


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in the safetensors files; a damaged file shows when the model loads."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            continue
    return shapes


def first_line(error: BaseException) -> str:
    """The first line of a message, or the error's name when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def refused(patient: Patient, exchange: Exchange) -> str | None:
    """Why the chat template does not render this exchange, None when it does."""
    try:
        patient.encode(exchange)
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        return first_line(error)
    return None
