"""Step labels and step scores where the truth is known: the orderings that hold in the steps world, and the bars on real data.

    python bench/steps_lab.py [--problems 600] [--seeds 3] [--shared ../shared/data] [--out bench-out] [--only PART]

rollouts      Monte Carlo labels by rollouts K: "any success", a fixed threshold of 1/2, and a threshold chosen on other problems
search        binary search for the first error beside Monte Carlo: rollouts per wrong solution and accuracy of the place, by length
consensus     two labellers that name the place in about four of five solutions, and what both together keep
aggregation   best-of-32 by every aggregation, for scores that speak of the step and scores that speak of the outcome
bars          real data: the best constant and the best length rule, chosen on one part of the problems, measured on the other

The world: 8 operations, errors put right with chance .06 at each later step, a completer whose chance to solve a problem is drawn from
Beta(4, 2). F1 is ProcessBench's. Intervals: 95 %, resampling problems. Prints tables, writes bench-out/steps_lab.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preferent.audits.steps import FirstError, choose_threshold, first_error_f1, step_auroc, true_first_error
from preferent.audits.steps_baselines import STEP_RULES, best_constant, best_length_rule
from preferent.audits.steps_best_of_n import MAJORITY, ORACLE, RANDOM, best_of_n_table
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.records import StepLabels
from preferent.core.step_rewards import PLAIN, Aggregation, choose_aggregation
from preferent.data.steps_gate import check_steps
from preferent.data.steps_split import problem_groups, split_by_problem
from preferent.feedback.rollouts import Rollouts, consensus, first_error_by_search, hard_labels, monte_carlo, place_of_first_error
from preferent.lab.chains import chain_labels, stated_answer
from preferent.lab.steps import NoisyJudge, StepsPolicy, StepsWorld, check_chain
from preferent.lab.steps_calculator import corrupt_calculation, without_annotations

CORRECTION, ABILITY, LENGTH = 0.06, (4.0, 2.0), 8
ROLLOUTS = (1, 4, 8, 16, 64)


def world(n: int, seed: int, length: int = LENGTH) -> tuple[list[StepLabels], np.ndarray, StepsPolicy]:
    """Solutions of a policy that errs in about half of them, their true first errors, and the completer."""
    writer = StepsPolicy(error=1.0 - 0.5 ** (1.0 / length), correction=CORRECTION, seed=seed)
    records = StepsWorld(seed, length=length).solutions(n, writer)
    return (
        records,
        np.array(true_first_error([r.labels for r in records])),
        StepsPolicy(ability=ABILITY, correction=CORRECTION, seed=seed + 1000),
    )


def f1_of(places: Sequence[int | None], truth: np.ndarray, seed: int = 0) -> FirstError:
    said = np.array([-2 if place is None else place for place in places])
    return first_error_f1(said, truth, np.arange(len(truth)), rng=np.random.default_rng(seed))


def first(rollouts: Rollouts, n: int) -> Rollouts:
    """What the first n of more rollouts would have said: a binomial draw of them, in expectation the same."""
    rng = np.random.default_rng([n, *rollouts.successes])
    kept = [int(rng.hypergeometric(s, k - s, n)) if k > 1 else s for s, k in zip(rollouts.successes, rollouts.tried, strict=True)]
    return Rollouts(tuple(kept), tuple(min(n, k) if k > 1 else k for k in rollouts.tried), n * (len(rollouts.tried) - 1))


def part_rollouts(n: int, seeds: int) -> list[dict[str, Any]]:
    rows = []
    both = [world(n, seed) for seed in range(seeds)]
    full = [[monte_carlo(r, policy, check_chain, n=max(ROLLOUTS)) for r in records] for records, _, policy in both]
    for k in ROLLOUTS:
        said: dict[str, list[Any]] = {"any success": [], "above 1/2": [], "chosen": []}
        truths, chosen = [], []
        for (_, truth, _), rollouts in zip(both, full, strict=True):
            rates = [first(r, k).rates for r in rollouts]
            half = len(rates) // 2
            threshold = choose_threshold([np.array(r, dtype=float) for r in rates[:half]], truth[:half]).value
            chosen.append(threshold)
            truths.append(truth[half:])
            for name, cut in (("any success", 0.0), ("above 1/2", 0.5), ("chosen", threshold)):
                said[name] += [place_of_first_error(hard_labels(r, cut)) for r in rates[half:]]
        truth = np.concatenate(truths)
        rows.append({"K": k, "threshold": float(np.mean(chosen)), **{name: f1_of(places, truth) for name, places in said.items()}})
    print(f"\nMonte Carlo labels, {n} problems x {seeds} seeds, half of them to choose the threshold: F1 of the first error")
    print(f"{'K':>4} {'any success':>22} {'rate above 1/2':>22} {'threshold chosen':>22} {'it is':>6}")
    for row in rows:
        numbers = " ".join(f"{row[name].f1!s:>22}" for name in ("any success", "above 1/2", "chosen"))
        print(f"{row['K']:>4} {numbers} {row['threshold']:>6.2f}")
    return rows


def part_search(n: int, seeds: int) -> list[dict[str, Any]]:
    rows = []
    k, threshold = 16, 0.3
    for length in (4, 8, 16, 32):
        costs, hits, owners = {"monte carlo": [], "search": []}, {"monte carlo": [], "search": []}, []
        for seed in range(seeds):
            records, truth, policy = world(max(40, n // (length // 4)), seed, length)
            for i, record in enumerate(records):
                if check_chain(record, "\n".join(record.steps)):
                    continue
                owners.append((seed, i))
                carlo = monte_carlo(record, policy, check_chain, n=k)
                place, found = first_error_by_search(record, policy, check_chain, n=k, threshold=threshold)
                costs["monte carlo"].append(carlo.calls)
                costs["search"].append(found.calls)
                hits["monte carlo"].append(place_of_first_error(hard_labels(carlo.rates, threshold)) == truth[i])
                hits["search"].append(place == truth[i])
        means = {
            name: {
                "calls": float(np.mean(costs[name])),
                "place right": clustered_mean(np.array(hits[name], dtype=float), owners, rng=np.random.default_rng(0)),
            }
            for name in costs
        }
        rows.append({"T": length, "solutions": len(owners), **means, "ratio": means["search"]["calls"] / means["monte carlo"]["calls"]})
    print(f"\nBinary search on solutions with a wrong answer, K = {k}, rate above {threshold}")
    print(f"{'T':>4} {'solutions':>9} {'rollouts MC':>12} {'search':>8} {'ratio':>6} {'place right MC':>22} {'search':>22}")
    for row in rows:
        carlo, search = row["monte carlo"], row["search"]
        print(
            f"{row['T']:>4} {row['solutions']:>9} {carlo['calls']:>12.1f} {search['calls']:>8.1f} {row['ratio']:>6.2f} "
            f"{carlo['place right']!s:>22} {search['place right']!s:>22}"
        )
    return rows


def part_consensus(n: int, seeds: int) -> dict[str, Estimate]:
    right: dict[str, list[float]] = {"rollouts": [], "judge": [], "both, where they agree": [], "kept": []}
    owners: list[tuple[int, int]] = []
    kept_owners: list[tuple[int, int]] = []
    for seed in range(seeds):
        records, truth, policy = world(n, seed)
        half = len(records) // 2
        rates = [monte_carlo(r, policy, check_chain, n=8).rates for r in records]
        cut = choose_threshold([np.array(r, dtype=float) for r in rates[:half]], truth[:half]).value
        judge = NoisyJudge(0.79, seed=seed)
        for i in range(half, len(records)):
            both = consensus(hard_labels(rates[i], cut), judge(records[i]))
            owners.append((seed, i))
            right["rollouts"].append(both.first == truth[i])
            right["judge"].append(both.second == truth[i])
            right["kept"].append(both.agree)
            if both.agree:
                kept_owners.append((seed, i))
                right["both, where they agree"].append(both.first == truth[i])
    rows = {
        name: clustered_mean(np.array(values, dtype=float), kept_owners if "agree" in name else owners, rng=np.random.default_rng(0))
        for name, values in right.items()
    }
    print("\nConsensus: share of solutions whose first error is named exactly (K = 8, threshold chosen on other problems)")
    for name, value in rows.items():
        print(f"  {name:24} {value}")
    return rows


def step_scores(record: StepLabels, rng: np.random.Generator, outcome: bool) -> np.ndarray:
    """Noisy scores: of the step by itself (is it done right, on what stood before), or of the way so far (will this end right)."""
    labels = np.array(chain_labels(record.prompt, record.steps, rule="state" if outcome else "local"))
    # What is said of the outcome sharpens towards the end.
    sure = np.linspace(0.2, 1.0, len(labels)) if outcome else 1.0
    return 1.0 / (1.0 + np.exp(-(sure * (4.0 * labels - 1.5) + rng.normal(0.0, 1.5, len(labels)))))


def part_aggregation(n: int, seeds: int) -> list[dict[str, Any]]:
    rows = []
    pool, n_problems = 32, max(60, n // 4)
    policy = StepsPolicy(ability=(0.8, 2.0), correction=CORRECTION)
    for outcome in (False, True):
        tables = []
        for seed in range(seeds):
            records = StepsWorld(seed + 50).solutions(2 * n_problems, policy, per_problem=pool)
            rng = np.random.default_rng(seed)
            scores = [step_scores(r, rng, outcome) for r in records]
            right = np.array([check_chain(r, "\n".join(r.steps)) for r in records], dtype=float)
            half = n_problems * pool
            choice = choose_aggregation(scores[:half], right[:half], [r.meta["idx"] for r in records[:half]], rng=rng)
            test, grid = scores[half:], (n_problems, pool)
            rewards = {how: Aggregation(how)(test).reshape(grid) for how in PLAIN}
            rewards["chosen"] = choice.chosen(test).reshape(grid)
            answers = [[stated_answer(r.steps[-1]) for r in records[half + i * pool : half + (i + 1) * pool]] for i in range(n_problems)]
            table = best_of_n_table(rewards, right[half:].reshape(grid), answers, [1, 4, pool], rng=rng)
            tables.append((choice.chosen.how, table))
        names = [*PLAIN, "chosen", MAJORITY, RANDOM, ORACLE]
        rows.append({"scores": "outcome" if outcome else "step", "chosen": [how for how, _ in tables], "table": [t for _, t in tables]})
        print(f"\nBest-of-n, scores of the {rows[-1]['scores']}; chosen on validation by seed: {', '.join(rows[-1]['chosen'])}")
        print(f"  {'rule':16} " + " ".join(f"{f'n={k}, seed 0':>22} {'mean of seeds':>14}" for k in (1, 4, pool)))
        for name in names:
            cells = [f"{tables[0][1][name][k]!s:>22} {np.mean([t[name][k].value for _, t in tables]):>14.3f}" for k in range(3)]
            print(f"  {name:16} " + " ".join(cells))
    return rows


# ---- real data ----


def read(shared: Path, name: str) -> list[StepLabels]:
    return list(check_steps(shared / f"{name}.jsonl.gz").records())


def corrupted_gsm8k(shared: Path, seed: int, annotations: bool = False) -> list[StepLabels]:
    """Half of the solutions with one calculation spoiled, half as they are; no annotations unless wanted."""
    rng = np.random.default_rng(seed)
    records = []
    with gzip.open(shared / "gsm8k_steps.jsonl.gz") as file:
        for line in file:
            row = json.loads(line)
            made = corrupt_calculation(row["steps"], rng) if rng.random() < 0.5 else None
            steps, labels = (row["steps"], [1.0] * len(row["steps"])) if made is None else (made.steps, made.labels)
            shown = steps if annotations else without_annotations(steps)
            records.append(
                StepLabels.model_validate({"prompt": [{"role": "user", "content": row["problem"]}], "steps": shown, "labels": labels})
            )
    return records


def part_bars(shared: Path, seed: int = 0) -> list[dict[str, Any]]:
    sources: dict[str, Callable[[], list[StepLabels]]] = {
        "prmbench, verified and originals": lambda: [r for r in read(shared, "prmbench") if r.meta.get("verified", True)],
        "mr_ben": lambda: read(shared, "mr_ben"),
        "gsm8k_steps, exact corruptions": lambda: corrupted_gsm8k(shared, seed),
    }
    rows = []
    for name, load in sources.items():
        records = load()
        places = true_first_error([r.labels for r in records])
        records = [r for r, place in zip(records, places, strict=True) if place is not None]
        truth = np.array([place for place in places if place is not None])
        held_N = split_by_problem(records, held_out=0.3, seed=seed)
        groups = np.array(problem_groups(records))
        steps = [r.steps for r in records]
        fit, test = np.flatnonzero(~held_N), np.flatnonzero(held_N)
        rng = np.random.default_rng(seed)
        constant, rule = best_constant(truth[fit]), best_length_rule([steps[i] for i in fit], truth[fit])
        f1s = {
            "constant": first_error_f1(constant.predict(len(test), rng), truth[test], groups[test], rng=rng),
            "length": first_error_f1(rule.predict([steps[i] for i in test]), truth[test], groups[test], rng=rng),
        }
        quality = {
            k: step_auroc([s(steps[i]) for i in fit], [records[i].labels for i in fit], groups[fit], rng=rng, n_resamples=2)
            for k, s in STEP_RULES.items()
        }
        best = max(quality, key=lambda k: quality[k].auroc.value)
        auroc = step_auroc([STEP_RULES[best](steps[i]) for i in test], [records[i].labels for i in test], groups[test], rng=rng)
        rows.append({"data": name, "solutions": len(test), "rule": rule, "auroc rule": best, "auroc": auroc, **f1s})
        print(f"\n{name}: {len(test)} held-out solutions, {np.mean(truth[test] >= 0):.2f} with an error")
        for kind in ("constant", "length"):
            f1 = f1s[kind]
            print(f"  best {kind:9} F1 {f1.f1}   errors {f1.error_accuracy}   right {f1.right_accuracy}")
        print(f"  length rule: {rule.name}; step AUROC of the best rule ({best}): {auroc.auroc}; a constant has 0.500")
    return rows


def plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--only", choices=["rollouts", "search", "consensus", "aggregation", "bars"])
    asked = parser.parse_args()
    parts: dict[str, Callable[[], Any]] = {
        "rollouts": lambda: part_rollouts(asked.problems, asked.seeds),
        "search": lambda: part_search(asked.problems, asked.seeds),
        "consensus": lambda: part_consensus(asked.problems, asked.seeds),
        "aggregation": lambda: part_aggregation(asked.problems, asked.seeds),
        "bars": lambda: part_bars(asked.shared),
    }
    results = {}
    for name, run in parts.items():
        if asked.only in (None, name):
            if name == "bars" and not asked.shared.is_dir():
                print(f"\nbars: skipped, {asked.shared} is not there")
                continue
            began = time.process_time()
            results[name] = plain(run())
            print(f"  ({time.process_time() - began:.0f} s of CPU)")
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "steps_lab.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
