"""How far annotators agree, with intervals over items, and the ceiling that this sets for any model.

Items with the same counts are one pattern, and every coefficient is a function of how often each pattern occurs. A bootstrap over items
is then a multinomial draw over patterns, exact and fast: a million votes of five on two labels have six patterns.

Legend: I items, P patterns, L labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError, DataError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

Level = Literal["nominal", "ordinal", "interval"]
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Patterns:
    """counts_PL: votes for each label; items_P: how many items have these counts. Items with one vote are in: some coefficients use
    them. `labels` keeps the order of ordinal labels; values_L are their numbers where the level is interval."""

    counts_PL: Floats
    items_P: Floats
    labels: tuple[str, ...]

    @property
    def n_items(self) -> int:
        return int(self.items_P.sum())

    @property
    def n_votes(self) -> int:
        return int(self.items_P @ self.counts_PL.sum(axis=1))


def patterns(table: VoteTable) -> Patterns:
    """The patterns of a table. Raises DataError for repeated votes (an annotator agrees with herself) and mixed objectives."""
    table.one_objective()
    if table.repeats or table.weight_V is not None:
        raise DataError("agreement needs one unweighted vote per annotator and item", hint="Policies(repeats='merge') makes it so")
    counts_IL = table.counts_IL.astype(np.int64)
    base = int(counts_IL.max()) + 1
    if base**table.n_labels < 2**62:
        codes_I = counts_IL @ (base ** np.arange(table.n_labels, dtype=np.int64))
        _, first, times = np.unique(codes_I, return_index=True, return_counts=True)
        return Patterns(counts_IL[first].astype(np.float64), times.astype(np.float64), table.labels)
    rows, times = np.unique(counts_IL, axis=0, return_counts=True)
    return Patterns(rows.astype(np.float64), times.astype(np.float64), table.labels)


# Coefficients: each maps patterns and weights (R, P) to values (R,), NaN where it is undefined.
Coefficient = Callable[[Patterns, Floats], Floats]


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.full(np.shape(top), NAN), where=np.asarray(bottom) > 1e-12)


def _pair_agreement(p: Patterns) -> tuple[Floats, Floats]:
    """(chance that two random votes of an item agree, whether it has two votes), per pattern."""
    n_P = p.counts_PL.sum(axis=1)
    paired_P = (n_P > 1).astype(np.float64)
    return ((p.counts_PL**2).sum(axis=1) - n_P) / np.maximum(n_P * (n_P - 1.0), 1.0), paired_P


def _percent(p: Patterns, weights_RP: Floats) -> Floats:
    agree_P, paired_P = _pair_agreement(p)
    return _ratio(weights_RP @ (agree_P * paired_P), weights_RP @ paired_P)


def _fleiss(p: Patterns, weights_RP: Floats) -> Floats:
    _, paired_P = _pair_agreement(p)
    totals_RL = (weights_RP * paired_P) @ p.counts_PL
    chance_R = (_ratio(totals_RL, totals_RL.sum(axis=1, keepdims=True).repeat(len(p.labels), axis=1)) ** 2).sum(axis=1)
    return _ratio(_percent(p, weights_RP) - chance_R, 1.0 - chance_R)


def _gwet(p: Patterns, weights_RP: Floats) -> Floats:
    if len(p.labels) < 2:
        return np.full(len(weights_RP), NAN)
    prevalence_PL = p.counts_PL / p.counts_PL.sum(axis=1, keepdims=True)
    pi_RL = (weights_RP @ prevalence_PL) / weights_RP.sum(axis=1, keepdims=True)
    chance_R = (pi_RL * (1.0 - pi_RL)).sum(axis=1) / (len(p.labels) - 1)
    return _ratio(_percent(p, weights_RP) - chance_R, 1.0 - chance_R)


def _alpha(level: Level, values_L: Floats | None) -> Coefficient:
    def coefficient(p: Patterns, weights_RP: Floats) -> Floats:
        n_P, n_labels = p.counts_PL.sum(axis=1), len(p.labels)
        pairable_P = n_P > 1
        pairs_PLL = p.counts_PL[:, :, None] * p.counts_PL[:, None, :]
        pairs_PLL[:, np.arange(n_labels), np.arange(n_labels)] -= p.counts_PL
        pairs_PLL *= (pairable_P / np.maximum(n_P - 1.0, 1.0))[:, None, None]
        coincidences_RLL = (weights_RP @ pairs_PLL.reshape(len(n_P), -1)).reshape(-1, n_labels, n_labels)
        totals_RL = coincidences_RLL.sum(axis=2)
        n_R = totals_RL.sum(axis=1)
        distance_RLL = _distance(level, totals_RL, values_L)
        observed_R = _ratio((coincidences_RLL * distance_RLL).sum(axis=(1, 2)), n_R)
        expected_R = _ratio(np.einsum("rk,rl,rkl->r", totals_RL, totals_RL, distance_RLL), n_R * (n_R - 1.0))
        return 1.0 - _ratio(observed_R, expected_R)

    return coefficient


def _distance(level: Level, totals_RL: Floats, values_L: Floats | None) -> Floats:
    """Squared differences between labels, shape (R, L, L); ordinal ones depend on how often each label occurs."""
    n_labels = totals_RL.shape[1]
    if level == "nominal":
        return np.broadcast_to(1.0 - np.eye(n_labels), (len(totals_RL), n_labels, n_labels))
    if level == "interval":
        assert values_L is not None
        return np.broadcast_to((values_L[:, None] - values_L[None, :]) ** 2, (len(totals_RL), n_labels, n_labels))
    middle_RL = np.cumsum(totals_RL, axis=1) - totals_RL / 2
    return (middle_RL[:, :, None] - middle_RL[:, None, :]) ** 2


def _ceiling(p: Patterns, weights_RP: Floats) -> Floats:
    """Per vote with others on its item: 1 / t if its label is one of t labels that the others gave most, else 0."""
    n_P = p.counts_PL.sum(axis=1)
    right_P = np.zeros(len(n_P))
    for k in range(len(p.labels)):
        others_PL = p.counts_PL.copy()
        others_PL[:, k] -= 1.0
        top_PL = others_PL >= others_PL.max(axis=1, keepdims=True)
        right_P += p.counts_PL[:, k] * top_PL[:, k] / top_PL.sum(axis=1)
    voters_P = np.where(n_P > 1, n_P, 0.0)
    return _ratio(weights_RP @ (right_P * (n_P > 1)), weights_RP @ voters_P)


def percent_agreement(table: VoteTable, rng: np.random.Generator, **options: int) -> Estimate:
    """Chance that two annotators of an item give the same label; items weigh the same. 95 % bootstrap over items."""
    return _estimate("percent agreement", _percent, patterns(table), rng, **options)


def fleiss_kappa(table: VoteTable, rng: np.random.Generator, **options: int) -> Estimate:
    """Fleiss (1971), also with different numbers of votes per item (items with one vote are out). 95 % bootstrap over items."""
    return _estimate("Fleiss' kappa", _fleiss, patterns(table), rng, **options)


def gwet_ac1(table: VoteTable, rng: np.random.Generator, **options: int) -> Estimate:
    """Gwet's AC1 (2008): chance agreement from the labels' prevalence, stable where one label is very common."""
    return _estimate("Gwet's AC1", _gwet, patterns(table), rng, **options)


def krippendorff_alpha(
    table: VoteTable, rng: np.random.Generator, *, level: Level = "nominal", values: Floats | None = None, n_resamples: int = 1000
) -> Estimate:
    """Krippendorff's alpha with missing data; items with one vote are not pairable and count for nothing.

    level: "nominal"; "ordinal" takes the table's label order as ranks; "interval" takes `values` (L,), or the labels read as numbers.
    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011). 95 % bootstrap over items. Raises ConfigError for labels that
    are no numbers.
    """
    if level not in ("nominal", "ordinal", "interval"):
        raise ConfigError(f"krippendorff_alpha: level={level!r}, allowed are nominal, ordinal, interval")
    if level == "interval" and values is None:
        try:
            values = np.array([float(label) for label in table.labels])
        except ValueError as error:
            raise ConfigError(f"interval alpha needs a number per label, the labels are {list(table.labels)!r}") from error
    values_L = None if values is None else np.asarray(values, dtype=np.float64)
    if values_L is not None and values_L.shape != (table.n_labels,):
        raise ConfigError(f"krippendorff_alpha: {table.n_labels} labels need as many values, got shape {values_L.shape}")
    return _estimate(f"Krippendorff's alpha, {level}", _alpha(level, values_L), patterns(table), rng, n_resamples=n_resamples)


def ceiling(table: VoteTable, rng: np.random.Generator, **options: int) -> Estimate:
    """How often one annotator gives the label that most of the item's other annotators gave; ties of the others count 1/t.

    A model cannot be told from a perfect one beyond what people say of each other: this is the accuracy that one person reaches.
    """
    return _estimate("one annotator against the majority of the others", _ceiling, patterns(table), rng, **options)


def _estimate(name: str, coefficient: Coefficient, p: Patterns, rng: np.random.Generator, *, n_resamples: int = 1000) -> Estimate:
    """Value and percentile interval; undefined values are NaN and the method says why."""
    paired = int(p.items_P[p.counts_PL.sum(axis=1) > 1].sum())
    if paired == 0:
        return Estimate(NAN, NAN, NAN, p.n_votes, f"{name} is undefined: no item has two votes")
    value = float(coefficient(p, p.items_P[None, :])[0])
    used = (p.items_P @ p.counts_PL) > 0
    if np.isnan(value):
        label = p.labels[int(used.argmax())]
        return Estimate(NAN, NAN, NAN, p.n_votes, f"{name} is undefined: every vote says {label!r}, nothing shows that they could differ")
    if p.n_items < 2:
        return Estimate(value, NAN, NAN, p.n_votes, f"{name}; no interval: one item only")
    draws = []
    slab = max(1, min(n_resamples, 4_000_000 // len(p.items_P)))
    for start in range(0, n_resamples, slab):
        size = min(slab, n_resamples - start)
        weights_RP = rng.multinomial(p.n_items, p.items_P / p.items_P.sum(), size=size).astype(np.float64)
        draws.append(coefficient(p, weights_RP))
    found = np.concatenate(draws)
    found = found[~np.isnan(found)]
    if len(found) < n_resamples // 2:
        return Estimate(value, NAN, NAN, p.n_votes, f"{name}; no interval: undefined in most resamples")
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(value, float(low), float(high), p.n_votes, f"{name}, bootstrap over {p.n_items} items")


def agreement_report(table: VoteTable, rng: np.random.Generator, *, level: Level = "nominal") -> dict[str, Estimate]:
    """Every coefficient of one table (of one objective), by name."""
    return {
        "percent": percent_agreement(table, rng),
        "fleiss_kappa": fleiss_kappa(table, rng),
        "krippendorff_alpha": krippendorff_alpha(table, rng, level=level),
        "gwet_ac1": gwet_ac1(table, rng),
        "ceiling": ceiling(table, rng),
    }
