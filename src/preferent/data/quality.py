"""What is wrong with the texts of a record, whatever shape it came in."""

from __future__ import annotations

from preferent.core.records import Preference, Prompt, Ranking
from preferent.data.ledger import Reason

# A shorter prompt ("Hi") can honestly be how an answer begins.
SHORTEST_REPEAT = 10
ENDS_WITH_ASSISTANT = "prompt ends with an assistant turn; kept"


def last_user(prompt: Prompt) -> str:
    """The text of the last user turn, without the space around it; empty where there is none."""
    for message in reversed(prompt):
        if message.role == "user":
            return message.content.strip()
    return ""


def repeats_prompt(prompt: Prompt, response: str) -> bool:
    """Whether a response begins with the last user turn, letter for letter, of at least 10 characters."""
    asked = last_user(prompt)
    return len(asked) >= SHORTEST_REPEAT and response.lstrip().startswith(asked)


def wrong_with(record: Preference | Ranking) -> tuple[Reason, str] | None:
    """Why a record must not be trained on, or None."""
    if not any(message.role == "user" and not _blank(message.content) for message in record.prompt):
        found = ", ".join(message.role for message in record.prompt) or "no turn at all"
        return Reason.EMPTY_PROMPT, f"the prompt needs a user turn with a text, found {found}"
    if isinstance(record, Ranking):
        return None
    for side, response in (("a", record.response_a), ("b", record.response_b)):
        if _blank(response):
            return Reason.EMPTY_RESPONSE, f"response {side} is {response[:20]!r}"
    if record.response_a.strip() == record.response_b.strip():
        return Reason.IDENTICAL_RESPONSES, f"both are {_short(record.response_a)}"
    for side, response in (("a", record.response_a), ("b", record.response_b)):
        if repeats_prompt(record.prompt, response):
            return Reason.PROMPT_IN_RESPONSE, f"response {side} begins with the prompt {_short(last_user(record.prompt))}"
    return None


def note_on(record: Preference | Ranking) -> str | None:
    """Something odd that is kept and counted."""
    return ENDS_WITH_ASSISTANT if record.prompt[-1].role == "assistant" else None


def _blank(text: str) -> bool:
    return not text or text.isspace()


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
