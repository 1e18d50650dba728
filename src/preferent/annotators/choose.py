"""`auto`: soft preferences from whatever predicts left-out votes, as honest probabilities, with the reasons.

Legend: V votes, I items, K = L labels, M models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from preferent.annotators import calibrate
from preferent.annotators.convergence import Convergence
from preferent.annotators.dawid_skene import reliability_from
from preferent.annotators.em import Cells, cells_of, posterior_interval, shares
from preferent.annotators.graph_choose import Labels, contest
from preferent.annotators.graph_models import is_graph
from preferent.annotators.labels import LabelResult, clustered, item_notes, wilson
from preferent.annotators.majority import effective_votes, majority
from preferent.annotators.panel import Member, fit_panel
from preferent.annotators.table import VoteTable
from preferent.core.estimates import Estimate
from preferent.core.records import Floats

MAX_ROWS = 60_000
INTERVAL = (
    "95 % interval over the annotators' confusions, after tempering, and of the share of the vote; not over whether the crowd is right"
)


@dataclass(frozen=True, eq=False)
class Choice:
    """What `choose` took and why.

    left_out: mean log chance (nats, nearer 0 is better) that each candidate gives to votes left out, with an interval over items.
    weights: how much of the pooled answer comes from each model. rho: the part of their errors that votes share, as used.
    """

    method: str
    result: LabelResult
    left_out: dict[str, Estimate]
    weights: dict[str, float]
    rho: float
    reason: str


@dataclass(frozen=True, eq=False)
class _Scored:
    """A model and its posteriors without each left-out vote, shape (rows, K)."""

    member: Member
    left_VK: Floats


def choose(table: VoteTable, rng: np.random.Generator) -> Choice:
    """Fit a panel of label models, weigh them by the votes they were not shown, temper, and mix with the share of the vote.

    Every vote is predicted from the other votes on its item and its annotator's other votes (the fits themselves are not repeated);
    beyond 60,000 votes a random part of the items, drawn from `rng`, is predicted. If the share of the vote predicts left-out votes
    better than the pooled models do, it is the answer; where no item has two votes it is the only label model. Where the table knows
    its responses and pairs share them, models over responses are fitted without a fifth of the votes, and the best of them is the
    answer, alone or blended with the labels, if that gives those a better chance than the labels do. Raises DataError (mixed objectives).
    """
    label, rows_V, label_V = _choose_label(table, rng)
    if not is_graph(table):
        return label
    name = "majority" if label.method == "majority" else "panel"
    found = contest(table, rng, Labels(name, label.result, rows_V, label_V))
    left_out = {**found.left_out, **{f"{what} (all votes)": value for what, value in label.left_out.items()}}
    if found.winner is None:
        return replace(label, left_out=left_out, reason=f"{found.reason}. {label.reason}")
    return Choice(found.winner.method, found.winner, left_out, found.weights, float("nan"), found.reason)


def _choose_label(table: VoteTable, rng: np.random.Generator) -> tuple[Choice, np.ndarray, Floats | None]:
    """(the choice among label models, votes it foretold, their log chances)."""
    cells = cells_of(table)
    if not (table.votes_I > 1).any():
        reason = "no item has two votes, so nobody's reliability can be told: the share of the vote, smoothed by one vote"
        lone = Choice("majority", majority(table, smoothing=calibrate.SMOOTHING), {}, {}, float("nan"), reason)
        return lone, np.zeros(0, dtype=np.int64), None
    rows_V = _rows(table, rng)
    members = fit_panel(cells, shares(table))
    scored = [_Scored(member, calibrate.left_out_posterior(cells, table, member.fit, rows_V)) for member in members]
    base_L, left_votes_V = calibrate.base_of(table), table.votes_I[table.item_V[rows_V]] - 1
    seen, likelihood_MV = _seen_rho(cells, table, scored, rows_V, base_L)
    weight_M, rho = calibrate.stack_weights(likelihood_MV), calibrate.UNSEEN + seen
    tempered = [calibrate.temper(one.member.fit.p_IK, table.votes_I, rho, base_L) for one in scored]
    left_VK = _pool([calibrate.temper(one.left_VK, left_votes_V, rho, base_L) for one in scored], weight_M)
    share_IL, share_VK = majority(table, smoothing=calibrate.SMOOTHING).p_IL, calibrate.left_out_shares(table, rows_V)
    p_IL = _mix(_pool(tempered, weight_M), share_IL, table.votes_I)
    candidates = {one.member.name: likelihood_MV[m] for m, one in enumerate(scored)}
    candidates["majority"] = calibrate.vote_likelihood(cells, table, share_IL, share_VK, rows_V)
    candidates["panel"] = calibrate.vote_likelihood(cells, table, p_IL, _mix(left_VK, share_VK, left_votes_V), rows_V)
    left_out = {name: clustered(values_V, table.item_V[rows_V], rng) for name, values_V in candidates.items()}
    weights = {one.member.name: float(weight) for one, weight in zip(scored, weight_M, strict=True)}
    if left_out["majority"].value >= left_out["panel"].value:
        reason = f"the share of the vote predicts left-out votes as well as the models: {left_out['majority']}, they {left_out['panel']}"
        plain = Choice("majority", majority(table, smoothing=calibrate.SMOOTHING), left_out, weights, rho, reason)
        return plain, rows_V, candidates["majority"]
    result = _result(table, cells, scored, (tempered, weight_M), p_IL, rho)
    chosen = Choice("panel", result, left_out, weights, rho, _reason(left_out, weights, seen, len(rows_V)))
    return chosen, rows_V, candidates["panel"]


def _rows(table: VoteTable, rng: np.random.Generator) -> np.ndarray:
    """Rows of the votes to predict: those on items with several votes, of a random part of the items where they are many."""
    rows_V = np.flatnonzero(table.votes_I[table.item_V] > 1)
    if len(rows_V) <= MAX_ROWS:
        return rows_V
    taken_I = rng.random(table.n_items) < MAX_ROWS / len(rows_V)
    return rows_V[taken_I[table.item_V[rows_V]]]


def _seen_rho(cells: Cells, table: VoteTable, scored: list[_Scored], rows_V: np.ndarray, base_L: Floats) -> tuple[float, Floats]:
    """(the shared part of errors under which the models together predict left-out votes best, their log chances there (M, V))."""
    left_votes_V = table.votes_I[table.item_V[rows_V]] - 1
    best: tuple[float, float, Floats] | None = None
    for rho in calibrate.TRIED:
        found_MV = np.stack(
            [
                calibrate.vote_likelihood(
                    cells,
                    table,
                    calibrate.temper(one.member.fit.p_IK, table.votes_I, rho, base_L),
                    calibrate.temper(one.left_VK, left_votes_V, rho, base_L),
                    rows_V,
                )
                for one in scored
            ]
        )
        mean = float(found_MV.mean())
        if best is None or mean > best[0]:
            best = (mean, rho, found_MV)
        else:
            break
    if best is None:
        raise AssertionError("TRIED is empty")
    return best[1], best[2]


def _pool(parts: list[Floats], weight_M: Floats) -> Floats:
    pooled = weight_M[0] * parts[0]
    for weight, part in zip(weight_M[1:], parts[1:], strict=True):
        pooled += weight * part
    return pooled


def _mix(model: Floats, share: Floats, votes: np.ndarray) -> Floats:
    """The models' answer and the share of the vote, the latter counting more where there are more votes."""
    part = calibrate.share_weight(votes)[:, None]
    return (1.0 - part) * model + part * share


def _result(
    table: VoteTable, cells: Cells, scored: list[_Scored], pooled: tuple[list[Floats], Floats], p_IL: Floats, rho: float
) -> LabelResult:
    """The pooled answer; its interval is the same mixture of its parts' intervals (their errors taken to move together)."""
    tempered, weight_M = pooled
    power_I = calibrate.design_power(table.votes_I, rho)
    ends = [posterior_interval(cells, p, one.member.alpha_AKL, power_I) for one, p in zip(scored, tempered, strict=True)]
    share_low, share_high = wilson(shares(table), effective_votes(table)[:, None])
    low_IL = np.minimum(_mix(_pool([low for low, _ in ends], weight_M), share_low, table.votes_I), p_IL)
    high_IL = np.maximum(_mix(_pool([high for _, high in ends], weight_M), share_high, table.votes_I), p_IL)
    fits = [one.member.fit.convergence for one in scored]
    likelihood = float(sum(weight * fit.log_likelihood for weight, fit in zip(weight_M, fits, strict=True)))
    fit = Convergence(all(one.converged for one in fits), sum(one.iterations for one in fits), likelihood)
    best = scored[int(weight_M.argmax())].member
    annotators = reliability_from(table, best.alpha_AKL, best.fit.p_IK.mean(axis=0))
    notes = (*item_notes(table), f"annotators as seen by {best.name!r}; log_likelihood is the models' weighted mean")
    return LabelResult("panel", table.items, table.labels, p_IL, low_IL, high_IL, table.votes_I, fit, INTERVAL, annotators, notes)


def _reason(left_out: dict[str, Estimate], weights: dict[str, float], seen: float, n: int) -> str:
    scores = ", ".join(f"{name} {estimate}" for name, estimate in sorted(left_out.items(), key=lambda row: -row[1].value))
    mix = ", ".join(f"{weight:.2f} {name}" for name, weight in weights.items())
    return (
        f"log chance of {n} left-out votes (nats per vote, nearer 0 is better): {scores}. Pooled: {mix}, then tempered: votes share "
        f"{seen:.2f} of their errors as left-out votes show and {calibrate.UNSEEN:.2f} that no vote can show (a prior)."
    )
