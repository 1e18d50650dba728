"""Which groups make one optimiser step, one forward pass, one process's share: plans made from sizes alone.

A group is never split here: its edges need the rewards of all its responses at once (`groups.split_groups` cuts very large ones
beforehand). A plan is a pure function of sizes, settings, seed and epoch, so a resumed run makes the same one.

Legend: G groups, tokens_G packed tokens of each group, pairs_G its edges.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preferent.training.config import Pairs, TrainConfig

Step = tuple[int, ...]
# A window is this many steps' worth of tokens: wide enough to find groups of like size, narrow enough to stay shuffled.
WINDOW_STEPS = 32


def plan_epoch(tokens_G: ArrayLike, pairs_G: ArrayLike, config: TrainConfig, *, seed: int, epoch: int) -> list[Step]:
    """The optimiser steps of one epoch, each the indices of its groups; every group is in exactly one step.

    `batch.kind = "pairs"`: groups in an order drawn from (seed, epoch) are taken until the step holds at least `batch.pairs`
    edges. `"tokens"`: the shuffled groups are cut into windows, each window sorted by tokens, steps filled up to `batch.tokens`,
    and the steps shuffled; a larger group is a step of its own (`count_oversize`). With `order = "given"` nothing is shuffled or
    sorted. The last step of an epoch may be small.
    """
    tokens = _sizes(tokens_G, "tokens_G")
    pairs = _sizes(pairs_G, "pairs_G")
    if len(tokens) != len(pairs):
        raise ValueError(f"tokens_G and pairs_G must be of one length, got {len(tokens)} and {len(pairs)}")
    rng = np.random.default_rng([seed, epoch])
    order = np.arange(len(tokens)) if config.order == "given" else rng.permutation(len(tokens))
    if isinstance(config.batch, Pairs):
        return _until(order, pairs, config.batch.pairs)
    if config.order == "given":
        return _up_to(order, tokens, config.batch.tokens)
    steps = _up_to(_windows(order, tokens, WINDOW_STEPS * config.batch.tokens), tokens, config.batch.tokens)
    return [steps[k] for k in rng.permutation(len(steps))]


def count_oversize(tokens_G: ArrayLike, budget: int) -> int:
    """How many groups are larger than a token budget on their own, and so get a step or a forward pass to themselves."""
    return int((_sizes(tokens_G, "tokens_G") > budget).sum())


def split_micro(step: Sequence[int], tokens_G: ArrayLike, micro_tokens: int) -> list[Step]:
    """Cut a step into forward passes of at most `micro_tokens` tokens each (a larger group has one to itself).

    Largest groups first, each into the fullest pass that has room for it (best-fit decreasing); within a pass the order of the step.
    """
    parts: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, number of the pass), sorted
    for place, size in _largest_first(step, tokens_G):
        at = bisect.bisect_left(room, (size, -1))
        left, number = room.pop(at) if at < len(room) else (micro_tokens, len(parts))
        if number == len(parts):
            parts.append([])
        parts[number].append(place)
        bisect.insort(room, (left - size, number))
    return [tuple(step[place] for place in sorted(part)) for part in parts]


def split_ranks(step: Sequence[int], tokens_G: ArrayLike, world: int) -> list[Step]:
    """Share a step out over `world` processes with about equal tokens: largest first, each to the least loaded one.

    One entry per process, possibly empty; within a process the order of the step. No two loads differ by more than the largest group.
    """
    if world < 1:
        raise ValueError(f"there must be at least one process, got {world!r}")
    loads = [0] * world
    parts: list[list[int]] = [[] for _ in range(world)]
    for place, size in _largest_first(step, tokens_G):
        target = loads.index(min(loads))
        loads[target] += size
        parts[target].append(place)
    return [tuple(step[place] for place in sorted(part)) for part in parts]


def _largest_first(step: Sequence[int], tokens_G: ArrayLike) -> list[tuple[int, int]]:
    """(place in the step, tokens), largest first, equals in the order of the step."""
    sizes = _sizes(np.asarray(tokens_G)[np.asarray(step, dtype=np.int64)], "tokens_G")
    return [(int(place), int(sizes[place])) for place in np.argsort(-sizes, kind="stable")]


def _sizes(sizes: ArrayLike, name: str) -> NDArray[np.int64]:
    """Sizes as integers; ValueError unless all are positive."""
    array = np.asarray(sizes, dtype=np.int64)
    if array.ndim != 1 or (array < 1).any():
        raise ValueError(f"{name} must be a flat list of positive counts, got shape {array.shape}, least {array.min(initial=1)}")
    return array


def _until(order: NDArray[np.int64], sizes: NDArray[np.int64], enough: int) -> list[Step]:
    """Consecutive steps that each hold at least `enough`, the last one what is left."""
    steps: list[Step] = []
    open_step: list[int] = []
    held = 0
    for group in order.tolist():
        open_step.append(group)
        held += int(sizes[group])
        if held >= enough:
            steps.append(tuple(open_step))
            open_step, held = [], 0
    return [*steps, tuple(open_step)] if open_step else steps


def _up_to(order: NDArray[np.int64], sizes: NDArray[np.int64], budget: int) -> list[Step]:
    """Consecutive steps that each hold at most `budget`, or one group that is larger."""
    steps: list[Step] = []
    open_step: list[int] = []
    held = 0
    for group in order.tolist():
        size = int(sizes[group])
        if open_step and held + size > budget:
            steps.append(tuple(open_step))
            open_step, held = [], 0
        open_step.append(group)
        held += size
    return [*steps, tuple(open_step)] if open_step else steps


def _windows(order: NDArray[np.int64], sizes: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The order cut into windows of `width` tokens, each sorted by size, up and down in turn so that neighbours meet alike."""
    window = np.cumsum(sizes[order]) // width
    pieces = []
    for k, piece in enumerate(np.split(order, np.flatnonzero(np.diff(window)) + 1)):
        ascending = piece[np.argsort(sizes[piece], kind="stable")]
        pieces.append(ascending[::-1] if k % 2 else ascending)
    return np.concatenate(pieces)
