"""What the way votes become labels is worth downstream: reward models for unseen topics, judged on gold pairs.

    python bench/downstream.py [--shared ../shared/data] [--seeds 3] [--out bench-out]

ukpconvarg1: 780 arguments of 24 topics, 60,000 votes of 3,000 people, gold on the strict pairs. The reward model is MiniLM, frozen, with a
linear head on its mean state, trained by our Bradley-Terry loss (fine-tuning costs minutes for each of the cells here; the labels are
what is compared). Topics are dealt into three folds, each left out once. Labels by majority (ties dropped), vote share, `auto`
aggregation, or none: joint training on the votes. Once on the votes as they are, once with every third annotator (30 %) replaced by an
adversary, who answers the opposite. Intervals and paired differences from majority by bootstrap over topics.

The ridge of the head is chosen for each way of its own, among RIDGES, by the votes on every third training topic: labels made one way or
another differ in how much noise they carry, and one ridge for all favours some of them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preferent.annotators.choose import choose
from preferent.annotators.table import VoteTable
from preferent.core.estimates import clustered_mean
from preferent.core.records import Exchange, Message
from preferent.models.reward_model import RewardModel
from preferent.training import losses

WAYS = ("majority", "vote share", "auto", "joint")
ADVERSARIES = 0.30
FOLDS, RIDGES = 3, (0.03, 0.1, 0.3, 1.0, 3.0)
SD = 0.5


@dataclass(frozen=True)
class Data:
    """x_TW: features of the texts. a_P, b_P: texts of each pair, in an order drawn at random. topic_P. gold_P: 1 where a is better, 0
    where b is, NaN where it is not known. pair_V, who_V, vote_V (1, 0.5, 0): the votes."""

    x_TW: np.ndarray
    names: Sequence[str]
    a_P: np.ndarray
    b_P: np.ndarray
    topic_P: np.ndarray
    gold_P: np.ndarray
    pair_V: np.ndarray
    who_V: np.ndarray
    vote_V: np.ndarray


def features(rows: Sequence[dict[str, Any]], keys: Sequence[tuple[str, str]]) -> np.ndarray:
    """Mean last states of MiniLM over each argument with its topic, each feature on one scale."""
    model = RewardModel.create("minilm", max_length=256)
    prompts = {row["meta"]["topic"]: tuple(Message(**turn) for turn in row["prompt"]) for row in rows}
    tokens = model.tokenize([Exchange(prompt=prompts[topic], response=text) for topic, text in keys])
    states = []
    with torch.inference_mode():
        for start in range(0, len(tokens), 16):
            batch = model.pack([[item.ids] for item in tokens[start : start + 16]])
            hidden_TW = model.module.model.bert(
                input_ids=batch.input_ids_T[None], position_ids=batch.position_ids_T[None], layout=batch.layout
            ).last_hidden_state[0]
            states += [hidden_TW[part.start : part.start + part.length].mean(0).numpy() for part in batch.layout.segments]
    x_TW = np.array(states, dtype=np.float64)
    return (x_TW - x_TW.mean(0)) / x_TW.std(0)


def read(path: Path) -> Data:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    text: dict[tuple[str, str], int] = {}
    who: dict[str, int] = {}
    turned = np.random.default_rng(0).random(len(rows)) < 0.5
    pairs, votes = [], []
    for number, row in enumerate(rows):
        topic, gold = row["meta"]["topic"], row["meta"].get("strict") and row["meta"]["gold"] in ("a1", "a2")
        sides = [text.setdefault((topic, row[side]), len(text)) for side in ("chosen", "rejected")]
        if turned[number]:
            sides.reverse()
        pairs.append((*sides, topic, float(not turned[number]) if gold else np.nan))
        for said in row["annotations"]:
            vote = 1.0 - said["label"] if turned[number] else said["label"]
            votes.append((number, who.setdefault(said["annotator"], len(who)), vote))
    a_P, b_P, topic_P, gold_P = (np.array(column) for column in zip(*pairs, strict=True))
    pair_V, who_V, vote_V = (np.array(column) for column in zip(*votes, strict=True))
    # Somebody who voted twice on a pair is heard once, as the aggregation wants it.
    first = np.unique(np.stack([pair_V, who_V]), axis=1, return_index=True)[1]
    names = [f"{topic}/{index}" for index, (topic, _) in enumerate(text)]
    return Data(features(rows, list(text)), names, a_P, b_P, topic_P, gold_P, pair_V[first], who_V[first], vote_V[first])


def with_adversaries(data: Data, seed: int) -> Data:
    """The same votes, those of 30 % of the annotators turned round."""
    n = int(data.who_V.max()) + 1
    bad_A = np.zeros(n, dtype=bool)
    bad_A[np.random.default_rng(seed).permutation(n)[: round(ADVERSARIES * n)]] = True
    vote_V = np.where(bad_A[data.who_V], 1.0 - data.vote_V, data.vote_V)
    return Data(**{**vars(data), "vote_V": vote_V})


def labels(data: Data, train_V: np.ndarray, way: str) -> tuple[np.ndarray, np.ndarray]:
    """(pairs, soft labels) made of the votes of the training topics."""
    pair_V, who_V, vote_V = data.pair_V[train_V], data.who_V[train_V], data.vote_V[train_V]
    pairs, place_V = np.unique(pair_V, return_inverse=True)
    share = np.bincount(place_V, vote_V) / np.bincount(place_V)
    if way == "vote share":
        return pairs, share
    if way == "majority":
        return pairs[share != 0.5], (share[share != 0.5] > 0.5).astype(float)
    names = np.array(data.names, dtype=object)
    columns = {
        "item": pair_V,
        "annotator": who_V,
        "label": np.where(vote_V == 0.5, "tie", np.where(vote_V > 0.5, "a", "b")),
        "side_a": names[data.a_P[pair_V]],
        "side_b": names[data.b_P[pair_V]],
    }
    table = VoteTable.from_columns(columns, labels=("a", "b", "tie"))
    result = choose(table, np.random.default_rng(0)).result
    return np.asarray(result.items, dtype=np.int64), np.asarray(result.p_a()[0])


def fit(data: Data, ridge: float, pairs: np.ndarray, p: np.ndarray, who: np.ndarray | None = None) -> np.ndarray:
    """Weights of the head; with `who` the annotators' slopes are fitted along (no display order is recorded here)."""
    x = torch.from_numpy(data.x_TW)
    a, b, target = (torch.from_numpy(column) for column in (data.a_P[pairs], data.b_P[pairs], p))
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    traits = torch.zeros(1 if who is None else int(who.max()) + 1, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, traits], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")
    index = None if who is None else torch.from_numpy(who)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        reward = x @ weight
        d = reward[a] - reward[b]
        if index is not None:
            d = losses.annotator_logits(d, 1.0 + traits[index, 0], traits[index, 1], torch.zeros_like(d))
        loss = losses.bradley_terry(d, torch.zeros_like(d), target).mean() + 0.5 * ridge * weight.square().sum()
        if index is not None:
            loss = loss + losses.annotator_prior(traits, torch.tensor([SD, SD], dtype=torch.float64)) / len(target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach().numpy()


def head(data: Data, train_V: np.ndarray, way: str, ridge: float) -> np.ndarray:
    """Weights of the head from the votes of some topics, made into labels one way."""
    if way == "joint":
        return fit(data, ridge, data.pair_V[train_V], data.vote_V[train_V], data.who_V[train_V])
    return fit(data, ridge, *labels(data, train_V, way))


def chosen(data: Data, train_V: np.ndarray, way: str) -> np.ndarray:
    """`head` with the ridge that foretells most votes on every third of these topics, which it then trains on too."""
    topic_V = data.topic_P[data.pair_V]
    inner = sorted(set(topic_V[train_V]))[::3]
    out_V = train_V & np.isin(topic_V, inner)
    said_V = np.sign(data.vote_V[out_V] - 0.5)
    foretold = []
    for ridge in RIDGES:
        weight = head(data, train_V & ~out_V, way, ridge)
        d_P = (data.x_TW[data.a_P] - data.x_TW[data.b_P]) @ weight
        foretold.append(float(np.mean(np.sign(d_P[data.pair_V[out_V]]) * said_V)))
    return head(data, train_V, way, RIDGES[int(np.argmax(foretold))])


def right(data: Data, seed: int, way: str) -> np.ndarray:
    """1 where a gold pair of a left-out topic is ordered rightly, in the order of the gold pairs."""
    topics = sorted(set(data.topic_P))
    fold = dict(zip(np.random.default_rng(seed).permutation(topics), np.arange(len(topics)) % FOLDS, strict=True))
    fold_P = np.array([fold[topic] for topic in data.topic_P])
    found = np.full(len(fold_P), np.nan)
    for left_out in range(FOLDS):
        weight = chosen(data, fold_P[data.pair_V] != left_out, way)
        test = (fold_P == left_out) & ~np.isnan(data.gold_P)
        d = (data.x_TW[data.a_P[test]] - data.x_TW[data.b_P[test]]) @ weight
        found[test] = (d > 0) == (data.gold_P[test] == 1.0)
    return found[~np.isnan(data.gold_P)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", default=os.environ.get("PREFERENT_SHARED_DATA", str(Path(__file__).parents[1] / "../shared/data")))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = read(Path(given.shared, "ukpconvarg1.jsonl.gz"))
    topics = data.topic_P[~np.isnan(data.gold_P)].tolist() * given.seeds
    rows = []
    print(f"{'votes':16} {'labels':12} {'accuracy, gold pairs':24} difference from majority")
    for crowd in ("as they are", "30 % adversaries"):
        hits: dict[str, np.ndarray] = {}
        for way in WAYS:
            hits[way] = np.concatenate(
                [right(data if crowd == "as they are" else with_adversaries(data, seed), seed, way) for seed in range(given.seeds)]
            )
            rng = np.random.default_rng(0)
            value = clustered_mean(hits[way], topics, rng=rng)
            gain = clustered_mean(hits[way] - hits["majority"], topics, rng=rng)
            said = "" if way == "majority" else f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
            print(f"{crowd:16} {way:12} {value!s:24} {said}", flush=True)
            rows.append({"votes": crowd, "labels": way, "accuracy": value.to_dict(), "minus_majority": gain.to_dict()})
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "downstream.json").write_text(json.dumps({"seeds": given.seeds, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
