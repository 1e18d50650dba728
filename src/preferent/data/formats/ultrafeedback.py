"""UltraFeedback (Cui et al. 2023): `instruction` and `completions[{response, fine-grained_score, annotations, overall_score}]`.

The score of a completion is its `fine-grained_score` (the mean rating of four aspects), else the mean of the ratings in
`annotations`, else `overall_score`. That order, because some published `overall_score`s are wrong by a factor of ten. One kind
serves a whole row, so that scores of two scales are not compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preferent.data.formats.fields import Parsed, Refused, Row, need, prompt, text
from preferent.data.formats.ranked import build, score
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

READ = frozenset({"instruction", "prompt", "completions", "weight"})


def parse(row: Row) -> Parsed:
    """An UltraFeedback row as a `Ranking` of its completions."""
    need(row, "completions")
    if "instruction" not in row:
        need(row, "prompt")
    asked = row["instruction"] if "instruction" in row else row["prompt"]
    given = row["completions"]
    if not isinstance(given, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"completions must be a list, found {type_name(given)}: {short(given)}")
    for item in given:
        if not isinstance(item, dict) or "response" not in item:
            raise Refused(Reason.WRONG_TYPE, f"a completion must be an object with a response, found {short(item)}")
    kinds = [[kind(item) for item in given] for kind in _KINDS]
    scores = max(kinds, key=lambda values: sum(value is not None for value in values))
    texts = [text(item["response"], f"completions[{i}].response") for i, item in enumerate(given)]
    return build(row, prompt(asked, "instruction"), texts, scores, read=READ)


def _named(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda item: None if item.get(name) is None else score(item[name], name)


def _mean_rating(item: dict[str, Any]) -> float | None:
    """Mean of the aspects' ratings, written as numbers or as texts of digits; aspects rated N/A are absent."""
    aspects = item.get("annotations")
    if not isinstance(aspects, dict):
        return None
    ratings = [aspect.get("Rating", aspect.get("rating")) for aspect in aspects.values() if isinstance(aspect, dict)]
    numbers = [float(rating) for rating in ratings if isinstance(rating, str) and rating.isdecimal() and len(rating) < 10]
    numbers += [score(rating, "Rating") for rating in ratings if rating is not None and not isinstance(rating, str)]
    return sum(numbers) / len(numbers) if numbers else None


# max() takes the first of equals: the order of preference.
_KINDS = (_named("fine-grained_score"), _mean_rating, _named("overall_score"))
