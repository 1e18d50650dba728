"""JudgeBench (Tan et al. 2024, arXiv 2410.12784; github.com/ScalerLab/JudgeBench, utils/metrics.py and utils/judges.py).

Reward models are run once per pair: "A>B" when the reward of A is strictly higher, otherwise "B>A". So a tie counts as "B>A": right for
the pairs in which B is right. We count the same way and say how many ties there were. Judges that read both responses are run in both
orders (`judge_accuracy`): the two verdicts add up, a right one +1, the opposite one -1, anything else 0, and a pair counts when the sum
is above 0; both orders right (`consistent`) is the stricter number. Scores are shares of all pairs; the four categories are by source.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from preferent.audits.benchmarks import items as read
from preferent.audits.benchmarks.items import Item, Rows
from preferent.audits.benchmarks.result import Bootstrap, Result, estimate, within
from preferent.core.errors import DataError
from preferent.core.records import Floats

NAME = "JudgeBench"
SOURCE = "Tan et al. 2024, arXiv 2410.12784; github.com/ScalerLab/JudgeBench"
RULE = "right when the right side scores higher; a tie is read as B>A, as in the authors' code; share of all pairs"
# The beginning of a pair's source says its category.
CATEGORIES = {
    "mmlu-pro": "Knowledge",
    "livebench-reasoning": "Reasoning",
    "livebench-math": "Math",
    "livecodebench": "Coding",
}
LABELS = ("A>B", "B>A")
FLIPPED = {"A>B": "B>A", "B>A": "A>B"}


def rows_to_items(rows: Rows) -> list[Item]:
    """The authors' rows (question, response_A, response_B, label, source), or prompt, chosen, rejected with meta.subset and
    meta.chosen_slot (1: the chosen one was A)."""
    found = []
    for where, row in rows:
        if "response_A" in row:
            label = read.one_of(read.key(row, where, "label"), LABELS, where, "label")
            sides = tuple(read.text(read.key(row, where, f"response_{side}"), where, f"response_{side}") for side in "AB")
            slot = 1 if label == "A>B" else 2
            right, wrong = sides if slot == 1 else sides[::-1]
        else:
            slot = read.one_of(read.meta(row).get("chosen_slot"), (1, 2), where, "meta.chosen_slot")
            right, wrong = (read.text(read.key(row, where, side), where, side) for side in ("chosen", "rejected"))
        asked = read.prompt(read.key(row, where, "question", "prompt"), where, "question")
        source = read.meta(row).get("subset") or read.subset(row, where, "source")
        about = {"slot": slot, "model": row.get("response_model") or read.meta(row).get("generator") or ""}
        found.append(Item(read.identity(row, where, "pair_id", "id"), where, _category(source, where), asked, (right, wrong), 1, about))
    return read.need_items(found, NAME)


def _category(source: str, where: str) -> str:
    for start, category in CATEGORIES.items():
        if source.startswith(start):
            return category
    raise DataError(f"{where}: source {source!r}; allowed are those that begin with {', '.join(CATEGORIES)}")


def right_by_reward(reward_K: Floats, slot: int) -> float:
    """1 when the verdict of the authors' rule is right; `slot` 2 means that the right response was B, which wins ties."""
    return float(reward_K[0] > reward_K[1] if slot == 1 else reward_K[0] >= reward_K[1])


def score(items: Sequence[Item], rewards: Sequence[Floats], boot: Bootstrap, *, scorer: str = "") -> Result:
    """`rewards[i]`: shape (2,), right then wrong."""
    right_N = np.array([right_by_reward(reward_K, item.meta["slot"]) for item, reward_K in zip(items, rewards, strict=True)])
    category_N = np.array([item.subset for item in items])
    model_N = np.array([item.meta["model"] for item in items])
    columns = {"score": right_N}
    columns |= {name: within(right_N, category_N == name) for name in CATEGORIES.values() if (category_N == name).any()}
    columns |= {f"pairs by {name}": within(right_N, model_N == name) for name in sorted(set(model_N.tolist()) - {""})}
    ties = sum(int(reward_K[0] == reward_K[1]) for reward_K in rewards)
    notes = []
    if ties:
        lucky = sum(int(reward_K[0] == reward_K[1] and item.meta["slot"] == 2) for item, reward_K in zip(items, rewards, strict=True))
        notes.append(f"{ties:,} ties, of which {lucky:,} count as right because B is")
    if len(set(model_N.tolist())) > 1:
        notes.append("the authors report the pairs of each response model apart")
    return Result(
        benchmark=NAME,
        scorer=scorer,
        rule=RULE,
        source=SOURCE,
        headline="score",
        numbers=estimate(columns, [item.prompt for item in items], lambda means: {}, boot),
        counts={"pairs": len(items), "prompts": len({item.prompt for item in items}), "ties": ties},
        notes=tuple(notes),
    )


def judge_accuracy(
    first_N: Sequence[str | None], second_N: Sequence[str | None], label_N: Sequence[str], prompts: Sequence[Any], boot: Bootstrap
) -> Mapping[str, Any]:
    """Estimates for a judge that was asked in both orders: `score` (the authors' sum above 0), `consistent` (right both times),
    `inconsistent` (the verdicts differ).

    first_N: "A>B", "B>A", "A=B" or None in the given order; second_N: the same words of the swapped order, in its own letters.
    """
    for name, values in (("first", first_N), ("second", second_N)):
        strange = sorted({repr(value) for value in values if value not in (*LABELS, "A=B", None)})
        if strange:
            raise DataError(f"{name} verdicts {', '.join(strange)}; allowed: 'A>B', 'B>A', 'A=B', None")
    back_N = [FLIPPED.get(value or "", value) for value in second_N]
    total_N = np.array(
        [_points(first, label) + _points(second, label) for first, second, label in zip(first_N, back_N, label_N, strict=True)]
    )
    columns = {
        "score": (total_N > 0).astype(np.float64),
        "consistent": (total_N == 2).astype(np.float64),
        "inconsistent": np.array([float(first != second) for first, second in zip(first_N, back_N, strict=True)]),
    }
    return estimate(columns, list(prompts), lambda means: {}, boot)


def _points(verdict: str | None, label: str) -> int:
    return int(verdict == label) - int(verdict == FLIPPED[label])
