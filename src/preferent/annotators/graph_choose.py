"""Label models against models over responses, on votes that neither was shown.

Legend: V votes, I items, R rows held out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.annotators.bradley_terry import Settings, fit_pairs
from preferent.annotators.crowd_bt import fit_crowd
from preferent.annotators.em import normalised
from preferent.annotators.graph_models import TIES, GraphResult, Name, graph_model, model_of, pairs_of, vote_log_chance
from preferent.annotators.labels import clustered
from preferent.annotators.table import VoteTable
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

HELD = 0.2
MAX_POOL = 60_000


@dataclass(frozen=True, eq=False)
class Contest:
    """left_out: mean log chance of the held-out votes under each candidate. winner: the graph model's fit to all votes, or None where the
    labels were as good. reason: in words."""

    left_out: dict[str, Estimate]
    winner: GraphResult | None
    reason: str


def candidates(table: VoteTable) -> tuple[Name, ...]:
    """The models over responses that can give every vote of the table a chance: where there are ties, those that have ties."""
    tied = any(label in TIES for label in table.without_unused_labels().labels)
    return ("davidson", "annotator_slope") if tied else ("bradley_terry", "annotator_slope", "crowd_bt")


def contest(table: VoteTable, rng: np.random.Generator, label_V: Floats | None, rows_V: NDArray[np.int64], name: str) -> Contest:
    """Fit every candidate without a fifth of the votes and compare with the label model `name` on those.

    label_V: its log chances of the votes `rows_V`, each foretold from all other votes, which favours it: the graph models are fitted
    without the whole fifth. A vote that is alone on its item gets the labels' frequencies, which is all a label model knows of it. The
    best mean wins.
    """
    votes = pairs_of(table)
    base_V = np.full(len(table), np.nan)
    alone_V = table.votes_I[table.item_V] == 1
    base_V[alone_V] = np.log(normalised(table.counts_IL.sum(axis=0) + 1.0))[table.label_V[alone_V]]
    if label_V is not None:
        base_V[rows_V] = label_V
    held_V = _held(table, rng, np.isfinite(base_V))
    rows = np.flatnonzero(held_V)
    found = {name: base_V[rows]}
    for one in candidates(table):
        known = votes.take(~held_V)
        loose = Settings(tolerance=1e-6)
        fitted = fit_crowd(known, settings=loose) if one == "crowd_bt" else fit_pairs(known, model_of(one, votes), loose)
        found[one] = vote_log_chance(table, one, fitted, votes, rows)
    left_out = {what: clustered(values, table.item_V[rows], rng) for what, values in found.items()}
    best = max(candidates(table), key=lambda one: left_out[one].value)
    ahead = clustered(found[best] - found[name], table.item_V[rows], rng)
    scores = ", ".join(f"{what} {value}" for what, value in sorted(left_out.items(), key=lambda row: -row[1].value))
    said = f"pairs share responses; log chance of {len(rows)} held-out votes (nats per vote, nearer 0 is better): {scores}"
    if ahead.value <= 0.0:
        return Contest(left_out, None, f"{said}; {best} is {ahead} ahead of {name}: the labels stay")
    return Contest(left_out, graph_model(table, best), f"{said}; {best} is {ahead} ahead of {name}")


def _held(table: VoteTable, rng: np.random.Generator, able_V: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A fifth of the ballots whose votes both kinds of models can foretell; at most a fifth of 60,000 votes."""
    n_ballots = int(table.ballot_V[-1]) + 1
    share = HELD * min(1.0, MAX_POOL / max(1, int(able_V.sum())))
    held_V = (rng.random(n_ballots) < share)[table.ballot_V] & able_V
    if not held_V.any():
        held_V[int(np.flatnonzero(able_V)[0])] = True
    return held_V
