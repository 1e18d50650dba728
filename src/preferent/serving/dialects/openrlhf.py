"""OpenRLHF's remote reward model (openrlhf/utils/agent.py, openrlhf/cli/serve_rm.py): POST /get_reward.

{"query": [text], "prompts": [text], "labels": [null]} is answered with {"rewards": [number or [number]], ...}; other keys are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from preferent.core.records import Exchange
from preferent.serving.dialects.dialect import Render, chunks, field, listed, number, plain_text, prompt_text


@dataclass(frozen=True, slots=True)
class OpenRlhf:
    """`render` makes the text that the server scores: give the chat template of its model."""

    path: str = "/get_reward"
    render: Render = plain_text
    name: str = "openrlhf"
    most: int = 64

    def batches(self, exchanges: Sequence[Exchange], size: int) -> list[list[int]]:
        return chunks(len(exchanges), size)

    def body(self, exchanges: Sequence[Exchange]) -> dict[str, Any]:
        return {
            "query": [self.render(exchange) for exchange in exchanges],
            "prompts": [prompt_text(exchange.prompt) for exchange in exchanges],
            "labels": [None] * len(exchanges),
        }

    def read(self, answer: Any, n: int) -> list[float]:
        rewards = listed(field(answer, "rewards", "the answer"), n, "rewards")
        return [number(reward, "a reward") for reward in rewards]

    def speak(self, body: dict[str, Any], reward: Callable[[str], float]) -> Any:
        rewards = [reward(text) for text in body["query"]]
        return {"rewards": rewards, "scores": list(rewards), "extra_logs": {}}
