"""Which annotators need a look, each with the evidence: adversaries, spammers, leaners, the tie-happy and the too fast.

A flag is raised when a one-sided 99 % interval of the evidence lies beyond its threshold, never on a point value, so nobody is flagged for
few votes. The evidence is model-based where a fitted result is given: agreement with the majority flags one honest annotator in ten on
data where the confusions flag none.

Legend: V votes, A annotators, K labels of an item, L labels voted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from preferent.annotators.crowd_bt import CrowdFit
from preferent.annotators.graph_models import TIES, GraphResult
from preferent.annotators.labels import LabelResult, wilson
from preferent.annotators.pair_flags import STRONG, AnnotatorRow, annotator_rows
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

Kind = Literal["adversary", "spammer", "left", "right", "long", "short", "tie-happy", "too fast"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One reason to look at one annotator. `evidence` has the interval that lies beyond `threshold`; `says` is a sentence."""

    annotator: Any
    kind: Kind
    evidence: Estimate
    threshold: float
    says: str


@dataclass(frozen=True, slots=True)
class Limits:
    """When to flag. sure: one-sided confidence of a flag. informed: a spammer's votes carry less than this (0 nothing, 1 everything).
    lean: share of votes moved to one side. ties: how many times the crowd's share of ties. fast: fraction of the crowd's median seconds
    below which a vote is hasty; hasty: share of hasty votes."""

    sure: float = 0.99
    informed: float = 0.2
    lean: float = 0.1
    ties: float = 2.0
    fast: float = 0.2
    hasty: float = 0.5

    def __post_init__(self) -> None:
        shares = (self.informed, self.lean, self.fast, self.hasty)
        if not (0.5 < self.sure < 1 and self.ties > 1 and all(0 < share < 1 for share in shares)):
            raise ConfigError(f"{self!r}: sure in (.5, 1), ties > 1, all others in (0, 1)")


def flags(table: VoteTable, result: LabelResult, limits: Limits | None = None) -> list[Flag]:
    """All flags, annotator by annotator. `result` must be of this table and have confusions (Dawid-Skene, MACE, `choose`) or be a
    `GraphResult`, whose flags rest on slopes, or on honesty, and on biases in logits (`pair_flags`).

    Position (left, right) needs the recorded display order (`first_V`), speed needs `seconds_V`; without them those flags are not
    raised, and `missing_evidence` says so. Raises ConfigError for a result without confusions.
    """
    limits = limits or Limits()
    if isinstance(result, GraphResult):
        return _of_graph(table, result, limits)
    if result.annotators is None or result.annotators.alpha_ALL is None or len(result.annotators.names) != table.n_annotators:
        raise ConfigError(f"flags need confusions of the {table.n_annotators} annotators of this table; {result.method!r} has none of them")
    z = float(ndtri(limits.sure))
    found = _knowledge(table, result, limits, z)
    if table.first_V is not None:
        found += _leaning(table, result, limits, z)
    found += _ties(table, limits, z)
    if table.seconds_V is not None:
        found += _speed(table, limits, z)
    order = {name: code for code, name in enumerate(table.annotators.tolist())}
    return sorted(found, key=lambda flag: order[flag.annotator])


KINDS_OF_PAIRS: dict[str, Kind] = {"adversary": "adversary", "guesser": "spammer", "always first": "left", "always second": "right"}
BIASES: dict[str, tuple[Kind, Kind]] = {"position": ("right", "left"), "length": ("short", "long")}  # negative, positive


def _of_graph(table: VoteTable, result: GraphResult, limits: Limits) -> list[Flag]:
    z = float(ndtri(limits.sure))
    found = _ties(table, limits, z) + ([] if table.seconds_V is None else _speed(table, limits, z))
    if isinstance(result.fitted, CrowdFit):
        honest = result.fitted.honesty
        for a in np.flatnonzero(honest.high < 0.5):
            ends = (honest.value[a], honest.low[a], honest.high[a])
            found.append(_flag(table, int(a), "adversary", ends, 0.5, "chance of reporting what they see"))
    else:
        for row in annotator_rows(result.fitted, result.pairs):
            found += [_pair_flag(table, row, sentence) for sentence in row.flags]
    order = {name: code for code, name in enumerate(table.annotators.tolist())}
    return sorted(found, key=lambda flag: order[flag.annotator])


def _pair_flag(table: VoteTable, row: AnnotatorRow, sentence: str) -> Flag:
    word, says = sentence.split(": ", 1)
    kind = KINDS_OF_PAIRS.get(word, "tie-happy")
    trait, threshold = "slope", 0.0
    if word in ("position bias", "length bias"):
        trait, threshold = word.split()[0], STRONG
        kind = BIASES[trait][row.traits[trait][0] > 0]
    value, low, high = row.traits.get(trait, (float("nan"),) * 3)
    if word.startswith("always"):
        value, threshold = (row.tie_share if word == "always tie" else row.first_share or 0.0), 0.9
        low_A, high_A = wilson(np.array([value]), np.array([float(row.n_votes)]))
        low, high = float(low_A[0]), float(high_A[0])
    name = table.annotators[row.annotator]
    name = name.item() if isinstance(name, np.generic) else name
    return Flag(name, kind, Estimate(value, low, high, row.n_votes, "95 % interval"), threshold, says)


def missing_evidence(table: VoteTable) -> tuple[str, ...]:
    """Which kinds of flags this table cannot raise, and why."""
    out = []
    if table.first_V is None:
        out.append("left and right: the table has no display order (shown_first)")
    if table.seconds_V is None:
        out.append("too fast: the table has no seconds")
    if not _tied(table).any():
        out.append("tie-happy: there are no ties")
    return tuple(out)


def informedness(alpha_AKL: Floats, pi_K: Floats) -> tuple[Floats, Floats]:
    """(mean, standard deviation) over annotators of how much better than chance a vote follows the label, shape (A,).

    sum_k w_k (theta_kk - mean over j != k of theta_jk), w the labels' frequencies pi: 1 for who always votes the label, 0 for whoever
    votes regardless of it (spam, always left), negative for adversaries. With two labels it is Youden's J. Delta method on Dirichlets.
    """
    n_labels = alpha_AKL.shape[1]
    total_AK = alpha_AKL.sum(axis=-1)
    theta_AKL = alpha_AKL / total_AK[..., None]
    # What each theta[k, l] counts for: + w_l on the diagonal, - w_l spread over the other rows weighted by their frequency.
    others_KL = np.where(np.eye(n_labels, dtype=bool), 0.0, pi_K[:, None])
    others_KL /= np.maximum(others_KL.sum(axis=0), 1e-12)
    weights_KL = (np.eye(n_labels) - others_KL) * pi_K
    mean_A = np.einsum("akl,kl->a", theta_AKL, weights_KL)
    first_AK = np.einsum("akl,kl->ak", theta_AKL, weights_KL)
    second_AK = np.einsum("akl,kl->ak", theta_AKL, weights_KL**2)
    return mean_A, np.sqrt(((second_AK - first_AK**2) / (total_AK + 1.0)).sum(axis=1))


def _knowledge(table: VoteTable, result: LabelResult, limits: Limits, z: float) -> list[Flag]:
    assert result.annotators is not None
    assert result.annotators.alpha_ALL is not None
    pi_K = (result.p_IL.sum(axis=0) + 1.0) / (result.p_IL.sum() + result.p_IL.shape[1])
    mean_A, sd_A = informedness(result.annotators.alpha_ALL, pi_K)
    low_A, high_A = mean_A - z * sd_A, mean_A + z * sd_A
    found = []
    for a in np.flatnonzero(high_A < limits.informed):
        kind: Kind = "adversary" if high_A[a] < 0.0 else "spammer"
        what = "votes against the label" if kind == "adversary" else "votes carry little of the label"
        found.append(_flag(table, int(a), kind, (mean_A[a], low_A[a], high_A[a]), 0.0 if kind == "adversary" else limits.informed, what))
    return found


def _leaning(table: VoteTable, result: LabelResult, limits: Limits, z: float) -> list[Flag]:
    """Votes for the side shown first beyond what an even-handed annotator of the same reliability would give it."""
    assert table.first_V is not None
    assert result.annotators is not None
    sides = [k for k in range(table.n_labels) if table.labels[k] not in TIES]
    used_V = (table.first_V >= 0) & np.isin(table.label_V, sides)
    first_V, annotator_V = table.first_V[used_V], table.annotator_V[used_V]
    p_side_V = result.p_IL[table.item_V[used_V]]
    first_true_V = p_side_V[np.arange(len(first_V)), first_V] / np.maximum(p_side_V[:, sides].sum(axis=1), 1e-12)
    skill_V = np.clip(result.annotators.reliability_A[annotator_V], 0.0, 1.0)
    expected_V = first_true_V * skill_V + (1.0 - first_true_V) * (1.0 - skill_V)
    n_A = np.bincount(annotator_V, minlength=table.n_annotators)
    excess_A = np.bincount(annotator_V, (table.label_V[used_V] == first_V) - expected_V, table.n_annotators) / np.maximum(n_A, 1)
    # At least the variance of an even choice: a claim of bias must not rest on a model that is too sure.
    sd_A = np.sqrt(0.25 / np.maximum(n_A, 1))
    found = []
    for a in np.flatnonzero((np.abs(excess_A) - z * sd_A > limits.lean) & (n_A > 0)):
        kind: Kind = "left" if excess_A[a] > 0 else "right"
        what = f"votes for the side shown {'first' if kind == 'left' else 'second'} beyond what the items explain"
        ends = (excess_A[a], excess_A[a] - z * sd_A[a], excess_A[a] + z * sd_A[a])
        found.append(_flag(table, int(a), kind, ends, limits.lean, what, int(n_A[a])))
    return found


def _ties(table: VoteTable, limits: Limits, z: float) -> list[Flag]:
    """A tie that is allowed and that nobody gave tells nothing of anybody."""
    tied_V = _tied(table)
    if not tied_V.any():
        return []
    return _shares(table, tied_V, np.ones(len(table), dtype=bool), ("tie-happy", "are ties"), limits.ties, z)


def _tied(table: VoteTable) -> NDArray[np.bool_]:
    return np.isin(table.label_V, [k for k, label in enumerate(table.labels) if label in TIES])


def _speed(table: VoteTable, limits: Limits, z: float) -> list[Flag]:
    assert table.seconds_V is not None
    timed_V = np.isfinite(table.seconds_V)
    if not timed_V.any():
        return []
    limit = limits.fast * float(np.median(table.seconds_V[timed_V]))
    what = f"came within {limit:.2g} s"
    return _shares(table, table.seconds_V < limit, timed_V, ("too fast", what), None, z, limits.hasty)


def _shares(
    table: VoteTable, hit_V: Any, used_V: Any, words: tuple[Kind, str], times: float | None, z: float, threshold: float = 0.0
) -> list[Flag]:
    """Annotators whose share of hits is surely above the threshold, or above `times` the share of all votes."""
    n_A = np.bincount(table.annotator_V[used_V], minlength=table.n_annotators)
    share_A = np.bincount(table.annotator_V[used_V], hit_V[used_V], table.n_annotators) / np.maximum(n_A, 1)
    crowd = float(hit_V[used_V].mean())
    limit = threshold if times is None else min(0.95, times * crowd)
    low_A, high_A = wilson(share_A, n_A.astype(np.float64), z)
    against = "" if times is None else f"; of everybody's votes {crowd:.0%}"
    found = []
    for a in np.flatnonzero((low_A > limit) & (share_A > limit) & (n_A > 0)):
        flag = _flag(table, int(a), words[0], (share_A[a], low_A[a], high_A[a]), limit, "", int(n_A[a]))
        found.append(replace(flag, says=f"{flag.evidence} of their {n_A[a]} votes {words[1]}{against}"))
    return found


def _flag(table: VoteTable, a: int, kind: Kind, ends: Any, threshold: float, what: str, n: int | None = None) -> Flag:
    value, low, high = (float(end) for end in ends)
    n = int(table.votes_A[a]) if n is None else n
    name = table.annotators[a]
    name = name.item() if isinstance(name, np.generic) else name
    evidence = Estimate(value, low, high, n, "interval at the flag's own confidence")
    return Flag(name, kind, evidence, threshold, f"{what}: {evidence} over {n} votes")
