"""What raw votes are worth: reward and annotators fitted together, beside majority, vote shares and Dawid-Skene's soft labels.

    python bench/joint.py [--seeds 10] [--votes 20000] [--out bench-out]

The setting of research/annotation.md B6 (its own generator is not stored, this one is scaled to its baselines): a linear reward of 64
features, 20,000 votes in all by 200 annotators of log-normal activity (10 % adversaries, 15 % who do not look, 15 % who take the left one
far too often), 1, 2, 3, 5 or 10 votes on a pair. Every way of making labels trains the same linear reward by the same loss
(`training.losses`) and optimiser; printed is the share of fresh pairs in the true order, mean and 95 % interval over seeds. An upper
bound of the gain: the model is the world's own.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.majority import majority
from preferent.annotators.table import VoteTable
from preferent.training import losses

WIDTH, PEOPLE, TEST = 64, 200, 20_000
SPREAD = 2.5  # standard deviation of a pair's reward difference; vote shares then come out about where they are in B6 (.956 to .959)
SLOPE_SD = POSITION_SD = 0.5
WAYS = ("majority, ties dropped", "vote share", "Dawid-Skene", "one-coin", "joint")


@dataclass(frozen=True)
class World:
    """Votes on pairs. x_PW: feature difference of each pair. pair_V, who_V: of each vote. first_V: 1 where a stood left, else -1."""

    weight_W: np.ndarray
    x_PW: np.ndarray
    pair_V: np.ndarray
    who_V: np.ndarray
    first_V: np.ndarray
    a_V: np.ndarray


def world(n_votes: int, per_pair: int, rng: np.random.Generator) -> World:
    weight_W = rng.normal(size=WIDTH) * SPREAD / np.sqrt(2.0 * WIDTH)
    x_PW = rng.normal(size=(n_votes // per_pair, WIDTH)) * np.sqrt(2.0)
    activity_A = rng.lognormal(0.0, 1.0, PEOPLE)
    slope_A, position_A = rng.lognormal(np.log(1.3), 0.3, PEOPLE), rng.normal(0.0, 0.2, PEOPLE)
    kind_A = rng.permutation(PEOPLE) / PEOPLE
    slope_A[kind_A < 0.10] *= -1.0
    slope_A[(kind_A >= 0.10) & (kind_A < 0.25)] = 0.0
    left = (kind_A >= 0.25) & (kind_A < 0.40)
    position_A[left] = 3.0
    pair_V = np.repeat(np.arange(len(x_PW)), per_pair)
    # Nobody votes twice on a pair: the Gumbel trick draws without replacement by activity.
    keys_PA = np.log(activity_A) + rng.gumbel(size=(len(x_PW), PEOPLE))
    who_V = np.argpartition(-keys_PA, per_pair - 1, axis=1)[:, :per_pair].ravel()
    first_V = rng.choice([-1.0, 1.0], len(pair_V))
    logit_V = slope_A[who_V] * (x_PW @ weight_W)[pair_V] + position_A[who_V] * first_V
    return World(weight_W, x_PW, pair_V, who_V, first_V, rng.random(len(pair_V)) < 1.0 / (1.0 + np.exp(-logit_V)))


def fit(x_NW: np.ndarray, p_N: np.ndarray, votes: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Weights of a linear reward under Bradley-Terry with soft labels p; `votes` (who, first) fits the annotators along."""
    x, p = torch.from_numpy(x_NW), torch.from_numpy(p_N)
    weight = torch.zeros(WIDTH, dtype=torch.float64, requires_grad=True)
    traits = torch.zeros(PEOPLE, 2, dtype=torch.float64, requires_grad=True)
    sd = torch.tensor([SLOPE_SD, POSITION_SD], dtype=torch.float64)
    parameters = [weight] if votes is None else [weight, traits]
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")
    who, first = (None, None) if votes is None else map(torch.from_numpy, votes)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        d = x @ weight
        if who is not None and first is not None:
            d = losses.annotator_logits(d, 1.0 + traits[who, 0], traits[who, 1], first)
        loss = losses.bradley_terry(d, torch.zeros_like(d), p).sum() + 0.5 * weight.square().sum()
        if who is not None:
            loss = loss + losses.annotator_prior(traits, sd)
        (loss / len(p)).backward()
        return loss / len(p)

    optimizer.step(closure)
    return weight.detach().numpy()


def labels(made: World, way: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows of x, soft labels) of one way that does not know the features."""
    n, total = np.bincount(made.pair_V), np.bincount(made.pair_V, made.a_V.astype(float))
    share_P = total / n
    if way == "majority, ties dropped":
        decided = share_P != 0.5
        return np.flatnonzero(decided), (share_P[decided] > 0.5).astype(float)
    if way == "vote share":
        return np.arange(len(n)), share_P
    table = VoteTable.from_arrays(made.pair_V, made.who_V, np.where(made.a_V, "a", "b"), labels=("a", "b"))
    result = dawid_skene(table) if way == "Dawid-Skene" else dawid_skene(table, "one-coin") if way == "one-coin" else majority(table)
    return np.asarray(result.items, dtype=np.int64), np.asarray(result.p_a()[0])


def accuracy(made: World, weight_W: np.ndarray, rng: np.random.Generator) -> float:
    x = rng.normal(size=(TEST, WIDTH))
    return float(np.mean(np.sign(x @ weight_W) == np.sign(x @ made.weight_W)))


def interval(values: list[float]) -> tuple[float, float, float]:
    mean = float(np.mean(values))
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--votes", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[tuple[str, int], list[float]] = {}
    for seed in range(given.seeds):
        for per_pair in (1, 2, 3, 5, 10):
            made = world(given.votes, per_pair, np.random.default_rng([seed, per_pair]))
            for way in WAYS:
                if way == "joint":
                    weight = fit(made.x_PW[made.pair_V], made.a_V.astype(float), (made.who_V, made.first_V))
                elif per_pair == 1 and way != "vote share":
                    continue
                else:
                    rows, p = labels(made, way)
                    weight = fit(made.x_PW[rows], p)
                found.setdefault((way, per_pair), []).append(accuracy(made, weight, np.random.default_rng(seed)))
    rows_: list[dict[str, Any]] = []
    print(f"{'labels':24}" + "".join(f"{n:>2} votes a pair        " for n in (1, 2, 3, 5, 10)))
    for way in WAYS:
        cells = []
        for per_pair in (1, 2, 3, 5, 10):
            if (way, per_pair) not in found:
                cells.append(f"{'-':22}")
                continue
            mean, low, high = interval(found[way, per_pair])
            cells.append(f"{mean:.4f} [{low:.4f}, {high:.4f}]"[:23].ljust(23))
            rows_.append({"labels": way, "votes_per_pair": per_pair, "accuracy": mean, "low": low, "high": high, "seeds": given.seeds})
        print(f"{way:24}" + " ".join(cells))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "joint.json").write_text(json.dumps({"votes": given.votes, "rows": rows_}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
