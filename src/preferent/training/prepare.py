"""From groups of text to groups of token ids, compact and in order.

Legend: R responses of a group, E edges, G groups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from preferent.models.packing import packed_length
from preferent.models.reward_model import RewardModel
from preferent.training.groups import Group


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """A group whose responses are token ids (int32, prompt included); the edges are the group's own, the texts are let go."""

    ids: tuple[NDArray[np.int32], ...]
    group: Group


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the loop trains on: token groups, their packed sizes, and what the length limit did."""

    groups: tuple[TokenGroup, ...]
    tokens_G: NDArray[np.int64]
    pairs_G: NDArray[np.int64]
    over_long: int
    response_cut: int
    fingerprint: str


def prepare(model: RewardModel, groups: Sequence[Group], *, slab: int = 1024) -> Prepared:
    """Tokenise every response of every group once.

    `over_long` counts responses whose prompt lost tokens to the limit, `response_cut` those that lost some of their own.
    """
    token_groups: list[TokenGroup] = []
    over_long = response_cut = 0
    digest = hashlib.sha256()
    for start in range(0, len(groups), slab):
        part = groups[start : start + slab]
        tokens = iter(model.tokenize([exchange for group in part for exchange in group.exchanges]))
        for group in part:
            own = [next(tokens) for _ in group.exchanges]
            over_long += sum(item.dropped > 0 for item in own)
            response_cut += sum(item.response_cut for item in own)
            ids = tuple(np.array(item.ids, dtype=np.int32) for item in own)
            for array in (*ids, group.i_E, group.j_E, group.p_E, group.weight_E, group.margin_E, group.tie_E):
                digest.update(np.ascontiguousarray(array).tobytes())
            ratings = group.ratings
            for array in (group.objective_E, group.annotator_E, group.first_E, ratings.response_M, ratings.objective_M, ratings.value_M):
                digest.update(np.ascontiguousarray(array).tobytes())
            for ranking in group.rankings:
                digest.update(np.concatenate([ranking.index_K, ranking.rank_K, [ranking.weight]]).tobytes())
            token_groups.append(TokenGroup(ids, replace(group, exchanges=())))
    return Prepared(
        groups=tuple(token_groups),
        tokens_G=sizes(token_groups, share=model.module.share),
        pairs_G=np.array([item.group.n_edges for item in token_groups], dtype=np.int64),
        over_long=over_long,
        response_cut=response_cut,
        fingerprint=digest.hexdigest(),
    )


def sizes(groups: Sequence[TokenGroup], *, share: bool) -> NDArray[np.int64]:
    """Tokens that each group takes in a forward pass, shape (G,)."""
    return np.array([packed_length([ids.tolist() for ids in item.ids], share=share) for item in groups], dtype=np.int64)
