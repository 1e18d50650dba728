"""Objectives: planted ones recovered, people's ratings of summaries, and what several heads cost.

    python bench/objectives.py [heads] [gate] [length] [cost] [summeval] [--shared ../shared/data] [--out bench-out]

heads     the replies world, whose five objectives are a program, on `tiny`: Spearman of each head with the truth on new prompts, 95 %
          intervals over them, beside the ceiling that ties in the truth leave.
gate      the same world; overall preferences under planted weights that depend on the prompt: the largest error of the learned ones.
length    the same world; labels that pay for length: the reward's correlation with length without and with ODIN.
summeval  1,600 summaries rated by experts on four attributes, on `minilm`, cross-fitted by article: Spearman of each head with the experts
          beside length and a single scalar (one head trained on the mean of the four), 95 % intervals over articles.
cost      CPU seconds of training and scoring with five heads over those with one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preferent.audits.objectives import rank_correlation, spearman, study_objectives
from preferent.audits.objectives_report import render
from preferent.core.estimates import clustered_statistic
from preferent.core.records import Exchange, Preference, Rating, Scores, user
from preferent.data.ratings import check_all
from preferent.lab.replies import OBJECTIVES, RepliesWorld, gold
from preferent.models.reward_model import RewardModel
from preferent.training.config import load_config
from preferent.training.observer import Observer
from preferent.training.run import train

PARTS = ("heads", "gate", "length", "cost", "summeval")
TINY = {"base": "tiny", "max_length": "512", "learning_rate": "1e-3", "threads": "1"}
# Prompts and epochs. New prompts to the end rather than few prompts often: what takes finding in the prompt is learned late, and only
# from many of them.
SIZES = {"heads": (8000, "1"), "gate": (500, "6"), "length": (1000, "1")}
HEADS = {"learning_rate": "2e-3", "batch.pairs": "8"}
# Four summaries of an article in a group: a step of 16 that is all one article learns the article.
MINILM = {
    "base": "minilm",
    "max_length": "224",
    "max_responses": "4",
    "batch.pairs": "16",
    "learning_rate": "2e-4",
    "precision": "bf16",
    "threads": "1",
}
LEAD = 60
# Prompts that ask for a list are weighed otherwise than those that ask for sentences.
GATE = {True: {"helpfulness": 0.2, "tone": 0.8}, False: {"helpfulness": 0.8, "tone": 0.2}}


class Talk(Observer):
    """A line now and then: the runs take minutes."""

    def noted(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def stepped(self, row: Any) -> None:
        if row["step"] % 25 == 0:
            print(f"  step {row['step']}: loss {row['loss']:.3f}, {row['tokens'] / row['seconds']:,.0f} tokens/s", flush=True)


def fitted(records: list[Any], settings: dict[str, str]) -> RewardModel:
    """A model trained on all of these."""
    with tempfile.TemporaryDirectory() as folder:
        train(records, [], load_config(None, settings), Path(folder) / "run", observer=Talk())
        return RewardModel.load(Path(folder) / "run", device="cpu")


def world(n: int, seed: int) -> list[Exchange]:
    """n prompts of the replies world with four responses each."""
    made = RepliesWorld(seed)
    return [Exchange(prompt=prompt, response=text) for prompt in made.prompts(n) for text in made.responses(prompt, 4)]


def planted_heads(n: int, epochs: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ratings = []
    for exchange in world(n, 0):
        truth = gold(exchange)
        values = {name: 4.0 * getattr(truth, name) + 1.0 for name in OBJECTIVES if rng.random() > 0.3}
        if values:
            ratings.append(Rating(prompt=exchange.prompt, response=exchange.response, values=values))
    model = fitted(ratings, {**TINY, **HEADS, "epochs": epochs})
    new = world(200, 1)
    prompts = [exchange.prompt for exchange in new]
    scores = model.score(new)
    found: dict[str, Any] = {}
    print(f"\nplanted objectives, {len(ratings)} responses rated with 30 % of ratings missing; on {len(new)} responses to new prompts")
    for name in OBJECTIVES:
        truth = np.array([getattr(gold(exchange), name) for exchange in new])
        # Of equal truths no scorer knows an order: what is left for a perfect one with an order of its own among them.
        ceiling = spearman(truth + 1e-9 * rng.random(len(truth)), truth)
        head = rank_correlation(scores.objectives[name], truth, prompts, seed=0)
        found[name] = {"spearman": head.to_dict(), "ceiling": ceiling}
        print(f"  {name:12} {head}   ceiling {ceiling:.3f}   {'REACHED' if head.value >= 0.9 else 'MISSED'}")
    return found


def planted_gate(n: int, epochs: str) -> dict[str, Any]:
    """Ratings of two objectives, and overall preferences whose weights depend on what the prompt asks for."""
    from preferent.lab.requests import read_request

    rng = np.random.default_rng(2)
    names = ("helpfulness", "tone")
    exchanges = world(n, 3)
    truth = np.array([[getattr(gold(exchange), name) for name in names] for exchange in exchanges])
    z = (truth - truth.mean(0)) / truth.std(0)
    records: list[Any] = []
    for row, exchange in enumerate(exchanges):
        values = {name: float(truth[row, k]) for k, name in enumerate(names)}
        records.append(Rating(prompt=exchange.prompt, response=exchange.response, values=values))
        other = row + 1 if row % 4 < 3 else row - 3
        weights = GATE[read_request(exchange.prompt).as_list]
        logit = 4.0 * sum(weights[name] * (z[row, k] - z[other, k]) for k, name in enumerate(names))
        p_a, second = float(1 / (1 + np.exp(-logit))), exchanges[other].response
        records.append(Preference(prompt=exchange.prompt, response_a=exchange.response, response_b=second, p_a=p_a))
    rng.shuffle(records)
    model = fitted(records, {**TINY, "epochs": epochs, "combination.kind": "gate", "batch.pairs": "32"})
    prompts = RepliesWorld(4).prompts(100)
    weights_NK = model.gate_weights(model.tokenize_prompts(prompts))
    assert model.card.heads is not None
    order = [model.card.heads.names.index(name) for name in names]
    planted = np.array([[GATE[read_request(prompt).as_list][name] for name in names] for prompt in prompts])
    error = np.abs(weights_NK[:, order] - planted)
    found = {
        "mean_error": float(error.mean()),
        "largest_error": float(error.max()),
        "share_within_0.1": float((error.max(1) <= 0.1).mean()),
    }
    print(f"\nplanted gate on {len(prompts)} new prompts: {found}")
    return found


def decorrelated(n: int, epochs: str) -> dict[str, Any]:
    """People prefer what is helpful, and, as strongly, what is long. Helpfulness itself is made to have nothing to do with length."""
    world_of = RepliesWorld(5)
    rng = np.random.default_rng(6)

    def made(prompts: list[Any]) -> list[Exchange]:
        from preferent.lab.replies import draw_knobs

        exchanges = []
        for prompt in prompts:
            for _ in range(4):
                knobs = draw_knobs(rng)
                exchanges.append(Exchange(prompt=prompt, response=world_of.write(prompt, knobs, rng)))
        return exchanges

    def residual(exchanges: list[Exchange]) -> tuple[Any, Any]:
        length = np.array([float(len(exchange.response)) for exchange in exchanges])
        tone = np.array([gold(exchange).tone for exchange in exchanges])
        slope = np.polyfit(length, tone, 1)
        return tone - np.polyval(slope, length), (length - length.mean()) / length.std()

    exchanges = made(world_of.prompts(n))
    quality, long = residual(exchanges)
    quality = quality / quality.std()
    records = []
    for row in range(0, len(exchanges), 2):
        a, b = exchanges[row], exchanges[row + 1]
        if a.response == b.response:
            continue
        p_a = float(1 / (1 + np.exp(-2.0 * (quality[row] - quality[row + 1] + long[row] - long[row + 1]))))
        records.append(Preference(prompt=a.prompt, response_a=a.response, response_b=b.response, p_a=p_a))
    # A correlation over n replies is off by about 1 / sqrt(n): of 400 one of 0.05 cannot be told from none.
    new = made(RepliesWorld(7).prompts(1000))
    prompts = [exchange.prompt for exchange in new]
    truth, length = residual(new)
    found: dict[str, Any] = {"planted_correlation": float(np.corrcoef(truth, length)[0, 1])}
    for way in ("none", "odin"):
        model = fitted(records, {**TINY, "epochs": epochs, "decorrelation.kind": way, "batch.pairs": "32"})
        reward = model.score(new).reward
        with_length = clustered_statistic(
            lambda rows, r=reward: float(np.corrcoef(r[rows], length[rows])[0, 1]), prompts, rng=np.random.default_rng(0), n_resamples=500
        )
        with_quality = rank_correlation(reward, truth, prompts, seed=0)
        found[way] = {"with_length": with_length.to_dict(), "with_quality": with_quality.to_dict()}
        print(f"length, decorrelation {way}: reward with length {with_length}, with the planted quality {with_quality}")
    print(f"planted quality with length: {found['planted_correlation']:.3f}")
    return found


def cost(repeats: int = 3) -> dict[str, Any]:
    """Five heads over one, CPU seconds, the least of several turns taken in alternation."""
    exchanges = world(40, 8)
    many = [
        Rating(prompt=e.prompt, response=e.response, values={name: float(getattr(gold(e), name)) for name in OBJECTIVES}) for e in exchanges
    ]
    one = [record.model_copy(update={"values": {"helpfulness": record.values["helpfulness"]}}) for record in many]
    seconds: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(repeats):
            for name, records in (("one", one), ("five", many)):
                folder = Path(scratch) / f"{name}-{turn}"
                kept = seconds.setdefault(name, {"train": [], "score": []})
                began: list[float] = []

                class Clock(Observer):
                    def started(self, *, total_steps: int, done_steps: int, began: list[float] = began) -> None:
                        began.append(time.process_time())

                    def stepped(self, row: Any, began: list[float] = began) -> None:
                        began.append(time.process_time())

                train(records, [], load_config(None, {**TINY, "epochs": "2", "batch.pairs": "16"}), folder, observer=Clock())
                kept["train"].append(began[-1] - began[0])
                model = RewardModel.load(folder, device="cpu")
                model.score(exchanges[:4])
                start = time.process_time()
                model.score(exchanges)
                kept["score"].append(time.process_time() - start)
    found = {}
    for what in ("train", "score"):
        least = {name: min(kept[what]) for name, kept in seconds.items()}
        found[what] = {**least, "ratio": least["five"] / least["one"]}
        print(f"cost of five heads, {what}: {least['five']:.2f} s against {least['one']:.2f} s with one: {found[what]['ratio']:.3f} times")
    return found


class CrossFitted:
    """Every response as it was scored by the model that has not seen its article."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._row: dict[Exchange, dict[str, float]] = {}

    def add(self, model: RewardModel, exchanges: Sequence[Exchange]) -> Scores:
        scores = model.score(exchanges)
        columns = {"reward": scores.reward, **scores.objectives}
        for place, exchange in enumerate(exchanges):
            self._row[exchange] = {name: float(value[place]) for name, value in columns.items()}
        return scores

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        rows = [self._row[exchange] for exchange in exchanges]
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return Scores(columns.pop("reward"), objectives=columns)


def with_lead(record: Rating, words: int) -> Rating:
    """The article cut to its first words. Whole ones (465 to 785 tokens with a summary) do not fit into 512; what is dropped otherwise is
    the beginning, where news say what matters, and every token costs time."""
    article = re.sub(r"^Summarize the article\.\s*", "", record.prompt[0].content)
    return record.model_copy(update={"prompt": user(" ".join(article.split()[:words]))})


def summeval(shared: Path, kept: Path, *, folds: int, epochs: str) -> dict[str, Any]:
    """Models are kept, so that a run that was cut off goes on."""
    read = [record for record in check_all(shared / "summeval.jsonl.gz").records() if isinstance(record, Rating)]
    records = [with_lead(record, LEAD) for record in read]
    articles = list(dict.fromkeys(record.prompt for record in records))
    assert len(articles) == len({record.prompt for record in read}), "two articles with the same beginning"
    fold_of = dict(zip(articles, (np.random.default_rng(0).permutation(len(articles)) % folds).tolist(), strict=True))
    means = [record.model_copy(update={"values": {"mean": float(np.mean(list(record.values.values())))}}) for record in records]
    print(
        f"\nsummeval: {len(records)} summaries of {len(articles)} articles, each article scored by a model of the other {folds - 1} folds"
    )
    heads, single = CrossFitted("heads"), CrossFitted("single scalar")
    for fold in range(folds):
        own = [row for row in records if fold_of[row.prompt] == fold]
        exchanges = [Exchange(prompt=row.prompt, response=row.response) for row in own]
        for fitter, rows in ((heads, records), (single, means)):
            folder = kept / f"summeval-{fitter.name.replace(' ', '-')}-{fold}"
            if not (folder / "model.safetensors").is_file():
                others = [row for row in rows if fold_of[row.prompt] != fold]
                train(others, [], load_config(None, {**MINILM, "epochs": epochs}), folder, observer=Talk())
            scores = fitter.add(RewardModel.load(folder, device="cpu"), exchanges)
            for objective in own[0].values:
                said = np.array([row.values[objective] for row in own])
                print(
                    f"  fold {fold}, {fitter.name}: {objective} {spearman(scores.objectives.get(objective, scores.reward), said):.3f}",
                    flush=True,
                )
    study = study_objectives(heads, records, beside={"single scalar": single})
    print(render(study))
    return {**study.to_dict(), "gains": gains(heads, single, records)}


def gains(heads: CrossFitted, single: CrossFitted, records: Sequence[Rating]) -> dict[str, Any]:
    """How much more each head has with the experts than the bars have, on the same summaries; resampled by article."""
    exchanges = [Exchange(prompt=record.prompt, response=record.response) for record in records]
    of_heads, scalar_N = heads.score(exchanges).objectives, single.score(exchanges).reward
    bars = {"length": np.array([float(len(one.response)) for one in exchanges]), "single scalar": scalar_N}
    clusters = [one.prompt for one in exchanges]
    found: dict[str, Any] = {}
    for name, head_N in of_heads.items():
        said_N = np.array([record.values[name] for record in records])
        for bar, bar_N in bars.items():
            gain = clustered_statistic(
                lambda rows, h=head_N, b=bar_N, y=said_N: spearman(h[rows], y[rows]) - spearman(b[rows], y[rows]),
                clusters,
                rng=np.random.default_rng(0),
                n_resamples=500,
            )
            found.setdefault(name, {})[bar] = gain.to_dict()
            print(f"  {name}: head less {bar} {gain}  {'REACHED' if gain.low > 0 else 'MISSED'}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("PREFERENT_SHARED_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--prompts", type=int, default=None, help=f"of the replies world; by part: {SIZES}")
    parser.add_argument("--epochs", default=None, help="of the replies world; as stated there")
    parser.add_argument("--folds", type=int, default=2, help="of summeval's articles")
    parser.add_argument("--summeval-epochs", default="4")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "objectives.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for part in given.parts:
        if part == "cost":
            found[part] = cost()
        elif part == "summeval":
            found[part] = summeval(given.shared, given.out, folds=given.folds, epochs=given.summeval_epochs)
        else:
            made = {"heads": planted_heads, "gate": planted_gate, "length": decorrelated}[part]
            prompts, epochs = given.prompts or SIZES[part][0], given.epochs or SIZES[part][1]
            found[part] = made(prompts, epochs)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
