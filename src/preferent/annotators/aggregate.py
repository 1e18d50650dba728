"""Every aggregation by its name: from votes to what is preferred, how surely, and who to believe.

`aggregate(read_votes("votes.jsonl")).p_a()` is (p_a, low, high), one of each per comparison of `result.items`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from preferent.annotators.choose import choose
from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.glad import glad
from preferent.annotators.graph_models import graph_model
from preferent.annotators.hidden_labels import hidden_context
from preferent.annotators.labels import LabelResult
from preferent.annotators.mace import mace
from preferent.annotators.majority import majority, wawa
from preferent.annotators.names import HIDDEN, MODELS
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError

_FITS: dict[str, Callable[[VoteTable, np.random.Generator], LabelResult]] = {
    "auto": lambda table, rng: choose(table, rng).result,
    "majority": lambda table, _: majority(table),
    "wawa": lambda table, _: wawa(table),
    "dawid-skene": lambda table, _: dawid_skene(table),
    "dawid-skene-ml": lambda table, _: dawid_skene(table, "ml"),
    "dawid-skene-map": lambda table, _: dawid_skene(table, "map"),
    "one-coin": lambda table, _: dawid_skene(table, "one-coin"),
    "mace": lambda table, rng: mace(table, rng=rng),
    "glad": lambda table, _: glad(table),
    "bradley_terry": lambda table, _: graph_model(table, "bradley_terry"),
    "davidson": lambda table, _: graph_model(table, "davidson"),
    "annotator_slope": lambda table, _: graph_model(table, "annotator_slope"),
    "crowd_bt": lambda table, _: graph_model(table, "crowd_bt"),
    HIDDEN: lambda table, _: hidden_context(table),
}


def aggregate(table: VoteTable, model: str = "auto", *, rng: np.random.Generator | None = None) -> LabelResult:
    """Aggregate votes by one of MODELS. `auto` is `choose`, which also gives its reasons; `rng` (default: seed 0) draws the votes it
    leaves out, and the starts of `mace`.

    The graph models and `hidden_context` need a table that knows which responses each comparison shows (`VoteTable.sides`). Raises
    ConfigError for a name that is none, DataError for votes that the model cannot use.
    """
    if model not in _FITS:
        raise ConfigError(f"there is no aggregation {model!r}; allowed are {', '.join(MODELS)}")
    return _FITS[model](table, np.random.default_rng(0) if rng is None else rng)
