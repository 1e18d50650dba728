"""How a base renders text, without its weights: for counting tokens before any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from preferent.core.errors import ModelError
from preferent.core.records import Exchange
from preferent.models.backbones import input_limit, longest_input, minilm_folder
from preferent.models.checkpoint import read_card
from preferent.models.quiet import quiet_transformers
from preferent.models.render import RenderSpec, prepare_template, tokenize

NO_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Renderer:
    """A tokenizer with its template, and the length in tokens that training cuts at unless told otherwise."""

    tokenizer: Any
    max_length: int

    def count(self, exchange: Exchange) -> int:
        """Tokens of an exchange before any are dropped."""
        return len(tokenize(self.tokenizer, [exchange], RenderSpec(max_length=NO_LIMIT))[0].ids)


def load_renderer(base: str) -> Renderer:
    """The renderer of an alias, a folder or a hub id. Raises ModelError; `tiny` has none before it is trained."""
    if base == "tiny":
        raise ModelError("'tiny' learns its tokenizer from the data, so nothing can be counted before training")
    place = minilm_folder() if base == "minilm" else Path(base)
    card = read_card(place)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(place if place.is_dir() else base)
            config = AutoConfig.from_pretrained(place if place.is_dir() else base)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot load the tokenizer of {base!r}: {str(error).splitlines()[0]}", hint="give a folder, a hub id, or minilm"
        ) from error
    prepare_template(tokenizer)
    return Renderer(tokenizer, card.render.max_length if card is not None else input_limit(base, longest_input(config)))
