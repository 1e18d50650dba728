"""vLLM's pooling models: POST /classify, /pooling or /score (docs/models/pooling_models of vllm-project/vllm).

/classify and /pooling take a conversation as messages and put it through the model's own chat template, one conversation in a request;
with `render`, texts instead, many in a request. Raw values are asked for (`use_activation` false): a model with one label would
otherwise be put through a sigmoid. /classify answers `probs`, one number for a model with one label; /pooling the pooled vector, which
has one number for a reward model. /score pairs queries with documents and is for models with a score template. What a server offers
depends on how it was started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from preferent.core.records import Exchange
from preferent.serving.dialects.dialect import AnswerError, Render, by_index, chunks, field, listed, number, prompt_text, short

ROUTES = ("/classify", "/pooling", "/score")


@dataclass(frozen=True, slots=True)
class Vllm:
    """`model`: the name that the server serves it under, None for its only one."""

    route: str = "/classify"
    model: str | None = None
    render: Render | None = None
    name: str = "vllm"

    @property
    def path(self) -> str:
        return self.route

    @property
    def most(self) -> int:
        return 1 if self.route != "/score" and self.render is None else 64

    def batches(self, exchanges: Sequence[Exchange], size: int) -> list[list[int]]:
        return chunks(len(exchanges), size)

    def body(self, exchanges: Sequence[Exchange]) -> dict[str, Any]:
        named = {} if self.model is None else {"model": self.model}
        if self.route == "/score":
            queries = [prompt_text(exchange.prompt) for exchange in exchanges]
            return {**named, "queries": queries, "documents": [exchange.response for exchange in exchanges], "use_activation": False}
        raw = {"use_activation": False}
        if self.render is not None:
            # The template has written the special tokens already.
            return {**named, "input": [self.render(exchange) for exchange in exchanges], "add_special_tokens": False, **raw}
        (exchange,) = exchanges
        turns = [{"role": message.role, "content": message.content} for message in exchange.prompt]
        return {**named, "messages": [*turns, {"role": "assistant", "content": exchange.response}], **raw}

    def read(self, answer: Any, n: int) -> list[float]:
        entries = by_index(listed(field(answer, "data", "the answer"), n, "data"), "data")
        key = {"/classify": "probs", "/pooling": "data", "/score": "score"}[self.route]
        return [self._reward(field(entry, key, "an entry of data"), key) for entry in entries]

    def _reward(self, value: Any, key: str) -> float:
        if isinstance(value, list) and len(value) != 1:
            kind = "a vector per token: a process reward model" if value and isinstance(value[0], list) else f"{len(value)} numbers"
            raise AnswerError(f"{key!r} holds {kind}, not one reward: {short(value)}")
        return number(value, key)

    def speak(self, body: dict[str, Any], reward: Callable[[str], float]) -> Any:
        if self.route == "/score":
            texts = [f"{query}\n\n{document}" for query, document in zip(body["queries"], body["documents"], strict=True)]
        elif "messages" in body:
            texts = ["\n\n".join(turn["content"] for turn in body["messages"])]
        else:
            texts = body["input"]
        rewards = list(enumerate(map(reward, texts)))
        if self.route == "/classify":
            data = [{"index": i, "label": "reward", "probs": [value], "num_classes": 1} for i, value in rewards]
        elif self.route == "/pooling":
            data = [{"index": i, "object": "pooling", "data": [value]} for i, value in rewards]
        else:
            data = [{"index": i, "object": "score", "score": value} for i, value in rewards]
        # Out of order, which a client must not mind.
        return {"id": "x", "object": "list", "model": body.get("model", "m"), "data": data[::-1]}
