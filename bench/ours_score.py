"""preferent's scorer on the fixture: `python bench/ours_score.py FIXTURE --data shared|single`; the result line is described in meter.py.

The peers' own measure (scoring.py): two items to warm up, then all of them, from messages to floats.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scoring import Item, measure, options


def main() -> None:
    given = options("library")
    from preferent.core.records import Exchange, Message
    from preferent.models.reward_model import RewardModel

    model = RewardModel.load(given.fixture / "model", device="cpu")

    def score(items: list[Item]) -> list[float]:
        exchanges = [Exchange(prompt=tuple(Message(**turn) for turn in item.prompt), response=item.response) for item in items]
        return model.score(exchanges, batch_tokens=given.batch or None).reward.tolist()

    measure(given, "preferent", score)


if __name__ == "__main__":
    main()
