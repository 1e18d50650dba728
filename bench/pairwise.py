"""Scores from votes on pairs: ours beside choix, crowd-kit and evalica, in accuracy, CPU seconds and peak memory.

    python bench/pairwise.py [--votes 1000000] [--peers-python PYTHON] [--slow] [--huge] [--only S2|S2b|ukp|active]
                             [--shared ../shared/data] [--out bench-out]

Worlds with truth, after research/annotation.md B4: S2 has 2,000 items and 200,000 distinct pairs, S2b 33,333 prompts with 4 responses
each; 5 votes a pair by 2,000 annotators of log-normal activity and slope (median 1.3), 10 % of the slopes negative, position bias N(0, 1).
B4's own generator is not stored; this one gives plain Bradley-Terry about the accuracy it has there. Accuracy: share of the voted pairs
in the true order; "traits known" is the fit that is told every annotator's slope and bias, the most that can be had. `--slow` adds the
contestants that take minutes. Then ukpconvarg1_crowd with one vote per pair held out (B5), active selection (B7), and time and memory at
a tenth of the votes. Every contestant runs in a process of its own with one BLAS thread, at most 20 GiB of address space and 600 seconds;
one that is not installed or dies is a row that says so. `--huge` measures ten times the votes too; the last lines are the bars.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from preferent.annotators.annotator_slope import PairModel, Spreads
from preferent.annotators.bradley_terry import fit_pairs, outcome_probabilities
from preferent.annotators.graph import pair_votes
from preferent.annotators.next_pair import knowledge, next_batch
from preferent.core.estimates import Estimate, clustered_mean

HERE = Path(__file__).parent
LIMIT_GIB, LIMIT_SECONDS = 20, 600
OURS = ("ours bt", "ours crowd-bt", "ours slope + position")
BARS = {
    "S2 1,000,000": {"accuracy": 0.986, "cpu_seconds": 10.0},
    "S2b 1,000,000": {"accuracy": 0.914, "peak_rss_mib": 500.0 * 1e6 / 2**20},
}
PEERS = {
    "choix lsr": ("choix", "choix_pairwise.py", "lsr", False),
    "choix ilsr": ("choix", "choix_pairwise.py", "ilsr", False),
    "choix mm": ("choix", "choix_pairwise.py", "mm", True),
    "crowd-kit BradleyTerry": ("crowdkit", "crowdkit_pairwise.py", "bt", False),
    "crowd-kit NoisyBradleyTerry": ("crowdkit", "crowdkit_pairwise.py", "noisy", True),
    "evalica bradley_terry": ("evalica", "evalica_pairwise.py", "bt", False),
}


@dataclass(frozen=True)
class Row:
    world: str
    contestant: str
    accuracy: float | None
    cpu_seconds: float | None
    peak_rss_mib: float | None
    note: str


def world(name: str, n_votes: int, seed: int = 0) -> dict[str, Any]:
    """Votes and truth of S2 or S2b; with fewer votes S2 has fewer items, as dense a graph, and S2b fewer prompts."""
    rng = np.random.default_rng(seed)
    n_pairs, n_annotators = n_votes // 5, 2000
    if name == "S2":
        n_items = round(2000 * (n_votes / 1e6) ** 0.5)
        pair = rng.choice(n_items * (n_items - 1) // 2, n_pairs, replace=False)
        one_P, two_P = (side[pair] for side in np.triu_indices(n_items, 1))
    else:
        prompts = n_pairs // 6
        first, second = np.triu_indices(4, 1)
        one_P, two_P = ((4 * np.arange(prompts)[:, None] + side).ravel() for side in (first, second))
        n_items, n_pairs = 4 * prompts, 6 * prompts
    scores_I = rng.normal(0.0, 1.0, n_items)
    activity_A = rng.lognormal(0.0, 1.0, n_annotators)
    slope_A = 1.3 * rng.lognormal(0.0, 1.1, n_annotators) * np.where(rng.random(n_annotators) < 0.1, -1.0, 1.0)
    position_A = rng.normal(0.0, 1.0, n_annotators)
    who_V = rng.choice(n_annotators, 5 * n_pairs, p=activity_A / activity_A.sum())
    pair_V = np.repeat(np.arange(n_pairs), 5)
    swap_V = rng.random(len(pair_V)) < 0.5
    i_V, j_V = np.where(swap_V, two_P[pair_V], one_P[pair_V]), np.where(swap_V, one_P[pair_V], two_P[pair_V])
    logit_V = slope_A[who_V] * (scores_I[i_V] - scores_I[j_V]) + position_A[who_V]
    outcome_V = (rng.random(len(logit_V)) < 1.0 / (1.0 + np.exp(-logit_V))).astype(np.float64)
    votes = {"items_V2": np.stack([i_V, j_V], 1), "outcome_V": outcome_V, "annotator_V": who_V, "shown_first_V": i_V}
    votes |= {"n_items": n_items, "n_annotators": n_annotators}
    return {"votes": votes, "scores_I": scores_I, "pairs_P2": np.stack([one_P, two_P], 1), "slope_A": slope_A, "position_A": position_A}


def right_order(scores_I: np.ndarray, made: dict[str, Any]) -> float:
    one, two = made["pairs_P2"].T
    return float(np.mean((scores_I[one] - scores_I[two]) * (made["scores_I"][one] - made["scores_I"][two]) > 0))


def traits_known(label: str, made: dict[str, Any]) -> Row:
    """Maximum a posteriori scores when slopes and position biases are given: the bound for every model of annotators."""
    votes = made["votes"]
    i_V, j_V = votes["items_V2"].T
    n, win_V = votes["n_items"], votes["outcome_V"]
    slope_V, bias_V = made["slope_A"][votes["annotator_V"]], made["position_A"][votes["annotator_V"]]

    def loss(scores_I: np.ndarray) -> tuple[float, np.ndarray]:
        logit_V = slope_V * (scores_I[i_V] - scores_I[j_V]) + bias_V
        by_V = (expit(logit_V) - win_V) * slope_V
        gradient = np.bincount(i_V, by_V, n) - np.bincount(j_V, by_V, n) + scores_I
        return float(np.logaddexp(0.0, logit_V).sum() - win_V @ logit_V + 0.5 * scores_I @ scores_I), gradient

    found = minimize(loss, np.zeros(n), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return Row(label, "traits known", right_order(found.x, made), None, None, "not a contestant: the most that can be had")


def compete(name: str, command: list[str], made: dict[str, Any], label: str, repeats: int) -> Row:
    """One contestant in its own process; of `repeats` runs the least CPU counts, the machine being shared."""
    best: Row | None = None
    limit = f'ulimit -v {LIMIT_GIB * 2**20}; exec "$@"'
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent / 'src'}:{HERE}"}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "votes.npz", Path(folder) / "scores.npy"
        np.savez(source, **made["votes"])
        for _ in range(repeats):
            full = ["bash", "-c", limit, "bash", *command, str(source), str(target)]
            try:
                done = subprocess.run(full, capture_output=True, text=True, timeout=LIMIT_SECONDS, env=environment, check=False)
            except subprocess.TimeoutExpired:
                return Row(label, name, None, None, None, f"stopped after {LIMIT_SECONDS} s")
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no message"]
                told = next((line for line in reversed(lines) if "emory" in line), lines[-1])
                return Row(label, name, None, None, None, f"failed ({done.returncode}): {told.strip()[:140]}")
            facts = json.loads(done.stdout.strip().splitlines()[-1])
            note = facts["note"] + _caught(facts.get("adversaries"), made)
            row = Row(label, name, right_order(np.load(target), made), facts["cpu_seconds"], facts["peak_rss_mib"], note)
            if best is None or (row.cpu_seconds or 0) < (best.cpu_seconds or 0):
                best = row
    assert best is not None
    return best


def _caught(named: list[int] | None, made: dict[str, Any]) -> str:
    """How many of the annotators with a negative slope, and of the others, were called adversaries; of those who voted."""
    if not named:
        return ""
    called = np.isin(np.arange(made["votes"]["n_annotators"]), named)
    voted = np.bincount(made["votes"]["annotator_V"], minlength=len(called)) > 0
    against = made["slope_A"] < 0
    return f"; adversaries called {called[against & voted].mean():.4f}, others {called[~against & voted].mean():.4f}"


def contestants(label: str, made: dict[str, Any], python: str, slow: bool) -> Iterator[Row]:
    for name in OURS:
        yield compete(name, [sys.executable, str(HERE / "pair_contestants.py"), name], made, label, 2)
    for name, (module, script, method, is_slow) in PEERS.items():
        if is_slow and not slow:
            yield Row(label, name, None, None, None, "skipped: takes minutes, run with --slow")
        elif subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
            yield Row(label, name, None, None, None, f"skipped: {module} is not installed for {python}")
        else:
            yield compete(name, [python, str(HERE / "peers" / script), method], made, label, 1)


def held_out_votes(shared: Path) -> list[Row]:
    """B5: three-class accuracy and NLL of one held-out vote per pair, ours and smoothed vote shares; NLL is in the note."""
    path = shared / "ukpconvarg1_crowd.jsonl.gz"
    if not path.exists():
        return [Row("ukp held out", "all", None, None, None, f"skipped: {path} is not there")]
    items: dict[Any, int] = {}
    who: dict[str, int] = {}
    pair: dict[str, int] = {}
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            topic, two = line["item"].rsplit("/", 1)
            i, j = (items.setdefault((topic, one), len(items)) for one in two.split("_"))
            rows.append(
                (
                    i,
                    j,
                    who.setdefault(line["annotator"], len(who)),
                    pair.setdefault(line["item"], len(pair)),
                    ["a2", "equal", "a1"].index(line["label"]),
                )
            )
    table = np.array(rows)
    order = np.lexsort((np.random.default_rng(0).random(len(table)), table[:, 3]))
    held = np.zeros(len(table), dtype=bool)
    held[order[np.concatenate([[True], np.diff(table[order, 3]) != 0])]] = True
    votes = pair_votes(table[:, :2], table[:, 4] / 2, annotator_V=table[:, 2], shown_first_V=table[:, 0])
    truth, found = table[held, 4], []
    counts = np.zeros((len(pair), 3))
    np.add.at(counts, (table[~held, 3], table[~held, 4]), 1.0)
    predictions = {f"smoothed vote shares (+{a})": (counts + a) / (counts + a).sum(1, keepdims=True) for a in (0.5, 1.0, 2.0)}
    predictions = {name: share[table[held, 3]] for name, share in predictions.items()}
    for name, model in {
        "ours davidson": PairModel(slope=False, ties="davidson", tie="shared"),
        "ours davidson + slope + tie": PairModel(ties="davidson"),
    }.items():
        predictions[name] = outcome_probabilities(fit_pairs(votes.take(~held), model), votes.take(held))
    topics = np.array([name.rsplit("/", 1)[0] for name in pair], dtype=object)[table[held, 3]]
    right = {name: (p.argmax(1) == truth).astype(float) for name, p in predictions.items()}
    loss = {name: -np.log(p[np.arange(len(truth)), truth]) for name, p in predictions.items()}
    for name in predictions:
        accuracy, nll = (_interval(values[name], topics) for values in (right, loss))
        note = f"accuracy {accuracy}, NLL {nll}; {len(truth)} votes, intervals over {len(set(topics))} debates"
        found.append(Row("ukp held out", name, accuracy.value, None, None, note))
    # The best smoothing for the shares by each figure, chosen on the very votes that judge it.
    shares = [name for name in predictions if name.startswith("smoothed")]
    best, last = min(shares, key=lambda name: loss[name].mean()), "ours davidson + slope + tie"
    gain = _interval(right[last] - right[max(shares, key=lambda name: right[name].mean())], topics)
    less = _interval(loss[best] - loss[last], topics)
    for what, value, bar in (("three-class accuracy above the shares", gain, 0.04), ("NLL below the shares", less, 0.08)):
        word = "reached" if value.value >= bar else "MISSED "
        found.append(Row("ukp held out", f"bar: {word}", None, None, None, f"{what}: {value}, the bar is {bar}"))
    return found


def _interval(values: np.ndarray, clusters: np.ndarray) -> Estimate:
    return clustered_mean(values, clusters, rng=np.random.default_rng(0))


def active(seeds: int) -> list[Row]:
    """B7: votes that each strategy needs for what random reaches with 1,000, of 100 items in batches of 20; mean over seeds."""
    curves = {}
    for name, (strategy, shape, share) in {
        "random": ("random", "free", 0.0),
        "closest": ("closest", "free", 0.0),
        "information, top": ("information", "free", 0.0),
        "information, forest": ("information", "forest", 0.0),
        "information, matching": ("information", "matching", 0.0),
        "order": ("order", "free", 0.0),
        "order, 20 % random": ("order", "free", 0.2),
    }.items():
        curves[name] = np.array([_curve(strategy, shape, share, seed) for seed in range(seeds)])
    # Means of five batches, the last around 1,000 votes: single batches are noisier than the strategies differ.
    smooth = {name: np.lib.stride_tricks.sliding_window_view(curve, 5, axis=1).mean(axis=2) for name, curve in curves.items()}
    goal, rows = smooth["random"][:, -1], []
    for name, curve in smooth.items():
        reached = np.flatnonzero(curve.mean(axis=0) >= goal.mean())
        need = 20 * (int(reached[0]) + 3) if len(reached) else None
        ahead = curve[:, 740 // 20 - 3] - goal
        note = (
            f"reaches random's {goal.mean():.4f} after {need} votes; at 740 {ahead.mean():+.4f} of it, s.e. {ahead.std() / seeds**0.5:.4f}"
        )
        rows.append(Row("active, 1000 votes", name, float(curve[:, -1].mean()), None, None, f"{note} ({seeds} seeds)"))
    return rows


def _curve(strategy: Any, shape: Any, share: float, seed: int) -> list[float]:
    pairs = np.stack(np.triu_indices(100, 1), 1)
    truth = np.random.default_rng(seed).normal(0.0, 1.5, 100)
    true_gap, rng = truth[pairs[:, 0]] - truth[pairs[:, 1]], np.random.default_rng(1000 + seed)
    model = PairModel(slope=False, learn_spreads=False, spreads=Spreads(score=1.5))
    asked, outcome, accuracy = np.zeros((0, 2), dtype=np.int64), np.zeros(0), []
    chosen = rng.choice(len(pairs), 20, replace=False)
    while len(outcome) < 1040:
        p = 1.0 / (1.0 + np.exp(-true_gap[chosen]))
        asked, outcome = np.concatenate([asked, pairs[chosen]]), np.concatenate([outcome, (rng.random(20) < p).astype(float)])
        fit = fit_pairs(pair_votes(asked, outcome, counts=(100, 1)), model)
        accuracy.append(float(np.mean((fit.scores.value[pairs[:, 0]] - fit.scores.value[pairs[:, 1]]) * true_gap > 0)))
        chosen = next_batch(knowledge(fit, pairs), 20, rng=rng, strategy=strategy, shape=shape, random_share=share).chosen_B
    return accuracy


def verdicts(rows: list[Row]) -> list[str]:
    """Every bar of a million votes, reached or missed."""
    lines = []
    for label, limits in BARS.items():
        row = next((row for row in rows if row.world == label and row.contestant == OURS[-1]), None)
        for what, bar in limits.items() if row is not None else ():
            value = getattr(row, what)
            if value is None:
                lines.append(f"no figure: {label} {what}")
                continue
            reached = value >= bar if what == "accuracy" else value <= bar
            lines.append(f"{'reached' if reached else 'MISSED '}  {label} {what}: {value:.4g}, the bar is {bar}")
    return lines


def growth(rows: list[Row]) -> list[str]:
    """Seconds and memory of the slope model by number of votes, and how often the smallest's."""
    lines = []
    for name in ("S2", "S2b"):
        own = [row for row in rows if row.world.split()[0] == name and row.contestant == OURS[-1] and row.cpu_seconds]
        own.sort(key=lambda row: int(row.world.split()[1].replace(",", "")))
        parts = [f"{row.world.split()[1]}: {row.cpu_seconds} s, {row.peak_rss_mib} MiB" for row in own]
        if len(own) > 1:
            last, before = own[-1], own[-2]
            time, memory = (last.cpu_seconds or 0) / (before.cpu_seconds or 1), (last.peak_rss_mib or 0) / (before.peak_rss_mib or 1)
            lines.append(f"{name}, {OURS[-1]}: {'; '.join(parts)}; the last step is x{time:.1f} in time, x{memory:.1f} in memory")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, default=1_000_000)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--huge", action="store_true", help="ten times the votes as well, ours only")
    parser.add_argument("--only", default="", help="S2, S2b, ukp or active: only that part")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    given = parser.parse_args()
    rows: list[Row] = []

    def show(row: Row) -> None:
        rows.append(row)
        cells = [f"{row.accuracy:.4f}" if row.accuracy is not None else "-", f"{row.cpu_seconds} s" if row.cpu_seconds is not None else "-"]
        cells.append(f"{row.peak_rss_mib} MiB" if row.peak_rss_mib is not None else "-")
        print(f"{row.world:20s} {row.contestant:30s} {cells[0]:>7s} {cells[1]:>9s} {cells[2]:>9s}  {row.note}", flush=True)

    for name in ("S2", "S2b"):
        if given.only not in ("", name):
            continue
        made = world(name, given.votes)
        for row in contestants(f"{name} {given.votes:,}", made, given.peers_python, given.slow):
            show(row)
        show(traits_known(f"{name} {given.votes:,}", made))
        del made
        for size in (given.votes // 10, *([10 * given.votes] if given.huge else [])):
            command = [sys.executable, str(HERE / "pair_contestants.py"), OURS[-1]]
            show(compete(OURS[-1], command, world(name, size), f"{name} {size:,}", 1 if size > given.votes else 2))
    for row in held_out_votes(given.shared) if given.only in ("", "ukp") else ():
        show(row)
    for row in active(given.seeds) if given.only in ("", "active") else ():
        show(row)
    if given.votes == 1_000_000:
        print("\n".join(verdicts(rows)))
    print("\n".join(growth(rows)))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "pairwise.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"written: {given.out / 'pairwise.json'}", file=sys.stderr)


if __name__ == "__main__":
    main()
