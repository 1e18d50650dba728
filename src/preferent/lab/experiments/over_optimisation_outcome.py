"""Experiment 1, what it says: from the arms to tables, curves and checks.

Legend: K values of n, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from preferent.core.best_of_n import kl_bound
from preferent.core.estimates import Estimate
from preferent.core.records import Floats
from preferent.lab.experiments.outcome import Check, Figure, Grid, Line, Outcome, Panel, Parts, band, over_seeds
from preferent.lab.experiments.over_optimisation import BLOCK_NS, SUB_POOLS, Arm, Findings, OverOptimisation, distances, run_seeds

TITLE = "Over-optimisation under best-of-n"


def run(settings: OverOptimisation, parts: Parts) -> Outcome:
    """Run experiment 1. Raises ConfigError for settings at odds with each other."""
    return outcome(settings, run_seeds(settings, parts))


def outcome(settings: OverOptimisation, found: Findings) -> Outcome:
    """The findings, told."""
    arms, ns = found.arms, found.ns
    tables = (_arm_table(arms, ns), _kl_table(arms[-1], found.coarse_SK, ns, settings.grades))
    if len(found.variance[0][0]):
        tables = (*tables, _variance_table(found.variance))
    worst, best = min(arms, key=lambda arm: arm.law.peak_d), max(arms, key=lambda arm: arm.law.peak_d)
    checks = _checks(arms)
    turns = (
        "The true reward rises, turns and falls while the learned one goes on rising."
        if checks[-1].passed
        else "No fall of the true reward is shown: the intervals of all falls hold 0."
    )
    summary = (
        f"{turns} With {best.name} the fitted peak is at "
        f"d = {best.law.peak_d:.2f} (gain {best.law.peak:.3f}); with {worst.name} at d = {worst.law.peak_d:.2f} "
        f"(gain {worst.law.peak:.3f}).",
        f"Reward model: {settings.scorer}. {len(settings.seeds)} seeds; each has its own world, comparisons, answers and pool.",
    )
    figures = _figures(arms, ns, found.coarse_SK, settings.grades)
    return Outcome(TITLE, summary, tuple(checks), tables, figures, settings.model_dump(mode="json"), _data(found))


def _arm_table(arms: list[Arm], ns: Sequence[int]) -> Grid:
    rows = []
    for arm in arms:
        mean_K = arm.gold_SK.mean(axis=0)
        top = int(mean_K.argmax())
        fall = over_seeds(arm.gold_SK[:, -1] - arm.gold_SK[:, top])
        rows.append(
            (
                arm.comparisons,
                arm.noise,
                over_seeds(arm.accuracy_S),
                over_seeds(arm.gold_SK[:, 0]),
                ns[top],
                over_seeds(arm.gold_SK[:, top]),
                over_seeds(arm.gold_SK[:, -1]),
                fall,
                arm.law.alpha,
                arm.law.beta,
                arm.law.r_squared,
                arm.peak_d,
            )
        )
    headers = (
        "comparisons",
        "noise",
        "accuracy",
        "gold at n = 1",
        "peak n",
        "gold at peak",
        f"gold at n = {ns[-1]}",
        "fall from peak",
        "alpha",
        "beta",
        "R²",
        "fitted peak d",
    )
    return Grid(
        "What each reward model buys",
        headers,
        tuple(rows),
        "Intervals over seeds (t), that of the fitted peak over prompts of all seeds. The peak n is picked from the curve, so its "
        "fall "
        "from it looks a little deeper than it is.",
    )


def _kl_table(arm: Arm, coarse_SK: Floats, ns: Sequence[int], grades: int) -> Grid:
    rows = tuple(
        (n, kl_bound(n), round(float(arm.kl_SK[:, k].mean()), 6), round(float(coarse_SK[:, k].mean()), 6)) for k, n in enumerate(ns)
    )
    return Grid(
        "KL of best-of-n from its policy, in nats",
        ("n", "bound log n - (n-1)/n", "exact, learned reward", f"exact, {grades} grades"),
        rows,
        "Exact for the pool taken as the policy. The bound is reached where rewards hardly tie; a judge with few grades "
        "cannot move further than -log of its top grade's share, whatever n.",
    )


def _variance_table(variance: list[tuple[Floats, Floats]]) -> Grid:
    n_points = min(len(subsets) for subsets, _ in variance)
    rows = []
    for k in range(n_points):
        subsets_S, blocks_S = (np.array([pair[which][k] for pair in variance]) for which in (0, 1))
        rows.append((BLOCK_NS[k], over_seeds(subsets_S), over_seeds(blocks_S), over_seeds(blocks_S / subsets_S)))
    return Grid(
        "Variance of the estimate of gold at n, per prompt",
        ("n", "all subsets", "disjoint blocks", "ratio"),
        tuple(rows),
        f"Over {SUB_POOLS} separate parts of the pool; both estimators are unbiased.",
    )


def _checks(arms: list[Arm]) -> list[Check]:
    fits = [arm.law.r_squared for arm in arms]
    checks = [Check("the law fits: R² >= .9 in every arm", min(fits) >= 0.9, f"R² from {min(fits):.3f} to {max(fits):.3f}")]
    sizes, noises = sorted({arm.comparisons for arm in arms}), sorted({arm.noise for arm in arms})
    at = {(arm.comparisons, arm.noise): arm for arm in arms}
    if len(sizes) > 1:
        told = [(noise, [at[m, noise].peak_d for m in sizes]) for noise in noises]
        says = "; ".join(f"noise {noise:g}: " + ", ".join(f"{peak.value:.2f}" for peak in peaks) for noise, peaks in told)
        checks.append(Check("the peak comes earlier with less data", all(_ascends(peaks) for _, peaks in told), f"fitted peak d, {says}"))
    if len(noises) > 1:
        told = [(m, [at[m, noise].peak_d for noise in reversed(noises)]) for m in sizes]
        says = "; ".join(f"{m:,}: " + ", ".join(f"{peak.value:.2f}" for peak in peaks) for m, peaks in told)
        checks.append(Check("the peak comes earlier with more noise", all(_ascends(peaks) for _, peaks in told), f"fitted peak d, {says}"))
    turned = [arm for arm in arms if over_seeds(arm.gold_SK[:, -1] - arm.gold_SK[:, int(arm.gold_SK.mean(0).argmax())]).high < 0]
    checks.append(Check("the true reward turns", bool(turned), f"a fall whose interval is below 0 in {len(turned)} of {len(arms)} arms"))
    return checks


def _ascends(peaks: Sequence[Estimate]) -> bool:
    """Each value above the one before; intervals stand in the table."""
    return all(left.value < right.value for left, right in pairwise(peaks))


def _figures(arms: list[Arm], ns: Sequence[int], coarse_SK: Floats, grades: int) -> tuple[Figure, ...]:
    d_K, noises = distances(ns), sorted({arm.noise for arm in arms})
    panels = []
    for noise in noises:
        own = [arm for arm in arms if arm.noise == noise]
        lines = [band(f"{arm.comparisons:,} comparisons", d_K, arm.gold_SK) for arm in own]
        fine_K = np.linspace(0.0, d_K[-1], 60)
        lines += [
            Line(f"{arm.comparisons:,} comparisons", tuple(fine_K), tuple(arm.gold_SK[:, 0].mean() + arm.law.gain(fine_K)), dashed=True)
            for arm in own
        ]
        panels.append(Panel(f"true reward, {noise:.0%} noise", "d = √KL bound (√nats)", "gold", tuple(lines)))
    proxies = []
    for noise in noises:
        own = [arm for arm in arms if arm.noise == noise]
        lines = tuple(band(f"{arm.comparisons:,} comparisons", d_K, arm.proxy_SK) for arm in own)
        proxies.append(Panel(f"learned reward, {noise:.0%} noise", "d = √KL bound (√nats)", "proxy (SDs of the policy's)", lines))
    log_n, bounds = tuple(np.log2(ns).tolist()), tuple(kl_bound(n) for n in ns)
    kl = Panel(
        "KL from the policy",
        "log₂ n",
        "nats",
        (
            Line("bound", log_n, bounds, dashed=True),
            band("exact, learned reward", np.log2(ns), arms[-1].kl_SK),
            band(f"exact, {grades} grades", np.log2(ns), coarse_SK),
        ),
    )
    return (
        Figure(
            "gold",
            "True reward",
            "True reward of the best of n by the learned reward; dashed: the fitted d(α - βd). Bands: 95 % over seeds.",
            tuple(panels),
        ),
        Figure(
            "proxy", "Learned reward", "The learned reward of the same replies, in standard deviations of the policy's own.", tuple(proxies)
        ),
        Figure("kl", "How far best-of-n goes", "The bound, and the exact divergence where it leaves the bound.", (kl,)),
    )


def _data(found: Findings) -> dict[str, Any]:
    arms, ns, variance = found.arms, found.ns, found.variance
    return {
        "ns": list(ns),
        "d": distances(ns).tolist(),
        "arms": [
            {
                "comparisons": arm.comparisons,
                "noise": arm.noise,
                "accuracy": arm.accuracy_S.tolist(),
                "gold": arm.gold_SK.tolist(),
                "proxy": arm.proxy_SK.tolist(),
                "exact_kl": arm.kl_SK.tolist(),
                "law": arm.law.to_dict(),
                "peak_d": arm.peak_d.to_dict(),
            }
            for arm in arms
        ],
        "coarse_kl": found.coarse_SK.tolist(),
        "variance": {
            "ns": list(BLOCK_NS[: len(variance[0][0])]),
            "subsets": [subsets.tolist() for subsets, _ in variance],
            "blocks": [blocks.tolist() for _, blocks in variance],
        },
    }
