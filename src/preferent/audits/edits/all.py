"""The battery of edits in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence

from preferent.audits.edits import answer, layout, length, reader, social, style, surface
from preferent.audits.edits.base import Edit
from preferent.audits.edits.hollow import hollow_edits
from preferent.core.records import Exchange

NEUTRAL_EDITS: tuple[Edit, ...] = (
    *length.EDITS,
    *layout.EDITS,
    *style.EDITS,
    *social.EDITS,
    *reader.EDITS,
    *surface.EDITS,
    *answer.EDITS,
)


def standard_edits(exchanges: Sequence[Exchange]) -> tuple[Edit, ...]:
    """Every edit. `exchanges`: the natural ones of the audit, which replies to another prompt are taken from."""
    return (*NEUTRAL_EDITS, *hollow_edits(exchanges))
