"""Raw rows to solutions in steps: every row of the source comes out as one or several `LocatedSteps`, or as a `Refusal`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from preferent.core.records import StepLabels
from preferent.data.formats.fields import Notes
from preferent.data.formats.steps_detect import StepFormat, StepShape, check_step_format, parse_steps, step_shape
from preferent.data.ledger import Reason, Refusal
from preferent.data.lines import RawRow, Source, read_raw
from preferent.data.quality import last_user
from preferent.data.read import attempt

_PEEK = 20


@dataclass(frozen=True, slots=True)
class LocatedSteps:
    """A solution and where it stands. nth: which solution of its row it is, from 0. notes: what was done to the row (on its first)."""

    where: str
    record: StepLabels
    shape: StepShape
    nth: int = 0
    notes: Notes = ()


def read_steps(
    source: Source, *, format: StepFormat = "auto", split: str = "train", unlabelled: bool = False
) -> Iterator[LocatedSteps | Refusal]:
    """Every row of `source`, in its order, as solutions or a refusal; nothing is merged.

    format: "auto" tells the shape from the keys of each row; a shape's name reads every row as that shape. unlabelled: solutions of which
    no step is labelled are taken too (they are to be labelled). Raises DataError for a source that cannot be opened, ConfigError for an
    unknown format.
    """
    check_step_format(format)
    for raw in read_raw(source, split=split):
        if isinstance(raw, Refusal):
            yield raw
        else:
            yield from _read(raw, format, unlabelled)


def holds_steps(source: Source, *, split: str = "train") -> bool:
    """Whether the first rows of a source that are objects have the shape of step data; looks at 20 at most."""
    rows = (raw for raw in islice(read_raw(source, split=split), _PEEK) if not isinstance(raw, Refusal))
    return any(step_shape(raw.value) is not None for raw in rows)


def _read(raw: RawRow, format: StepFormat, unlabelled: bool) -> Iterator[LocatedSteps | Refusal]:
    read = attempt(raw.where, lambda: parse_steps(raw.value, format))
    if isinstance(read, Refusal):
        yield read
        return
    parsed, shape = read
    for record in parsed.records:
        wrong = _wrong_with(record, unlabelled)
        if wrong is not None:
            yield Refusal(raw.where, *wrong)
            return
    for nth, record in enumerate(parsed.records):
        yield LocatedSteps(raw.where, record, shape, nth, () if nth else parsed.notes)


def _wrong_with(record: StepLabels, unlabelled: bool) -> tuple[Reason, str] | None:
    if not last_user(record.prompt):
        found = ", ".join(message.role for message in record.prompt) or "no turn at all"
        return Reason.EMPTY_PROMPT, f"the prompt needs a user turn with a text, found {found}"
    if not unlabelled and all(label is None for label in record.labels):
        return Reason.NO_LABELS, f"none of the {len(record.steps)} steps is labelled"
    return None
