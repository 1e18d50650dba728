"""PPE, Preference Proxy Evaluations (Frick et al. 2024, arXiv 2410.14872, ICLR 2025; data sets lmarena-ai/PPE-*).

Two kinds of rows:

- human preference (PPE-Human-Preference-V1): accuracy over the pairs that the person did not call a tie, a tie of rewards being wrong;
  where rows say which models wrote the replies (model_a, model_b), how well the scorer ranks the models (`ppe_ranking`);
- correctness (PPE-<benchmark>-Best-of-K: one prompt, K sampled answers, each right or wrong): accuracy over the published pairs of a
  right and a wrong answer (`sampled_conflict_pairs`; every such pair where a row has none), the curve of the mean correctness of the
  answer with the highest reward among k, its maximum, its value at all K, and its mean squared distance from the best possible curve;
  and the area under the ROC curve, ties counting one half. Every correctness number is the plain mean over the benchmarks.

The curve is the mean over all subsets of k answers, without drawing any; answers with equal rewards share their chance. Their code was
not at hand: the ROC area is given within prompts and pooled over prompts, and the distance is over k = 1, 2, 4, ... K.

Legend: N rows, K answers, D benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from preferent.audits.benchmarks import items as read
from preferent.audits.benchmarks.items import Item, Rows
from preferent.audits.benchmarks.ppe_ranking import ModelPairs, ranking_metrics
from preferent.audits.benchmarks.result import Bootstrap, Means, Result, estimate, plain, within
from preferent.audits.resample import ranks
from preferent.core.best_of_n import expected_best
from preferent.core.errors import DataError
from preferent.core.records import Floats

NAME = "PPE"
SOURCE = "Frick et al. 2024, arXiv 2410.14872; data sets lmarena-ai/PPE-Human-Preference-V1 and PPE-*-Best-of-K"
RULE = (
    "human pairs and right/wrong pairs: right when the better scores higher, a tie is wrong; best-of-k by all subsets; mean over benchmarks"
)
HUMAN = "human"
WINNERS = {"model_a": 0, "model_b": 1}
TIES = ("tie", "tie (bothbad)", "both_bad")
BENCHMARKS = ("MMLU-Pro", "MATH", "GPQA", "MBPP-Plus", "IFEval")


def rows_to_items(rows: Rows) -> list[Item]:
    """The authors' rows: prompt, response_1, response_2, winner; or prompt, response_1 ... response_K, scores (one true, false, 1 or 0 per
    answer) and where there are any sampled_conflict_pairs. The benchmark is told by the row's `benchmark` or the name of the file."""
    found = []
    for where, row in rows:
        found.append(_correctness(row, where) if "scores" in row else _human(row, where))
    return read.need_items(found, NAME)


def _human(row: Mapping[str, Any], where: str) -> Item:
    winner = read.one_of(read.key(row, where, "winner"), (*WINNERS, *TIES), where, "winner")
    sides = tuple(read.text(read.key(row, where, name), where, name) for name in ("response_1", "response_2"))
    asked = read.prompt(read.key(row, where, "prompt"), where)
    about = {"winner": WINNERS.get(winner), "models": (row.get("model_a"), row.get("model_b"))}
    return Item(read.identity(row, where, "question_id", "id"), where, HUMAN, asked, sides, 1, about)


def _correctness(row: Mapping[str, Any], where: str) -> Item:
    labels = [float(read.one_of(label, (0, 1), where, "each of scores")) for label in row["scores"] or ()]
    names = [f"response_{k + 1}" for k in range(len(labels))]
    answers = tuple(read.text(read.key(row, where, name), where, name) for name in names)
    if len(answers) < 2 or f"response_{len(answers) + 1}" in row:
        raise DataError(f"{where}: {len(labels)} scores do not fit the responses of this row")
    pairs = _pairs(row.get("sampled_conflict_pairs"), labels, where)
    asked = read.prompt(read.key(row, where, "prompt"), where)
    about = {"labels": np.array(labels), "pairs": pairs}
    return Item(read.identity(row, where, "question_id", "id"), where, _benchmark(row, where), asked, answers, 0, about)


def _pairs(stated: Any, labels: Sequence[float], where: str) -> tuple[tuple[int, int], ...]:
    """(right, wrong) places."""
    if stated is None:
        return tuple((i, j) for i, right in enumerate(labels) for j, other in enumerate(labels) if right > other)
    pairs = []
    for pair in stated:
        if len(pair) != 2 or not all(isinstance(k, int) and 0 <= k < len(labels) for k in pair) or labels[pair[0]] == labels[pair[1]]:
            raise DataError(f"{where}: sampled_conflict_pairs holds {pair!r}, which is not a pair of a right and a wrong answer")
        pairs.append(tuple(pair) if labels[pair[0]] > labels[pair[1]] else (pair[1], pair[0]))
    return tuple(pairs)


def _benchmark(row: Mapping[str, Any], where: str) -> str:
    stated = row.get("benchmark") or read.meta(row).get("benchmark")
    for name in BENCHMARKS:
        wanted = name.lower().replace("-", "")
        for source in (stated, PurePath(where.rpartition(":")[0]).name):
            if isinstance(source, str) and wanted in source.lower().replace("-", "").replace("_", ""):
                return name
    raise DataError(f"{where}: neither `benchmark` nor the file's name says which of {', '.join(BENCHMARKS)} this is")


def roc_area(reward_N: Floats, label_N: Floats) -> float:
    """The chance that a right answer has a higher reward than a wrong one, ties half; NaN when one of the two is missing."""
    n_right, n_wrong = label_N.sum(), (1 - label_N).sum()
    if n_right == 0 or n_wrong == 0:
        return float("nan")
    # ranks() are mid-ranks from 1.
    return float((ranks(reward_N, np.ones(len(reward_N)))[label_N == 1].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def curve_points(n: int) -> tuple[int, ...]:
    """1, 2, 4, ... and n itself."""
    return tuple(sorted({2**k for k in range(n.bit_length()) if 2**k <= n} | {n}))


def score(items: Sequence[Item], rewards: Sequence[Floats], boot: Bootstrap, *, scorer: str = "") -> Result:
    """`rewards[i]`: shape (2,) or (K,), in the order of the row's responses. The headline is correctness accuracy where there is any."""
    subset_N = np.array([item.subset for item in items])
    present = [name for name in BENCHMARKS if (subset_N == name).any()]
    columns: dict[str, Floats] = {}
    notes: list[str] = []
    if (subset_N == HUMAN).any():
        columns["human accuracy"] = _human_hits(items, rewards)
        undecided = sum(item.subset == HUMAN and item.meta["winner"] is None for item in items)
        notes.append(f"{undecided:,} pairs that the person called a tie are left out of accuracy")
    tops = {name: min(len(item.responses) for item in items if item.subset == name) for name in present}
    for name in present:
        columns |= _benchmark_columns(name, tops[name], items, rewards)

    def combine(means: Means) -> dict[str, Floats]:
        return _combined(means, present, tops)

    numbers = estimate(columns, [item.prompt for item in items], combine, boot)
    ranked = _model_pairs(items, rewards)
    if ranked is not None:
        numbers |= {f"models: {name}": value for name, value in ranking_metrics(ranked, boot).items()}
        notes.append(f"{len(ranked.names)} models are ranked by {len(ranked.a_N):,} pairs, ties as half a win each")
    pooled = {f"{name} ROC area pooled": _pooled(name, items, rewards) for name in present}
    if pooled:
        notes.append("ROC area pooled over prompts: " + ", ".join(f"{name.split(' ROC')[0]} {value:.3f}" for name, value in pooled.items()))
        missing = [name for name in BENCHMARKS if name not in present]
        notes += [f"not in this file: {', '.join(missing)}; means are over the others and not comparable"] if missing else []
    return Result(
        benchmark=NAME,
        scorer=scorer,
        rule=RULE,
        source=SOURCE,
        headline="accuracy" if present else "human accuracy",
        numbers=numbers,
        counts={
            "rows": len(items),
            "responses": sum(map(len, rewards)),
            "right/wrong pairs": sum(len(item.meta.get("pairs", ())) for item in items),
        },
        notes=tuple(notes),
    )


def _human_hits(items: Sequence[Item], rewards: Sequence[Floats]) -> Floats:
    hits = []
    for item, reward_K in zip(items, rewards, strict=True):
        winner = item.meta.get("winner") if item.subset == HUMAN else None
        hits.append(np.nan if winner is None else float(reward_K[winner] > reward_K[1 - winner]))
    return np.array(hits)


def _model_pairs(items: Sequence[Item], rewards: Sequence[Floats]) -> ModelPairs | None:
    """The human pairs whose models are named, ties included; None where there are none."""
    found = []
    for item, reward_K in zip(items, rewards, strict=True):
        models = item.meta.get("models", (None, None))
        if item.subset == HUMAN and all(isinstance(name, str) for name in models) and models[0] != models[1]:
            winner = item.meta["winner"]
            people = 0.5 if winner is None else 1.0 - winner
            found.append((*models, people, (float(np.sign(reward_K[0] - reward_K[1])) + 1) / 2, item.prompt))
    if not found:
        return None
    names = sorted({name for row in found for name in row[:2]})
    place = {name: k for k, name in enumerate(names)}
    a, b, people, scorer, prompts = zip(*found, strict=True)
    codes = [np.array([place[name] for name in side], dtype=np.int64) for side in (a, b)]
    return ModelPairs(names, codes[0], codes[1], np.array(people), np.array(scorer), prompts)


def _benchmark_columns(name: str, top: int, items: Sequence[Item], rewards: Sequence[Floats]) -> dict[str, Floats]:
    """Per row of one benchmark: pair accuracy, ROC area, the curve of the scorer and the best possible one; NaN for other rows."""
    ks = curve_points(top)
    made = (
        {f"{name} accuracy": [], f"{name} ROC area": []} | {f"{name} best of {k}": [] for k in ks} | {f"{name} ideal {k}": [] for k in ks}
    )
    for item, reward_K in zip(items, rewards, strict=True):
        if item.subset != name:
            for values in made.values():
                values.append(np.nan)
            continue
        labels, pairs = item.meta["labels"], item.meta["pairs"]
        hits = [float(reward_K[right] > reward_K[wrong]) for right, wrong in pairs]
        made[f"{name} accuracy"].append(float(np.mean(hits)) if hits else np.nan)
        made[f"{name} ROC area"].append(roc_area(reward_K, labels))
        for kind, by in (("best of", reward_K), ("ideal", labels)):
            # Where a prompt has fewer answers than k, the best of all of them.
            for k, value in zip(ks, expected_best([by], [labels], [min(k, len(by)) for k in ks])[0], strict=True):
                made[f"{name} {kind} {k}"].append(value)
    return {key: within(np.array(values), True) for key, values in made.items()}


def _combined(means: Means, present: Sequence[str], tops: Mapping[str, int]) -> dict[str, Floats]:
    made: dict[str, Floats] = {}
    for name in present:
        ks = curve_points(tops[name])
        curve_KR = np.stack([means[f"{name} best of {k}"] for k in ks])
        ideal_KR = np.stack([means[f"{name} ideal {k}"] for k in ks])
        made[f"{name} maximum"] = curve_KR.max(axis=0)
        made[f"{name} end"] = curve_KR[-1]
        made[f"{name} distance"] = ((curve_KR - ideal_KR) ** 2).mean(axis=0)
    overall = {}
    if present:
        for label in ("accuracy", "ROC area"):
            overall[label] = plain(means, [f"{name} {label}" for name in present])
        for label in ("maximum", "end", "distance"):
            overall[label] = plain(made, [f"{name} {label}" for name in present])
    return {**overall, **made}


def _pooled(name: str, items: Sequence[Item], rewards: Sequence[Floats]) -> float:
    own = [n for n, item in enumerate(items) if item.subset == name]
    return roc_area(np.concatenate([rewards[n] for n in own]), np.concatenate([items[n].meta["labels"] for n in own]))
