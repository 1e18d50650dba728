"""The crowds of the crowd bench: one simulated with truth, four real ones with gold, as arrays that every contestant reads alike.

The simulated one is that of `research/annotation.md` B3 as far as it is described: pairs with 5 votes each of 2,000 annotators, 10 %
adversarial, 15 % guessing, 15 % always left, the others right with chance Beta(20, 4.8); log-normal activity. One vote is right with
chance .65, the majority of five with .76.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

FILES = ("gal_sentiment_bm", "dices350", "gal_adultcontent2", "ukpconvarg1_crowd")
KINDS = ("honest", "adversary", "spammer", "left")


def simulated(n_items: int, *, votes: int = 5, n_annotators: int = 2000, seed: int = 0) -> dict[str, np.ndarray]:
    """item_V, annotator_V, label_V (0 is left), truth_I, kind_A (codes into KINDS)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n_items).astype(np.int8)
    shares = [round(n_annotators * share) for share in (0.10, 0.15, 0.15)]
    kind = np.repeat([0, 1, 2, 3], [n_annotators - sum(shares), *shares])
    kind = rng.permutation(kind)
    good = rng.beta(20.0, 4.8, n_annotators)
    right = np.stack([good, good], axis=1)
    right[kind == 1] = 1.0 - right[kind == 1]
    right[kind == 2] = 0.5
    left = rng.uniform(0.8, 1.0, n_annotators)
    right[kind == 3] = np.stack([left, 1.0 - left], axis=1)[kind == 3]
    activity = np.exp(rng.normal(0.0, 1.0, n_annotators))
    cumulative = np.cumsum(activity / activity.sum())
    who = _distinct(rng, cumulative, n_items, votes)
    item = np.repeat(np.arange(n_items, dtype=np.int32), votes)
    hit = rng.random(len(item), dtype=np.float32) < right[who, truth[item]]
    label = np.where(hit, truth[item], 1 - truth[item]).astype(np.int8)
    return {"item_V": item, "annotator_V": who, "label_V": label, "truth_I": truth, "kind_A": kind.astype(np.int8)}


def _distinct(rng: np.random.Generator, cumulative: np.ndarray, n_items: int, votes: int) -> np.ndarray:
    """Annotators of each item, drawn by activity, none twice on one item."""
    last = len(cumulative) - 1
    who = np.minimum(np.searchsorted(cumulative, rng.random((n_items, votes))), last).astype(np.int32)
    while True:
        ordered = np.sort(who, axis=1)
        again = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if len(again) == 0:
            return who.ravel()
        who[again] = np.minimum(np.searchsorted(cumulative, rng.random((len(again), votes))), last)


def write_simulated(path: Path, n_items: int, *, texts: bool = False) -> Path:
    """An .npz of a simulated crowd, written once; `texts` gives ids as texts."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = simulated(n_items)
        if texts:
            names = np.array([f"pair-{i}" for i in range(n_items)])
            # Answers come in the order of sorted names, so the truth does too.
            data["truth_I"] = data["truth_I"][np.argsort(names)]
            data["item_V"] = names[data["item_V"]]
            data["annotator_V"] = np.array([f"worker-{a}" for a in range(len(data["kind_A"]))])[data["annotator_V"]]
            data["label_V"] = np.array(["a", "b"])[data["label_V"]]
        np.savez(path, **data)
    return path


def write_real(shared: Path, name: str, path: Path) -> Path | None:
    """An .npz of a real crowd (texts), with gold_I (-1 where there is none) over the sorted items; None where the file is absent."""
    source = shared / f"{name}.jsonl.gz"
    if not source.exists():
        return None
    with gzip.open(source, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    labels = sorted({row["label"] for row in rows})
    gold = {row["item"]: labels.index(row["gold"]) for row in rows if row.get("gold") is not None}
    items = sorted({row["item"] for row in rows})
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {f"{key}_V": np.array([row[key] for row in rows]) for key in ("item", "annotator", "label")}
    np.savez(path, truth_I=np.array([gold.get(item, -1) for item in items], dtype=np.int8), **columns)
    return path


def judged(p_IL: np.ndarray, truth_I: np.ndarray) -> dict[str, float]:
    """Accuracy (ties split) and mean log loss (chances floored at 1e-6) where the truth is known; rows in the order of sorted items."""
    known = truth_I >= 0
    p, truth = p_IL[known], truth_I[known].astype(int)
    at = p[np.arange(len(truth)), truth]
    top = p.max(axis=1)
    ties = (p >= top[:, None] - 1e-12).sum(axis=1)
    return {
        "accuracy": float(np.mean((at >= top - 1e-12) / ties)),
        # Label order broken ties in favour of the first column: what a peer's own answer does.
        "accuracy_first_column": float(np.mean(p.argmax(axis=1) == truth)),
        "log_loss": float(-np.log(np.clip(at, 1e-6, 1.0)).mean()),
    }
