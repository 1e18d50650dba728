"""`prompt, chosen, rejected, strength`: `strength` is the probability (or share of votes) that `chosen` is preferred and becomes `p_a`.

`annotations` `[{annotator, label}]` become votes: a label is that annotator's vote for `chosen` (1, 0, 0.5, or a probability).
Scores of both sides, here or in `meta`, are checked against the preference.
"""

from __future__ import annotations

from typing import Any

from preferent.core.records import Preference
from preferent.data.formats.chosen_rejected import SCORES, inverted
from preferent.data.formats.fields import (
    Notes,
    Parsed,
    Refused,
    Row,
    margin,
    meta,
    need,
    optional_text,
    probability,
    prompt,
    text,
    votes,
    weight,
)
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

READ = frozenset({"prompt", "chosen", "rejected", "strength", "annotations", "margin", "weight"})


def parse(row: Row) -> Parsed:
    """A pair with a strength as a `Preference`: a is `chosen`."""
    need(row, "prompt", "chosen", "rejected", "strength")
    given, notes = _labels(row.get("annotations"))
    kept, more = meta(row, READ)
    record = Preference(
        prompt=prompt(row["prompt"]),
        response_a=text(row["chosen"], "chosen"),
        response_b=text(row["rejected"], "rejected"),
        p_a=probability(row["strength"], "strength"),
        weight=weight(row),
        margin=margin(row),
        n_judgments=len(given) or None,
        votes=given,
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
        meta=kept,
    )
    scores = row if any(name in row for pair in SCORES for name in pair) else kept
    return Parsed(record, notes + more, inverted(scores, record.p_a))


def _labels(annotations: Any) -> tuple[tuple[float, ...], Notes]:
    if annotations is None:
        return (), ()
    if not isinstance(annotations, list | tuple):
        raise Refused(Reason.BAD_VOTES, f"annotations must be a list, found {type_name(annotations)}: {short(annotations)}")
    for item in annotations:
        if not isinstance(item, dict) or "label" not in item:
            raise Refused(Reason.BAD_VOTES, f"an annotation must be an object with a label, found {short(item)}")
    labels = [item["label"] for item in annotations if item["label"] is not None]
    missing = len(annotations) - len(labels)
    notes = (("annotations without a label, left out", missing),) if missing else ()
    return votes(labels, "annotations' labels"), notes
