"""Splits by prompt, never by row: near-duplicate prompts stand on one side.

Legend: N rows, U distinct prompts (or groups), C clusters of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from preferent.core.errors import ConfigError, DataError
from preferent.core.estimates import cluster_codes
from preferent.core.records import Prompt
from preferent.data.near import near_duplicates, normal

_ONE_PROMPT = (
    "prompt (near-duplicates count as one)",
    "hold out by another label (groups=..., on the command line --group-key), give a held-out file, or hold out nothing (--held-out 0)",
)


def split_by_prompt(
    prompts: Sequence[Prompt], *, held_out: float, seed: int, groups: Sequence[Hashable] | None = None
) -> NDArray[np.bool_]:
    """Which of N rows are held out, shape (N,), True = held out.

    Prompts that are equal up to case, spacing and punctuation, or near duplicates (see `near`), are on one side. `held_out` in (0, 1) is
    the wanted share of the distinct prompts, met as closely as the clusters allow, with at least one cluster on each side. The same
    seed and prompts give the same split, whatever the order of the rows.

    groups: one label per row (a topic, an item). Then whole groups are held out, `held_out` is a share of the rows, and prompts play
    no part: rows of one prompt in two groups may be parted.

    Raises ConfigError for a share outside (0, 1), DataError when there are not two clusters to part.
    """
    if not 0.0 < held_out < 1.0:
        raise ConfigError(f"held_out must be a share between 0 and 1, found {held_out!r}")
    if groups is not None and len(groups) != len(prompts):
        raise DataError(f"{len(groups)} groups for {len(prompts)} prompts", hint="give one group per row")
    if groups is not None:
        cluster_N = cluster_codes(groups)
        sizes_C = np.bincount(cluster_N)
        names: dict[int, str] = {}
        for code, label in zip(cluster_N.tolist(), groups, strict=True):
            names.setdefault(code, f"{type(label).__name__}:{label!r}")
    else:
        cluster_N, sizes_C, names = _prompt_clusters(prompts)
    if len(sizes_C) < 2:
        what, hint = ("group", "split by another group") if groups is not None else _ONE_PROMPT
        raise DataError(f"nothing to hold out: the {len(prompts)} rows have one {what}", hint=hint)
    chosen_C = _choose(sizes_C, [names[c] for c in range(len(sizes_C))], held_out, seed)
    return chosen_C[cluster_N]


def _prompt_clusters(prompts: Sequence[Prompt]) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, str]]:
    """Cluster of each row, distinct prompts per cluster, and a name per cluster that does not depend on the order of the rows."""
    texts: dict[str, int] = {}
    unit_of: dict[Prompt, int] = {}
    unit_N = np.zeros(len(prompts), dtype=np.int64)
    for n, prompt in enumerate(prompts):
        unit = unit_of.get(prompt)
        if unit is None:
            unit = unit_of[prompt] = texts.setdefault(" ".join([normal(message.content) for message in prompt]), len(texts))
        unit_N[n] = unit
    roots_U = near_duplicates(list(texts))
    found, cluster_U = np.unique(roots_U, return_inverse=True)
    names: dict[int, str] = {}
    for cluster, text in zip(cluster_U.tolist(), texts, strict=True):
        names[cluster] = min(names.get(cluster, text), text)
    return cluster_U[unit_N], np.bincount(cluster_U, minlength=len(found)), names


def _choose(sizes_C: NDArray[np.int64], names: list[str], held_out: float, seed: int) -> NDArray[np.bool_]:
    """Clusters in an order drawn by the seed, each held out if that brings the total closer to the wanted share."""
    draws = [
        blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, salt=b"split", key=str(seed).encode()).digest() for name in names
    ]
    order = sorted(range(len(names)), key=lambda c: (draws[c], names[c]))
    target = held_out * float(sizes_C.sum())
    chosen_C = np.zeros(len(names), dtype=np.bool_)
    total = 0
    for c in order:
        if abs(total + sizes_C[c] - target) < abs(total - target):
            chosen_C[c] = True
            total += int(sizes_C[c])
    if not chosen_C.any():
        chosen_C[min(order, key=lambda c: sizes_C[c])] = True
    if chosen_C.all():
        chosen_C[min(order, key=lambda c: sizes_C[c])] = False
    return chosen_C
