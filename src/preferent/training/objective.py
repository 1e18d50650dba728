"""From the rewards of a packed batch to its loss, summed and unweighted by anything but the records' own weights.

Legend: R responses in the batch, E edges, G rankings, K items of one ranking, N items of all rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from preferent.core.errors import FitError
from preferent.training import losses
from preferent.training.config import BradleyTerry, Davidson, Loss, PlackettLuce, RaoKupper
from preferent.training.groups import GroupRanking, GroupRatings
from preferent.training.prepare import TokenGroup
from preferent.training.step_targets import targets_of
from preferent.training.trainee import Outputs


@dataclass(frozen=True, slots=True)
class Edges:
    """Every comparison of some groups: indices into the values of the batch, and what was said about each.

    objective_E: the column of the values that is compared, -1 for the reward. annotator_E: who said it, -1 when that is not known.
    first_E: 1 where i was shown first, -1 where j was, 0 when that is not known.
    """

    i_E: torch.Tensor
    j_E: torch.Tensor
    p_E: torch.Tensor
    weight_E: torch.Tensor
    tie_E: torch.Tensor
    margin_E: torch.Tensor | None
    record_E: torch.Tensor
    objective_E: torch.Tensor
    annotator_E: torch.Tensor
    first_E: torch.Tensor


def edges_of(groups: Sequence[TokenGroup], *, without_rankings: bool = False) -> Edges:
    """The edges of a batch in the order of its groups; `without_rankings` leaves out those that stand for a ranking."""
    offset = 0
    parts: list[tuple[np.ndarray, ...]] = []
    for item in groups:
        group = item.group
        keep = ~group.from_ranking_E if without_rankings else np.ones(group.n_edges, dtype=bool)
        columns = (
            group.i_E + offset,
            group.j_E + offset,
            group.p_E,
            group.weight_E,
            group.tie_E,
            group.margin_E,
            group.record_E,
            group.objective_E,
            group.annotator_E,
            group.first_E,
        )
        parts.append(tuple(column[keep] for column in columns))
        offset += len(item.ids)
    i_E, j_E, p_E, weight_E, tie_E, margin_E, record_E, objective_E, annotator_E, first_E = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return Edges(
        i_E=torch.from_numpy(i_E),
        j_E=torch.from_numpy(j_E),
        p_E=torch.from_numpy(p_E).float(),
        weight_E=torch.from_numpy(weight_E).float(),
        tie_E=torch.from_numpy(tie_E).float(),
        margin_E=torch.from_numpy(margin_E).float() if margin_E.any() else None,
        record_E=torch.from_numpy(record_E),
        objective_E=torch.from_numpy(objective_E),
        annotator_E=torch.from_numpy(annotator_E),
        first_E=torch.from_numpy(first_E).float(),
    )


def weight_of(groups: Sequence[TokenGroup], loss: Loss, *, rating_weight: float = 1.0) -> float:
    """What the summed loss of these groups is divided by to make a mean: per comparison, or per choice of a ranking, and per rating; of
    solutions in steps per labelled step."""
    if groups and groups[0].steps is not None:
        return float(sum(item.n_values for item in groups))
    rated = rating_weight * sum(len(item.group.ratings.value_M) for item in groups)
    if isinstance(loss, PlackettLuce):
        edges = sum(float(item.group.weight_E[~item.group.from_ranking_E].sum()) for item in groups)
        return rated + edges + sum(ranking.weight * (len(ranking.index_K) - 1) for item in groups for ranking in item.group.rankings)
    return rated + sum(float(item.group.weight_E.sum()) for item in groups)


def summed_loss(outputs: Outputs, groups: Sequence[TokenGroup], loss: Loss, *, rating_weight: float = 1.0) -> torch.Tensor:
    """Weighted sum of the losses of all edges, rankings and ratings of a batch.

    Raises NonFiniteError naming the records when one is NaN or infinite.
    """
    if groups[0].steps is not None:
        return step_loss(outputs, groups)
    listwise = isinstance(loss, PlackettLuce)
    edges = edges_of(groups, without_rankings=listwise)
    loss_E = edge_loss(outputs, edges, loss)
    refuse_non_finite(loss_E, edges.record_E)
    total = (loss_E * edges.weight_E.to(loss_E)).sum()
    if listwise:
        total = total + ranking_loss(outputs.reward_R * _scale(outputs, -1), groups)
    ratings = ratings_of(groups)
    if len(ratings.value_M):
        loss_M = rating_loss(outputs, ratings)
        refuse_non_finite(loss_M, torch.from_numpy(ratings.record_M))
        total = total + rating_weight * loss_M.sum()
    return total


def step_loss(outputs: Outputs, groups: Sequence[TokenGroup]) -> torch.Tensor:
    """Sum of the cross entropies of all labelled steps of a batch; steps that nobody labelled are not read at all."""
    targets = targets_of(item.steps for item in groups)
    loss_S = losses.step_cross_entropy(outputs.reward_R, torch.from_numpy(targets.label_S).to(outputs.values_RC.device))
    refuse_non_finite(loss_S, torch.from_numpy(targets.record_S))
    return loss_S.sum()


def ratings_of(groups: Sequence[TokenGroup]) -> GroupRatings:
    """The ratings of a batch in the order of its groups, with places among its responses."""
    offsets = np.cumsum([0, *(len(item.ids) for item in groups)])
    parts = [item.group.ratings for item in groups]
    return GroupRatings(
        np.concatenate([part.response_M + offset for part, offset in zip(parts, offsets, strict=False)]),
        np.concatenate([part.objective_M for part in parts]),
        np.concatenate([part.value_M for part in parts]),
        np.concatenate([part.record_M for part in parts]),
    )


def rating_loss(outputs: Outputs, ratings: GroupRatings) -> torch.Tensor:
    """Squared error of each rating that is there, on the scale of its objective, shape (M,); what nobody rated is no part of it."""
    values_RC = outputs.values_RC
    at = (torch.from_numpy(part).to(values_RC.device) for part in (ratings.response_M, ratings.objective_M))
    response_M, objective_M = at
    return losses.squared_error(values_RC[response_M, objective_M], torch.from_numpy(ratings.value_M).to(values_RC.device))


def _scale(outputs: Outputs, column: int | torch.Tensor) -> torch.Tensor | float:
    """What the values of a column, or of one column per edge, are multiplied with before they are compared."""
    return 1.0 if outputs.log_scale_C is None else outputs.log_scale_C[column].exp()


def edge_loss(outputs: Outputs, edges: Edges, loss: Loss) -> torch.Tensor:
    """Loss of each edge, shape (E,), on the column of its objective. Under Plackett-Luce a comparison is a ranking of two items:
    Bradley-Terry."""
    values_RC, log_nu = outputs.values_RC, outputs.log_nu
    device = values_RC.device
    column_E, p_E = edges.objective_E.to(device), edges.p_E.to(device)
    scale_E = _scale(outputs, column_E)
    reward_i_E, reward_j_E = (values_RC[side_E.to(device), column_E] * scale_E for side_E in (edges.i_E, edges.j_E))
    if isinstance(loss, Davidson | RaoKupper):
        assert log_nu is not None
        outcome_E3 = losses.outcomes(p_E, edges.tie_E.to(device))
        d_E = reward_i_E - reward_j_E
        if isinstance(loss, Davidson):
            return losses.davidson(d_E, outcome_E3, log_nu=log_nu)
        return losses.rao_kupper(d_E, outcome_E3, raw_theta=log_nu)
    margin_E = None if edges.margin_E is None else edges.margin_E.to(device)
    if isinstance(loss, PlackettLuce):
        return losses.bradley_terry(reward_i_E, reward_j_E, p_E, margin_E=margin_E)
    assert isinstance(loss, BradleyTerry)
    smooth_E = losses.label_smoothing(p_E, loss.label_smoothing)
    magnitude_E = None
    if loss.margin == "scale" and margin_E is not None:
        # 0 stands for a margin that was not stated.
        magnitude_E, margin_E = torch.where(margin_E > 0.0, margin_E, torch.ones_like(margin_E)), None
    if outputs.annotator_A2 is None:
        loss_E = losses.bradley_terry(reward_i_E, reward_j_E, smooth_E, margin_E=margin_E)
    else:
        heard_E = _heard(outputs.annotator_A2, reward_i_E - reward_j_E, edges)
        loss_E = losses.bradley_terry(heard_E, torch.zeros_like(heard_E), smooth_E, margin_E=margin_E)
    if magnitude_E is not None:
        loss_E = losses.scaled(loss_E, magnitude_E)
    if loss.centring:
        loss_E = loss_E + losses.centring(reward_i_E, reward_j_E, loss.centring)
    return loss_E


def _heard(annotator_A2: torch.Tensor, d_E: torch.Tensor, edges: Edges) -> torch.Tensor:
    """Differences as the annotators of the edges see them; an edge of nobody in particular keeps its own."""
    who_E = edges.annotator_E.to(d_E.device)
    traits_E2 = annotator_A2[who_E.clamp(min=0)]
    seen_E = losses.annotator_logits(d_E, 1.0 + traits_E2[:, 0], traits_E2[:, 1], edges.first_E.to(d_E.device))
    return torch.where(who_E >= 0, seen_E, d_E)


def ranking_loss(reward_R: torch.Tensor, groups: Sequence[TokenGroup]) -> torch.Tensor:
    """Weighted sum over the rankings of a batch."""
    rankings: list[GroupRanking] = []
    index_N, rank_N, member_N = [], [], []
    offset = 0
    for item in groups:
        for ranking in item.group.rankings:
            index_N.append(ranking.index_K + offset)
            rank_N.append(ranking.rank_K)
            member_N.append(np.full(len(ranking.index_K), len(rankings)))
            rankings.append(ranking)
        offset += len(item.ids)
    if not rankings:
        return reward_R.new_zeros(())
    index_N, rank_N, member_N = (torch.from_numpy(np.concatenate(parts)).to(reward_R.device) for parts in (index_N, rank_N, member_N))
    loss_G = losses.plackett_luce(reward_R[index_N], rank_N, ranking_N=member_N, n_rankings=len(rankings))
    refuse_non_finite(loss_G, torch.tensor([ranking.record for ranking in rankings]))
    return (loss_G * torch.tensor([ranking.weight for ranking in rankings]).to(loss_G)).sum()


class NonFiniteError(FitError):
    """A loss that is NaN or infinite; `records` are the positions of the records it came from."""

    def __init__(self, records: Sequence[int]) -> None:
        super().__init__("the loss stopped being a number")
        self.records = tuple(records)


def refuse_non_finite(loss_E: torch.Tensor, record_E: torch.Tensor) -> None:
    """Raise NonFiniteError that names the records whose loss is not a finite number."""
    bad_E = ~torch.isfinite(loss_E.detach()).cpu()
    if bool(bad_E.any()):
        raise NonFiniteError(sorted(set(record_E[bad_E].tolist())))
