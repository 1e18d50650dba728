"""LoRA through peft. The head, with a pooler or dense layer before it, is always trained in full and always saved: an adapter
without it reloads to noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from preferent.core.errors import ModelError
from preferent.models.heads import fresh_parts, head_of
from preferent.models.module import RewardModule
from preferent.models.quiet import quiet_peft


def add_lora(module: RewardModule, *, rank: int, alpha: float, dropout: float, targets: str | list[str]) -> PeftModel:
    """Freeze the backbone of `module` in place and put adapters on it; the head stays trainable.

    `targets`: "all-linear" or names of linear layers. Returns peft's wrapper, which shares the weights.
    """
    head, _ = head_of(module.model)
    config = LoraConfig(
        task_type="TOKEN_CLS" if type(module.model).__name__.endswith("ForTokenClassification") else "SEQ_CLS",
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]  # peft says int and divides: fractions are fine
        lora_dropout=dropout,
        target_modules=targets,
        modules_to_save=fresh_parts(module.model),
    )
    try:
        with quiet_peft():
            wrapped = get_peft_model(module.model, config)
    except ValueError as error:
        raise ModelError(
            f"LoRA targets {targets!r} fit no layer of this base: {error}", hint="use adapter.targets = 'all-linear'"
        ) from error
    trainable = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
    if not any(f"{head}." in name for name in trainable):
        raise ModelError(f"the head {head!r} would not be trained with these LoRA settings")
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped


def save_adapter(wrapped: PeftModel, folder: Path) -> None:
    """The adapter with its head, as peft loads it; refuses to write one without the head."""
    wrapped.save_pretrained(str(folder))


def merge_lora(wrapped: PeftModel) -> Any:
    """The plain classifier with the adapters merged into its weights; `wrapped` is used up."""
    return wrapped.merge_and_unload()
