"""Several responses to one prompt: `responses` with `ranks` or `scores`, `candidates` with scores (best-of-n), `best` with `losers`.

They become a `Ranking`: rank 1 is best, a higher score is better, equal scores share a rank. Ranks are renumbered 1, 2, 3, ... without
gaps. Left out and counted, never in silence: responses without a score, empty ones, and ones that begin with their prompt; the same
text twice stands once, with the mean of its scores. A row with fewer than two responses left is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from preferent.core.records import Prompt, Ranking
from preferent.data.formats.fields import Parsed, Refused, Row, is_number, meta, need, optional_text, prompt, text, weight
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name
from preferent.data.quality import repeats_prompt

# What a candidate's score is called, in order of preference; one name serves the whole row.
SCORE_KEYS = ("score", "reward", "rating", "p_beats_ref", "correct")
_DONE = {"given twice": "stand once, with the mean of their scores"}
_RESPONSES = frozenset({"prompt", "responses", "ranks", "scores", "weight"})
_CANDIDATES = frozenset({"prompt", "candidates", "weight"})
_BEST = frozenset({"prompt", "best", "losers", "weight"})


def parse_responses(row: Row) -> Parsed:
    """`prompt, responses, ranks` (1 is best) or `prompt, responses, scores` (higher is better)."""
    need(row, "prompt", "responses")
    given = _list(row["responses"], "responses")
    if row.get("ranks") is not None:
        values, sign = _list(row["ranks"], "ranks"), -1.0
    else:
        need(row, "scores")
        values, sign = _list(row["scores"], "scores"), 1.0
    if len(values) != len(given):
        raise Refused(Reason.BAD_SCORES, f"{len(given)} responses but {len(values)} {'scores' if sign > 0 else 'ranks'}")
    texts = [_response(item, f"responses[{i}]") for i, item in enumerate(given)]
    scores = [None if value is None else sign * score(value, f"value {i + 1}") for i, value in enumerate(values)]
    return build(row, prompt(row["prompt"]), texts, scores, read=_RESPONSES)


def parse_candidates(row: Row) -> Parsed:
    """`prompt, candidates[{text, score}]`; the score may also be called reward, rating, p_beats_ref, or correct (true or false)."""
    need(row, "prompt", "candidates")
    given = _list(row["candidates"], "candidates")
    for item in given:
        if not isinstance(item, dict) or "text" not in item:
            raise Refused(Reason.WRONG_TYPE, f"a candidate must be an object with a text, found {short(item)}")
    name = next((key for key in SCORE_KEYS if any(item.get(key) is not None for item in given)), None)
    if name is None:
        raise Refused(Reason.TOO_FEW_RESPONSES, f"no candidate has a score; looked for {', '.join(SCORE_KEYS)}")
    texts = [text(item["text"], f"candidates[{i}].text") for i, item in enumerate(given)]
    scores = [
        None
        if item.get(name) is None
        else float(item[name])
        if name == "correct" and isinstance(item[name], bool)
        else score(item[name], name)
        for item in given
    ]
    return build(row, prompt(row["prompt"]), texts, scores, read=_CANDIDATES)


def parse_best_losers(row: Row) -> Parsed:
    """`prompt, best, losers[]`: the best response beats every other. The losers share rank 2: a ranking cannot
    say "not compared"."""
    need(row, "prompt", "best", "losers")
    losers = [text(item, f"losers[{i}]") for i, item in enumerate(_list(row["losers"], "losers"))]
    best = text(row["best"], "best")
    parsed = build(row, prompt(row["prompt"]), [best, *losers], [1.0, *[0.0] * len(losers)], read=_BEST)
    note = "best and losers: the losers share one rank, though nobody compared them with each other"
    return replace(parsed, notes=(*parsed.notes, (note, 1))) if len(losers) > 1 else parsed


def build(row: Row, turns: Prompt, texts: Sequence[str], scores: Sequence[float | None], *, read: frozenset[str]) -> Parsed:
    """A `Ranking` of the responses that have a score, higher being better."""
    kept, notes = meta(row, read)
    left_out = {"without a score": 0, "that are empty": 0, "that begin with the prompt": 0, "given twice": 0}
    totals: dict[str, list[float]] = {}
    for response, value in zip(texts, scores, strict=True):
        if value is None:
            left_out["without a score"] += 1
        elif not response.strip():
            left_out["that are empty"] += 1
        elif repeats_prompt(turns, response):
            left_out["that begin with the prompt"] += 1
        else:
            left_out["given twice"] += response in totals
            totals.setdefault(response, []).append(value)
    if len(totals) < 2:
        counts = ", ".join(f"{n} {what}" for what, n in left_out.items() if n)
        raise Refused(
            Reason.TOO_FEW_RESPONSES, f"{len(totals)} of {len(texts)} responses can be compared" + (f" ({counts})" if counts else "")
        )
    means = [values[0] if len(values) == 1 else sum(values) / len(values) for values in totals.values()]
    place = {value: rank for rank, value in enumerate(sorted(set(means), reverse=True), 1)}
    record = Ranking(
        prompt=turns,
        responses=tuple(totals),
        ranks=tuple(float(place[value]) for value in means),
        weight=weight(row),
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
        meta=kept,
    )
    return Parsed(
        record, notes + tuple((f"responses {what}: {_DONE.get(what, 'left out of their ranking')}", n) for what, n in left_out.items() if n)
    )


def score(value: Any, name: str) -> float:
    if not is_number(value):
        raise Refused(Reason.BAD_SCORES, f"{name} must be a number, found {type_name(value)}: {short(value)}")
    return float(value)


def _response(item: Any, name: str) -> str:
    """A response as a text, or as an object with a `text`, `response` or `content`."""
    if isinstance(item, dict):
        item = next((item[key] for key in ("text", "response", "content") if key in item), None)
    return text(item, name)


def _list(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"{name} must be a list, found {type_name(value)}: {short(value)}")
    return value
