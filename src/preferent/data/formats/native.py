"""The native shape: `prompt, response_a, response_b, p_a`.

Optional are `weight, margin, objective, n_judgments, votes, source, id, meta`.

`p_a` is the probability that response a is preferred. Keys of no meaning are refused, so that a misspelt one is not ignored.
"""

from __future__ import annotations

import difflib

from preferent.core.records import Preference
from preferent.data.formats.fields import Parsed, Refused, Row, margin, need, optional_text, probability, prompt, text, votes, weight
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

REQUIRED = ("prompt", "response_a", "response_b", "p_a")
KEYS = frozenset((*REQUIRED, "weight", "margin", "objective", "n_judgments", "votes", "source", "id", "meta"))


def parse(row: Row) -> Parsed:
    """A native row as a `Preference`."""
    if not row.keys() <= KEYS:
        raise Refused(Reason.UNKNOWN_KEYS, _unknown(row))
    need(row, *REQUIRED)
    given = row.get("meta")
    if given is not None and not isinstance(given, dict):
        raise Refused(Reason.WRONG_TYPE, f"meta must be an object, found {type_name(given)}: {short(given)}")
    record = Preference(
        prompt=prompt(row["prompt"]),
        response_a=text(row["response_a"], "response_a"),
        response_b=text(row["response_b"], "response_b"),
        p_a=probability(row["p_a"], "p_a"),
        weight=weight(row),
        margin=margin(row),
        objective=optional_text(row, "objective"),
        n_judgments=_count(row.get("n_judgments")),
        votes=votes(row.get("votes"), "votes"),
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
        meta=given or {},
    )
    return Parsed(record)


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Refused(Reason.WRONG_TYPE, f"n_judgments must be a whole number >= 0, found {type_name(value)}: {short(value)}")
    return value


def _unknown(row: Row) -> str:
    parts = []
    for key in sorted(row.keys() - KEYS):
        close = difflib.get_close_matches(key, KEYS, n=1)
        parts.append(f"{short(key, 40)}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    return f"unknown {', '.join(parts[:5])}; allowed are {', '.join(sorted(KEYS))}; anything else belongs in meta"
