"""Splits of step data by problem: solutions of one problem, and of problems that are nearly the same, stand on one side.

Legend: N solutions, U distinct normalised prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preferent.core.records import StepLabels
from preferent.data.near import Joined, near_duplicates, normal
from preferent.data.splits import split_by_prompt

# What PRMBench and ProcessBench, and MR-Ben and other releases call a problem.
GROUP_KEYS = ("idx", "problem_id", "Question_UUID")


def problem_groups(records: Sequence[StepLabels], *, group_keys: Sequence[str] = GROUP_KEYS) -> list[str]:
    """A name for the problem of each of N solutions; the same name where prompts are near duplicates (see `near`) or where one of
    `group_keys` stands in both `meta` with the same value, and so on through chains of these.

    The names do not depend on the order of the records.
    """
    texts: dict[str, int] = {}
    unit_N = [texts.setdefault(" ".join([normal(message.content) for message in record.prompt]), len(texts)) for record in records]
    joined = Joined(len(texts))
    for unit, root in enumerate(near_duplicates(list(texts)).tolist()):
        joined.join(unit, root)
    named: dict[tuple[str, str], int] = {}
    for unit, record in zip(unit_N, records, strict=True):
        for key in group_keys:
            if record.meta.get(key) is not None:
                joined.join(named.setdefault((key, repr(record.meta[key])), unit), unit)
    root_U = joined.roots().tolist()
    name_of: dict[int, str] = {}
    for text, root in zip(texts, root_U, strict=True):
        name_of[root] = min(name_of.get(root, text), text)
    return [name_of[root_U[unit]] for unit in unit_N]


def split_by_problem(
    records: Sequence[StepLabels], *, held_out: float, seed: int, group_keys: Sequence[str] = GROUP_KEYS
) -> NDArray[np.bool_]:
    """Which of N solutions are held out, shape (N,), True = held out: about `held_out` of them, by whole problems.

    The same seed and records give the same split whatever their order. Raises as `splits.split_by_prompt`.
    """
    groups = problem_groups(records, group_keys=group_keys)
    return split_by_prompt([record.prompt for record in records], held_out=held_out, seed=seed, groups=groups)
