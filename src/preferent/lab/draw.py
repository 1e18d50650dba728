"""Draws from short sequences; numpy's `choice` copies them into an array each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def one(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def some(options: Sequence[T], count: int, rng: np.random.Generator) -> tuple[T, ...]:
    """`count` different options in random order."""
    return tuple(options[int(i)] for i in rng.permutation(len(options))[:count])
