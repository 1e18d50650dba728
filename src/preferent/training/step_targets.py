"""What people said of the steps of a batch, and where the model is read for it.

Legend: S labelled steps, R sequences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.core.records import Floats


@dataclass(frozen=True, slots=True, eq=False)
class StepTargets:
    """reads: for each of R sequences the offsets of the last tokens of its labelled steps. label_S: the labels in that order, the
    probability that a step is right. record_S: the positions of the records they came from, in the input."""

    reads: tuple[tuple[int, ...], ...]
    label_S: Floats
    record_S: NDArray[np.int64]


def targets_of(parts: Iterable[StepTargets | None]) -> StepTargets:
    """The targets of several groups as those of one, in order."""
    found = [part for part in parts if part is not None]
    return StepTargets(
        reads=tuple(read for part in found for read in part.reads),
        label_S=np.concatenate([part.label_S for part in found]),
        record_S=np.concatenate([part.record_S for part in found]),
    )
