"""Experiment 2, what it says: from the curves of all runs to tables, figures and checks.

Legend: K readings, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from preferent.core.estimates import Estimate
from preferent.core.over_optimisation import Law
from preferent.core.records import Floats
from preferent.lab.experiments.outcome import Check, Figure, Grid, Line, Outcome, Panel, Parts, over_seeds
from preferent.lab.experiments.rl import ARMS, UNPROTECTED, Curve, ReinforcementLearning, run_seeds
from preferent.lab.experiments.rl_compare import AtKl, Run, change, compare, rl_law

TITLE = "Over-optimisation under reinforcement learning"
KEEPS = 0.9
PLAIN = (UNPROTECTED, "KL penalty", "bounded (PAR)", "ensemble, worst case")
Curves = dict[str, list[Curve]]


def run(settings: ReinforcementLearning, parts: Parts) -> Outcome:
    """Run experiment 2. Raises ConfigError for settings at odds with each other, MissingExtraError without the extra `rl`."""
    return outcome(settings, run_seeds(settings, parts))


def outcome(settings: ReinforcementLearning, curves: Curves) -> Outcome:
    """The curves, told."""
    law = rl_law(_runs(curves[UNPROTECTED]))
    names = [arm.name for arm in ARMS if arm.name in curves]
    at = {name: compare(_runs(curves[name]), _runs(curves[UNPROTECTED]), rng=_rng()) for name in names if name != UNPROTECTED}
    checks = [_turn_check(curves[UNPROTECTED])]
    if at:
        checks.append(_mitigation_check(at, len(settings.seeds)))
    summary = (
        _told(curves[UNPROTECTED], law),
        f"Reward model: {settings.scorer}, {settings.comparisons:,} comparisons with {settings.noise:.0%} of the answers turned round. "
        f"{len(settings.seeds)} seed{'s' * (len(settings.seeds) > 1)}, each with its own policy, comparisons and prompts. "
        "KL is the mean log-ratio of fresh replies, nats per reply.",
    )
    tables = (_run_table(curves, names), *([_kl_table(at)] if at else []))
    data = {"law": None if law is None else law.to_dict(), "arms": {name: [_curve_data(curve) for curve in curves[name]] for name in names}}
    return Outcome(TITLE, summary, tuple(checks), tables, _figures(curves, names, law), settings.model_dump(mode="json"), data)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _runs(curves: Sequence[Curve]) -> list[Run]:
    return [Run(curve.kl_K, curve.gold_KP) for curve in curves]


def _mean(curves: Sequence[Curve], what: str) -> Floats:
    return np.array([getattr(curve, what) for curve in curves], dtype=np.float64).mean(axis=0)


def _fall(curves: Sequence[Curve]) -> Estimate:
    top = int(_mean(curves, "gold_K").argmax())
    return change(_runs(curves), top, -1, rng=_rng())


def _told(curves: Sequence[Curve], law: Law | None) -> str:
    gold_K, proxy_K, kl_K = (_mean(curves, what) for what in ("gold_K", "proxy_K", "kl_K"))
    top = int(gold_K.argmax())
    fit = (
        "Its curve has too few different distances for a fit."
        if law is None
        else f"d(α - β log d) with α = {law.alpha:.3f}, β = {law.beta:.3f} explains {law.r_squared:.2f} of the variance of its gain."
    )
    return (
        f"Unprotected, the learned reward goes from {proxy_K[0]:+.2f} to {proxy_K[-1]:+.2f} standard deviations and the true one from "
        f"{gold_K[0]:.3f} to {gold_K[top]:.3f} (KL {kl_K[top]:.1f}) to {gold_K[-1]:.3f} (KL {kl_K[-1]:.1f}). {fit}"
    )


def _turn_check(curves: Sequence[Curve]) -> Check:
    rise_S = [float(curve.proxy_K[-1] - curve.proxy_K[0]) for curve in curves]
    fall = _fall(curves)
    says = (
        f"proxy by seed {', '.join(f'{rise:+.2f} SD' for rise in rise_S)}; gold from its peak to the end {fall}, over prompts of all seeds"
    )
    return Check("unprotected, the learned reward rises and the true reward turns and falls", min(rise_S) > 0.0 and fall.high < 0.0, says)


def keeps(at: AtKl, n_seeds: int) -> bool:
    """Whether a mitigation passes: compared beyond the KL where every unprotected run had its peak, with 90 % or more of its own peak
    left there, and more gold than the unprotected run."""
    return at.past_peak == n_seeds and at.of_peak >= KEEPS and at.gap.value > 0.0


def _mitigation_check(at: dict[str, AtKl], n_seeds: int) -> Check:
    parts = []
    for name, row in at.items():
        where = "" if row.past_peak == n_seeds else f", beyond the unprotected peak in {row.past_peak} of {n_seeds} seeds only"
        parts.append(f"{name} {row.of_peak:.2f} at KL {row.kl:.1f} (gold {row.gold:.3f}, unprotected {row.free:.3f}{where})")
    claim = "at the same KL, beyond the unprotected run's peak, at least one mitigation keeps its gold within 10 % of its peak"
    return Check(claim, any(keeps(row, n_seeds) for row in at.values()), "share of its peak: " + "; ".join(parts))


def _run_table(curves: Curves, names: Sequence[str]) -> Grid:
    rows = []
    for name in names:
        own = curves[name]
        gold_K, kl_K = _mean(own, "gold_K"), _mean(own, "kl_K")
        top = int(gold_K.argmax())
        law = rl_law(_runs(own))
        rows.append(
            (
                name,
                float(kl_K[top]),
                over_seeds([curve.kl_K[-1] for curve in own]),
                float(gold_K[0]),
                float(gold_K[top]),
                over_seeds([curve.gold_K[-1] for curve in own]),
                _fall(own),
                over_seeds([curve.proxy_K[-1] for curve in own]),
                float(_mean(own, "words_K")[-1]),
                *((None, None, None) if law is None else (law.alpha, law.beta, law.r_squared)),
            )
        )
    headers = (
        "training",
        "KL at the peak",
        "KL at the end",
        "gold at the start",
        "gold at the peak",
        "gold at the end",
        "from peak to end",
        "proxy at the end (SDs)",
        "words",
        "alpha",
        "beta",
        "R²",
    )
    note = (
        "Intervals of 'from peak to end' over watched prompts of all seeds (two policies say little about a third), the others over seeds "
        "(t). The peak is picked from noisy readings, so the fall looks a little deeper than it is. Proxy: the single model, whatever the "
        "policy was paid. alpha, beta: d(α - β log d) through the mean curve, d = √KL."
    )
    return Grid("What each training buys", headers, tuple(rows), note)


def _kl_table(at: dict[str, AtKl]) -> Grid:
    rows = [
        (name, row.kl, row.free, row.gold, row.gap, row.peak, row.kept, row.of_peak, row.kept_free, row.past_peak)
        for name, row in at.items()
    ]
    headers = (
        "mitigation",
        "KL",
        "gold, unprotected",
        "gold, mitigated",
        "difference",
        "its peak up to there",
        "kept of its peak's gain",
        "share of its peak",
        "kept, unprotected",
        "seeds beyond the peak",
    )
    note = (
        "At the largest KL that both runs of a seed reach, linear between readings. Kept: (gold there - at the start) / (peak up to there "
        "- at the start). A run that a penalty holds near its start is compared near its start: 'seeds beyond the peak' counts those in "
        "which the comparison lies beyond the KL of the unprotected run's peak. Difference: over prompts of all seeds."
    )
    return Grid("Mitigations at the same KL", headers, tuple(rows), note)


def _figures(curves: Curves, names: Sequence[str], law: Law | None) -> tuple[Figure, ...]:
    free = curves[UNPROTECTED]
    start, end = float(_mean(free, "gold_K")[0]), float(np.sqrt(max(_mean(free, "kl_K").max(), 0.0)))
    fine_K = np.linspace(0.0, end, 60)
    fit = [] if law is None else [Line(UNPROTECTED, tuple(fine_K.tolist()), tuple((start + law.gain(fine_K)).tolist()), dashed=True)]
    plain = [name for name in names if name in PLAIN]
    penalised = [name for name in names if name == UNPROTECTED or name not in PLAIN]
    panels = [Panel("single mitigations", D, "gold", (*(_line(name, curves[name], "gold_K") for name in plain), *fit))]
    if len(penalised) > 1:
        panels.append(Panel("with KL penalty", D, "gold", tuple(_line(name, curves[name], "gold_K") for name in penalised)))
    proxy = Panel("learned reward", D, "proxy (SDs of the start)", tuple(_line(name, curves[name], "proxy_K") for name in names))
    return (
        Figure("gold", "True reward", "Means over seeds by step; dashed: the fitted d(α - β log d) of the unprotected run.", tuple(panels)),
        Figure("proxy", "Learned reward", "The single reward model's view of the same replies, whatever the policy was paid.", (proxy,)),
    )


D = "d = √KL (√nats)"


def _line(name: str, curves: Sequence[Curve], what: str) -> Line:
    d_K = np.sqrt(np.maximum(_mean(curves, "kl_K"), 0.0))
    return Line(name, tuple(d_K.tolist()), tuple(_mean(curves, what).tolist()))


def _curve_data(curve: Curve) -> dict[str, Any]:
    names = ("step_K", "kl_K", "kl_error_K", "gold_K", "proxy_K", "paid_K", "words_K")
    return {name.removesuffix("_K"): getattr(curve, name).tolist() for name in names} | {"example": curve.example}
