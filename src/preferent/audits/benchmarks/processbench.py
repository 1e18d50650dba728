"""ProcessBench (Zheng et al. 2024, arXiv 2412.06559; github.com/QwenLM/ProcessBench).

A solution in steps either has a first wrong step or none. A prediction is the first step whose reward is below a threshold, or none. For
each of the four subsets: accuracy on the solutions with an error (the exact step) and on those without one, and their harmonic mean F1
(0 when both are 0). The score is the plain mean of the four F1.

The authors read two-class models by the larger class, which is threshold 0 on a logit and 0.5 on a probability. Without a given
threshold we choose the one with the best F1 on the gsm8k subset and use it for all (the choice then flatters gsm8k, which is noted);
`audits.steps` has the same rules for any labelled steps. Step rewards come from a scorer that returns them; for others, each solution
cut after step k is scored as a response of its own.

Legend: N solutions, S steps of a solution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preferent.audits.benchmarks import items as read
from preferent.audits.benchmarks.items import Item, Rows
from preferent.audits.benchmarks.result import Bootstrap, Means, Result, estimate, plain, within
from preferent.audits.steps import choose_threshold, predicted_first_error
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Floats

NAME = "ProcessBench"
SOURCE = "Zheng et al. 2024, arXiv 2412.06559; github.com/QwenLM/ProcessBench"
RULE = "first step below the threshold is the predicted error; F1 of accuracy with and without an error; score: mean F1 of the subsets"
SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")
BETWEEN_STEPS = "\n\n"


def rows_to_items(rows: Rows) -> list[Item]:
    """The authors' rows (id like "gsm8k-12", problem, steps, label: the 0-based first error or -1), or problem, steps, first_error and
    meta.subset. An item's responses are the solution cut after each step, the whole one last."""
    found = []
    for where, row in rows:
        steps = read.texts(read.key(row, where, "steps"), where, "steps")
        label = read.key(row, where, "label", "first_error")
        if isinstance(label, bool) or not isinstance(label, int) or not -1 <= label < len(steps):
            raise DataError(f"{where}: the first error is {label!r}; allowed: -1 (none) to {len(steps) - 1}")
        name = read.meta(row).get("subset") or row.get("subset") or str(row.get("id", "")).rpartition("-")[0]
        name = read.one_of(name, SUBSETS, where, "the subset (from meta.subset, or the beginning of the id)")
        cut = tuple(BETWEEN_STEPS.join(steps[: k + 1]) for k in range(len(steps)))
        asked = read.prompt(read.key(row, where, "problem"), where, "problem")
        found.append(Item(read.identity(row, where, "id"), where, name, asked, cut, 0, {"label": label}))
    return read.need_items(found, NAME)


def f1(on_errors: Floats | float, on_correct: Floats | float) -> Floats:
    """Harmonic mean of the two accuracies, 0 where both are 0, NaN where one is unknown."""
    a, b = np.asarray(on_errors, dtype=np.float64), np.asarray(on_correct, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(a + b == 0, 0.0, 2 * a * b / (a + b))


def _threshold(items: Sequence[Item], rewards: Sequence[Floats]) -> tuple[float, str]:
    """(threshold, what it was chosen on): the best on gsm8k, or on the whole file where gsm8k has not both kinds of solutions."""
    places = {"gsm8k": [n for n, item in enumerate(items) if item.subset == "gsm8k"], "the whole file": list(range(len(items)))}
    for name, rows in places.items():
        labels = np.array([items[n].meta["label"] for n in rows])
        if (labels >= 0).any() and (labels < 0).any():
            return choose_threshold([rewards[n] for n in rows], labels).value, name
    raise ConfigError(
        "no threshold can be chosen: the file has only solutions of one kind, with an error or without",
        hint="give one (--threshold): 0 for logits, 0.5 for probabilities",
    )


def score(items: Sequence[Item], rewards: Sequence[Floats], boot: Bootstrap, *, scorer: str = "", threshold: float | None = None) -> Result:
    """`rewards[i]`: shape (S,), one for each step (or for the solution up to it). Problems are the clusters."""
    labels = [item.meta["label"] for item in items]
    notes = []
    if threshold is None:
        threshold, on = _threshold(items, rewards)
        notes.append(f"threshold {threshold:.4g} was chosen on {on}, whose figures it flatters")
    hit_N = (predicted_first_error(rewards, threshold) == np.array(labels)).astype(np.float64)
    wrong_N, subset_N = np.array(labels) >= 0, np.array([item.subset for item in items])
    present = [name for name in SUBSETS if (subset_N == name).any()]
    columns = {}
    for name in present:
        columns[f"{name} with an error"] = within(hit_N, (subset_N == name) & wrong_N)
        columns[f"{name} without"] = within(hit_N, (subset_N == name) & ~wrong_N)

    def combine(means: Means) -> dict[str, Floats]:
        made = {f"{name} F1": f1(means[f"{name} with an error"], means[f"{name} without"]) for name in present}
        return {"score": plain(made, list(made)), **made}

    missing = [name for name in SUBSETS if name not in present]
    notes += [f"not in this file: {', '.join(missing)}; the score is the mean of the others and not comparable"] if missing else []
    return Result(
        benchmark=NAME,
        scorer=scorer,
        rule=RULE,
        source=SOURCE,
        headline="score",
        numbers=estimate(columns, [item.prompt for item in items], combine, boot),
        counts={"solutions": len(items), "with an error": int(wrong_N.sum()), "steps": sum(map(len, rewards))},
        notes=tuple(notes),
    )
