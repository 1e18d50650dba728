"""Annotators one by one, and what they make of each label: the rows and confusions of the annotator report.

Legend: V votes, I comparisons, A annotators, K labels of a comparison, L labels voted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from preferent.annotators.annotator_slope import PairModel, davidson
from preferent.annotators.bradley_terry import PairFit, fit_pairs
from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.graph import PairVotes
from preferent.annotators.labels import Z95, LabelResult, wilson
from preferent.annotators.pair_flags import STRONG, annotator_rows
from preferent.annotators.reliability import TIES, flags
from preferent.annotators.table import VoteTable
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

ENOUGH_FOR_SLOPES = 3  # annotators
LEAN_SD = 1.0  # logits per unit of log length
NEWTON = 12  # steps, far more than are needed: the log posterior is concave


@dataclass(frozen=True, slots=True)
class Person:
    """One annotator. reliability: chance that a vote equals the comparison's label (None where nothing can tell). first: share of decided
    votes for the side shown first. seconds: median per vote. traits: slope, position, length (logits) of the model over responses, those
    it has. group: chance of belonging to each group of the mixture. flags: "kind: evidence"."""

    name: Any
    votes: int
    reliability: Estimate | None
    ties: float | None
    first: Estimate | None
    seconds: float | None
    traits: dict[str, Estimate]
    group: tuple[float, ...]
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "annotator_id": self.name,
            "votes": self.votes,
            "reliability": None if self.reliability is None else self.reliability.to_dict(),
            "tie_share": self.ties,
            "first_share": None if self.first is None else self.first.to_dict(),
            "median_seconds": self.seconds,
            "traits": {name: trait.to_dict() for name, trait in self.traits.items()},
            "group": list(self.group),
            "flags": list(self.flags),
        }


@dataclass(frozen=True, eq=False, slots=True)
class Confusion:
    """How often comparisons of each label (rows) get each vote (columns): share_KL with 95 % intervals over annotators; mass_K: votes on
    comparisons of each label, `annotators` of whom."""

    title: str
    labels: tuple[str, ...]
    share_KL: Floats
    low_KL: Floats
    high_KL: Floats
    mass_K: Floats
    annotators: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: one row per label, votes as {label: [share, low, high]}."""
        rows = []
        for k, label in enumerate(self.labels):
            cells = np.stack([self.share_KL[k], self.low_KL[k], self.high_KL[k]], axis=1).tolist()
            rows.append({"label": label, "votes": float(self.mass_K[k]), "voted": dict(zip(self.labels, cells, strict=True))})
        return {"title": self.title, "annotators": self.annotators, "rows": rows}


def with_confusions(table: VoteTable, result: LabelResult) -> LabelResult | None:
    """`result` if it has a confusion for every annotator, else one of Dawid and Skene; None where no comparison has two votes."""
    if not (table.votes_I > 1).any() or table.n_annotators < 2:
        return None
    known = result.annotators
    if known is not None and known.alpha_ALL is not None and len(known.names) == table.n_annotators:
        return result
    return dawid_skene(table)


def fit_traits(votes: PairVotes) -> PairFit | None:
    """Scores of responses together with slope and position bias of each annotator; None for too few annotators."""
    if len(np.unique(votes.annotator_V)) < ENOUGH_FOR_SLOPES:
        return None
    return fit_pairs(
        votes,
        PairModel(
            ties="davidson" if (votes.outcome_V == 0.5).any() else "half",
            position="none" if votes.first_V is None else "annotator",
        ),
    )


def length_lean(fit: PairFit, votes: PairVotes) -> tuple[Floats, Floats] | None:
    """(value, standard deviation) of how much more than the crowd each annotator goes for the longer response, in logits per unit of log
    length, shape (A,); None without lengths.

    What all annotators have in common cannot be told from the quality of longer responses: it is in the scores. Only what one annotator
    adds to it is: the posterior mode of slope and lean together (Newton's method), the scores taken as known, prior sd of the lean LEAN_SD
    around 0.
    """
    if votes.length_V is None:
        return None
    n, who_V, length_V = votes.n_annotators, votes.annotator_V, votes.length_V
    scores_R, spread = fit.scores.value, fit.model.spreads.slope
    gap_V = scores_R[votes.item_i_V] - scores_R[votes.item_j_V]
    offset_V = np.zeros(len(votes)) if votes.first_V is None else _of(fit, "position")[who_V] * votes.first_V
    tie_V = _of(fit, "tie")[who_V] if fit.model.ties == "davidson" else None
    slope_A, lean_A, sd_A = np.ones(n), np.zeros(n), np.full(n, LEAN_SD)
    for _ in range(NEWTON):
        expected_V, variance_V = _moments(slope_A[who_V] * gap_V + lean_A[who_V] * length_V + offset_V, tie_V)
        rest_V = votes.outcome_V - expected_V
        by_slope_A = np.bincount(who_V, rest_V * gap_V, n) - (slope_A - 1.0) / spread**2
        by_lean_A = np.bincount(who_V, rest_V * length_V, n) - lean_A / LEAN_SD**2
        slopes_A = np.bincount(who_V, variance_V * gap_V**2, n) + spread**-2
        leans_A = np.bincount(who_V, variance_V * length_V**2, n) + LEAN_SD**-2
        both_A = np.bincount(who_V, variance_V * gap_V * length_V, n)
        inverse_A = 1.0 / (slopes_A * leans_A - both_A**2)
        slope_A = slope_A + np.clip((leans_A * by_slope_A - both_A * by_lean_A) * inverse_A, -1.0, 1.0)
        lean_A = lean_A + np.clip((slopes_A * by_lean_A - both_A * by_slope_A) * inverse_A, -1.0, 1.0)
        sd_A = np.sqrt(slopes_A * inverse_A)
    return lean_A, sd_A


def _of(fit: PairFit, name: str) -> Floats:
    """A coefficient per annotator, shape (A,)."""
    value = fit.coefficients.of(name)
    return value if isinstance(value, np.ndarray) else np.full(len(fit.traits["slope"].value), value)


def _moments(d_V: Floats, tie_V: Floats | None) -> tuple[Floats, Floats]:
    """Mean and variance of an outcome (1, 1/2, 0) at these logits."""
    if tie_V is None:
        p_V = expit(d_V)
        return p_V, p_V * (1.0 - p_V)
    p_V, tied_V, _ = davidson(d_V, tie_V)
    expected_V = p_V + 0.5 * tied_V
    return expected_V, p_V + 0.25 * tied_V - expected_V**2


def people(table: VoteTable, labelled: LabelResult | None, traits: tuple[PairFit, PairVotes] | None, member_AK: Floats) -> list[Person]:
    """Every annotator, the flagged ones first, then by falling number of votes.

    labelled: a result with confusions (see `with_confusions`); traits: a fit over responses and its votes; member_AK: (A, 0) without
    groups. What is None leaves its column empty.
    """
    said: dict[int, list[str]] = {a: [] for a in range(table.n_annotators)}
    if labelled is not None:
        number = {name: a for a, name in enumerate(table.annotators.tolist())}
        for flag in flags(table, labelled):
            said[number[flag.annotator]].append(f"{flag.kind}: {flag.says}")
    of_traits: dict[int, dict[str, Estimate]] = {}
    if traits is not None:
        lean = length_lean(*traits)
        for row in annotator_rows(*traits):
            own = {name: Estimate(*ends, row.n_votes, "Laplace, 95 %") for name, ends in row.traits.items()}
            said[row.annotator] += row.flags
            if lean is not None:
                value, half = float(lean[0][row.annotator]), Z95 * float(lean[1][row.annotator])
                own["length"] = Estimate(value, value - half, value + half, row.n_votes, "against the crowd, Laplace, 95 %")
                if abs(value) - half > STRONG:
                    side = "longer" if value > 0 else "shorter"
                    ends = f"{abs(value):.2f} [{abs(value) - half:.2f}, {abs(value) + half:.2f}]"
                    said[row.annotator].append(f"length: {ends} logits per unit of log length more for the {side} side than the crowd")
            of_traits[row.annotator] = own
    first_A, ties_A, seconds_A = _first(table), _tie_share(table), _seconds(table)
    rows = [
        Person(
            name,
            int(table.votes_A[a]),
            _reliability(labelled, a),
            None if ties_A is None else float(ties_A[a]),
            None if first_A is None else first_A[a],
            None if seconds_A is None or np.isnan(seconds_A[a]) else float(seconds_A[a]),
            of_traits.get(a, {}),
            tuple(member_AK[a].tolist()),
            tuple(said[a]),
        )
        for a, name in enumerate(table.annotators.tolist())
    ]
    return sorted(rows, key=lambda row: (not row.flags, -row.votes, str(row.name)))


def _reliability(labelled: LabelResult | None, a: int) -> Estimate | None:
    if labelled is None or labelled.annotators is None:
        return None
    known = labelled.annotators
    value, low, high = (float(ends[a]) for ends in (known.reliability_A, known.low_A, known.high_A))
    return Estimate(value, low, high, int(known.votes_A[a]), f"chance of voting the label, by {labelled.method}")


def _first(table: VoteTable) -> list[Estimate] | None:
    """Share of decided votes for the side shown first, with Wilson's interval; None without a display order."""
    if table.first_V is None:
        return None
    sides = [k for k, label in enumerate(table.labels) if label not in TIES]
    used_V = (table.first_V >= 0) & np.isin(table.label_V, sides)
    n_A = np.bincount(table.annotator_V[used_V], minlength=table.n_annotators)
    took_A = np.bincount(table.annotator_V[used_V], table.label_V[used_V] == table.first_V[used_V], table.n_annotators)
    share_A = took_A / np.maximum(n_A, 1)
    low_A, high_A = wilson(share_A, n_A.astype(np.float64))
    nothing = Estimate(float("nan"), float("nan"), float("nan"), 0, "no decided vote with a known display order")
    return [
        Estimate(float(share_A[a]), float(low_A[a]), float(high_A[a]), int(n_A[a]), "Wilson") if n_A[a] else nothing
        for a in range(table.n_annotators)
    ]


def _tie_share(table: VoteTable) -> Floats | None:
    codes = [k for k, label in enumerate(table.labels) if label in TIES]
    if not codes or not np.isin(table.label_V, codes).any():
        return None
    rows_A = np.bincount(table.annotator_V, minlength=table.n_annotators)
    return np.bincount(table.annotator_V, np.isin(table.label_V, codes), table.n_annotators) / np.maximum(rows_A, 1)


def _seconds(table: VoteTable) -> Floats | None:
    """Median seconds of each annotator, NaN for who has none; None where nobody has."""
    if table.seconds_V is None:
        return None
    timed = np.flatnonzero(np.isfinite(table.seconds_V))
    order = timed[np.lexsort((table.seconds_V[timed], table.annotator_V[timed]))]
    n_A = np.bincount(table.annotator_V[timed], minlength=table.n_annotators)
    start_A = np.cumsum(n_A) - n_A
    out_A = np.full(table.n_annotators, np.nan)
    has_A = n_A > 0
    low, high = order[(start_A + (n_A - 1) // 2)[has_A]], order[(start_A + n_A // 2)[has_A]]
    out_A[has_A] = (table.seconds_V[low] + table.seconds_V[high]) / 2
    return out_A


def confusions(table: VoteTable, labelled: LabelResult, parts: Sequence[tuple[str, Floats]]) -> list[Confusion]:
    """One confusion for each (title, weight of every annotator (A,)).

    Counts are expected ones: a comparison counts for each label by the chance that it has it, the vote itself included. Intervals: normal,
    over annotators, whose votes are taken as one lump each.
    """
    n_labels, n = table.n_labels, table.n_annotators
    cells_V = table.annotator_V.astype(np.int64) * n_labels + table.label_V
    count_AKL = np.stack(
        [np.bincount(cells_V, labelled.p_IL[table.item_V, k], n * n_labels).reshape(n, n_labels) for k in range(n_labels)], axis=1
    )
    found = []
    for title, weight_A in parts:
        weighted_AKL = weight_A[:, None, None] * count_AKL
        total_KL = weighted_AKL.sum(axis=0)
        mass_K = total_KL.sum(axis=1)
        share_KL = total_KL / np.maximum(mass_K, 1e-12)[:, None]
        active = int((weighted_AKL.sum(axis=(1, 2)) > 0).sum())
        residual_AKL = weighted_AKL - share_KL * weighted_AKL.sum(axis=2, keepdims=True)
        half_KL = np.full(share_KL.shape, np.nan)
        if active > 1:
            half_KL = Z95 * np.sqrt((residual_AKL**2).sum(axis=0) * active / (active - 1)) / np.maximum(mass_K, 1e-12)[:, None]
        low_KL, high_KL = np.clip(share_KL - half_KL, 0.0, 1.0), np.clip(share_KL + half_KL, 0.0, 1.0)
        found.append(Confusion(title, table.labels, share_KL, low_KL, high_KL, mass_K, active))
    return found
