"""Rows to be scored, and the rows that answer them.

Asked: `id, prompt, response`, or `id, prompt, responses`. Answered: `id, reward` (with `std`, `objectives`, `steps` where the scorer
states them), or `id, rewards` (`stds`, `objectives_each`, `steps_each`); a row that cannot be scored: `id, reward: null,
error: "path:line: ..."`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from preferent.core.errors import ModelError
from preferent.core.records import Exchange, Scores
from preferent.core.scorer import Scorer
from preferent.data.formats.fields import Refused, Row, need, prompt, text
from preferent.data.ledger import Reason, Refusal
from preferent.data.lines import RawRow, Source, read_raw, short, type_name


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the input: its exchanges (several where `many`), or the error that it is answered with."""

    where: str
    id: str | int | None
    exchanges: tuple[Exchange, ...] = ()
    many: bool = False
    error: str | None = None


def read_items(source: Source, *, split: str = "train") -> Iterator[Item]:
    """Every row of the source, in its order; rows that cannot be scored come as errors. Columns of no use are passed over."""
    for raw in read_raw(source, split=split):
        yield Item(raw.where, None, error=str(raw)) if isinstance(raw, Refusal) else _item(raw)


def _item(raw: RawRow) -> Item:
    given = raw.value.get("id")
    name = given if isinstance(given, str | int) and not isinstance(given, bool) else None
    try:
        if given is not None and name is None:
            raise Refused(Reason.WRONG_TYPE, f"id must be a text or a whole number, found {type_name(given)}: {short(given)}")
        exchanges = _exchanges(raw.value)
    except Refused as refused:
        return Item(raw.where, name, error=str(Refusal(raw.where, refused.reason, refused.detail)))
    return Item(raw.where, name, exchanges, many="responses" in raw.value)


def _exchanges(row: Row) -> tuple[Exchange, ...]:
    need(row, "prompt")
    if ("response" in row) == ("responses" in row):
        raise Refused(Reason.MISSING_KEYS, f"needs either response or responses; the row has {', '.join(sorted(row)[:12])}")
    turns = prompt(row["prompt"])
    if not turns:
        raise Refused(Reason.EMPTY_PROMPT, "the prompt holds no message")
    if "response" in row:
        return (Exchange(prompt=turns, response=text(row["response"], "response")),)
    given = row["responses"]
    if not isinstance(given, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"responses must be a list, found {type_name(given)}: {short(given)}")
    return tuple(Exchange(prompt=turns, response=text(item, f"responses[{i}]")) for i, item in enumerate(given))


def answer(scorer: Scorer, items: Sequence[Item]) -> list[dict[str, Any]]:
    """The answer to each item, in order. Raises ModelError when the scorer returns another number of rewards than it was asked for."""
    flat = [exchange for item in items for exchange in item.exchanges]
    scores = scorer.score(flat) if flat else None
    if scores is not None and len(scores) != len(flat):
        raise ModelError(f"{scorer.name} returned {len(scores)} rewards for {len(flat)} exchanges")
    answers, at = [], 0
    for item in items:
        n = len(item.exchanges)
        answers.append({"id": item.id, "reward": None, "error": item.error} if item.error else _scored(item, scores, slice(at, at + n)))
        at += n
    return answers


def _scored(item: Item, scores: Scores | None, span: slice) -> dict[str, Any]:
    rewards = [] if scores is None else _finite(scores.reward[span])
    row: dict[str, Any] = {"id": item.id}
    if item.many:
        row["rewards"] = rewards
    else:
        row["reward"] = rewards[0]
    if scores is not None and scores.std is not None:
        stds = _finite(scores.std[span])
        row |= {"stds": stds} if item.many else {"std": stds[0]}
    if scores is not None and scores.objectives:
        columns = {name: _finite(values[span]) for name, values in scores.objectives.items()}
        each = [{name: values[i] for name, values in columns.items()} for i in range(len(rewards))]
        row |= {"objectives_each": each} if item.many else {"objectives": each[0]}
    if scores is not None and scores.steps is not None:
        steps = [_finite(values) for values in scores.steps[span]]
        row |= {"steps_each": steps} if item.many else {"steps": steps[0]}
    if None in rewards:
        row["error"] = f"{item.where}: the scorer returned a reward that is not a finite number"
    return row


def _finite(values: Any) -> list[float | None]:
    """JSON has no NaN and no infinity: null stands for what is no number."""
    return [float(value) if math.isfinite(value) else None for value in values]
