"""Length bias of a model of people's arguments, before and after each mitigation, on debates it was not trained on.

    python bench/mitigation.py [--shared ../shared/data] [--rows 300] [--per-edit 72] [--cache FILE.npz] [--fine-tune N] [--out bench-out]

The reward model is a linear head on frozen MiniLM features, fitted with our Bradley-Terry loss (convex, so there is no luck of seeds) on
half of the debates of `ukpconvarg1` and judged on the other half, and the other way round: every topic is judged by a head that saw
nothing of its debate. All heads share the features, which are most of the cost. L2 is chosen once, for the plain model, by
leaving out topics of the training half.

    plain             the labelled pairs alone
    rrm               beside them off-prompt and neutral rows (`--augment.kind rrm`), as heavy as the labelled ones together
    neutral           the neutral ties alone
    counterfactual    rows of length.filler and length.repeat (`--augment.edits`), ties and kept labels; audited by length.duplicate too,
                      which none was made with
    rrm + counterfactual
    calibrated        plain, with the LOWESS curve over log length taken out, fitted on the training half without labels
    gated             the same where `length_gate` allows it on the labels of the training half

`--fine-tune N` trains all of MiniLM instead, with `augment.*` settings as `preferent train` takes them, on so many pairs of one half:
plain, rrm and counterfactual, judged on the other half.

Last, `triage` on labels that people were nearly of one mind on, 15 % of them flipped here: how well the flipped ones rank.

Printed, each with a 95 % interval over topics: the audit's length edits in standard deviations of natural rewards within a topic, the
lean to length beyond the labels, the slope on log length, accuracy on pairs within 10 % of each other's length, accuracy when length
cannot help, accuracy on all pairs; and what each mitigation changes, paired. The longer argument wins 73 % of these pairs by people's
own votes: length is in part deserved, and a mitigation that takes all of it out must lose accuracy on the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from preferent.annotators.triage import surprise
from preferent.audits.audit_labels import length_style
from preferent.audits.audit_subject import AuditSettings, Memo, Subject
from preferent.audits.augment import augment_edits, chosen_edits, counterfactual_rows
from preferent.audits.battery import run_battery
from preferent.audits.battery_settings import BatterySettings
from preferent.audits.counterfactual import plan_edits
from preferent.audits.edits.length import EDITS
from preferent.audits.probe import AuditData, audit_data
from preferent.cli.augmenting import augmented
from preferent.core.estimates import Estimate, clustered_mean, clustered_statistic
from preferent.core.length_calibration import LengthCurve, length_gate, lowess_calibration
from preferent.core.records import Exchange, Preference, Scores
from preferent.core.scorer import Scorer
from preferent.data.augment import off_prompt_rows
from preferent.data.gate import check
from preferent.models.reward_model import RewardModel
from preferent.training.config import load_config
from preferent.training.losses import bradley_terry
from preferent.training.run import train

TRAINED_ON = ("length.filler", "length.repeat")
HALVES = 2
DECAYS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MATCHED = 0.10
MAX_LENGTH = 256
SETTINGS = {
    "base": "minilm",
    "epochs": "1",
    "batch.pairs": "16",
    "max_responses": "8",
    "max_length": "256",
    "held_out": "0",
    "threads": "1",
}


def debate(record: Any) -> str:
    return record.meta["topic"].split("_")[0]


class Features:
    """Frozen features of exchanges, computed once each and kept in a file between runs."""

    def __init__(self, cache: Path | None) -> None:
        self.cache, self.known, self.seconds, self.tokens = cache, {}, 0.0, 0
        if cache is not None and cache.exists():
            with np.load(cache) as file:
                self.known = dict(zip(file["names"].tolist(), file["rows"], strict=True))
        self.model = RewardModel.create("minilm", max_length=MAX_LENGTH)
        self.model.module.eval()

    @staticmethod
    def name(exchange: Exchange) -> str:
        return hashlib.blake2b(exchange.model_dump_json().encode(), digest_size=12).hexdigest()

    def of(self, exchanges: Sequence[Exchange]) -> np.ndarray:
        missing = [exchange for exchange in dict.fromkeys(exchanges) if self.name(exchange) not in self.known]
        if missing:
            self._compute(missing)
        return np.stack([self.known[self.name(exchange)] for exchange in exchanges]).astype(np.float64)

    def _compute(self, missing: Sequence[Exchange]) -> None:
        began, seen = time.process_time(), []
        hook = self.model.module.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double().numpy()))
        ids = [row.ids for row in self.model.tokenize(missing)]
        with torch.inference_mode():
            for start in range(0, len(ids), 8):
                self.model.module(self.model.pack([[one] for one in ids[start : start + 8]]))
        hook.remove()
        self.known |= dict(zip(map(self.name, missing), np.concatenate(seen), strict=True))
        self.seconds += time.process_time() - began
        self.tokens += sum(map(len, ids))
        print(f"  features of {len(missing)} texts: {self.tokens:,} tokens, CPU {self.seconds:.0f} s so far", flush=True)
        if self.cache is not None:
            np.savez(self.cache, names=np.array(list(self.known)), rows=np.stack(list(self.known.values())).astype(np.float32))


def fit(records: Sequence[Preference], features: Features, scale: tuple[np.ndarray, np.ndarray], decay: float) -> np.ndarray:
    """Weights of the head with the lowest mean Bradley-Terry loss plus decay * |w|^2 / 2."""
    sides = [features.of([record.exchanges()[side] for record in records]) for side in (0, 1)]
    a_NW, b_NW = (torch.from_numpy((side - scale[0]) / scale[1]) for side in sides)
    p_N, weight_N = (torch.tensor([getattr(record, name) for record in records], dtype=torch.float64) for name in ("p_a", "weight"))
    w_W = torch.zeros(a_NW.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w_W], max_iter=300, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (weight_N * bradley_terry(a_NW @ w_W, b_NW @ w_W, p_N)).sum() / weight_N.sum() + 0.5 * decay * (w_W @ w_W)
        loss.backward()
        return loss

    optimizer.step(closure)
    return w_W.detach().numpy()


class Head:
    """Heads by topic: the one that did not see the topic's debate. Rewards of each are in its own spread within topics."""

    def __init__(self, name: str, features: Features, parts: Mapping[Any, Any]) -> None:
        self.name, self._features, self._parts = name, features, parts

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        if not exchanges:
            return Scores(np.zeros(0))
        rows_NW = self._features.of(exchanges)
        return Scores(np.array([self._parts[topic(x)](row, x) for x, row in zip(exchanges, rows_NW, strict=True)]))


def topic(exchange: Exchange) -> str:
    return exchange.prompt[0].content


def reader(w_W: np.ndarray, scale: tuple[np.ndarray, np.ndarray], unit: float, curve: LengthCurve | None = None) -> Any:
    """(features, exchange) -> reward."""

    def read(row_W: np.ndarray, exchange: Exchange) -> float:
        reward = float((row_W - scale[0]) / scale[1] @ w_W) / unit
        return reward if curve is None else float(curve.calibrate([reward], [log_length(exchange)])[0])

    return read


def log_length(exchange: Exchange) -> float:
    return float(np.log(len(exchange.response) + 1))


def centred_std(reward_E: np.ndarray, topics: Sequence[str]) -> float:
    _, code_E = np.unique(topics, return_inverse=True)
    mean = np.bincount(code_E, reward_E) / np.bincount(code_E)
    return float(np.std(reward_E - mean[code_E]))


def half_of(
    records: Sequence[Preference], features: Features, rows: int, decay: float
) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    """name -> (weights, scale, unit, curve) of the heads of one half, and what was made and decided."""
    natural = list(dict.fromkeys(exchange for record in records for exchange in record.exchanges()))
    x_EW = features.of(natural)
    scale = (x_EW.mean(0), x_EW.std(0))
    made = {
        "rrm": off_prompt_rows(records, ratio=rows / len(records), seed=0, groups=[debate(record) for record in records]),
        "neutral": off_prompt_rows(records, ratio=rows / len(records), ties=1.0, seed=1, groups=[debate(record) for record in records]),
        "counterfactual": counterfactual_rows(records, chosen_edits(TRAINED_ON, augment_edits(natural)), ratio=rows / len(records), seed=0),
    }
    extra = {name: heavy(rows_.added, records) for name, rows_ in made.items()}
    extra["rrm + counterfactual"] = [*extra["rrm"], *extra["counterfactual"]]
    heads: dict[str, tuple[Any, ...]] = {}
    for name, added in {"plain": [], **extra}.items():
        w_W = fit([*records, *added], features, scale, decay)
        unit = centred_std((x_EW - scale[0]) / scale[1] @ w_W, [topic(exchange) for exchange in natural])
        heads[name] = (w_W, scale, unit, None)
    w_W, _, unit, _ = heads["plain"]
    reward_E = ((x_EW - scale[0]) / scale[1] @ w_W) / unit
    curve = lowess_calibration(reward_E, [log_length(exchange) for exchange in natural])
    heads["calibrated"] = (w_W, scale, unit, curve)
    gate = gate_of(records, dict(zip(natural, reward_E, strict=True)), curve)
    heads["gated"] = heads["calibrated"] if gate.apply else heads["plain"]
    told = {name: rows_.to_dict() for name, rows_ in made.items()} | {"gate": gate.to_dict()}
    return heads, told


def heavy(added: Sequence[Preference], records: Sequence[Preference]) -> list[Preference]:
    """The new rows with weights that add up to those of the labelled ones."""
    factor = sum(record.weight for record in records) / sum(row.weight for row in added)
    return [row.model_copy(update={"weight": row.weight * factor}) for row in added]


def gate_of(records: Sequence[Preference], reward: Mapping[Exchange, float], curve: LengthCurve) -> Any:
    sides = [record.exchanges() for record in records]
    raw = np.array([reward[a] - reward[b] for a, b in sides])
    less = np.array([curve.at(log_length(a)) - curve.at(log_length(b)) for a, b in sides])
    return length_gate(raw, raw - less, [r.p_a for r in records], [r.prompt for r in records], rng=np.random.default_rng(0))


def choose_decay(records: Sequence[Preference], features: Features) -> float:
    """By log-likelihood on every third topic of the training half, left out."""
    topics = sorted({record.meta["topic"] for record in records})
    inside = [record for record in records if topics.index(record.meta["topic"]) % 3]
    out = [record for record in records if not topics.index(record.meta["topic"]) % 3]
    x_EW = features.of(list(dict.fromkeys(exchange for record in inside for exchange in record.exchanges())))
    scale = (x_EW.mean(0), x_EW.std(0))
    difference = (features.of([r.exchanges()[0] for r in out]) - features.of([r.exchanges()[1] for r in out])) / scale[1]
    p_N = np.array([record.p_a for record in out])
    losses = {}
    for decay in DECAYS:
        margin = difference @ fit(inside, features, scale, decay)
        losses[decay] = float(np.mean(np.logaddexp(0.0, -margin) * p_N + np.logaddexp(0.0, margin) * (1 - p_N)))
    return min(losses, key=lambda decay: losses[decay])


def measures(head: Scorer, data: AuditData, per_edit: int) -> dict[str, Any]:
    """What the audit sees in one cross-fitted scorer, as arrays over cells and pairs so that two can be compared pair by pair."""
    memo = head if isinstance(head, Memo) else Memo(head)
    battery = run_battery(memo, data, edits=EDITS, settings=BatterySettings(per_edit=per_edit))
    subject = Subject(memo, data, AuditSettings())
    lines = {line.name: line for line in length_style(subject).findings}
    within = battery.within_std
    cells = dict(zip([edit.name for edit in EDITS], plan_edits(data, EDITS, per_edit=per_edit, seed=0), strict=True))
    changes = {
        name: (memo.score([c.edited for c in part]).reward - memo.score([c.without for c in part]).reward) / within
        for name, part in cells.items()
    }
    length_E = np.array([log_length(exchange) for exchange in data.exchanges])
    return {
        "effects": {effect.edit.name: effect.finding for effect in battery.effects},
        "lean": lines["length"],
        "changes": {name: (change, [int(data.prompt_E[c.row]) for c in cells[name]]) for name, change in changes.items()},
        "reward_E": battery.natural_E / within,
        "length_E": length_E,
        "margin_N": subject.margin_N,
        "p_N": subject.p_N,
        "chars_N2": subject.chars_N2,
        "prompt_N": subject.codes_N,
    }


def slope(of: Mapping[str, Any], prompt_E: np.ndarray, rows: np.ndarray) -> float:
    """Reward in SD per doubling of the length, within topics."""
    code = prompt_E[rows]
    size = np.maximum(np.bincount(code), 1)
    x, y = (v[rows] - (np.bincount(code, v[rows]) / size)[code] for v in (of["length_E"] / np.log(2.0), of["reward_E"]))
    return float(x @ y / (x @ x))


def figures(of: Mapping[str, Any], base: Mapping[str, Any], data: AuditData) -> dict[str, tuple[Estimate, Estimate | None]]:
    """measure -> (value, change from the plain model, paired)."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(0)

    found: dict[str, tuple[Estimate, Estimate | None]] = {}
    for name, (change, prompts) in of["changes"].items():
        own = clustered_mean(change, prompts, rng=rng())
        found[f"{name}, SD"] = (own, clustered_mean(change - base["changes"][name][0], prompts, rng=rng()))
    both = [lambda rows: slope(of, data.prompt_E, rows), lambda rows: slope(of, data.prompt_E, rows) - slope(base, data.prompt_E, rows)]
    values = [clustered_statistic(statistic, data.prompt_E, rng=rng()) for statistic in both]
    found["slope, SD per doubling"] = (values[0], values[1])
    decided = of["p_N"] != 0.5
    chars = of["chars_N2"]
    gap = np.abs(chars[:, 0] - chars[:, 1]) / np.maximum(chars.max(1), 1)
    longer = (chars[:, 0] - chars[:, 1]) * (of["p_N"] - 0.5) > 0
    parts = {
        "accuracy, lengths within 10 %": decided & (gap <= MATCHED),
        "accuracy, the longer is better": decided & (gap > MATCHED) & longer,
        "accuracy, the shorter is better": decided & (gap > MATCHED) & ~longer,
        "accuracy, all decided pairs": decided,
    }
    right, before = ((np.sign(each["margin_N"]) * np.sign(of["p_N"] - 0.5) + 1) / 2 for each in (of, base))
    for name, part in parts.items():
        where = of["prompt_N"][part]
        found[name] = (clustered_mean(right[part], where, rng=rng()), clustered_mean((right - before)[part], where, rng=rng()))
    return found


def fine_tuned(inside: Sequence[Preference], pairs: int, rows: int) -> dict[str, Scorer]:
    """MiniLM trained on `pairs` of the pairs inside, with and without rows made from those."""
    own = [inside[k] for k in np.random.default_rng(1).permutation(len(inside))[:pairs]]
    ratio = {"augment.ratio": str(rows / pairs), "augment.weight": str(pairs / rows)}
    kinds = {
        "plain": {},
        "rrm": {"augment.kind": "rrm", **ratio},
        "counterfactual": {"augment.kind": "counterfactual", "augment.edits": ",".join(TRAINED_ON), **ratio},
    }
    found: dict[str, Scorer] = {}
    for name, settings in kinds.items():
        config = load_config(None, {**SETTINGS, **settings})
        made = augmented(own, config.augment, seed=0, group_key="topic")
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            train([*own, *made.added], [], config, Path(folder, "run"))
            found[name] = Memo(RewardModel.load(Path(folder, "run")), name=name)
        print(f"{name}: {len(own)} pairs and {len(made.added)} made rows, CPU {time.process_time() - began:.0f} s", flush=True)
    return found


def frozen(records: Sequence[Preference], side_of: Mapping[str, int], given: Any) -> tuple[dict[str, Scorer], list[Any]]:
    """Cross-fitted heads by mitigation, and what was made and decided in each half."""
    features = Features(given.cache)
    parts: dict[str, dict[str, Any]] = {}
    told: list[Any] = []
    for half in range(HALVES):
        inside = [record for record in records if side_of[debate(record)] != half]
        decay = choose_decay(inside, features)
        heads, facts = half_of(inside, features, given.rows, decay)
        told.append({"decay": decay, **facts})
        gate = facts["gate"]
        print(f"half {half + 1}: {len(inside)} pairs, decay {decay:g}; gate: {gate['reason']}", flush=True)
        print(f"  nats per pair that calibration adds: {gate['gain']['value']:.3f} [{gate['gain']['low']:.3f}, {gate['gain']['high']:.3f}]")
        out = {topic(record.exchanges()[0]) for record in records if side_of[debate(record)] == half}
        for name, head in heads.items():
            parts.setdefault(name, {}).update(dict.fromkeys(out, reader(*head)))
    return {name: Head(name, features, topics) for name, topics in parts.items()}, told


def planted(records: Sequence[Preference], side_of: Mapping[str, int], features: Features, decay: float) -> dict[str, Any]:
    """Triage on labels of which 15 % were flipped by us: does it rank those first? Cross-fitted over the halves, five bootstrap members.

    Only labels that people were nearly of one mind on (p_a beyond .1 or .9) are taken; the AUROC has an interval over topics.
    """
    rng = np.random.default_rng(5)
    own = [record for record in records if abs(record.p_a - 0.5) >= 0.4]
    flipped_N = rng.random(len(own)) < 0.15
    told = [record.model_copy(update={"p_a": 1.0 - record.p_a}) if flip else record for record, flip in zip(own, flipped_N, strict=True)]
    half_N = np.array([side_of[debate(record)] for record in own])
    sides = [features.of([record.exchanges()[k] for record in own]) for k in (0, 1)]
    scale = (sides[0].mean(0), sides[0].std(0))
    margin_MN = np.zeros((5, len(own)))
    for member in range(5):
        for half in range(HALVES):
            drawn = rng.choice(np.flatnonzero(half_N != half), int((half_N != half).sum()))
            w_W = fit([told[k] for k in drawn], features, scale, decay)
            margin_MN[member, half_N == half] = ((sides[0] - sides[1]) / scale[1] @ w_W)[half_N == half]
    surprise_N = surprise([record.p_a for record in told], margin_MN)

    def auroc(rows: np.ndarray) -> float:
        ranks, wrong = rankdata(surprise_N[rows]), flipped_N[rows]
        n = wrong.sum()
        return float((ranks[wrong].sum() - n * (n + 1) / 2) / (n * (~wrong).sum()))

    found = clustered_statistic(auroc, [record.meta["topic"] for record in own], rng=np.random.default_rng(0), n_resamples=300)
    first = np.argsort(-surprise_N)[: int(flipped_N.sum())]
    right = f"{flipped_N[first].mean():.0%} of the first {len(first)} are"
    print(f"\ntriage: {flipped_N.sum()} of {len(own)} labels flipped; AUROC {found}; {right}")
    return {"auroc": found.to_dict(), "precision": float(flipped_N[first].mean()), "labels": len(own), "flipped": int(flipped_N.sum())}


def report(seen: Mapping[str, Mapping[str, Any]], data: AuditData) -> dict[str, Any]:
    """Print every scorer's figures beside the plain one's, and return them."""
    found: dict[str, Any] = {}
    for name, of in seen.items():
        table = figures(of, seen["plain"], data)
        verdicts = {edit: line.verdict for edit, line in of["effects"].items()} | {"lean to length": of["lean"].verdict}
        print(f"\n{name}: " + ", ".join(f"{edit} {verdict}" for edit, verdict in verdicts.items()))
        print(f"  {'lean to length beyond the labels':34}{of['lean'].estimate!s:>26}")
        for measure, (value, change) in table.items():
            print(f"  {measure:34}{value!s:>26}" + ("" if name == "plain" else f"{'change':>10}{change!s:>26}") + f"{value.n:>8}")
        found[name] = {
            "verdicts": verdicts,
            "lean": of["lean"].estimate.to_dict(),
            "figures": {m: {"value": v.to_dict(), "change": None if c is None else c.to_dict()} for m, (v, c) in table.items()},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", default=os.environ.get("PREFERENT_SHARED_DATA", str(Path(__file__).parents[1] / "../shared/data")))
    parser.add_argument("--rows", type=int, default=300, help="new rows per half and mitigation")
    parser.add_argument("--per-edit", type=int, default=72)
    parser.add_argument("--cache", type=Path, help="keep the features here between runs")
    parser.add_argument("--fine-tune", type=int, metavar="N", help="train all of MiniLM on so many pairs, on one half")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    records = [record for record in check(Path(given.shared, "ukpconvarg1.jsonl.gz")).records() if isinstance(record, Preference)]
    names = sorted({debate(record) for record in records})
    side_of = dict(zip(np.random.default_rng(0).permutation(names).tolist(), (np.arange(len(names)) % HALVES).tolist(), strict=True))
    told: list[Any] = []
    if given.fine_tune:
        judged = [record for record in records if side_of[debate(record)] == 0]
        scorers = fine_tuned([record for record in records if side_of[debate(record)] != 0], given.fine_tune, given.rows)
    else:
        judged = records
        scorers, told = frozen(records, side_of, given)
    data = audit_data(judged, max_responses=100)
    seen = {name: measures(scorer, data, given.per_edit) for name, scorer in scorers.items()}
    print(f"\n{data.n_prompts} topics, {len(data.exchanges)} arguments, {len(data.preferences)} pairs judged; "
          f"CPU {time.process_time():.0f} s in all")  # fmt: skip
    result: dict[str, Any] = {"halves": told, "scorers": report(seen, data)}
    if not given.fine_tune:
        result["triage"] = planted(records, side_of, Features(given.cache), told[0]["decay"])
    given.out.mkdir(parents=True, exist_ok=True)
    name = "mitigation_fine_tuned.json" if given.fine_tune else "mitigation.json"
    (given.out / name).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
