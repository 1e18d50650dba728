"""Ratings of single responses on named objectives, in the shapes they come in.

`rating` is the native shape: `prompt, response, values {objective: number}`, optional `annotator_id, source, id`. `rated` has
`ratings` in place of `values`. `helpsteer2` has one column per objective (Wang et al. 2024). `ultrafeedback_ratings` takes the ratings
of single aspects out of UltraFeedback rows, which otherwise are rankings, so it has to be asked for by name.

A rating that is null, NaN as some tables write an empty cell in a column of their own, or N/A in UltraFeedback is a rating that is
missing; it is never 0. Inside `values` and `ratings`, where one can leave a name out, NaN is refused.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from preferent.core.records import Message, Prompt, Rating
from preferent.data.formats.fields import Notes, Refused, Row, is_number, listed, need, optional_text, prompt, text
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

RatingShape = Literal["rating", "rated", "helpsteer2", "ultrafeedback_ratings"]
RATING_SHAPES: tuple[RatingShape, ...] = get_args(RatingShape)
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
NATIVE_KEYS = frozenset({"prompt", "response", "values", "annotator_id", "source", "id"})
RATED_KEYS = frozenset({"prompt", "response", "ratings", "annotator", "source", "id", "meta"})
_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


@dataclass(frozen=True, slots=True)
class ParsedRatings:
    """A row as one or several ratings. notes: what was done to it that the ledger counts."""

    records: tuple[Rating, ...]
    notes: Notes = ()


def rating_shape(row: Row) -> RatingShape | None:
    """The shape of one row by its keys, None for a row that holds no ratings (or may be read as something else)."""
    if "response" not in row or "response_a" in row:
        return None
    if "values" in row:
        return "rating"
    if "ratings" in row:
        return "rated"
    return "helpsteer2" if "prompt" in row and sum(name in row for name in HELPSTEER) >= 2 else None


def parse_ratings(row: Row, shape: RatingShape) -> ParsedRatings:
    """One row as ratings. Raises Refused."""
    return PARSERS[shape](row)


def _parse_native(row: Row) -> ParsedRatings:
    _only(row, NATIVE_KEYS)
    need(row, "prompt", "response", "values")
    return ParsedRatings((_record(row, prompt(row["prompt"]), _values(row["values"], "values"), annotator="annotator_id"),))


def _parse_rated(row: Row) -> ParsedRatings:
    _only(row, RATED_KEYS)
    need(row, "prompt", "response", "ratings")
    notes = (("meta is not kept with a rating", 1),) if row.get("meta") else ()
    return ParsedRatings((_record(row, prompt(row["prompt"]), _values(row["ratings"], "ratings"), annotator="annotator"),), notes)


def _parse_helpsteer(row: Row) -> ParsedRatings:
    need(row, "prompt", "response")
    values = {name: _rating(row[name], name) for name in HELPSTEER if name in row and not _empty(row[name])}
    others = sorted(row.keys() - {"prompt", "response", *HELPSTEER, "id", "source"})
    notes = ((f"columns not read: {short(', '.join(others), 200)[1:-1]}", 1),) if others else ()
    return ParsedRatings((_record(row, _conversation(text(row["prompt"], "prompt")), values),), notes)


def _parse_ultrafeedback(row: Row) -> ParsedRatings:
    need(row, "completions")
    if "instruction" not in row:
        need(row, "prompt")
    asked = prompt(row.get("instruction", row.get("prompt")), "instruction")
    if not isinstance(row["completions"], list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"completions must be a list, found {type_name(row['completions'])}")
    records, unrated = [], 0
    for place, item in enumerate(row["completions"]):
        if not isinstance(item, dict) or "response" not in item:
            raise Refused(Reason.WRONG_TYPE, f"a completion must be an object with a response, found {short(item)}")
        values = _aspects(item.get("annotations"))
        unrated += not values
        if values:
            response = text(item["response"], f"completions[{place}].response")
            records.append(Rating(prompt=asked, response=response, values=values, source=optional_text(row, "source")))
    if not records:
        raise Refused(Reason.NO_RATINGS, "no completion has a rated aspect in its annotations")
    return ParsedRatings(tuple(records), (("completions without a rated aspect", unrated),) if unrated else ())


PARSERS: dict[str, Callable[[Row], ParsedRatings]] = {
    "rating": _parse_native,
    "rated": _parse_rated,
    "helpsteer2": _parse_helpsteer,
    "ultrafeedback_ratings": _parse_ultrafeedback,
}


def _record(row: Row, asked: Prompt, values: dict[str, float], *, annotator: str = "annotator_id") -> Rating:
    if not values:
        raise Refused(Reason.NO_RATINGS, "no objective is rated: a missing rating is left out, and one at least is needed")
    return Rating(
        prompt=asked,
        response=text(row["response"], "response"),
        values=values,
        annotator_id=optional_text(row, annotator),
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
    )


def _values(given: Any, name: str) -> dict[str, float]:
    if not isinstance(given, dict):
        raise Refused(Reason.WRONG_TYPE, f"{name} must be an object of objective: number, found {type_name(given)}: {short(given)}")
    if any(not isinstance(key, str) or not key.strip() for key in given):
        raise Refused(Reason.BAD_RATING, f"{name} has an objective without a name")
    return {key: _rating(value, f"{name}.{key}") for key, value in given.items() if value is not None}


def _rating(value: Any, name: str) -> float:
    if not is_number(value):
        raise Refused(Reason.BAD_RATING, f"{name} must be a finite number (or null: not rated), found {type_name(value)}: {short(value)}")
    return float(value)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _aspects(annotations: Any) -> dict[str, float]:
    """Ratings by aspect, written as numbers or as texts of digits."""
    values = {}
    for aspect, given in annotations.items() if isinstance(annotations, dict) else ():
        rating = given.get("Rating", given.get("rating")) if isinstance(given, dict) else None
        if isinstance(rating, str):
            rating = float(rating) if rating.isdecimal() and len(rating) < 10 else None
        if is_number(rating):
            values[str(aspect)] = float(rating)  # pyright: ignore[reportArgumentType]  # is_number says so
    return values


def _conversation(asked: str) -> Prompt:
    """HelpSteer2 writes earlier turns into the prompt, parted by `<extra_id_1>Assistant` and `<extra_id_1>User`."""
    first, *rest = _TURN.split(asked)
    turns = [Message(role="user", content=first)]
    for who, said in zip(rest[::2], rest[1::2], strict=True):
        turns.append(Message(role="user" if who == "User" else "assistant", content=said))
    return tuple(turns)


def _only(row: Row, allowed: frozenset[str]) -> None:
    unknown = sorted(row.keys() - allowed)
    if unknown:
        close = [difflib.get_close_matches(key, allowed, n=1) for key in unknown]
        parts = [f"{short(key, 40)}" + (f" (did you mean {near[0]!r}?)" if near else "") for key, near in zip(unknown, close, strict=True)]
        raise Refused(Reason.UNKNOWN_KEYS, f"unknown {', '.join(parts[:5])}; allowed are {listed(sorted(allowed))}")
