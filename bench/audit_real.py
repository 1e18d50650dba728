"""The audit on real data: a best-of-n curve that GPT-4 judged, and the length bias of a model trained on people's arguments.

    python bench/audit_real.py [--shared ../shared/data] [--part bon|ukp|both] [--pairs 500] [--prompts 500] [--model FOLDER]

bon: MiniLM is trained on `ultrafeedback_1200` (prompts that also occur in the pool are left out and counted) and picks the best of n of
the 11 judged replies to each prompt of `tulu_bon16`; gold is GPT-4's probability that the reply beats the reference. Beside it: a random
choice, the longest reply, and gold itself, all with 95 % intervals over prompts, from the unbiased estimator over all subsets.
ukp: MiniLM is trained on half of the debates of `ukpconvarg1` and audited on arguments of the others and on the built-in probes; printed
are its length edits, its lean to length and what is left when length cannot help.

`--model` takes a trained folder instead of training one (for the part named by --part). Times are CPU seconds of one thread.
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

from preferent.audits.audit import audit
from preferent.audits.audit_subject import AuditSettings
from preferent.audits.battery_settings import BatterySettings
from preferent.audits.probe import AuditData, audit_data, built_in_probes
from preferent.core.estimates import clustered_mean
from preferent.core.records import Exchange, Message, Prompt
from preferent.core.scorer import Scorer, length_scorer
from preferent.data.gate import check
from preferent.models.reward_model import RewardModel
from preferent.optimize.best_of_n import best_of_n, expected_best, gold_change
from preferent.training.config import load_config
from preferent.training.run import train

SETTINGS = {"base": "minilm", "epochs": "1", "batch.pairs": "16", "learning_rate": "5e-5", "held_out": "0", "threads": "1"}
NS = (1, 2, 4, 8, 11)
JUDGED = 11


def plain(prompt: Prompt) -> str:
    """The text of a prompt up to case and spacing."""
    return " ".join(" ".join(message.content for message in prompt).casefold().split())


def fitted(records: Sequence[Any], folder: Path, max_length: int) -> RewardModel:
    """MiniLM after one pass; says what it cost."""
    began = time.process_time()
    train(list(records), [], load_config(None, {**SETTINGS, "max_length": str(max_length)}), folder)
    print(f"trained on {len(records)} pairs: CPU {time.process_time() - began:.0f} s", flush=True)
    return RewardModel.load(folder)


def pools(path: Path, limit: int) -> tuple[list[list[Exchange]], np.ndarray]:
    """The judged replies to each prompt, and gold, shape (P, 11)."""
    rows, gold = [], []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            prompt = tuple(Message(**turn) for turn in row["prompt"])
            judged = [candidate for candidate in row["candidates"] if candidate.get("p_beats_ref") is not None]
            if len(judged) >= JUDGED and len(rows) < limit:
                rows.append([Exchange(prompt=prompt, response=candidate["text"]) for candidate in judged[:JUDGED]])
                gold.append([float(candidate["p_beats_ref"]) for candidate in judged[:JUDGED]])
    return rows, np.array(gold)


def curve(shared: Path, pairs: int, prompts: int, model: str | None, scratch: Path) -> dict[str, Any]:
    """Gold under best-of-n by each way of choosing."""
    rows, gold_PN = pools(shared / "tulu_bon16.jsonl.gz", prompts)
    flat = [exchange for row in rows for exchange in row]
    seen = {plain(row[0].prompt) for row in rows}
    records = list(check(shared / "ultrafeedback_1200.jsonl.gz").records())
    kept = [record for record in records if plain(record.prompt) not in seen]
    print(
        f"{len(rows)} prompts with {JUDGED} judged replies; {len(records) - len(kept)} training prompts also occur there and are left out"
    )
    loaded = RewardModel.load(model) if model else fitted(kept[:pairs], scratch / "bon", 192)
    began = time.process_time()
    choosers: dict[str, np.ndarray] = {"reward model": scored(loaded, flat, gold_PN), "longest": scored(length_scorer(), flat, gold_PN)}
    print(f"{len(flat)} replies scored: CPU {time.process_time() - began:.0f} s", flush=True)
    choosers |= {"random": np.zeros_like(gold_PN), "oracle": gold_PN}
    found: dict[str, Any] = {}
    print(f"\n{'gold of the chosen reply':28}" + "".join(f"{f'n = {n}':>24}" for n in NS))
    for name, proxy_PN in choosers.items():
        points = best_of_n(proxy_PN, gold_PN, NS, rng=np.random.default_rng(0))
        change = gold_change(proxy_PN, gold_PN, 1, JUDGED, rng=np.random.default_rng(0))
        late = gold_change(proxy_PN, gold_PN, 4, JUDGED, rng=np.random.default_rng(0))
        found[name] = {"curve": [point.to_dict() for point in points], "gain": change.to_dict(), "late": late.to_dict()}
        print(f"{name:28}" + "".join(f"{point.gold!s:>24}" for point in points))
        print(f"{'  n = 1 to 11':28}{change!s:>24}{'  n = 4 to 11':>24}{late!s:>24}")
    ours, longest = (expected_best(choosers[name], gold_PN, (JUDGED,))[:, 0] for name in ("reward model", "longest"))
    paired = clustered_mean(ours - longest, np.arange(len(gold_PN)), rng=np.random.default_rng(0))
    print(f"{'reward model - longest, n=11':28}{paired!s:>24}")
    return found | {"reward model minus longest": paired.to_dict()}


def scored(scorer: Scorer, flat: list[Exchange], gold_PN: np.ndarray) -> np.ndarray:
    return scorer.score(flat).reward.reshape(gold_PN.shape)


def arguments(shared: Path, pairs: int, model: str | None, scratch: Path) -> dict[str, Any]:
    """The length bias of a model of people's choices between arguments."""
    records = list(check(shared / "ukpconvarg1.jsonl.gz").records())
    debates = sorted({record.meta["topic"].split("_")[0] for record in records})
    order = np.random.default_rng(0).permutation(len(debates))
    held = {debates[k] for k in order[: len(debates) // 2]}
    own = [record for record in records if record.meta["topic"].split("_")[0] not in held]
    other = [record for record in records if record.meta["topic"].split("_")[0] in held]
    chosen = np.random.default_rng(1).permutation(len(own))[:pairs]
    print(f"{len(debates)} debates, {len(held)} of them left out of training")
    loaded = RewardModel.load(model) if model else fitted([own[k] for k in chosen], scratch / "ukp", 192)
    texts = {"other debates": audit_data(other, max_responses=20), "built-in probes": built_in_probes()}
    return {name: length_bias(loaded, data, name) for name, data in texts.items()}


def length_bias(model: RewardModel, data: AuditData, name: str) -> dict[str, Any]:
    """What the audit says about length, as lines."""
    settings = AuditSettings(battery=BatterySettings(per_edit=68))
    began = time.process_time()
    found = audit(model, data, only=("edits", "length_style"), settings=settings, temperature=model.temperature)
    print(f"\n{name}: {found.n_prompts} prompts, {found.n_pairs} pairs, {found.n_scored} texts, CPU {time.process_time() - began:.0f} s")
    lines = [line for line in found.findings if line.name.startswith("length") or line.name == "beyond length"]
    for line in sorted(lines, key=lambda line: line.name):
        print(f"  {line.name:18} {line.verdict:8} {line.estimate!s:26} held against {line.compared_with}")
    numbers = dict(next(answer for answer in found.answers if answer.question == "length_style").numbers)
    for title, estimate in numbers.items():
        print(f"  {title:36} {estimate}")
    bias = any(line.verdict == "finding" and line.estimate.value > 0 for line in lines if line.name.startswith("length."))
    print(f"  length bias found: {'yes' if bias else 'NO'}", flush=True)
    return {"found": bias, "lines": [line.to_dict() for line in lines], "numbers": {key: value.to_dict() for key, value in numbers.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", default=os.environ.get("PREFERENT_SHARED_DATA", str(Path(__file__).parents[1] / "../shared/data")))
    parser.add_argument("--part", choices=("bon", "ukp", "both"), default="both")
    parser.add_argument("--pairs", type=int, default=500, help="pairs to train on")
    parser.add_argument("--prompts", type=int, default=500, help="prompts of the pool")
    parser.add_argument("--model", help="a trained folder; only with --part bon or ukp")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    given = parser.parse_args()
    if given.model and given.part == "both":
        parser.error("--model is for one part: say which with --part")
    torch.set_num_threads(1)
    shared, result = Path(given.shared), {}
    with tempfile.TemporaryDirectory() as scratch:
        if given.part != "ukp":
            result["bon"] = curve(shared, given.pairs, given.prompts, given.model, Path(scratch))
        if given.part != "bon":
            result["ukp"] = arguments(shared, given.pairs, given.model, Path(scratch))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "audit_real.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
