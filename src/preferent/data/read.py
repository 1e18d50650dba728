"""Raw rows to records, one at a time: every row of the source comes out as `Located` or as `Refusal`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pydantic import ValidationError

from preferent.core.records import Preference, Ranking
from preferent.data.formats.detect import Format, Shape, check_format, parse
from preferent.data.formats.fields import Notes, Refused
from preferent.data.ledger import Reason, Refusal
from preferent.data.lines import RawRow, Source, read_raw
from preferent.data.quality import note_on, wrong_with


@dataclass(frozen=True, slots=True)
class Located:
    """A record and where it stands. notes: what was done to it; inverted: whether its scores say the opposite (None: no scores)."""

    where: str
    record: Preference | Ranking
    shape: Shape
    notes: Notes = ()
    inverted: bool | None = None


Row: TypeAlias = Located | Refusal
T = TypeVar("T")


def read_rows(
    source: Source, *, format: Format = "auto", split: str = "train", divert: Callable[[RawRow], bool] | None = None
) -> Iterator[Row]:
    """Every row of `source`, in its order, as a record or a refusal; nothing is merged.

    format: "auto" tells the shape from the keys of each row; a shape's name reads every row as that shape. split: which part of a
    hub data set or data-set folder. divert: rows for which it is true are somebody else's and do not come out. Raises DataError for a
    source that cannot be opened, ConfigError for an unknown format.
    """
    check_format(format)
    for raw in read_raw(source, split=split):
        if isinstance(raw, Refusal):
            yield raw
        elif divert is None or not divert(raw):
            yield _read(raw, format)


def _read(raw: RawRow, format: Format) -> Row:
    read = attempt(raw.where, lambda: parse(raw.value, format))
    if isinstance(read, Refusal):
        return read
    parsed, shape = read
    wrong = wrong_with(parsed.record)
    if wrong is not None:
        return Refusal(raw.where, *wrong)
    note = note_on(parsed.record)
    notes = parsed.notes if note is None else (*parsed.notes, (note, 1))
    return Located(raw.where, parsed.record, shape, notes, parsed.inverted)


def attempt(where: str, parse: Callable[[], T]) -> T | Refusal:
    """What `parse` returns, or why the row that stands at `where` is refused."""
    try:
        return parse()
    except Refused as refused:
        return Refusal(where, refused.reason, refused.detail)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Refusal(where, Reason.WRONG_TYPE, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except RecursionError:
        return Refusal(where, Reason.WRONG_TYPE, "nested too deeply")
