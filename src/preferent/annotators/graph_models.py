"""Models over responses from a table of votes: scores that pairs share, and from them a soft label for every pair.

A label model knows a pair by its own votes only; these know a pair through every pair that either of its responses is in. `p_a` is the
chance that a typical honest annotator prefers a (half of the ties included), which is what a reward model is trained to say, not the
chance that a is "truly" better, which goes to 0 or 1 as votes are added.

Legend: V votes, I items (comparisons), R responses, A annotators, L labels, P distinct pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from preferent.annotators.annotator_slope import PairModel, davidson
from preferent.annotators.bradley_terry import Banded, PairFit, Settings, fit_pairs, outcome_probabilities
from preferent.annotators.convergence import Convergence
from preferent.annotators.crowd_bt import CrowdFit, fit_crowd
from preferent.annotators.em import normalised
from preferent.annotators.graph import Graph, PairVotes, pair_votes
from preferent.annotators.graph_people import reliability
from preferent.annotators.labels import AnnotatorEstimates, LabelResult, item_notes
from preferent.annotators.names import GRAPH_MODELS
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Floats

Name = Literal["bradley_terry", "davidson", "annotator_slope", "crowd_bt"]
TIES = ("tie", "equal", "both_good", "both_bad")
INTERVAL = "of the chance that a typical honest annotator prefers a, from the posterior of the two scores"


@dataclass(frozen=True, eq=False)
class ResponseEstimates:
    """One row per response, in the order of `names`. score_R in logits with a 95 % interval: comparable only within one component.
    votes_R: votes on pairs with it. prior_R: which part of the score's variance is still the prior's (1: the votes said nothing)."""

    names: NDArray[Any]
    score_R: Floats
    low_R: Floats
    high_R: Floats
    votes_R: NDArray[np.int64]
    prior_R: Floats
    graph: Graph

    def warnings(self, row: int) -> list[str]:
        """What holds this score up besides votes; empty for most. A graph of many small components (one per prompt) is as it should be:
        apart is called who is cut off from a main component of more than half of the responses."""
        graph = self.graph
        off = graph.component_I[row] > 0 and 2 * graph.size_C[0] > len(self.names)
        flags = (
            (graph.undefeated_I[row], "undefeated: without the prior its score would be infinite"),
            (graph.winless_I[row], "winless: without the prior its score would be minus infinite"),
            (self.votes_R[row] == 1, "one vote"),
            (off, f"apart: compares only within component {graph.component_I[row]}"),
        )
        return [text for flag, text in flags if flag]


@dataclass(frozen=True, eq=False, kw_only=True)
class GraphResult(LabelResult):
    """Soft labels from scores. preferred: p_a of every item with its 95 % interval, ties counting half. prior_I: which part of the gap's
    variance is the prior's. side_I2: the responses a and b of every item. traits: slope, position, length, tie of each annotator, or
    honesty, those that the model has. pairs: the votes as the fit saw them."""

    preferred: Banded
    prior_I: Floats
    side_I2: NDArray[np.int64]
    responses: ResponseEstimates
    traits: dict[str, Banded]
    pairs: PairVotes
    fitted: PairFit | CrowdFit

    def warnings(self, row: int) -> list[str]:
        graph, sides = self.responses.graph, (self.side_I2[row, 0], self.side_I2[row, 1])
        found = super().warnings(row)
        for side, one in zip("ab", sides, strict=True):
            if graph.undefeated_I[one] or graph.winless_I[one]:
                found.append(f"{side} {'never lost' if graph.undefeated_I[one] else 'never won'}: the prior holds its score")
        if self.prior_I[row] > 0.5:
            found.append(f"{self.prior_I[row]:.0%} of the uncertainty is the prior's: the votes say little")
        return found

    def p_a(self, a: str = "a", b: str = "b") -> tuple[Floats, Floats, Floats]:
        if (a, b) == ("b", "a"):
            return 1.0 - self.preferred.value, 1.0 - self.preferred.high, 1.0 - self.preferred.low
        if (a, b) != ("a", "b"):
            raise DataError(f"the sides of a pair are 'a' and 'b', got {a!r} and {b!r}")
        return self.preferred.value, self.preferred.low, self.preferred.high


def is_graph(table: VoteTable) -> bool:
    """Whether pairs share responses, so that a model over responses can say more of a pair than its own votes."""
    return table.sides is not None and table.sides.shared and set(table.labels) <= {"a", "b", *TIES}


def pairs_of(table: VoteTable) -> PairVotes:
    """The votes as pairs of responses: item i is side a. Every kind of tie is a tie; weights, display order and lengths come along.

    Raises DataError when the table does not know its sides, has other labels than a, b and ties, or mixes objectives.
    """
    table.one_objective()
    if table.sides is None:
        raise DataError(
            "models over responses need to know which two responses a vote is about, and these votes do not say",
            hint="rows with prompt, response_a and response_b, or response_a_id and response_b_id, or --comparisons FILE",
        )
    outcome_L = np.array([{"a": 1.0, "b": 0.0}.get(label, 0.5 if label in TIES else np.nan) for label in table.labels])
    if np.isnan(outcome_L).any():
        raise DataError(f"labels {list(table.labels)!r}: models over responses take a, b and {list(TIES)!r}")
    a_V, b_V = table.sides.a_I[table.item_V], table.sides.b_I[table.item_V]
    n_responses = len(table.sides.responses)
    shown_V = None
    if table.first_V is not None and (table.first_V >= 0).any():
        code_a, code_b = table.labels.index("a"), table.labels.index("b")
        shown_V = np.where(table.first_V == code_a, a_V, np.where(table.first_V == code_b, b_V, -1))
    length_R = table.sides.length_R
    if length_R is not None:
        # A response whose length is not known has no say in anybody's taste for length: its pairs get log ratio 0 below.
        length_R = np.where(length_R > 0, length_R, np.nan)
    votes = pair_votes(
        np.stack([a_V, b_V], axis=1),
        outcome_L[table.label_V],
        annotator_V=table.annotator_V,
        shown_first_V=shown_V,
        weight_V=table.weight_V,
        counts=(n_responses, table.n_annotators),
    )
    if length_R is None or not np.isfinite(length_R).any():
        return votes
    log_R = np.log(length_R)
    return replace(votes, length_V=np.nan_to_num(log_R[a_V] - log_R[b_V]))


def model_of(name: Name, votes: PairVotes) -> PairModel:
    """What `name` means for these votes: plain Bradley-Terry; Davidson with a shared tie weight and shared position bias; or slopes,
    position, length and ties by annotator, each where the votes can tell."""
    ties = "davidson" if bool((votes.outcome_V == 0.5).any()) else "half"
    if name == "bradley_terry":
        return PairModel(slope=False)
    shown, lengths = votes.first_V is not None, votes.length_V is not None and bool((votes.length_V != 0).any())
    if name == "davidson":
        return PairModel(slope=False, ties="davidson", tie="shared", position="shared" if shown else "none")
    if name == "annotator_slope":
        length = "deviation" if lengths else "none"
        return PairModel(ties=ties, position="annotator" if shown else "none", length=length)
    raise ConfigError(f"{name!r} is no pair model, allowed are {list(GRAPH_MODELS[:3])!r}")


def graph_model(table: VoteTable, name: Name, settings: Settings | None = None) -> GraphResult:
    """Fit one of `GRAPH_MODELS` to the table.

    `annotator_slope` takes the display order and the lengths into account where the table has them; of a taste for length only what
    tells an annotator from the others is called bias, what they share stays in the scores. Deterministic. Raises ConfigError for another
    name, DataError (see `pairs_of`), FitError.
    """
    if name not in GRAPH_MODELS:
        raise ConfigError(f"there is no graph model {name!r}, allowed are {list(GRAPH_MODELS)!r}")
    votes = pairs_of(table)
    if name == "crowd_bt":
        crowd = fit_crowd(votes, settings=settings)
        p_IL, low_IL, high_IL, preferred = _labels(table, crowd.gap, (crowd.lo_P, crowd.hi_P), None)
        return _result(table, name, votes, crowd, (p_IL, low_IL, high_IL, preferred))
    fit = fit_pairs(votes, model_of(name, votes), settings)
    tie = fit.means.get("tie", 0.0) if fit.model.ties == "davidson" else None
    return _result(table, name, votes, fit, _labels(table, fit.gap, (fit.lo_P, fit.hi_P), tie))


def vote_log_chance(table: VoteTable, name: Name, fitted: PairFit | CrowdFit, votes: PairVotes, rows_V: NDArray[Any]) -> Floats:
    """Log chance that a fit gives to these votes of the table, shape (rows,); kinds of ties by their frequency among ties.

    A model without ties gives them none (floored at 1e-12).
    """
    some = votes.take(rows_V)
    if isinstance(fitted, CrowdFit):
        ahead_V = expit(fitted.scores.value[some.item_i_V] - fitted.scores.value[some.item_j_V])
        honest_V = fitted.honesty.value[some.annotator_V]
        p_V = honest_V * ahead_V + (1.0 - honest_V) * (1.0 - ahead_V)
        chance_VO = np.stack([1.0 - p_V, np.zeros_like(p_V), p_V], axis=1)
    else:
        chance_VO = outcome_probabilities(fitted, some)
    chance_V = chance_VO[np.arange(len(rows_V)), (2 * some.outcome_V).astype(int)]
    kind_L = np.ones(table.n_labels)
    tied = [code for code, label in enumerate(table.labels) if label in TIES]
    if tied:
        kind_L[tied] = normalised(table.counts_IL.sum(axis=0)[tied] + 1.0)
    return np.log(np.maximum(chance_V * kind_L[table.label_V[rows_V]], 1e-12))


def _labels(table: VoteTable, gap: Banded, pairs: tuple[Any, Any], tie: float | None) -> tuple[Floats, Floats, Floats, Banded]:
    """Soft labels of every item with intervals, and p_a, from the gaps of the distinct pairs."""
    own = _gaps(table, gap, pairs)
    (a, tied, preferred), (low, *_), (high, *_) = (_outcomes(d_I, tie) for d_I in (own.value, own.low, own.high))
    band = Banded(preferred, _outcomes(own.low, tie)[2], _outcomes(own.high, tie)[2])
    b_low, b_high = (_outcomes(-d_I, tie)[0] for d_I in (own.high, own.low))
    ends = [_outcomes(d_I, tie)[1] for d_I in (own.low, own.high)]
    inside_I = (own.low <= 0.0) & (own.high >= 0.0)  # a tie is most probable where the gap is 0
    tie_high = np.where(inside_I, _outcomes(np.zeros_like(own.low), tie)[1], np.maximum(*ends))
    chances = ((a, 1.0 - a - tied, tied), (low, b_low, np.minimum(*ends)), (high, b_high, tie_high))
    p_IL, low_IL, high_IL = (_columns(table, {"a": x, "b": y, "tie": z}) for x, y, z in chances)
    return p_IL, low_IL, high_IL, band


def _outcomes(d_I: Floats, tie: float | None) -> tuple[Floats, Floats, Floats]:
    """P(a), P(tie) and P(a) with half of the ties, for a typical annotator."""
    if tie is None:
        p_I = expit(d_I)
        return p_I, np.zeros_like(p_I), p_I
    p_I, tied_I, _ = davidson(d_I, np.full(d_I.shape, tie))
    return p_I, tied_I, p_I + 0.5 * tied_I


def _columns(table: VoteTable, value: dict[str, Floats]) -> Floats:
    """(I, L): kinds of ties share the chance of a tie as the item's own votes (and one more, spread like all) do."""
    out_IL = np.zeros((table.n_items, table.n_labels))
    tied = [code for code, label in enumerate(table.labels) if label in TIES]
    for side in ("a", "b"):
        if side in table.labels:
            out_IL[:, table.labels.index(side)] = value[side]
    if tied:
        counts = table.counts_IL[:, tied]
        out_IL[:, tied] = value["tie"][:, None] * normalised(counts + normalised(counts.sum(axis=0) + 1e-9))
    return out_IL


def _gaps(table: VoteTable, gap: Banded, pairs: tuple[Any, Any]) -> Banded:
    """Score of a minus score of b for every item."""
    at_I, turned_I = _places(table, pairs)
    value, low, high = (column[at_I] for column in (gap.value, gap.low, gap.high))
    return Banded(np.where(turned_I, -value, value), np.where(turned_I, -high, low), np.where(turned_I, -low, high))


def _places(table: VoteTable, pairs: tuple[Any, Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which distinct pair each item is, and whether its side a is the pair's second response."""
    assert table.sides is not None
    n = len(table.sides.responses)
    a_I, b_I = table.sides.a_I.astype(np.int64), table.sides.b_I.astype(np.int64)
    at_I = np.searchsorted(pairs[0] * n + pairs[1], np.minimum(a_I, b_I) * n + np.maximum(a_I, b_I))
    return at_I, a_I > b_I


def _result(table: VoteTable, name: Name, votes: PairVotes, fitted: PairFit | CrowdFit, labels: Any) -> GraphResult:
    assert table.sides is not None
    p_IL, low_IL, high_IL, preferred = labels
    score_sd = fitted.prior.score if isinstance(fitted, CrowdFit) else fitted.learned.score
    variance_R = ((fitted.scores.high - fitted.scores.low) / (2 * 1.959963984540054)) ** 2
    own = _gaps(table, fitted.gap, (fitted.lo_P, fitted.hi_P))
    variance_I = ((own.high - own.low) / (2 * 1.959963984540054)) ** 2
    graph = fitted.graph
    responses = ResponseEstimates(
        table.sides.responses,
        fitted.scores.value,
        fitted.scores.low,
        fitted.scores.high,
        graph.votes_I,
        np.minimum(1.0, variance_R / score_sd**2),
        graph,
    )
    traits = {"honesty": fitted.honesty} if isinstance(fitted, CrowdFit) else fitted.traits
    value, low, high = reliability(fitted, votes)
    said = [note for note in fitted.notes if note not in graph.notes()] + [
        *graph.notes([str(one) for one in table.sides.responses.tolist()])
    ]
    said.append(f"the prior of the scores is normal around 0 with sd {score_sd:.2f} logits{'' if name == 'crowd_bt' else ', learned'}")
    return GraphResult(
        name,
        table.items,
        table.labels,
        p_IL,
        np.minimum(low_IL, p_IL),
        np.maximum(high_IL, p_IL),
        table.votes_I,
        Convergence(fitted.converged, fitted.iterations, fitted.log_likelihood, fitted.trace),
        f"{fitted.intervals}; {INTERVAL}",
        AnnotatorEstimates(table.annotators, table.votes_A, value, low, high),
        (*item_notes(table), *said),
        preferred=preferred,
        prior_I=np.minimum(1.0, variance_I / (2.0 * score_sd**2)),
        side_I2=np.stack([table.sides.a_I, table.sides.b_I], axis=1).astype(np.int64),
        responses=responses,
        traits=traits,
        pairs=votes,
        fitted=fitted,
    )
