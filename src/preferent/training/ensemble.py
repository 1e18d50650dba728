"""Each member of an ensemble learns from its own resample of the data.

The Poisson bootstrap: every unit (a prompt with all its labels, or a single record) counts Poisson(1) times for each member (Oza and
Russell 2001, "Online bagging"). The count is a function of the seed and the unit alone, so it is the same in every process and after a
resume, and there is nothing to save.

Legend: E edges, G groups, K members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from preferent.training.config import Loss, PlackettLuce
from preferent.training.groups import Group, GroupRatings
from preferent.training.objective import Edges, edge_loss, edges_of, ranking_loss, refuse_non_finite
from preferent.training.prepare import TokenGroup
from preferent.training.trainee import Outputs

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draw:
    """What is resampled, the seed, and for how many members at once."""

    unit: Literal["prompts", "pairs", "none"]
    seed: int
    members: int = 1

    def of(self, prompt_key: str, record: int) -> Counts:
        """How often a record counts for each member, shape (K,)."""
        if self.unit == "none":
            return np.ones(self.members, dtype=np.int64)
        key = [0, int(prompt_key, 16)] if self.unit == "prompts" else [1, record]
        return np.random.default_rng([self.seed, *key]).poisson(1.0, self.members)

    def records(self, group: Group) -> dict[int, Counts]:
        """The counts of every record of a group."""
        numbers = sorted({*group.record_E.tolist(), *group.ratings.record_M.tolist(), *(item.record for item in group.rankings)})
        if self.unit == "pairs":
            return {record: self.of(group.prompt_key, record) for record in numbers}
        return dict.fromkeys(numbers, self.of(group.prompt_key, 0))


def member_seed(seed: int, number: int) -> int:
    """The seed of one member's own run."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint32)[0]) & 0x7FFFFFFF


def resampled(groups: Sequence[Group], draw: Draw) -> list[Group]:
    """The groups as one member sees them: labels drawn several times weigh as much more, those not drawn are gone."""
    if draw.unit == "none":
        return list(groups)
    found = [_drawn(group, {record: int(count[0]) for record, count in draw.records(group).items()}) for group in groups]
    return [group for group in found if group.n_labels]


def _drawn(group: Group, count_of: dict[int, int]) -> Group:
    count_E = np.array([count_of[record] for record in group.record_E.tolist()], dtype=np.int64)
    kept = count_E > 0
    columns = ("i_E", "j_E", "p_E", "margin_E", "tie_E", "record_E", "from_ranking_E", "objective_E", "annotator_E", "first_E")
    rankings = (replace(item, weight=item.weight * count_of[item.record]) for item in group.rankings if count_of[item.record])
    ratings = group.ratings
    # A rating has no weight: one that was drawn twice is there twice.
    times_M = np.array([count_of[record] for record in ratings.record_M.tolist()], dtype=np.int64)
    response_M, objective_M = np.repeat(ratings.response_M, times_M), np.repeat(ratings.objective_M, times_M)
    return replace(
        group,
        **{name: getattr(group, name)[kept] for name in columns},
        weight_E=(group.weight_E * count_E)[kept],
        rankings=tuple(rankings),
        ratings=GroupRatings(response_M, objective_M, np.repeat(ratings.value_M, times_M), np.repeat(ratings.record_M, times_M)),
    )


def members_loss(outputs: Outputs, groups: Sequence[TokenGroup], loss: Loss, *, draw: Draw) -> torch.Tensor:
    """The mean over K heads of each one's summed loss on its own resample: columns 0 to K - 1 of the values, all at once.

    Raises NonFiniteError naming the records when one is NaN or infinite.
    """
    listwise = isinstance(loss, PlackettLuce)
    edges = edges_of(groups, without_rankings=listwise)
    counts = [draw.records(item.group) for item in groups]
    spread = _spread(edges, _count_EK(groups, counts, listwise=listwise).reshape(-1, draw.members))
    loss_E = edge_loss(outputs, spread, loss)
    refuse_non_finite(loss_E, spread.record_E)
    total = (loss_E * spread.weight_E.to(loss_E)).sum()
    if listwise:
        for member in range(draw.members):
            own = [_rankings_of(item, count, member) for item, count in zip(groups, counts, strict=True)]
            total = total + ranking_loss(outputs.values_RC[:, member], own) / draw.members
    return total


def _count_EK(groups: Sequence[TokenGroup], counts: Sequence[dict[int, Counts]], *, listwise: bool) -> torch.Tensor:
    found = []
    for item, count in zip(groups, counts, strict=True):
        keep = ~item.group.from_ranking_E if listwise else np.ones(item.group.n_edges, dtype=bool)
        found += [count[record] for record in item.group.record_E[keep].tolist()]
    return torch.from_numpy(np.array(found, dtype=np.int64))


def _spread(edges: Edges, count_EK: torch.Tensor) -> Edges:
    """One edge for each member that drew it, on the column of that member, with its share of the weight."""
    drawn, column = torch.nonzero(count_EK, as_tuple=True)
    return Edges(
        i_E=edges.i_E[drawn],
        j_E=edges.j_E[drawn],
        p_E=edges.p_E[drawn],
        weight_E=edges.weight_E[drawn] * count_EK[drawn, column] / count_EK.shape[1],
        tie_E=edges.tie_E[drawn],
        margin_E=None if edges.margin_E is None else edges.margin_E[drawn],
        record_E=edges.record_E[drawn],
        objective_E=column,
        annotator_E=edges.annotator_E[drawn],
        first_E=edges.first_E[drawn],
    )


def _rankings_of(item: TokenGroup, counts: dict[int, Counts], member: int) -> TokenGroup:
    """A group with its rankings as one member drew them."""
    drawn = [(ranking, int(counts[ranking.record][member])) for ranking in item.group.rankings]
    kept = tuple(replace(ranking, weight=ranking.weight * count) for ranking, count in drawn if count)
    return replace(item, group=replace(item.group, rankings=kept))
