"""transformers' text-classification pipeline on the fixture: `python bench/peers/pipeline_score.py FIXTURE --data shared --batch 8`.

Each item is handed over as its rendered text, in the order given or (`--form sorted`) by length, which the pipeline does not do itself;
function_to_apply is "none", so that what comes back is the raw reward.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from scoring import MAX_LENGTH, Item, measure, options


def main() -> None:
    given = options("given", "sorted")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(given.fixture / "model")
    model = AutoModelForSequenceClassification.from_pretrained(given.fixture / "model").eval()
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")

    def score(items: list[Item]) -> list[float]:
        texts = [tokenizer.apply_chat_template(item.messages(), tokenize=False) for item in items]
        order = list(range(len(texts)))
        if given.form == "sorted":
            order.sort(key=lambda i: -len(texts[i]))
        answers: Any = classify(
            [texts[i] for i in order],
            batch_size=given.batch or 1,
            function_to_apply="none",
            top_k=None,
            truncation=True,
            max_length=MAX_LENGTH,
        )
        scores = [0.0] * len(texts)
        for i, labels in zip(order, answers, strict=True):
            scores[i] = labels[0]["score"]
        return scores

    measure(given, "pipeline", score)


if __name__ == "__main__":
    main()
