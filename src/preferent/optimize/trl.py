"""Any scorer as a reward function of TRL: `GRPOTrainer(model, reward_funcs=[TrlReward(scorer)], ...)`.

TRL calls a reward function with keyword arguments: `prompts`, `completions`, `completion_ids`, every other column of the data set, and
`trainer_state`, `log_metric`, `log_extra`; the asynchronous trainers leave the last three out and send the function to another process,
so it must pickle. It expects one number for each completion, or None where there is none. This module imports nothing of TRL.

A scorer renders and tokenizes by itself, as in its own training, so the reward does not depend on the policy's tokenizer or template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from preferent.core.errors import DataError
from preferent.core.records import ROLES, Exchange, Message, Prompt, Role, user
from preferent.core.scorer import Scorer

Turn = Mapping[str, Any]
Text = str | Sequence[Turn]  # standard, or conversational
# `developer` is another word for `system` in some chat formats.
ROLE_OF: dict[Any, Role] = {**{role: role for role in ROLES}, "developer": "system"}


class TrlReward:
    """A reward function for GRPO, RLOO and their kin. It pickles if the scorer does.

    name: what TRL's logs call the reward (`rewards/<name>/mean`); by default the scorer's name. Two rewards of one name share their
    logs, so give each its own. A reward that is not finite is None for TRL, which leaves the completion out, and is counted in the
    metric `<name>/not_finite`. Where the scorer states its uncertainty, `<name>/std` logs the mean.
    """

    def __init__(self, scorer: Scorer, *, name: str | None = None) -> None:
        self.scorer = scorer
        self.__name__ = re.sub(r"[^\w.-]+", "_", name or scorer.name).strip("_") or "reward"

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward for each completion, in order. Raises DataError for what is not TRL's format; the scorer's own errors pass through,
        since a policy trained on made-up rewards is worse than a run that stops.
        """
        rewards = self.scorer.score(exchanges(prompts, completions))
        finite_N = np.isfinite(rewards.reward)
        if log_metric is not None:
            if not finite_N.all():
                log_metric(f"{self.__name__}/not_finite", float((~finite_N).mean()))
            if rewards.std is not None and len(rewards.std):
                log_metric(f"{self.__name__}/std", float(np.mean(rewards.std)))
        return [float(value) if known else None for value, known in zip(rewards.reward, finite_N, strict=True)]


def exchanges(prompts: Sequence[Text], completions: Sequence[Text]) -> list[Exchange]:
    """TRL's prompts and completions, standard (texts) or conversational (lists of messages), as exchanges.

    A completion of several messages (calls of tools and their results) is the final assistant message, all before it being part of the
    prompt. Raises DataError, naming the row, for unequal numbers, an unknown role, content that is not text, or a completion that does
    not end with the assistant.
    """
    if len(prompts) != len(completions):
        raise DataError(f"TRL reward: {len(prompts)} prompts and {len(completions)} completions, needs one of each")
    return [_exchange(prompt, completion, row) for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))]


def _exchange(prompt: Text, completion: Text, row: int) -> Exchange:
    before = user(prompt) if isinstance(prompt, str) else _messages(prompt, row)
    if isinstance(completion, str):
        return Exchange(prompt=before, response=completion)
    turns = _messages(completion, row)
    if not turns or turns[-1].role != "assistant":
        last = repr(turns[-1].role) if turns else "nothing"
        raise DataError(f"TRL reward: the completion of row {row} ends with {last}, needs 'assistant'")
    return Exchange(prompt=(*before, *turns[:-1]), response=turns[-1].content)


def _messages(turns: Sequence[Turn], row: int) -> Prompt:
    return tuple(_message(turn, row) for turn in turns)


def _message(turn: Turn, row: int) -> Message:
    role = turn.get("role")
    if role not in ROLE_OF:
        raise DataError(f"TRL reward: row {row} has a message of role {role!r}, allowed are {list(ROLE_OF)}")
    content = turn.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = "".join(_part(part, row) for part in content)
    if content is None:  # a message that only calls tools
        content = ""
    if not isinstance(content, str):
        raise DataError(f"TRL reward: row {row} has content of type {type(content).__name__}, needs text")
    return Message(role=ROLE_OF[role], content=content)


def _part(part: Any, row: int) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise DataError(
        f"TRL reward: row {row} has a part of type {kind!r}; scorers read text", hint="a reward of images needs its own function"
    )
