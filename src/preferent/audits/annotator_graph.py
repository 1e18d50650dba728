"""What the votes cover, and where they disagree most: comparison graph and worst disagreements of the annotator report.

Legend: I comparisons, P distinct pairs, R responses, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.annotators.graph import Graph, describe, pair_table
from preferent.annotators.labels import LabelResult, wilson
from preferent.annotators.pair_ends import Pair, PairedVotes
from preferent.annotators.table import VoteTable
from preferent.core.estimates import Estimate

NAMED = 20  # names in a list before it counts the rest


@dataclass(frozen=True, eq=False, slots=True)
class Coverage:
    """votes_I: votes on each comparison. graph, degree_R (different opponents of each response): None where every comparison stands alone,
    and `why` says so."""

    votes_I: Any
    graph: Graph | None
    degree_R: Any
    names: tuple[str, ...]
    why: str

    def named(self, which: str) -> tuple[int, list[str]]:
        """(how many, the first names) of "undefeated", "winless" or "one vote" responses."""
        if self.graph is None:
            return 0, []
        flag_R = {"undefeated": self.graph.undefeated_I, "winless": self.graph.winless_I, "one vote": self.graph.votes_I == 1}[which]
        found = np.flatnonzero(flag_R)
        return len(found), [self.names[k] for k in found[:NAMED].tolist()]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; histograms as {count: how many}."""
        row: dict[str, Any] = {"votes_per_comparison": histogram(self.votes_I), "skipped": self.why or None}
        if self.graph is not None:
            row |= {
                "responses": int((self.graph.votes_I > 0).sum()),
                "components": self.graph.size_C.tolist(),
                "components_without_order": int((~self.graph.ordered_C).sum()),
                "opponents_per_response": histogram(self.degree_R),
            }
            for which in ("undefeated", "winless", "one vote"):
                count, names = self.named(which)
                row[which.replace(" ", "_")] = {"count": count, "first": names}
        return row


def histogram(values: Any) -> dict[str, int]:
    """{value: how often}, values rising."""
    found, times = np.unique(values, return_counts=True)
    return {str(int(value)): int(count) for value, count in zip(found, times, strict=True)}


def coverage(table: VoteTable, paired: PairedVotes) -> Coverage:
    """What the comparison graph allows."""
    if paired.known == 0:
        why = "the rows do not say which responses they show (response_a_id and response_b_id, or the texts): every comparison stands alone"
        return Coverage(table.votes_I, None, None, paired.responses, why)
    votes = pair_table(paired.votes)
    n = len(paired.responses)
    degree_R = np.bincount(votes.lo_P, minlength=n) + np.bincount(votes.hi_P, minlength=n)
    return Coverage(table.votes_I, describe(votes), degree_R, paired.responses, "")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A comparison on which annotators split. counts: votes by label; p_a with its interval; against: share of decided votes for the side
    that got fewer; rationales: (annotator, choice, words)."""

    comparison: str
    counts: dict[str, int]
    p_a: Estimate
    against: Estimate
    pair: Pair | None
    rationales: tuple[tuple[str, str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the texts."""
        return {
            "comparison_id": self.comparison,
            "counts": self.counts,
            "p_a": self.p_a.to_dict(),
            "against": self.against.to_dict(),
            "rationales": [{"annotator_id": who, "choice": choice, "rationale": words} for who, choice, words in self.rationales],
        }


def disagreements(
    table: VoteTable,
    result: LabelResult,
    pairs: Mapping[str, Pair],
    *,
    rationales: Mapping[str, Sequence[tuple[str, str, str]]] | None = None,
    n: int = 10,
) -> list[Disagreement]:
    """The n comparisons whose votes are most surely split: by the lower end of the interval (Wilson) of the smaller side's share, so that
    five against five comes before one against one; among equals those with texts come first, then those whose
    p_a is nearest to 1/2. Comparisons without votes on both sides are left out."""
    counts_IL = np.zeros((table.n_items, table.n_labels))
    np.add.at(counts_IL, (table.item_V, table.label_V), 1.0)
    a_I, b_I = counts_IL[:, table.labels.index("a")], counts_IL[:, table.labels.index("b")]
    decided_I, fewer_I = a_I + b_I, np.minimum(a_I, b_I)
    share_I = fewer_I / np.maximum(decided_I, 1.0)
    low_I, high_I = wilson(share_I, decided_I)
    p_I, p_low_I, p_high_I = result.p_a()
    names = [str(name) for name in table.items.tolist()]
    unread_I = np.array([name not in pairs or not pairs[name].has_texts for name in names])
    order = np.lexsort((np.abs(p_I - 0.5), unread_I, -decided_I, -np.where(fewer_I > 0, low_I, -1.0)))
    found = []
    for i in order[:n].tolist():
        if fewer_I[i] == 0:
            break
        name = names[i]
        against = Estimate(float(share_I[i]), float(low_I[i]), float(high_I[i]), int(decided_I[i]), "Wilson")
        p_a = Estimate(float(p_I[i]), float(p_low_I[i]), float(p_high_I[i]), int(table.votes_I[i]), result.method)
        counts = {label: int(counts_IL[i, k]) for k, label in enumerate(table.labels) if counts_IL[i, k]}
        said = tuple((rationales or {}).get(name, ()))
        found.append(Disagreement(name, counts, p_a, against, pairs.get(name), said))
    return found
