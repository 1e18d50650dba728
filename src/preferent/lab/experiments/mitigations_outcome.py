"""Experiment 3, what it says: from the cases' results to tables, curves and checks.

Legend: S seeds, K values of n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from preferent.core.records import Floats
from preferent.lab.experiments.mitigations import CALIBRATED, CASES, GATED, STOPPED, CaseResult, Mitigations, run_seeds
from preferent.lab.experiments.outcome import Check, Dots, Figure, Grid, Outcome, Panel, Parts, band, over_seeds, powers
from preferent.lab.experiments.over_optimisation import distances

TITLE = "Mitigations side by side"
SINGLE = "single model"
WORDS = {
    "noisy": "few comparisons, a share of the answers turned round",
    "length": "annotators pay for length, which truly only costs",
    "valued": "length is truly worth something, and annotators pay what it is worth",
}
CAUTIOUS = ("ensemble, worst case", "ensemble, uncertainty-weighted")


def run(settings: Mitigations, parts: Parts) -> Outcome:
    """Run experiment 3. Raises ConfigError for settings at odds with each other."""
    return outcome(settings, run_seeds(settings, parts))


def outcome(settings: Mitigations, results: dict[str, list[CaseResult]]) -> Outcome:
    """The results of all seeds, told."""
    ns = powers(settings.largest_n)
    tables = [_table(name, results[name], ns) for name in CASES]
    tables += [_tilt_table(name, results[name]) for name in CASES if results[name][0].tilted]
    tables.append(_gate_table(results))
    checks = (_ensemble_check(results["noisy"], ns), _gate_check(results))
    summary = [f"{WORDS[name][0].upper()}{WORDS[name][1:]}: " + _told(results[name], ns) for name in CASES] + [
        f"Reward model: {settings.scorer}. {len(settings.seeds)} seeds, differences paired by seed. What failed is printed too.",
    ]
    return Outcome(
        TITLE, tuple(summary), checks, tuple(tables), _figures(results, ns), settings.model_dump(mode="json"), _data(results, ns)
    )


def gold(results: Sequence[CaseResult], treatment: str) -> Floats:
    """Gold of one treatment, shape (S, K)."""
    return np.array([one.gold_K[treatment] for one in results])


def kept_share(results: Sequence[CaseResult], treatment: str) -> float:
    """How much of what the single model loses between its peak and the last n a treatment keeps: 1 is all, 0 nothing.

    Ratio of means over seeds; the peak is that of the single model's mean curve. NaN where the single model loses nothing.
    """
    single_K, other_K = gold(results, SINGLE).mean(axis=0), gold(results, treatment).mean(axis=0)
    lost = float(single_K.max() - single_K[-1])
    return float(other_K[-1] - single_K[-1]) / lost if lost > 0 else float("nan")


def _told(results: Sequence[CaseResult], ns: Sequence[int]) -> str:
    single_K = gold(results, SINGLE).mean(axis=0)
    best = max((name for name in results[0].gold_K if name != SINGLE), key=lambda name: gold(results, name)[:, -1].mean())
    return (
        f"the single model's gold is {single_K.max():.3f} at n = {ns[int(single_K.argmax())]} and {single_K[-1]:.3f} at n = {ns[-1]}; "
        f"highest there is {best!r} with {gold(results, best)[:, -1].mean():.3f}."
    )


def _table(name: str, results: Sequence[CaseResult], ns: Sequence[int]) -> Grid:
    single_SK = gold(results, SINGLE)
    rows: list[tuple[Any, ...]] = []
    for treatment in results[0].gold_K:
        value_SK = gold(results, treatment)
        mean_K = value_SK.mean(axis=0)
        share = None if treatment == SINGLE else kept_share(results, treatment)
        rows.append(
            (
                treatment,
                ns[int(mean_K.argmax())],
                over_seeds(value_SK[:, int(mean_K.argmax())]),
                over_seeds(value_SK[:, -1]),
                over_seeds(value_SK[:, -1] - single_SK[:, -1]),
                None if share is None or np.isnan(share) else share,
            )
        )
    if results[0].signals:
        stopped_S = np.array([one.stopped_gold for one in results])
        stops = ", ".join(str(one.stopped_n) for one in results)
        rows.append(
            (
                f"{STOPPED} (n = {stops})",
                None,
                None,
                over_seeds(stopped_S),
                over_seeds(stopped_S - single_SK[:, -1]),
                _share(results, stopped_S),
            )
        )
    rows.append(
        (
            "no selection (n = 1)",
            1,
            None,
            over_seeds(single_SK[:, 0]),
            over_seeds(single_SK[:, 0] - single_SK[:, -1]),
            _share(results, single_SK[:, 0]),
        )
    )
    headers = ("treatment", "peak n", "gold at its peak", f"gold at n = {ns[-1]}", "against the single model there", "kept of its loss")
    return Grid(
        f"{name.capitalize()}: {WORDS[name]}",
        headers,
        tuple(rows),
        "Best of n. 'Kept of its loss': (treatment - single) / (single at its peak - single), all but the peak at the last n; above 1 it "
        "beats "
        "the single model's peak. PAR keeps the order of replies, so best-of-n cannot tell it from the single model.",
    )


def _share(results: Sequence[CaseResult], value_S: Floats) -> float | None:
    single_K = gold(results, SINGLE).mean(axis=0)
    lost = float(single_K.max() - single_K[-1])
    return float(value_S.mean() - single_K[-1]) / lost if lost > 0 else None


def _tilt_table(name: str, results: Sequence[CaseResult]) -> Grid:
    free_S = np.array([next(iter(one.tilted.values()))[0] for one in results])
    rows = []
    for treatment in results[0].tilted:
        gold_S, kl_S = np.array([one.tilted[treatment] for one in results]).T
        rows.append((treatment, over_seeds(kl_S), over_seeds(gold_S), over_seeds(gold_S - free_S)))
    return Grid(
        f"{name.capitalize()}: the optimal policy under a KL penalty",
        ("treatment", "KL (nats)", "gold", "against hardly any penalty"),
        tuple(rows),
        "Each reply of the pool weighted by exp(reward / beta), where KL-regularised RL would end if it could.",
    )


def _gate_table(results: dict[str, list[CaseResult]]) -> Grid:
    rows = []
    for name in CASES:
        gates = [one.gate for one in results[name] if one.gate is not None]
        always_S = gold(results[name], CALIBRATED)[:, -1] - gold(results[name], SINGLE)[:, -1]
        rows.append(
            (
                name,
                f"{sum(gate.apply for gate in gates)} of {len(gates)}",
                over_seeds([gate.gain.value for gate in gates]),
                over_seeds([gate.accuracy_raw.value for gate in gates]),
                over_seeds([gate.accuracy_calibrated.value for gate in gates]),
                over_seeds(always_S),
            )
        )
    headers = (
        "case",
        "gate says calibrate",
        "gain on trusted pairs (nats)",
        "accuracy raw",
        "accuracy calibrated",
        "gold that calibrating changes",
    )
    return Grid("The length gate", headers, tuple(rows), "The gate sees trusted pairs and never the true reward.")


def _ensemble_check(results: Sequence[CaseResult], ns: Sequence[int]) -> Check:
    single_SK = gold(results, SINGLE)
    lost = over_seeds(single_SK[:, int(single_SK.mean(axis=0).argmax())] - single_SK[:, -1])
    shares = {name: kept_share(results, name) for name in CAUTIOUS}
    says = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    passed = None if np.isnan(list(shares.values())).any() else max(shares.values()) >= 0.5
    claim = f"a cautious ensemble keeps half or more of what the single model loses between its peak and n = {ns[-1]}"
    return Check(claim, passed, f"the single model loses {lost}; kept: {says}")


def _gate_check(results: dict[str, list[CaseResult]]) -> Check:
    right = {
        name: [one.gate is not None and one.gate.apply == (name == "length") for one in results[name]] for name in ("length", "valued")
    }
    says = "; ".join(f"{WORDS[name]}: right in {sum(rows)} of {len(rows)} seeds" for name, rows in right.items())
    return Check("the length gate chooses right in both of its cases", all(all(rows) for rows in right.values()), says)


def _figures(results: dict[str, list[CaseResult]], ns: Sequence[int]) -> tuple[Figure, ...]:
    d_K = distances(ns)
    shown = {
        "noisy": (SINGLE, "ensemble, mean", *CAUTIOUS),
        "length": (SINGLE, CALIBRATED, GATED, "off-prompt augmentation (RRM)"),
        "valued": (SINGLE, CALIBRATED, GATED),
    }
    figures = []
    for name in CASES:
        panel = Panel(
            f"{name}: true reward", "d = √KL bound (√nats)", "gold", tuple(band(one, d_K, gold(results[name], one)) for one in shown[name])
        )
        figures.append(
            Figure(f"{name}-curves", f"{name.capitalize()}: curves", f"{WORDS[name].capitalize()}. Bands: 95 % over seeds.", (panel,))
        )
        single_S = gold(results[name], SINGLE)[:, -1]
        rows = tuple((one, over_seeds(gold(results[name], one)[:, -1] - single_S)) for one in results[name][0].gold_K if one != SINGLE)
        dots = Dots(f"{name}: gold at n = {ns[-1]}, against the single model", "difference in true reward", rows, 0.0, "the single model")
        figures.append(Figure(f"{name}-differences", f"{name.capitalize()}: differences", "Paired by seed; 95 % intervals.", (dots,)))
    return tuple(figures)


def _data(results: dict[str, list[CaseResult]], ns: Sequence[int]) -> dict[str, Any]:
    cases = {}
    for name, rows in results.items():
        cases[name] = {
            "gold": {treatment: gold(rows, treatment).tolist() for treatment in rows[0].gold_K},
            "tilted": {treatment: [list(one.tilted[treatment]) for one in rows] for treatment in rows[0].tilted},
            "stopped_n": [one.stopped_n for one in rows],
            "monitor": [one.signals for one in rows],
            "gate": [None if one.gate is None else one.gate.to_dict() for one in rows],
        }
    return {"ns": list(ns), "cases": cases}
