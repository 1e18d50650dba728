"""A step model on real data: beside the best constant and the best length rule, and what reading every step costs.

    python bench/steps_model.py [--tokens 250000] [--precision bf16] [--shared ../shared/data] [--out bench-out] [--only PART]

real   trains one model on problems of `prmbench` (verified rows and originals), `mr_ben` and exact corruptions of `gsm8k_steps`, and
       measures it on held-out problems of each: first-error F1 as ProcessBench has it, and AUROC per step, with 95 % intervals over
       problems. Threshold, constant and length rule are chosen on other held-out problems, for each data set by itself. SHARES says what
       part of the training tokens each data set gives, as far as it has them. Every solution of a problem is in one group, so that a right
       solution and its corruptions meet in one step of the optimiser.
cost   seconds of a forward pass that reads every step end, beside one that reads the last token only, and beside the same backbone as a
       sequence classifier, on the same token ids; medians over interleaved repeats.

Only solutions of at most MAX_CHARACTERS characters with their problem are taken, on both sides of the split. The split is by problem (near
duplicates and shared indices joined) over all three files together. Prints tables, writes bench-out/steps_model.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preferent.audits.steps_evaluate import StepEvaluation, evaluate_steps
from preferent.core.records import StepLabels, user
from preferent.data.steps_gate import check_steps
from preferent.data.steps_split import problem_groups
from preferent.lab.steps_calculator import corrupt_calculation, without_annotations
from preferent.models.reward_model import RewardModel
from preferent.models.steps import Solution, StepRewardModel
from preferent.training.config import load_config
from preferent.training.observer import Observer
from preferent.training.run import train

MAX_CHARACTERS = 1400
# Most solutions of a data set to choose on and to measure on; and of those to choose on, how many the run itself looks at.
VALIDATION, TEST, WATCHED = 300, 900, 60
SHARES = {"prmbench": 0.4, "mr_ben": 0.2, "gsm8k corrupted": 0.4}


class Talk(Observer):
    """One line for every evaluation and note."""

    def noted(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def evaluated(self, row: Any) -> None:
        print(f"  step {row['step']}: held-out NLL {row['held_out_nll']:.4f}, {cpu_seconds():.0f} CPU s", flush=True)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def short(record: StepLabels) -> bool:
    return sum(len(message.content) for message in record.prompt) + sum(map(len, record.steps)) <= MAX_CHARACTERS


def load(shared: Path, seed: int) -> dict[str, list[StepLabels]]:
    """Short solutions of each data set. GSM8K: of every problem the right solution and a corrupted one, without annotations."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[StepLabels]] = {}
    prm = check_steps(shared / "prmbench.jsonl.gz").records()
    found["prmbench"] = [record for record in prm if record.meta.get("verified") is not False]
    found["mr_ben"] = list(check_steps(shared / "mr_ben.jsonl.gz").records())
    found["gsm8k corrupted"] = []
    for record in check_steps(shared / "gsm8k_steps.jsonl.gz").records():
        spoiled = corrupt_calculation(record.steps, rng)
        if spoiled is None:
            continue
        for steps, labels in ((record.steps, record.labels), (spoiled.steps, spoiled.labels)):
            found["gsm8k corrupted"].append(record.model_copy(update={"steps": without_annotations(steps), "labels": labels}))
    return {name: [record for record in records if short(record)] for name, records in found.items()}


def parts(data: dict[str, list[StepLabels]], tokens: int, model: StepRewardModel, seed: int) -> tuple[Any, Any, Any]:
    """(training solutions of all, validation and test solutions by data set), split by problem over all data sets together."""
    rng = np.random.default_rng([seed, 1])
    everything = [(name, record) for name, records in data.items() for record in records]
    problems = problem_groups([record for _, record in everything])
    order = {problem: place for place, problem in enumerate(rng.permutation(sorted(set(problems))))}
    ranked = sorted(zip(everything, problems, strict=True), key=lambda item: order[item[1]])
    side = {problem: place % 10 for problem, place in order.items()}
    training: list[StepLabels] = []
    validation: dict[str, list[StepLabels]] = {name: [] for name in data}
    test: dict[str, list[StepLabels]] = {name: [] for name in data}
    left = {name: tokens * SHARES[name] for name in data}
    for (name, record), problem in ranked:
        if side[problem] < 1:
            validation[name].append(record)
        elif side[problem] < 4:
            test[name].append(record)
        elif left[name] > 0:
            training.append(record)
            item = model.tokenize_solutions([Solution(record.prompt, record.steps)])[0]
            left[name] -= sum(len(window.ids) for window in item.windows)
    return training, {k: v[:VALIDATION] for k, v in validation.items()}, {k: v[:TEST] for k, v in test.items()}


def real(given: argparse.Namespace) -> dict[str, Any]:
    data = load(Path(given.shared), given.seed)
    print({name: len(records) for name, records in data.items()}, "solutions of at most", MAX_CHARACTERS, "characters", flush=True)
    training, validation, test = parts(data, given.tokens, StepRewardModel.create(given.base), given.seed)
    counts = {name: (len(validation[name]), len(test[name])) for name in data}
    print(f"training on {len(training)} solutions; (validation, test): {counts}", flush=True)
    together = [record for records in validation.values() for record in records[:WATCHED]]
    settings = {
        "base": given.base,
        "epochs": given.epochs,
        "learning_rate": given.rate,
        "batch.pairs": given.pairs,
        "precision": given.precision,
        **({"steps.separator": given.separator} if given.separator else {}),
        "evaluate_every": "10000",
        "threads": "1",
    }
    folder = Path(given.out) / f"prm-{given.base}-{given.tokens}-{int(time.time())}"
    started, clock = cpu_seconds(), time.time()
    result = train(training, together, load_config(None, settings), folder, observer=Talk())
    trained = cpu_seconds() - started
    print(f"trained: {result.steps} steps, {trained:.0f} CPU s, {time.time() - clock:.0f} s; {folder}", flush=True)
    model = StepRewardModel.load(folder)
    asked = {
        "tokens": given.tokens,
        "epochs": given.epochs,
        "rate": given.rate,
        "separator": given.separator,
        "pairs": given.pairs,
        "precision": given.precision,
    }
    answer: dict[str, Any] = {**asked, "solutions": len(training), "cpu_seconds": trained, "counts": counts, "data": {}}
    for name in data:
        scores = [scored(model, part) for part in (validation[name], test[name])]
        found = measured((validation[name], scores[0]), (test[name], scores[1]), given.seed)
        problems = len(set(problem_groups(test[name])))
        rows = [{"id": r.id, "labels": r.labels, "scores": s.tolist()} for r, s in zip(test[name], scores[1], strict=True)]
        (folder / f"scores {name}.json").write_text(json.dumps(rows))
        print(f"\n{name}: {len(test[name])} solutions of {problems} problems\n{found.render()}\nbeats {found.beats}", flush=True)
        answer["data"][name] = found.to_dict()
    answer["total_cpu_seconds"] = cpu_seconds()
    return answer


Scored = tuple[Sequence[StepLabels], Sequence[np.ndarray]]


def scored(model: StepRewardModel, records: Sequence[StepLabels]) -> Sequence[np.ndarray]:
    return model.score_steps([Solution(record.prompt, record.steps) for record in records])


def measured(validation: Scored, test: Scored, seed: int) -> StepEvaluation:
    return evaluate_steps(validation, test, problem_groups(test[0]), rng=np.random.default_rng(seed))


def cost(given: argparse.Namespace) -> dict[str, Any]:
    """Forward passes over 4 solutions of 12 steps, each as one sequence."""
    texts = [" ".join(f"word{(7 * k + 3 * s) % 50} plus {k} is {s}" for k in range(4)) for s in range(12)]
    found: dict[str, Any] = {}
    for base in ("tiny", "minilm"):
        model = StepRewardModel.create(base, texts=texts)
        whole = RewardModel.create(base, texts=texts)
        solutions = [Solution(user(f"problem number {n}"), tuple(texts)) for n in range(4)]
        windows = [item.windows[0] for item in model.tokenize_solutions(solutions)]
        ids = [[window.ids] for window in windows]
        batches = {
            "every step": (model, model.pack_steps(ids, [window.reads for window in windows])),
            "last step": (model, model.pack_steps(ids, [window.reads[-1:] for window in windows])),
            "sequence classifier": (whole, whole.pack(ids)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in batches}
        with torch.inference_mode():
            for scorer in (model, whole):
                scorer.module.eval()
            for _ in range(given.repeats):
                for name, (scorer, batch) in batches.items():
                    started = time.process_time()
                    scorer.module(batch)
                    seconds[name].append(time.process_time() - started)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        ratios = {
            name: [a / b for a, b in zip(seconds["every step"], seconds[name], strict=True)]
            for name in ("last step", "sequence classifier")
        }
        rows = {name: tuple(float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))) for name, values in ratios.items()}
        print(f"{base}: {batches['every step'][1].n_tokens} tokens, {4 * 12} steps; CPU seconds {median}")
        for name, (low, mid, high) in rows.items():
            print(f"  every step / {name}: {mid:.3f} (quartiles {low:.3f} to {high:.3f})")
        found[base] = {"seconds": median, "ratio": rows}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=250_000)
    parser.add_argument("--shared", default=str(Path(__file__).parents[1] / "../shared/data"))
    parser.add_argument("--out", default="bench-out")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--rate", default="1.2e-4")
    parser.add_argument("--separator", help="text that ends every step and is read; default: as `preferent train` chooses it")
    parser.add_argument("--pairs", default="8", help="solutions in a step of the optimiser")
    parser.add_argument("--epochs", default="1", help="passes over these tokens")
    parser.add_argument("--precision", default="auto", help="bf16: about twice as fast on CPUs that multiply in it")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("real", "cost"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    Path(given.out).mkdir(parents=True, exist_ok=True)
    path = Path(given.out) / "steps_model.json"
    answer = json.loads(path.read_text()) if path.exists() else {}
    for name, part in (("cost", cost), ("real", real)):
        if given.only in (None, name):
            answer[name] = part(given)
            path.write_text(json.dumps(answer, indent=1, default=float))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
