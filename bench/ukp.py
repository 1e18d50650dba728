"""Real people, unseen topics: ukpconvarg1 on the embedded MiniLM, whole debates left out (Habernal and Gurevych 2016).

    python bench/ukp.py [--shared ../shared/data] [--folds 3] [--unit topic|debate] [--fold K] [--out bench-out]

Every topic is held out once: the topics (or, harder, the debates: both stances together) are dealt into folds, a model is trained on
the others and judged on the strict pairs of the left-out ones. Printed: accuracy on those pairs, and the rank correlation per topic
with PageRank scores of the arguments (as the paper ranks them), beside "the longer side wins"; 95 % intervals over topics. The paper
reports .76 (BiLSTM) and .78 (SVM) accuracy and .35 to .40 rank correlation.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.records import Exchange, Message
from preferent.core.scorer import Scorer, length_scorer
from preferent.data.gate import check
from preferent.models.reward_model import RewardModel
from preferent.training.config import load_config
from preferent.training.observer import Observer
from preferent.training.run import train

NAME = "ukpconvarg1.jsonl.gz"
SETTINGS = {
    "base": "minilm",
    "max_length": "256",
    "epochs": "2",
    "batch.pairs": "32",
    "max_responses": "8",
    "learning_rate": "5e-5",
    "held_out": "0",
    "threads": "1",
}
MATCHED = 0.10


class Talk(Observer):
    """A line now and then: the runs take minutes."""

    def stepped(self, row: Any) -> None:
        if row["step"] % 25 == 0:
            print(f"  step {row['step']}: loss {row['loss']:.3f}, {row['tokens'] / row['seconds']:,.0f} tokens/s", flush=True)


def unit_of(topic: str, unit: str) -> str:
    """What is left out together: a topic alone, or both stances of its debate, which share the name before the first underscore."""
    return topic if unit == "topic" else topic.split("_")[0]


def page_rank(edges: Sequence[tuple[int, int]], n: int, damping: float = 0.85) -> np.ndarray:
    """Scores of n arguments from (less, more) convincing pairs: a vote flows from the less to the more convincing one."""
    flow = np.zeros((n, n))
    for less, more in edges:
        flow[more, less] += 1.0
    out = flow.sum(0)
    flow = np.where(out > 0, flow / np.maximum(out, 1.0), 1.0 / n)
    score = np.full(n, 1.0 / n)
    for _ in range(200):
        score = (1 - damping) / n + damping * flow @ score
    return score


def judge(scorer: Scorer, rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray, dict[str, float]]:
    """(1 where the strict pair is ordered rightly, half for equal rewards; rank correlation of each topic)."""
    sides = [exchange for row in rows for exchange in exchanges(row)]
    reward = scorer.score(sides).reward.reshape(-1, 2)
    right = (np.sign(reward[:, 0] - reward[:, 1]) + 1.0) / 2.0
    ranks = {}
    for topic in sorted({row["meta"]["topic"] for row in rows}):
        own = [k for k, row in enumerate(rows) if row["meta"]["topic"] == topic]
        texts: dict[str, int] = {}
        scores: list[float] = []
        edges = []
        for k in own:
            pair = []
            for side, text in enumerate((rows[k]["chosen"], rows[k]["rejected"])):
                if text not in texts:
                    texts[text] = len(texts)
                    scores.append(float(reward[k, side]))
                pair.append(texts[text])
            edges.append((pair[1], pair[0]))
        ranks[topic] = float(spearmanr(page_rank(edges, len(texts)), scores).statistic)
    return right, ranks


def exchanges(row: dict[str, Any]) -> tuple[Exchange, Exchange]:
    prompt = tuple(Message(**turn) for turn in row["prompt"])
    return Exchange(prompt=prompt, response=row["chosen"]), Exchange(prompt=prompt, response=row["rejected"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", default=os.environ.get("PREFERENT_SHARED_DATA", str(Path(__file__).parents[1] / "../shared/data")))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--fold", type=int, help="only this fold, from 0")
    parser.add_argument("--unit", choices=("topic", "debate"), default="topic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    given, settings = parser.parse_known_args()
    overrides = {name.removeprefix("--"): value for name, value in zip(settings[::2], settings[1::2], strict=True)}
    path = Path(given.shared, NAME)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    strict = [row for row in rows if row["meta"].get("strict") and row["meta"]["gold"] in ("a1", "a2")]
    records = list(check(path).records())
    units = sorted({unit_of(row["meta"]["topic"], given.unit) for row in rows})
    fold_of = dict(zip(np.random.default_rng(given.seed).permutation(units), np.arange(len(units)) % given.folds, strict=True))
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for fold in range(given.folds) if given.fold is None else [given.fold]:
        kept = [record for record in records if fold_of[unit_of(record.meta["topic"], given.unit)] != fold]
        test = [row for row in strict if fold_of[unit_of(row["meta"]["topic"], given.unit)] == fold]
        print(f"fold {fold + 1}: {len(kept)} pairs to train on, {len(test)} strict pairs of {given.folds}ths left out", flush=True)
        config = load_config(None, {**SETTINGS, "seed": str(given.seed), **overrides})
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_SELF)
            train(kept, [], config, Path(folder, "run"), observer=Talk())
            after = resource.getrusage(resource.RUSAGE_SELF)
            model = RewardModel.load(Path(folder, "run"))
            for scorer in (model, length_scorer()):
                right, ranks = judge(scorer, test)
                name = "model" if scorer is model else "longer side"
                print(
                    f"  {name}: {right.mean():.3f} of {len(right)} strict pairs, rank correlation {np.mean(list(ranks.values())):.3f}",
                    flush=True,
                )
                found += [{"scorer": name, "fold": fold, "row": row, "right": float(hit)} for row, hit in zip(test, right, strict=True)]
                found += [{"scorer": name, "fold": fold, "topic": topic, "rank": rank} for topic, rank in ranks.items()]
            print(f"  CPU {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.0f} s", flush=True)
    report = {name: summary(found, name) for name in ("model", "longer side")}
    given.out.mkdir(parents=True, exist_ok=True)
    plain = {name: {key: value.to_dict() for key, value in row.items()} for name, row in report.items()}
    (given.out / "ukp.json").write_text(json.dumps({"settings": SETTINGS | overrides, "figures": plain}, indent=2) + "\n", encoding="utf-8")
    for key in report["model"]:
        print(f"{key:32} {report['model'][key]!s:24} longer side: {report['longer side'][key]}")


def summary(found: Sequence[dict[str, Any]], name: str) -> dict[str, Estimate]:
    """The figures of one scorer, with intervals over topics."""
    pairs = [row for row in found if row["scorer"] == name and "row" in row]
    ranks = [row for row in found if row["scorer"] == name and "rank" in row]
    matched = [row for row in pairs if abs(np.log(len(row["row"]["chosen"]) / len(row["row"]["rejected"]))) <= np.log1p(MATCHED)]

    def mean(rows: Sequence[dict[str, Any]]) -> Estimate:
        topics = [row["row"]["meta"]["topic"] for row in rows]
        return clustered_mean([row["right"] for row in rows], topics, rng=np.random.default_rng(0))

    clear = [row for row in pairs if row["row"]["strength"] >= 0.75]
    rank = clustered_mean([row["rank"] for row in ranks], [row["topic"] for row in ranks], rng=np.random.default_rng(0))
    return {
        "accuracy, strict pairs": mean(pairs),
        "accuracy, length within 10 %": mean(matched),
        "accuracy, vote share >= .75": mean(clear),
        "rank correlation per topic": rank,
    }


if __name__ == "__main__":
    main()
