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
from preferent.training.step_targets import StepTargets


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """A group whose responses are token ids (int32, prompt included); the edges are the group's own, the texts are let go.

    prompt: the ids of the prompt alone, where the heads look at it; None otherwise. length_R: tokens of each response without its prompt,
    before anything was dropped, where they were asked for. steps: of solutions in steps, where each is read and what was said there.
    """

    ids: tuple[NDArray[np.int32], ...]
    group: Group
    prompt: NDArray[np.int32] | None = None
    length_R: NDArray[np.int64] | None = None
    steps: StepTargets | None = None

    @property
    def n_values(self) -> int:
        """Rows of values that the model gives for this group: one per response, or per step that is labelled."""
        return len(self.ids) if self.steps is None else len(self.steps.label_S)

    def bundle(self) -> list[list[int]]:
        """What is packed together: the prompt alone, if wanted, then the responses."""
        first = [] if self.prompt is None else [self.prompt.tolist()]
        return [*first, *(ids.tolist() for ids in self.ids)]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the loop trains on: token groups, their packed sizes and labels (comparisons and rated responses), and what the length limit
    did."""

    groups: tuple[TokenGroup, ...]
    tokens_G: NDArray[np.int64]
    pairs_G: NDArray[np.int64]
    over_long: int
    response_cut: int
    fingerprint: str


def prepare(model: RewardModel, groups: Sequence[Group], *, lengths: bool = False, slab: int = 1024) -> Prepared:
    """Tokenise every response of every group once; with `lengths` the length of each response is kept.

    `over_long` counts responses whose prompt lost tokens to the limit, `response_cut` those that lost some of their own.
    """
    token_groups: list[TokenGroup] = []
    over_long = response_cut = 0
    digest = hashlib.sha256()
    needed = model.module.needs_prompts
    for start in range(0, len(groups), slab):
        part = groups[start : start + slab]
        tokens = iter(model.tokenize([exchange for group in part for exchange in group.exchanges]))
        prompts = model.tokenize_prompts([group.exchanges[0].prompt for group in part]) if lengths or needed else [None] * len(part)
        for group, alone in zip(part, prompts, strict=True):
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
            length_R = None if alone is None else np.array([item.dropped + len(item.ids) - len(alone) for item in own], dtype=np.int64)
            prompt = np.array(alone, dtype=np.int32) if needed else None
            token_groups.append(TokenGroup(ids, replace(group, exchanges=()), prompt, length_R))
    return Prepared(
        groups=tuple(token_groups),
        tokens_G=sizes(token_groups, share=model.module.share),
        pairs_G=np.array([item.group.n_labels for item in token_groups], dtype=np.int64),
        over_long=over_long,
        response_cut=response_cut,
        fingerprint=digest.hexdigest(),
    )


def sizes(groups: Sequence[TokenGroup], *, share: bool) -> NDArray[np.int64]:
    """Tokens that each group takes in a forward pass, shape (G,)."""
    return np.array([packed_length(item.bundle(), share=share, each=item.steps is not None) for item in groups], dtype=np.int64)
