"""What rows say about the responses of a comparison: ids, texts, near-duplicates, rewards.

A row of a comparison has id (or comparison_id), and where known response_a_id and response_b_id, prompt, response_a and response_b. Rows
of judgments may carry the same fields, and a rationale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from preferent.annotators.pair_ends import Pair
from preferent.core.errors import DataError
from preferent.core.records import Prompt
from preferent.data.formats.fields import Refused, is_number, prompt, text
from preferent.data.ledger import Refusal
from preferent.data.lines import RawRow, parse_line, read_raw
from preferent.data.near import near_duplicates, normal

ENDS = ("response_a_id", "response_b_id")
TEXTS = ("response_a", "response_b")
IDS = ("comparison_id", "item", "id")


@dataclass(frozen=True, slots=True)
class Rows:
    """pairs: by comparison id as text, those whose responses are known. ids: the ids as they stand in the file, all of them, in its order.
    rationales: (annotator, choice, rationale) by comparison id as text."""

    pairs: dict[str, Pair] = field(default_factory=dict)
    ids: dict[str, Any] = field(default_factory=dict)
    rationales: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)


def read_pairs(path: Path, *, once: bool) -> Rows:
    """Every comparison that the file speaks of.

    once: a comparison may occur once only (a file of comparisons, not of judgments). Raises DataError with `path:line` for a row without
    an id, with one of two responses, with wrong types, or that contradicts an earlier row.
    """
    rows, first_at = Rows(), {}
    rationales: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for raw in _raw(path):
        value = raw.value
        name = next((value[key] for key in IDS if value.get(key) is not None), None)
        if name is None:
            raise DataError(f"{raw.where}: a comparison has an id ({', '.join(IDS)}); the row has {sorted(value)!r}")
        key = str(name)
        if once and key in rows.ids:
            raise DataError(f"{raw.where}: the comparison {name!r} was named before", hint="ids of comparisons are different")
        rows.ids.setdefault(key, name)
        if isinstance(value.get("rationale"), str) and value["rationale"].strip():
            who, choice = (value.get("annotator_id", value.get("annotator")), value.get("choice", value.get("label")))
            rationales[key].append((str(who), str(choice), value["rationale"]))
        pair = _pair(raw)
        if pair is None:
            continue
        if key in rows.pairs and rows.pairs[key] != pair:
            raise DataError(f"{raw.where}: comparison {name!r} shows other responses than at {first_at[key]}")
        if key not in rows.pairs:
            rows.pairs[key], first_at[key] = pair, raw.where
    rows.rationales.update(rationales)
    return rows


def _raw(path: Path) -> Iterator[RawRow]:
    for row in read_raw(path):
        if isinstance(row, Refusal):
            raise DataError(str(row))
        yield row


def _pair(raw: RawRow) -> Pair | None:
    """None where the row does not say which responses it shows."""
    row = raw.value
    ends, texts = [row.get(key) for key in ENDS], [row.get(key) for key in TEXTS]
    for keys, values in ((ENDS, ends), (TEXTS, texts)):
        if (values[0] is None) != (values[1] is None):
            raise DataError(f"{raw.where}: one of {keys[0]} and {keys[1]} is missing")
    try:
        turns = None if row.get("prompt") is None else prompt(row["prompt"])
        a, b = (None if value is None else text(value, key) for key, value in zip(TEXTS, texts, strict=True))
    except Refused as refused:
        raise DataError(f"{raw.where}: {refused.detail}") from refused
    if ends[0] is not None:
        pair = Pair(str(ends[0]), str(ends[1]), turns, a, b)
    elif a is not None and b is not None:
        name_a, name_b = response_name(turns, a), response_name(turns, b)
        # Twice the same text is no response against itself: its sides stay two.
        pair = Pair(name_a, name_b if name_b != name_a else f"{name_b}/b", turns, a, b)
    else:
        return None
    if pair.a == pair.b:
        raise DataError(f"{raw.where}: both sides are the response {pair.a!r}", hint="leave such comparisons out: they teach nothing")
    return pair


def response_name(turns: Prompt | None, response: str) -> str:
    """A name for a response that has no id: of its prompt and its text, the same in every file."""
    parts = [f"{message.role}\0{message.content}" for message in turns or ()]
    return "r" + blake2b("\0\0".join([*parts, response]).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def question_codes(pairs: Sequence[Pair]) -> list[tuple[int, frozenset[Any]]]:
    """Equal for pairs that ask the same question: near-duplicate prompts, and responses that are near-duplicates of each other's (of
    pairs without texts, the same responses)."""
    prompts = _clusters({_words(pair.prompt) for pair in pairs})
    responses = _clusters({normal(side) for pair in pairs if pair.has_texts for side in (pair.text_a or "", pair.text_b or "")})
    codes = []
    for pair in pairs:
        sides = (responses[normal(pair.text_a or "")], responses[normal(pair.text_b or "")]) if pair.has_texts else (pair.a, pair.b)
        codes.append((prompts[_words(pair.prompt)], frozenset(sides)))
    return codes


def same_sides(pair: Pair) -> bool:
    """Whether both sides are the same text, up to case, spacing and punctuation: such a pair asks nothing."""
    return pair.has_texts and normal(pair.text_a or "") == normal(pair.text_b or "")


def _words(turns: Prompt | None) -> str:
    return " ".join(normal(message.content) for message in turns or ())


def _clusters(texts: Iterable[str]) -> dict[str, int]:
    # Sorted, so that the clusters do not depend on the order of the rows.
    ordered = sorted(texts)
    return dict(zip(ordered, near_duplicates(ordered).tolist(), strict=True)) if ordered else {}


def read_scores(path: Path) -> dict[str, list[tuple[float, float | None]]]:
    """(reward, std or None) by id as text, as `preferent score` writes them: one for a response, two for a comparison (rewards of a and b).

    Raises DataError for a row without id, without reward, or with a reward that is no number.
    """
    found: dict[str, list[tuple[float, float | None]]] = {}
    for raw in _raw(path):
        row = raw.value
        rewards = row.get("rewards") if "rewards" in row else [row.get("reward")]
        stds = row.get("stds") if "stds" in row else [row.get("std")] if "std" in row else [None] * len(rewards or ())
        if row.get("id") is None or not isinstance(rewards, list) or not isinstance(stds, list) or len(rewards) != len(stds):
            raise DataError(f"{raw.where}: a score has id and reward (std), or id and rewards (stds); the row has {sorted(row)!r}")
        bad = [value for value in (*rewards, *(std for std in stds if std is not None)) if not is_number(value)]
        if bad or any(std is not None and std < 0 for std in stds):
            raise DataError(f"{raw.where}: rewards are finite numbers and stds not negative, found {(bad or stds)!r}")
        found[str(row["id"])] = [(float(reward), std) for reward, std in zip(rewards, stds, strict=True) if reward is not None]
    return found


def gap_of(
    scores: Mapping[str, list[tuple[float, float | None]]], comparison_id: Any, pair: Pair, where: Path
) -> tuple[float, float | None]:
    """(reward of a minus reward of b, its standard deviation or None). Raises DataError where the scores lack the comparison."""
    both = scores.get(str(comparison_id))
    if both is None or len(both) != 2:
        both = [*scores.get(pair.a, []), *scores.get(pair.b, [])]
    if len(both) != 2:
        raise DataError(
            f"{where}: no scores for comparison {comparison_id!r} (responses {pair.a!r} and {pair.b!r})",
            hint="rows have the id of a response and its reward, or the id of a comparison and the rewards of a and b",
        )
    (reward_a, std_a), (reward_b, std_b) = both
    return reward_a - reward_b, None if std_a is None or std_b is None else (std_a**2 + std_b**2) ** 0.5


def read_people(path: Path) -> dict[Any, int | None]:
    """Budget (or None) by annotator: JSON lines of annotator_id (and budget), or one id a line.

    Raises DataError for an annotator who is named twice, a row without a name, or a budget that is no whole number from 0.
    """
    found: dict[Any, int | None] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        name, budget = line.strip(), None
        if name.startswith("{"):
            row = parse_line(line.encode(), where)
            if isinstance(row, Refusal):
                raise DataError(str(row))
            name, budget = row.value.get("annotator_id"), row.value.get("budget")
        if name is None or (budget is not None and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 0)):
            raise DataError(f"{where}: an annotator has annotator_id and a budget from 0, found {line.strip()[:80]!r}")
        if name in found:
            raise DataError(f"{where}: the annotator {name!r} was named before")
        found[name] = budget
    if not found:
        raise DataError(f"{path}: names no annotator")
    return found
