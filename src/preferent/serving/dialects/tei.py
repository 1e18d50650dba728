"""text-embeddings-inference: POST /predict or /rerank (router/src/http/types.rs of huggingface/text-embeddings-inference).

/predict classifies texts or pairs of texts: [[prompt, response], ...] here, or [[text], ...] with `render` (a flat list of two would be
read as one pair). It is answered with one list of {"score", "label"} for each; a reward model has one label. /rerank takes one query and
its texts, so that the responses to a prompt go together, and answers sorted by score. Both are asked for raw scores. A server refuses
more than 32 at once unless started otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from preferent.core.records import Exchange, Prompt
from preferent.serving.dialects.dialect import AnswerError, Render, by_index, chunks, field, listed, number, prompt_text, short

ROUTES = ("/predict", "/rerank")


@dataclass(frozen=True, slots=True)
class Tei:
    """`truncate` True lets the server cut what is too long; otherwise it refuses it."""

    route: str = "/predict"
    render: Render | None = None
    truncate: bool = False
    name: str = "tei"
    most: int = 32

    @property
    def path(self) -> str:
        return self.route

    def batches(self, exchanges: Sequence[Exchange], size: int) -> list[list[int]]:
        if self.route != "/rerank":
            return chunks(len(exchanges), size)
        by_prompt: dict[Prompt, list[int]] = {}
        for place, exchange in enumerate(exchanges):
            by_prompt.setdefault(exchange.prompt, []).append(place)
        return [[rows[k] for k in part] for rows in by_prompt.values() for part in chunks(len(rows), size)]

    def body(self, exchanges: Sequence[Exchange]) -> dict[str, Any]:
        how = {"raw_scores": True, "truncate": self.truncate}
        if self.route == "/rerank":
            return {"query": prompt_text(exchanges[0].prompt), "texts": [exchange.response for exchange in exchanges], **how}
        if self.render is not None:
            return {"inputs": [[self.render(exchange)] for exchange in exchanges], **how}
        return {"inputs": [[prompt_text(exchange.prompt), exchange.response] for exchange in exchanges], **how}

    def read(self, answer: Any, n: int) -> list[float]:
        entries = listed(answer, n, "the answer")
        if self.route == "/rerank":
            return [number(field(entry, "score", "an entry"), "score") for entry in by_index(entries, "the answer")]
        return [self._score(entry) for entry in entries]

    def _score(self, entry: Any) -> float:
        labels = entry if isinstance(entry, list) else [entry]
        if len(labels) != 1:
            raise AnswerError(f"{len(labels)} labels for one text, and a reward model has one: {short(entry)}")
        return number(field(labels[0], "score", "an entry"), "score")

    def speak(self, body: dict[str, Any], reward: Callable[[str], float]) -> Any:
        if self.route == "/rerank":
            scored = [{"index": i, "score": reward(f"{body['query']}\n\n{text}")} for i, text in enumerate(body["texts"])]
            return sorted(scored, key=lambda entry: -entry["score"])
        return [[{"score": reward("\n\n".join(parts)), "label": "reward"}] for parts in body["inputs"]]
