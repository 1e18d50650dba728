"""From a table of judgments to votes in groups on the pairs of an audit: groups that are named, or clusters that the votes show.

Legend: V votes of the table, N pairs of the audit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preferent.annotators.graph import pair_votes
from preferent.annotators.mixture import MixtureSettings, fit_mixture
from preferent.annotators.table import VoteTable
from preferent.audits.audit_subject import Votes
from preferent.core.errors import DataError
from preferent.core.records import Preference

VALUE = {"a": 1.0, "b": 0.0, "tie": 0.5}
LEAST_VOTES = 10


def group_votes(table: VoteTable, preferences: Sequence[Preference], *, seed: int = 0, groups: int | None = None) -> Votes:
    """The votes on pairs whose `id` a judgment names, by group of the annotator.

    Where the judgments carry a `source` with at least two values, those are the groups; otherwise a mixture is fitted to annotators with
    at least ten votes (`annotators.mixture`; K chosen by held-out votes unless `groups` fixes it). A vote of 'a' is for `response_a` of
    the pair with that id. Raises DataError when no judgment names a pair, a label is none of a, b and tie, or the votes show one group.
    """
    place = {pair.id: k for k, pair in enumerate(preferences) if pair.id is not None}
    odd = [label for label in table.labels if label not in VALUE]
    if odd:
        raise DataError(f"judgments: the label {odd[0]!r} has no side; allowed are a, b and tie")
    pair_I = np.array([place.get(str(item), -1) for item in table.items.tolist()], dtype=np.int64)
    known_V = pair_I[table.item_V] >= 0
    if not known_V.any():
        raise DataError(
            f"no judgment is about a pair of the data: comparisons are named like {str(table.items[0])!r}, pairs like {_some(place)!r}",
            hint="comparison_id must be the `id` of a row of DATA",
        )
    pair_V = pair_I[table.item_V][known_V]
    value_V = np.array([VALUE[label] for label in table.labels])[table.label_V][known_V]
    if table.source_V is not None and len(np.unique(table.source_V[known_V])) > 1:
        names = [*table.sources, "(none)"]
        return Votes(pair_V, value_V, tuple(names[k] for k in table.source_V[known_V]), "Groups are the `source` of the judgments.")
    return _clusters(table, known_V, pair_V, value_V, preferences, seed, groups)


def _some(place: dict[str, int]) -> str:
    return next(iter(place), "(no pair has an id)")


def _clusters(
    table: VoteTable,
    known_V: np.ndarray,
    pair_V: np.ndarray,
    value_V: np.ndarray,
    preferences: Sequence[Preference],
    seed: int,
    groups: int | None,
) -> Votes:
    """Annotators in groups by a mixture over the responses they compared."""
    annotator_V = table.annotator_V[known_V]
    many_V = np.bincount(annotator_V)[annotator_V] >= LEAST_VOTES
    if not many_V.any():
        raise DataError(f"no annotator has {LEAST_VOTES} votes on these pairs: groups cannot be found, name them in `source`")
    pair_V, value_V, annotator_V = pair_V[many_V], value_V[many_V], annotator_V[many_V]
    _, annotator_V = np.unique(annotator_V, return_inverse=True)
    items: dict[tuple[object, str], int] = {}
    ends = [
        [items.setdefault((pair.prompt, text), len(items)) for text in (pair.response_a, pair.response_b)]
        for pair in (preferences[int(k)] for k in pair_V)
    ]
    votes = pair_votes(np.array(ends), value_V, annotator_V=annotator_V)
    fitted = fit_mixture(votes, MixtureSettings(groups=groups), seed=seed)
    if fitted.n_groups < 2:
        raise DataError("the votes show one group of annotators only: no second group predicts held-out votes better than noise")
    group_A = fitted.membership_AK.argmax(1)
    sure = float(fitted.membership_AK.max(1).mean())
    names = tuple(f"cluster {group_A[a] + 1}" for a in annotator_V)
    how = f"Groups are clusters of annotators found in their votes (mixture of {fitted.n_groups}; mean certainty of membership {sure:.2f})."
    return Votes(pair_V, value_V, names, how)
