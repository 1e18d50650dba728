"""`chosen` and `rejected` as TRL takes them: texts or message lists, with a `prompt` column or without one, with an optional `margin`.

Without a prompt column:
- message lists: the messages that both sides begin with are the prompt, and exactly one assistant message must follow on each side;
- transcripts of `Human:`/`Assistant:` turns are read by `hh_rlhf`;
- other texts: as in TRL, the common beginning of the two texts, cut back to a whole word, is the prompt. A row where that is empty
  is refused. The ledger counts such rows, since two answers that begin with the same words lend these to the prompt.

With a prompt column, message lists may repeat the prompt (as UltraFeedback binarized does); then it must be the same on both sides.
`score_chosen`/`score_rejected` (or `chosen_score`, `chosen_rating` and their partners) are checked against the preference.
"""

from __future__ import annotations

from typing import Any

from preferent.core.records import Preference, Prompt
from preferent.data.formats import hh_rlhf
from preferent.data.formats.fields import (
    Notes,
    Parsed,
    Refused,
    Row,
    is_number,
    listed,
    margin,
    messages,
    meta,
    need,
    optional_text,
    prompt,
    text,
    weight,
)
from preferent.data.ledger import Reason
from preferent.data.lines import short, type_name

SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen_rating", "rejected_rating"))
READ = frozenset({"prompt", "chosen", "rejected", "margin", "weight"})
# Columns that hold a prompt under another name; guessing one from the texts beside it would be dishonest.
_OTHER_PROMPTS = ("question", "instruction", "query", "input", "context", "post", "problem")


def parse(row: Row) -> Parsed:
    """A pair as a `Preference` for the chosen side (`p_a` = 1)."""
    need(row, "chosen", "rejected")
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise Refused(
            Reason.WRONG_TYPE,
            f"chosen and rejected must be of one type, found {type_name(chosen)} and {type_name(rejected)}: {short(rejected)}",
        )
    notes: Notes = ()
    if isinstance(chosen, str):
        turns, a, b, notes = _texts(row, chosen, text(rejected, "rejected"))
    elif "prompt" in row:
        turns, a, b = _explicit(row["prompt"], messages(chosen, "chosen"), messages(rejected, "rejected"))
    else:
        turns, a, b = _implicit(messages(chosen, "chosen"), messages(rejected, "rejected"))
    kept, more = meta(row, READ)
    record = Preference(
        prompt=turns,
        response_a=a,
        response_b=b,
        p_a=1.0,
        weight=weight(row),
        margin=margin(row),
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
        meta=kept,
    )
    return Parsed(record, notes + more, inverted(row, 1.0))


def inverted(row: Row, p_a: float) -> bool | None:
    """Whether the scores in `row` say the opposite of `p_a`; None without two scores."""
    for of_chosen, of_rejected in SCORES:
        chosen: Any = row.get(of_chosen)
        rejected: Any = row.get(of_rejected)
        if is_number(chosen) and is_number(rejected):
            return (float(chosen) - float(rejected)) * (p_a - 0.5) < 0
    return None


def _texts(row: Row, chosen: str, rejected: str) -> tuple[Prompt, str, str, Notes]:
    if "prompt" in row:
        given = row["prompt"]
        if hh_rlhf.is_transcript(given):
            return _open_transcript(given), chosen, rejected, ()
        return prompt(given), chosen, rejected, ()
    other = [key for key in _OTHER_PROMPTS if key in row]
    if other:
        raise Refused(Reason.MISSING_KEYS, f"missing 'prompt'; the row has {listed(row)}: rename {other[0]!r} if it is the prompt")
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
    start = chosen[:same]
    cut = max(start.rfind(space) for space in " \n\t") + 1
    if not start[:cut].strip():
        raise Refused(Reason.EMPTY_PROMPT, "no 'prompt', and the two texts have no common beginning of a whole word to take for it")
    note = ("implicit prompt: the common beginning of both texts, cut back to a whole word", 1)
    return prompt(start[:cut].strip()), chosen[cut:], rejected[cut:], (note,)


def _open_transcript(given: str) -> Prompt:
    """A prompt written as a transcript; the empty turn it may end with, where the answer goes, is no turn."""
    turns = hh_rlhf.turns(given, "prompt")
    return turns[:-1] if turns[-1].role == "assistant" and not turns[-1].content else turns


def _explicit(given: Any, chosen: Prompt, rejected: Prompt) -> tuple[Prompt, str, str]:
    turns = prompt(given)
    heads = chosen[:-1], rejected[:-1]
    a, b = _answer(chosen, "chosen"), _answer(rejected, "rejected")
    if heads[0] != heads[1]:
        raise Refused(
            Reason.DIFFERENT_PROMPTS, f"chosen and rejected differ before their last message ({len(chosen)} and {len(rejected)} messages)"
        )
    if not heads[0]:
        return turns, a, b
    # UltraFeedback binarized gives the first user turn as the prompt column and whole conversations beside it.
    repeats = isinstance(given, str) and any(turn.role == "user" and turn.content.strip() == given.strip() for turn in heads[0])
    if repeats or heads[0] == turns:
        return heads[0], a, b
    raise Refused(Reason.BAD_MESSAGES, f"chosen has {len(chosen)} messages after the prompt; only one answer can be scored")


def _implicit(chosen: Prompt, rejected: Prompt) -> tuple[Prompt, str, str]:
    a, b = _answer(chosen, "chosen"), _answer(rejected, "rejected")
    if chosen[:-1] == rejected[:-1]:
        return chosen[:-1], a, b
    same = next((i for i, (x, y) in enumerate(zip(chosen, rejected, strict=False)) if x != y), min(len(chosen), len(rejected)))
    after = [side[same] for side in (chosen, rejected) if same < len(side)]
    if all(turn.role == "assistant" for turn in after):
        raise Refused(
            Reason.BAD_MESSAGES,
            f"more than one message follows the {same} that the sides share (chosen {len(chosen) - same}, rejected {len(rejected) - same})",
        )
    raise Refused(Reason.DIFFERENT_PROMPTS, f"the sides differ from message {same + 1} on, which is not an answer")


def _answer(side: Prompt, name: str) -> str:
    if not side:
        raise Refused(Reason.BAD_MESSAGES, f"{name} holds no message")
    if side[-1].role != "assistant":
        raise Refused(Reason.BAD_MESSAGES, f"the last message of {name} is the {side[-1].role}'s, not the assistant's")
    return side[-1].content
