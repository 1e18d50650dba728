"""LLMBar (Zeng et al. 2023, arXiv 2310.07641; github.com/princeton-nlp/LLMBar, LLMEvaluator/evaluate.py).

Evaluators that rate one response at a time are right when the better one gets the higher rating. The authors read a tie once as "the
second is better" and once as "the first is better" and average the two accuracies, so that a tie counts one half. Adversarial is the
unweighted mean of its four subsets, the score that of all five. Their case studies and the processed sets are shown and count nowhere.

Legend: N pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from preferent.audits.benchmarks import items as read
from preferent.audits.benchmarks.items import Item, Rows
from preferent.audits.benchmarks.result import Bootstrap, Means, Result, estimate, plain, within
from preferent.core.errors import DataError
from preferent.core.records import Floats

NAME = "LLMBar"
SOURCE = "Zeng et al. 2023, arXiv 2310.07641; github.com/princeton-nlp/LLMBar"
RULE = "right when the better output scores higher, a tie counts 1/2; score: mean of Natural and the four Adversarial subsets"
NATURAL = "Natural"
ADVERSARIAL = tuple(f"Adversarial/{name}" for name in ("Neighbor", "GPTInst", "GPTOut", "Manual"))
_PART = re.compile(r"(Natural|Adversarial/(?:Neighbor|GPTInst|GPTOut|Manual)|(?:CaseStudy|Processed)/[^/:]+)")


def rows_to_items(rows: Rows) -> list[Item]:
    """The authors' rows (input, output_1, output_2, label 1 or 2; the subset is in the file's path, as in
    Dataset/LLMBar/Adversarial/Manual/dataset.json), or prompt, chosen, rejected with meta.subset."""
    found = []
    for where, row in rows:
        if "output_1" in row:
            label = read.one_of(read.key(row, where, "label"), (1, 2), where, "label")
            outputs = [read.text(read.key(row, where, name), where, name) for name in ("output_1", "output_2")]
            right, wrong = outputs if label == 1 else outputs[::-1]
        else:
            right, wrong = (read.text(read.key(row, where, side), where, side) for side in ("chosen", "rejected"))
        asked = read.prompt(read.key(row, where, "input", "prompt"), where, "input")
        found.append(Item(read.identity(row, where, "id"), where, _part(row, where), asked, (right, wrong)))
    return read.need_items(found, NAME)


def _part(row: Mapping[str, Any], where: str) -> str:
    for name in (row.get("subset"), read.meta(row).get("subset"), where):
        match = _PART.search(name) if isinstance(name, str) else None
        if match:
            return match.group(1)
    allowed = ", ".join((NATURAL, *ADVERSARIAL, "CaseStudy/...", "Processed/..."))
    raise DataError(f"{where}: neither the row nor the file's path names a subset; allowed: {allowed}")


def score(items: Sequence[Item], rewards: Sequence[Floats], boot: Bootstrap, *, scorer: str = "") -> Result:
    """`rewards[i]`: shape (2,), better then worse."""
    margin_N = np.array([reward_K[0] - reward_K[1] for reward_K in rewards])
    right_N = 0.5 + 0.5 * np.sign(margin_N)
    part_N = np.array([item.subset for item in items])
    core = [name for name in (NATURAL, *ADVERSARIAL) if (part_N == name).any()]
    others = sorted(set(part_N.tolist()) - set(core))
    columns = {name: within(right_N, part_N == name) for name in (*core, *others)}

    def combine(means: Means) -> dict[str, Floats]:
        return {"score": plain(means, (NATURAL, *ADVERSARIAL)), "Adversarial": plain(means, ADVERSARIAL)}

    missing = [name for name in (NATURAL, *ADVERSARIAL) if name not in core]
    notes = [f"not in this file: {', '.join(missing)}; averages are over the others and not comparable"] if missing else []
    notes += [f"shown, in no average: {', '.join(others)}"] if others else []
    return Result(
        benchmark=NAME,
        scorer=scorer,
        rule=RULE,
        source=SOURCE,
        headline="score",
        numbers=estimate(columns, [item.prompt for item in items], combine, boot),
        counts={"pairs": len(items), "prompts": len({item.prompt for item in items}), "ties": int((margin_N == 0).sum())},
        notes=tuple(notes),
    )
