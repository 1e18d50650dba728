"""What a benchmark says: the authors' number and its parts, every one with an interval from resampling whole prompts.

Every number of these benchmarks is some function of means over subsets. `estimate` computes the means once, and again for each
bootstrap draw of prompts, and applies the authors' function to both, so that a weighted average of accuracies, an F1 or a ties score gets
its interval like a plain mean.

Legend: N items (or observations), C prompts, R draws.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.audits.resample import Column, interval, mean_draws, no_estimate, share_interval, sums
from preferent.audits.text import interval_text, number
from preferent.core.estimates import Estimate, cluster_codes
from preferent.core.records import Floats

N_RESAMPLES = 2000
# Means by name: arrays of one shape, NaN where a draw holds none of a subset.
Means = Mapping[str, Floats]
Combine = Callable[[Means], Mapping[str, Floats]]


@dataclass(frozen=True, slots=True)
class Result:
    """A benchmark's answer about one scorer.

    numbers: every number by name, in the order to print; `headline` names the one that the authors compare models by. rule: how it is
    scored, ties included, in words. counts: items, prompts, responses, ties. notes: what a reader must know before comparing.
    """

    benchmark: str
    scorer: str
    rule: str
    source: str
    headline: str
    numbers: Mapping[str, Estimate]
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> Estimate:
        """The headline number."""
        return self.numbers[self.headline]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "benchmark": self.benchmark,
            "scorer": self.scorer,
            "headline": self.headline,
            "score": self.score.to_dict(),
            "numbers": {name: estimate.to_dict() for name, estimate in self.numbers.items()},
            "counts": dict(self.counts),
            "rule": self.rule,
            "source": self.source,
            "notes": list(self.notes),
        }

    def render(self) -> str:
        """A table for a terminal."""
        width = max(len(name) for name in self.numbers)
        lines = [f"{self.benchmark}: {self.scorer}", "  " + ", ".join(f"{n:,} {name}" for name, n in self.counts.items())]
        for name, estimate in self.numbers.items():
            mark = "*" if name == self.headline else " "
            lines.append(f"{mark} {name:{width}}  {number(estimate.value):>7}  {interval_text(estimate)}  n={estimate.n:,}")
        lines.append(f"  rule: {self.rule}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn."""

    rng: np.random.Generator
    n_resamples: int = N_RESAMPLES


def estimate(columns: Mapping[str, Floats], clusters_N: Sequence[Hashable], combine: Combine, boot: Bootstrap) -> dict[str, Estimate]:
    """The mean of every column, and everything that `combine` makes of the means, with 95 % intervals over the clusters.

    columns: name -> shape (N,), NaN where an observation does not belong to the column. `combine` receives arrays of one shape and must
    work elementwise; its names come first in the answer. A number's n counts the observations that it rests on; a column's value of
    exactly 0 or 1 gets an exact bound.
    """
    codes_N = cluster_codes(list(clusters_N))
    n_clusters = int(codes_N.max()) + 1 if len(codes_N) else 0
    made = {name: Column.of(np.asarray(values_N, dtype=np.float64), np.ones(len(codes_N))) for name, values_N in columns.items()}
    sums_CK = np.stack([sums(codes_N, column.values_N * column.weights_N, n_clusters) for column in made.values()], axis=1)
    mass_CK = np.stack([sums(codes_N, column.weights_N, n_clusters) for column in made.values()], axis=1)
    draws_RK = mean_draws(sums_CK, mass_CK, boot.rng, boot.n_resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_1K = sums_CK.sum(axis=0, keepdims=True) / mass_CK.sum(axis=0, keepdims=True)
    points, draws = _both(list(made), mean_1K, combine), _both(list(made), draws_RK, combine)
    parts = _parts(list(made), mean_1K[0], combine)
    counts_KN, held_KC = np.stack([column.weights_N > 0 for column in made.values()]), mass_CK.T > 0
    found = {}
    for name, value_1 in points.items():
        used_K = parts[name]
        n, own = int(counts_KN[used_K].any(axis=0).sum()), int(held_KC[used_K].any(axis=0).sum())
        make = share_interval if name in made else _composed
        why = "not in this file" if name in made else "undefined: a part it is made of is not in this file"
        value = float(value_1[0])
        found[name] = no_estimate(why, n) if np.isnan(value) else make(value, draws[name], n, own)
    return found


def _parts(names: list[str], mean_K: Floats, combine: Combine) -> dict[str, list[int]]:
    """Which columns each number rests on: those that change it when their mean does, at a point where no two means are equal or 0."""
    at_K = np.where(np.isnan(mean_K), np.nan, np.linspace(0.3, 0.7, len(names)))
    before, after = _both(names, at_K[None], combine), _both(names, at_K + np.eye(len(names)), combine)
    return {name: np.flatnonzero(~np.isclose(after[name], before[name], rtol=0, atol=1e-12, equal_nan=True)).tolist() for name in before}


def _composed(value: float, draws_R: Floats, n: int, n_clusters: int) -> Estimate:
    """An interval for a function of means; where no draw differs, a bootstrap would claim certainty."""
    if n_clusters > 1 and (draws_R[np.isfinite(draws_R)] == value).all():
        return Estimate(value, np.nan, np.nan, n, "no interval: no resample differs; see its parts")
    return interval(value, draws_R, n, n_clusters)


def _both(names: list[str], mean_RK: Floats, combine: Combine) -> dict[str, Floats]:
    means = {name: mean_RK[:, k] for k, name in enumerate(names)}
    return {**combine(means), **means}


def weighted(means: Means, weights: Mapping[str, float]) -> Floats:
    """The weighted mean over those of `weights` that are there (not NaN), shape (R,); NaN where none is."""
    names = [name for name in weights if name in means]
    if not names:
        return np.full(_size(means), np.nan)
    values_KR = np.stack([means[name] for name in names])
    weights_KR = np.where(np.isnan(values_KR), 0.0, np.array([[float(weights[name])] for name in names]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.nan_to_num(values_KR) * weights_KR).sum(axis=0) / weights_KR.sum(axis=0)


def plain(means: Means, names: Sequence[str]) -> Floats:
    """The unweighted mean over those of `names` that are there, shape (R,)."""
    return weighted(means, dict.fromkeys(names, 1.0))


def within(values_N: Floats, where_N: Any) -> Floats:
    """`values_N` where `where_N`, NaN elsewhere: a column of a subset."""
    return np.where(np.asarray(where_N, dtype=np.bool_), values_N, np.nan)


def _size(means: Means) -> int:
    return len(next(iter(means.values()))) if means else 1
