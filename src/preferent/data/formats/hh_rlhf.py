"""hh-rlhf: `chosen` and `rejected` are whole transcripts of `\\n\\nHuman:` and `\\n\\nAssistant:` turns (Bai et al. 2022).

They are split at the last common human turn: all turns but the last one are the prompt, and both sides must agree on them; a pair
that differs earlier compares answers to different prompts and is refused.
"""

from __future__ import annotations

import re
from typing import Any

from preferent.core.records import Message, Preference, Prompt
from preferent.data.formats.fields import Parsed, Refused, Row, margin, meta, need, optional_text, text, weight
from preferent.data.ledger import Reason
from preferent.data.lines import short

READ = frozenset({"chosen", "rejected", "margin", "weight"})
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}


def is_transcript(value: Any) -> bool:
    """A text that begins with a human turn."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def turns(transcript: str, name: str) -> Prompt:
    """The turns of a transcript, without the space around their text."""
    parts = _TURN.split(transcript.lstrip("\n").rstrip())
    if len(parts) < 3 or parts[0].strip():
        raise Refused(Reason.BAD_MESSAGES, f"{name} does not begin with a 'Human:' turn: {short(transcript)}")
    return tuple(
        Message.model_validate({"role": _ROLE[who], "content": said.strip()}) for who, said in zip(parts[1::2], parts[2::2], strict=True)
    )


def parse(row: Row) -> Parsed:
    """A pair of transcripts as a `Preference` for the chosen one."""
    need(row, "chosen", "rejected")
    chosen, rejected = turns(text(row["chosen"], "chosen"), "chosen"), turns(text(row["rejected"], "rejected"), "rejected")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side[-1].role != "assistant":
            raise Refused(Reason.BAD_MESSAGES, f"the last turn of {name} is not the assistant's: {short(side[-1].content)}")
    if chosen[:-1] != rejected[:-1]:
        same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
        raise Refused(Reason.DIFFERENT_PROMPTS, f"the sides differ from turn {same + 1} on, of {len(chosen)} and {len(rejected)} turns")
    kept, notes = meta(row, READ)
    record = Preference(
        prompt=chosen[:-1],
        response_a=chosen[-1].content,
        response_b=rejected[-1].content,
        p_a=1.0,
        weight=weight(row),
        margin=margin(row),
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
        meta=kept,
    )
    return Parsed(record, notes)
