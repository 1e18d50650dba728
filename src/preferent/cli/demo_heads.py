"""The demo's heads beside the true objectives, which no real data can show.

Legend: R held-out replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from preferent.audits.objectives import rank_correlation
from preferent.audits.page import Section
from preferent.audits.tables import Table
from preferent.core.estimates import Estimate
from preferent.core.records import Exchange
from preferent.lab.demo_data import DemoData
from preferent.lab.replies import OBJECTIVES, GoldScorer

if TYPE_CHECKING:
    from preferent.models.reward_model import RewardModel


@dataclass(frozen=True, slots=True)
class HeadTruth:
    """One objective on the held-out replies, Spearman's correlations with the truth: of the head, of the one rating that a reply has, and
    of its length, the bar any head must pass. best: of the truth with an order at random among equals, which is what a perfect head
    that never gives two replies the same number has. head_with_length: of the head with length; `length` is what an honest one may have.
    """

    name: str
    head: Estimate
    best: Estimate
    rater: Estimate
    length: Estimate
    head_with_length: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {
            "head": self.head.to_dict(),
            "best": self.best.to_dict(),
            "rater": self.rater.to_dict(),
            "length": self.length.to_dict(),
            "head_with_length": self.head_with_length.to_dict(),
        }


def compare_heads(model: RewardModel, data: DemoData, *, seed: int) -> tuple[HeadTruth, ...]:
    """Every head against its true objective, over all held-out replies; intervals over prompts."""
    replies = list(dict.fromkeys(side for pair in data.held_out for side in pair.exchanges()))
    prompts = [reply.prompt for reply in replies]
    heads, truth = model.score(replies).objectives, GoldScorer().score(replies).objectives
    length_R = np.array([float(len(reply.response)) for reply in replies])
    rated = {Exchange(prompt=one.prompt, response=one.response): one.values for one in data.held_out_ratings}
    order_R = np.random.default_rng([seed, 4]).random(len(replies))
    found = []
    for name in OBJECTIVES:
        said_R = np.array([rated.get(reply, {}).get(name, np.nan) for reply in replies])
        found.append(
            HeadTruth(
                name,
                head=rank_correlation(heads[name], truth[name], prompts, seed=seed),
                best=rank_correlation(truth[name] + 1e-6 * order_R, truth[name], prompts, seed=seed),
                rater=rank_correlation(said_R, truth[name], prompts, seed=seed),
                length=rank_correlation(length_R, truth[name], prompts, seed=seed),
                head_with_length=rank_correlation(heads[name], length_R, prompts, seed=seed),
            )
        )
    return tuple(found)


def render(heads: tuple[HeadTruth, ...]) -> str:
    """Plain text for a terminal."""
    lines = [
        "Each head and the true objective (Spearman, held-out replies)",
        f"  {'':<12}  {'head':>22}  {'best possible':>22}  {'one rating':>22}  {'length':>22}",
    ]
    lines += [f"  {head.name:<12}  {head.head!s:>22}  {head.best!s:>22}  {head.rater!s:>22}  {head.length!s:>22}" for head in heads]
    return "\n".join(lines)


def section(heads: tuple[HeadTruth, ...]) -> Section:
    """The heads as a part of the demo's report."""
    said = (
        "Spearman's correlations with the true objective, over the replies to held-out prompts: of the model's head, of the best possible "
        "head (many replies are equally good, and a head with an order of its own among them cannot have 1), of the single noisy rating "
        "that a rater gave the same reply, and of the reply's length. Last, the head's own correlation with length, which may be that of "
        "the truth.",
        "Accuracy means finding each stated value in the notes above, formatting comparing what was asked for with what was done: a model "
        "this small learns those last.",
    )
    rows = [(head.name, head.head, head.best, head.rater, head.length, head.head_with_length) for head in heads]
    headers = ("objective", "head", "best possible", "one rating", "length", "head with length")
    return Section("Each head beside the true objective", said, table=Table(headers, rows))
