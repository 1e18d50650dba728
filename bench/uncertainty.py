"""How sure the models are, measured on real data: calibration, coverage of intervals, and what K heads cost.

    python bench/uncertainty.py [--shared ../shared/data] [--only calibration,coverage,cost] [--train STEPS] [--out bench-out]

calibration   ukpconvarg1: whole topics are held out. Two of four parts train, one fits the temperature, one is looked at; every
              topic is looked at once. NLL and ECE of the soft labels before and after the temperature, over all topics.
coverage      intervals of ratings (summeval, arena_bench_v1) and of the share of people who prefer a (pandalm, three annotators). 20 % of
              the prompts train; three quarters of the others, drawn 200 times, fit the half width, the rest looks. The mean over
              splits is the coverage; in brackets the range of the middle 95 % of single splits. Beside it the same with rows taken for
              exchangeable (the plain quantile).
cost          CPU seconds of training and scoring MiniLM with five heads, as a multiple of one, in alternating turns.

The first two use the features of the frozen embedded MiniLM (the last 64 tokens, the pooled first token) and a trained last layer: what is
measured is the calibration, and it takes minutes. `--train STEPS` fine-tunes all of MiniLM with five heads instead, through `train`, on
the calibration data.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from preferent.audits.evaluate import evaluate
from preferent.audits.metrics import confidence, nll, reliability
from preferent.core.estimates import clustered_mean
from preferent.core.records import Exchange, Message, Preference
from preferent.data.gate import check
from preferent.models.reward_model import RewardModel
from preferent.training.calibration import fit_temperature
from preferent.training.config import BradleyTerry, load_config
from preferent.training.conformal import coverage, half_width
from preferent.training.ensemble import Draw, members_loss
from preferent.training.ensemble_setup import start
from preferent.training.groups import group_records
from preferent.training.objective import summed_loss
from preferent.training.pairs import LabelledPairs, overall_pairs
from preferent.training.prepare import prepare
from preferent.training.run import train
from preferent.training.trainee import trainee_of

LENGTH = 64
RATED = {"summeval": "coherence", "arena_bench_v1": "score"}
PER_PROMPT = 4  # responses of one prompt that are kept; of summeval 8
RIDGE = 300.0  # of the trained last layers
SPLITS = 200
SETS = ("summeval", "arena_bench_v1", "pandalm")
MEMBERS = 5


def rows_of(shared: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(shared / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def features_of(exchanges: Sequence[Exchange]) -> np.ndarray:
    """Standardised features of frozen MiniLM, shape (N, W)."""
    started = time.process_time()
    found = RewardModel.create("minilm", max_length=LENGTH).readings(exchanges, features=True).features_NW
    assert found is not None
    print(f"  {len(exchanges)} responses through frozen MiniLM, {time.process_time() - started:.0f} CPU s", flush=True)
    return (found - found.mean(0)) / (found.std(0) + 1e-6)


def ranking_layer(x_EW: np.ndarray, p_E: np.ndarray, weight_E: np.ndarray, ridge: float) -> np.ndarray:
    """The last layer of a Bradley-Terry model, by Newton's method."""
    w = np.zeros(x_EW.shape[1])
    for _ in range(12):
        q_E = expit(x_EW @ w)
        curvature = (x_EW * (weight_E * q_E * (1 - q_E))[:, None]).T @ x_EW + ridge * np.eye(len(w))
        step = np.linalg.solve(curvature, x_EW.T @ (weight_E * (p_E - q_E)) - ridge * w)
        w = w + step
        if np.abs(step).max() < 1e-8:
            break
    return w


# ---- calibration ----


def calibration(shared: Path, seed: int) -> dict[str, Any]:
    pairs = overall_pairs(check(shared / "ukpconvarg1.jsonl.gz").records())
    features = features_of(pairs.exchanges)
    x_EW = features[pairs.i_E] - features[pairs.j_E]
    part_of = parts(pairs.prompt_E, 4, seed)
    margin, scaled, fitted = np.empty(len(x_EW)), np.empty(len(x_EW)), []
    for fold in range(4):
        own = {name: part_of == (fold + shift) % 4 for name, shift in (("test", 0), ("calibrate", 1))}
        kept = ~(own["test"] | own["calibrate"])
        w = ranking_layer(x_EW[kept], pairs.p_E[kept], pairs.weight_E[kept], ridge=RIDGE)
        m, c = x_EW[own["test"]] @ w, own["calibrate"]
        clusters = [pairs.prompt_E[e] for e in np.flatnonzero(c)]
        temperature = fit_temperature(x_EW[c] @ w, pairs.p_E[c], pairs.weight_E[c], clusters_N=clusters)
        margin[own["test"]], scaled[own["test"]] = m, m / temperature.value
        fitted.append(temperature.value)
    print(f"ukpconvarg1, last layer on frozen features: {len(x_EW)} pairs of {len(set(pairs.prompt_E))} topics, T {np.round(fitted, 2)}")
    return {name: measured(pairs, m, name) for name, m in (("before", margin), ("after", scaled))}


def parts(prompts: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Which part the prompt of each row is in."""
    names = sorted(set(prompts))
    order = np.random.default_rng(seed).permutation(len(names))
    place = {names[name]: k % count for k, name in enumerate(order)}
    return np.array([place[name] for name in prompts])


def measured(pairs: LabelledPairs, margin_E: np.ndarray, name: str) -> dict[str, Any]:
    codes = np.unique(pairs.prompt_E, return_inverse=True)[1]
    q, label = confidence(margin_E, pairs.p_E)
    found = reliability(q, label, pairs.weight_E, codes, rng=np.random.default_rng(0))
    hit_E = np.where(pairs.p_E == 0.5, np.nan, 0.5 + 0.5 * np.sign(margin_E) * np.sign(pairs.p_E - 0.5))
    loss = clustered_mean(nll(margin_E, pairs.p_E), pairs.prompt_E, rng=np.random.default_rng(1))
    print(
        f"  {name:7} accuracy {np.nanmean(hit_E):.3f}   NLL {loss}   ECE {found.ece}   (perfect: {found.noise})",
        flush=True,
    )
    return {"nll": loss.to_dict(), "ece": found.ece.to_dict(), "noise": found.noise.to_dict(), "bins": found.to_dict()["bins"]}


def trained(shared: Path, steps: int, seed: int) -> dict[str, Any]:
    """All of MiniLM, five heads: half of the topics train, a quarter fits the temperature, a quarter is looked at."""
    records = [record for record in check(shared / "ukpconvarg1.jsonl.gz").records() if isinstance(record, Preference)]
    part_of = parts([record.prompt[-1].content for record in records], 4, seed)
    own = [[record for record, part in zip(records, part_of, strict=True) if part in wanted] for wanted in ((2, 3), (1,), (0,))]
    settings = {"base": "minilm", "max_length": "128", "max_steps": str(steps), "batch.pairs": "32", "max_responses": "8", "threads": "1"}
    config = load_config(None, {**settings, "epochs": "99", "ensemble.kind": "heads", "ensemble.size": str(MEMBERS)})
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        train(own[0], own[1], config, Path(folder, "run"))
        model = RewardModel.load(Path(folder, "run"))
        print(f"all of MiniLM, {MEMBERS} heads, {steps} steps: {time.process_time() - started:.0f} CPU s, T {model.temperature:.2f}")
        found = {}
        for name, temperature in (("before", 1.0), ("after", model.temperature)):
            numbers = evaluate(model, own[2], temperature=temperature, seed=seed).numbers
            print("  " + name, *(f"{key} {numbers[key]}" for key in ("accuracy", "nll", "ece", "ece_noise")), flush=True)
            found[name] = {key: numbers[key].to_dict() for key in ("accuracy", "nll", "ece", "ece_noise")}
    return found


# ---- coverage ----


def rated(shared: Path, name: str) -> tuple[list[Exchange], np.ndarray]:
    by_prompt: dict[str, list[tuple[Exchange, float]]] = {}
    for row in rows_of(shared, name):
        prompt = tuple(Message(**turn) for turn in row["prompt"])
        if name == "summeval":
            pairs = [(row["response"], row["ratings"][RATED[name]])]
        else:
            pairs = [(item["text"], item["score"]) for item in row["candidates"] if item.get("score") is not None]
        scored = [(Exchange(prompt=prompt, response=text), float(value)) for text, value in pairs]
        by_prompt.setdefault(prompt[-1].content, []).extend(scored)
    rng = np.random.default_rng(0)
    kept = [scored[k] for scored in by_prompt.values() for k in rng.permutation(len(scored))[: PER_PROMPT if name != "summeval" else 8]]
    return [exchange for exchange, _ in kept], np.array([value for _, value in kept])


def gaps_of_ratings(shared: Path, name: str, seed: int) -> tuple[np.ndarray, list[str], str]:
    """|rating - prediction| of the prompts that were not trained on, their prompts, and what it is."""
    exchanges, value_N = rated(shared, name)
    prompts = [exchange.prompt[-1].content for exchange in exchanges]
    features = np.hstack([features_of(exchanges), np.ones((len(exchanges), 1))])
    kept = parts(prompts, 5, seed) == 0
    x = features[kept]
    w = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (value_N[kept] - value_N[kept].mean()))
    gap = np.abs(value_N - value_N[kept].mean() - features @ w)[~kept]
    return gap, [prompt for prompt, skip in zip(prompts, kept, strict=True) if not skip], f"rating ({RATED[name]})"


def gaps_of_shares(shared: Path, name: str, seed: int) -> tuple[np.ndarray, list[str], str]:
    pairs = overall_pairs(check(shared / f"{name}.jsonl.gz").records())
    features = features_of(pairs.exchanges)
    x_EW = features[pairs.i_E] - features[pairs.j_E]
    kept = parts(pairs.prompt_E, 5, seed) == 0
    w = ranking_layer(x_EW[kept], pairs.p_E[kept], pairs.weight_E[kept], ridge=RIDGE)
    gap = np.abs(pairs.p_E - expit(x_EW @ w))[~kept]
    return gap, [prompt for prompt, skip in zip(pairs.prompt_E, kept, strict=True) if not skip], "share that prefers a"


def _splits(gap_N: np.ndarray, code_N: np.ndarray, level: float, rng: np.random.Generator) -> dict[str, float]:
    """Coverage over random splits of the prompts, three quarters to fit on."""
    n = int(code_N.max()) + 1
    ours, plain, widths = [], [], []
    for _ in range(SPLITS):
        fit_N = np.isin(code_N, rng.permutation(n)[: 3 * n // 4])
        width = half_width(gap_N[fit_N], code_N[fit_N].tolist(), level=level).value
        looked = code_N[~fit_N].tolist()
        ours.append(coverage(gap_N[~fit_N] <= width, looked, rng=rng, n_resamples=2).value)
        plain.append(coverage(gap_N[~fit_N] <= np.quantile(gap_N[fit_N], level), looked, rng=rng, n_resamples=2).value)
        widths.append(width)
    low, high = np.quantile(ours, [0.025, 0.975])
    mean, naive, width = (float(np.mean(values)) for values in (ours, plain, widths))
    said = f"{mean:.3f} [{low:.3f}, {high:.3f}] with half width {width:.3f}; rows as exchangeable {naive:.3f}"
    print(f"  nominal {level:.2f}: {said}", flush=True)
    return {"coverage": mean, "low": float(low), "high": float(high), "plain": naive, "half_width": width}


def covered(shared: Path, seed: int, names: Sequence[str] = SETS) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        gap_N, prompts, what = (gaps_of_ratings if name in RATED else gaps_of_shares)(shared, name, seed)
        names = sorted(set(prompts))
        code_N = np.array([names.index(prompt) for prompt in prompts])
        rng = np.random.default_rng(seed)
        print(f"{name}: {what}, {len(gap_N)} labels of {len(names)} prompts that were not trained on")
        for level in (0.8, 0.9):
            found[f"{name} {level}"] = _splits(gap_N, code_N, level, rng)
    return found


# ---- cost ----


def cost(shared: Path, seed: int) -> dict[str, Any]:
    """CPU seconds with one head and with five, the same rows, in alternating turns."""
    records = [record for record in check(shared / "ukpconvarg1.jsonl.gz").records() if isinstance(record, Preference)]
    rng = np.random.default_rng(seed)
    some = [records[k] for k in rng.permutation(len(records))[:6]]
    rigs = {}
    for size in (1, MEMBERS):
        extra = {} if size == 1 else {"ensemble.kind": "heads", "ensemble.size": str(size)}
        config = load_config(None, {"base": "minilm", "max_length": "128", **extra})
        model = RewardModel.create("minilm", max_length=128)
        start(model, config)
        trainee = trainee_of(model, config)
        rigs[size] = (model, trainee, torch.optim.AdamW([p for p in trainee.parameters() if p.requires_grad], lr=1e-5, fused=True))
    groups = prepare(rigs[1][0], group_records(some)).groups
    seconds: dict[tuple[str, int], list[float]] = {}
    for turn in range(9):
        for size, (model, trainee, optimizer) in rigs.items():
            batch = model.pack([[ids.tolist() for ids in item.ids] for item in groups])
            for name in ("training", "scoring"):
                started = time.process_time()
                if name == "training":
                    trainee.train()
                    outputs = trainee(batch)
                    one = summed_loss(outputs, groups, BradleyTerry()) if size == 1 else None
                    loss = members_loss(outputs, groups, BradleyTerry(), draw=Draw("prompts", seed, size)) if one is None else one
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                else:
                    model.score([exchange for record in some for exchange in record.exchanges()])
                if turn:  # the first one warms up
                    seconds.setdefault((name, size), []).append(time.process_time() - started)
    found = {}
    for name in ("training", "scoring"):
        ratio = np.array(seconds[name, MEMBERS]) / np.array(seconds[name, 1])
        low, high = np.quantile(np.random.default_rng(0).choice(ratio, (2000, len(ratio))).mean(1), [0.025, 0.975])
        print(
            f"{name}: {MEMBERS} heads cost {np.median(ratio):.3f} x one (mean {ratio.mean():.3f} [{low:.3f}, {high:.3f}] over {len(ratio)} "
            f"turns; one: {np.median(seconds[name, 1]):.2f} CPU s)",
            flush=True,
        )
        found[name] = {"median": float(np.median(ratio)), "mean": float(ratio.mean()), "low": low, "high": high}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", default=os.environ.get("PREFERENT_SHARED_DATA", str(Path(__file__).parents[1] / "../shared/data")))
    parser.add_argument("--only", default="calibration,coverage,cost")
    parser.add_argument("--data", default=",".join(SETS), help="of coverage")
    parser.add_argument("--train", type=int, metavar="STEPS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    jobs: dict[str, Any] = {"calibration": calibration, "coverage": covered, "cost": cost}
    report: dict[str, Any] = {}
    for name in given.only.split(","):
        if name:
            extra = (given.data.split(","),) if name == "coverage" else ()
            report[name] = jobs[name](Path(given.shared), given.seed, *extra)
    if given.train:
        report["trained"] = trained(Path(given.shared), given.train, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    given.out.joinpath("uncertainty.json").write_text(json.dumps(report, indent=2, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
