"""Folds by prompt, for scores that no model gave to what it was trained on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from preferent.core.errors import ConfigError
from preferent.core.records import Prompt
from preferent.data.splits import split_by_prompt


def folds_by_prompt(prompts: Sequence[Prompt], k: int, *, seed: int, groups: Sequence[Hashable] | None = None) -> NDArray[np.int64]:
    """The fold 0..k-1 of each of N rows, shape (N,), as `split_by_prompt` parts them: near-duplicate prompts (or a group) in one fold.

    Raises ConfigError for k below 2, DataError when the prompts or groups make fewer than k clusters.
    """
    if k < 2:
        raise ConfigError(f"folds: {k!r}, allowed are whole numbers from 2")
    fold_N = np.full(len(prompts), k - 1, dtype=np.int64)
    left = np.arange(len(prompts))
    for fold in range(k - 1):
        rows = left.tolist()
        own = None if groups is None else [groups[row] for row in rows]
        out = split_by_prompt([prompts[row] for row in rows], held_out=1.0 / (k - fold), seed=seed + fold, groups=own)
        fold_N[left[out]] = fold
        left = left[~out]
    return fold_N
