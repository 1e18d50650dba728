"""sentence-transformers' CrossEncoder.predict on the fixture: `python bench/peers/crossencoder_score.py FIXTURE --data shared --batch 8`.

CrossEncoder puts a pair through the model's chat template under the roles "query" and "document". `--form roles` therefore gives it the
same template with those two roles renamed to "user" and "assistant", and (prompt, response) pairs; `--form messages` hands over whole
conversations instead of pairs. Both give the tokens, and so the rewards, of the model's own template. The activation is the identity, so
that what comes back is the raw reward.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from scoring import MAX_LENGTH, Item, measure, options

RENAME = "{%- set renamed = {'query': 'user', 'document': 'assistant'} -%}"


def main() -> None:
    given = options("roles", "messages")
    import torch
    from sentence_transformers import CrossEncoder

    folder = str(given.fixture / "model")
    model = CrossEncoder(folder, device="cpu", max_length=MAX_LENGTH, activation_fn=torch.nn.Identity(), local_files_only=True)
    if given.form == "roles":
        model.tokenizer.chat_template = RENAME + model.tokenizer.chat_template.replace("message['role']", "renamed[message['role']]")

    def asked(item: Item) -> Any:
        if given.form == "messages":
            return item.messages()
        (turn,) = item.prompt  # a pair has one turn on each side
        return (turn["content"], item.response)

    def score(items: list[Item]) -> Any:
        return model.predict([asked(item) for item in items], batch_size=given.batch or 32, show_progress_bar=False)

    measure(given, "crossencoder", score, "sentence-transformers")


if __name__ == "__main__":
    main()
