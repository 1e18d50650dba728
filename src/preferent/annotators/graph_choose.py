"""Label models against models over responses, on votes that neither was shown.

Legend: V votes, I items, R rows held out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.bradley_terry import Banded, Settings, fit_pairs
from preferent.annotators.crowd_bt import fit_crowd
from preferent.annotators.em import normalised
from preferent.annotators.graph_deal import deal
from preferent.annotators.graph_models import TIES, GraphResult, Name, graph_model, model_of, pairs_of, vote_log_chance
from preferent.annotators.labels import LabelResult, clustered
from preferent.annotators.table import VoteTable
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

HELD = 0.2
MAX_POOL = 60_000
PSEUDO = 20.0


@dataclass(frozen=True, eq=False)
class Contest:
    """left_out: mean log chance of the held-out votes under each candidate. winner: scores fitted to all votes, alone or blended with the
    labels, or None where the labels were as good. weights: of what was blended. reason: in words."""

    left_out: dict[str, Estimate]
    winner: GraphResult | None
    weights: dict[str, float]
    reason: str


def candidates(table: VoteTable) -> tuple[Name, ...]:
    """The models over responses that can give every vote of the table a chance: where there are ties, those that have ties."""
    tied = any(label in TIES for label in table.without_unused_labels().labels)
    return ("davidson", "annotator_slope") if tied else ("bradley_terry", "annotator_slope", "crowd_bt")


@dataclass(frozen=True, eq=False)
class Labels:
    """The label model's side of a contest: its result on all votes, and log chances of the votes rows_V, each foretold from all others
    (None: it foretold none)."""

    name: str
    result: LabelResult
    rows_V: NDArray[np.int64]
    likelihood_V: Floats | None


def contest(table: VoteTable, rng: np.random.Generator, labels: Labels) -> Contest:
    """Fit every candidate without a fifth of the votes, and see on those whether the best of them adds to the labels.

    The labels know all votes but the one to be foretold, which favours them: the graph models are fitted without the whole fifth. A vote
    that is alone on its item gets the labels' frequencies, which is all a label model knows of it. The answer is the blend of scores and
    labels that gives the held-out votes the best chance, or the labels where that is no better than they are. Which votes are held out
    hangs on where they stand in the table, not on names (`graph_deal`).
    """
    name = labels.name
    votes = pairs_of(table)
    base_V = np.full(len(table), np.nan)
    alone_V = table.votes_I[table.item_V] == 1
    base_V[alone_V] = np.log(normalised(table.counts_IL.sum(axis=0) + 1.0))[table.label_V[alone_V]]
    if labels.likelihood_V is not None:
        base_V[labels.rows_V] = labels.likelihood_V
    held_V = _held(table, rng, np.isfinite(base_V))
    rows = np.flatnonzero(held_V)
    found = {name: base_V[rows]}
    for one in candidates(table):
        known = votes.take(~held_V)
        loose = Settings(tolerance=1e-6)
        fitted = fit_crowd(known, settings=loose) if one == "crowd_bt" else fit_pairs(known, model_of(one, votes), loose)
        found[one] = vote_log_chance(table, one, fitted, votes, rows)
    best = max(candidates(table), key=lambda one: float(found[one].mean()))
    both = f"{best} + {name}"
    weight = _weight(found[best], found[name])
    found[both] = np.log(weight * np.exp(found[best]) + (1.0 - weight) * np.exp(found[name]))
    left_out = {what: clustered(values, table.item_V[rows], rng) for what, values in found.items()}
    stay = left_out[name].value >= left_out[both].value
    ahead = clustered(found[best if stay else both] - found[name], table.item_V[rows], rng)
    scores = ", ".join(f"{what} {value}" for what, value in sorted(left_out.items(), key=lambda row: -row[1].value))
    said = f"pairs share responses; log chance of {len(rows)} held-out votes (nats per vote, nearer 0 is better): {scores}"
    if stay:
        return Contest(left_out, None, {}, f"{said}; {best} is {ahead} ahead of {name}: the labels stay")
    winner = graph_model(table, best)
    weights = {best: weight, name: 1.0 - weight}
    return Contest(
        left_out, blended(winner, labels.result, weight, both), weights, f"{said}; blended, {weight:.2f} {best}: {ahead} ahead of {name}"
    )


def _weight(one_V: Floats, other_V: Floats) -> float:
    """Weight of the first in the mixture of two that gives the votes the best chance, by EM, with `PSEUDO` votes for even halves."""
    ahead_V = np.exp(np.clip(one_V - other_V, -50.0, 50.0))
    weight = 0.5
    for _ in range(100):
        part_V = weight * ahead_V
        weight = float(((part_V / (part_V + 1.0 - weight)).sum() + PSEUDO / 2) / (len(one_V) + PSEUDO))
    return weight


def blended(scores: GraphResult, labels: LabelResult, weight: float, name: str) -> GraphResult:
    """`weight` times the soft labels of the scores and the rest of the label model's, intervals alike (their errors taken to move
    together): the scores know a pair through its responses, the labels what is its own. Responses and annotators are the scores'."""

    def mix(one: Floats, other: Floats) -> Floats:
        return weight * one + (1.0 - weight) * other

    own = scores.preferred
    preferred = Banded(*(mix(one, other) for one, other in zip((own.value, own.low, own.high), labels.p_a(), strict=True)))
    return replace(
        scores,
        method=name,
        p_IL=mix(scores.p_IL, labels.p_IL),
        low_IL=mix(scores.low_IL, labels.low_IL),
        high_IL=mix(scores.high_IL, labels.high_IL),
        preferred=preferred,
        interval=f"the same mixture of: {scores.interval}; {labels.interval}",
        notes=tuple(dict.fromkeys((*scores.notes, *labels.notes))),
    )


def _held(table: VoteTable, rng: np.random.Generator, able_V: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A fifth of the ballots whose votes both kinds of models can foretell; at most a fifth of 60,000 votes."""
    share, salt = HELD * min(1.0, MAX_POOL / max(1, int(able_V.sum()))), int(rng.integers(2**63))
    held_V = deal(table, share, salt) & able_V
    if not 0.5 * share < held_V.sum() / max(1, int(able_V.sum())) < 1.5 * share:
        # Few votes, or votes that nothing but their names tells apart: by chance, over the table's order.
        held_V = (np.random.default_rng(salt).random(int(table.ballot_V[-1]) + 1) < share)[table.ballot_V] & able_V
    if not held_V.any():
        held_V[int(np.flatnonzero(able_V)[0])] = True
    return held_V
