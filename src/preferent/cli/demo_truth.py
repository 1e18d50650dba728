"""What no real data can show: a learned reward beside the true one.

Legend: N held-out pairs, P prompts of the pool, M responses to each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from preferent.audits.plots import best_of_n_plot
from preferent.audits.report import Section
from preferent.audits.resample import spearman
from preferent.audits.tables import Table
from preferent.cli import demo_heads
from preferent.cli.demo_heads import HeadTruth, compare_heads
from preferent.core.estimates import Estimate, clustered_mean, clustered_statistic
from preferent.core.records import Exchange, Floats, Scores
from preferent.lab.demo_data import LENGTH_BIAS, DemoData
from preferent.lab.replies import OBJECTIVES
from preferent.optimize.best_of_n import BestOfN, best_of_n, expected_best, gold_change

if TYPE_CHECKING:
    from preferent.models.reward_model import RewardModel


@dataclass(frozen=True, slots=True)
class Truth:
    """The learned reward against the true one.

    agreement: share of held-out pairs that the model orders as the true reward does; annotators: the same for their majority.
    rank: mean Spearman correlation of learned and true reward within a prompt of the pool. weights: standardised regression
    weights of the learned reward (within prompts) on each true objective, padding and log length. curve: best-of-n by the learned
    reward. fall: change of the true reward from the n where a quarter of the way to the end is reached to the last n. heads: every
    objective's head against the true objective. heads_curve: best-of-n by the mean of the five heads; heads_gain: its true reward at the
    last n less that of `curve`, on the same prompts.
    """

    agreement: Estimate
    annotators: Estimate
    rank: Estimate
    weights: dict[str, Estimate]
    curve: list[BestOfN]
    fall: Estimate
    fall_from: int
    heads: tuple[HeadTruth, ...]
    heads_curve: list[BestOfN]
    heads_gain: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {
            "agreement": self.agreement.to_dict(),
            "annotators": self.annotators.to_dict(),
            "rank": self.rank.to_dict(),
            "weights": {name: estimate.to_dict() for name, estimate in self.weights.items()},
            "best_of_n": [point.to_dict() for point in self.curve],
            "fall": self.fall.to_dict(),
            "fall_from": self.fall_from,
            "heads": {head.name: head.to_dict() for head in self.heads},
            "heads_best_of_n": [point.to_dict() for point in self.heads_curve],
            "heads_gain": self.heads_gain.to_dict(),
        }

    def render(self) -> str:
        lines = [
            "Against the truth",
            f"  held-out pairs ordered as the true reward has them   {self.agreement}",
            f"  the annotators' majority, on the same pairs          {self.annotators}",
            f"  rank correlation with the true reward, per prompt    {self.rank}",
            "  best of n by the learned reward, and at the right by the mean of the five objectives' heads:",
            f"  {'n':>6}  {'learned':>24}  {'true':>24}  {'true, by the heads':>24}",
        ]
        rows = zip(self.curve, self.heads_curve, strict=True)
        lines += [f"  {point.n:>6}  {point.proxy!s:>24}  {point.gold!s:>24}  {other.gold!s:>24}" for point, other in rows]
        lines.append(f"  true reward from n = {self.fall_from} to {self.curve[-1].n}: {self.fall}")
        lines.append(f"  true reward at n = {self.curve[-1].n}, by the heads less by the learned reward: {self.heads_gain}")
        return "\n".join([*lines, demo_heads.render(self.heads)])


def compare(model: RewardModel, data: DemoData, ns: Sequence[int], *, seed: int, progress: Callable[[int], None] | None = None) -> Truth:
    """Measure a reward model that was trained on the demo's judgments and ratings."""
    flat = [exchange for row in data.pool for exchange in row]
    scores = model.score(flat, progress=progress)
    gold_PM = data.pool_gold_PM
    proxy_PM, heads_PM = scores.reward.reshape(gold_PM.shape), _mean_of_heads(model, scores).reshape(gold_PM.shape)
    prompts = [pair.prompt for pair in data.held_out]
    margin_N = _margins(model, data)
    vote_N = np.array([pair.p_a - 0.5 for pair in data.held_out])
    ranks_P = [spearman(proxy, gold) for proxy, gold in zip(proxy_PM, gold_PM, strict=True)]
    fall_from = 16
    return Truth(
        agreement=_agreement(margin_N, data.held_out_gap_N, prompts, seed),
        annotators=_agreement(vote_N, data.held_out_gap_N, prompts, seed),
        rank=clustered_mean(ranks_P, np.arange(len(ranks_P)), rng=np.random.default_rng(seed)),
        weights=_weights(data, proxy_PM, seed),
        curve=best_of_n(proxy_PM, gold_PM, ns, rng=np.random.default_rng(seed)),
        fall=gold_change(proxy_PM, gold_PM, fall_from, ns[-1], rng=np.random.default_rng(seed)),
        fall_from=fall_from,
        heads=compare_heads(model, data, seed=seed),
        heads_curve=best_of_n(heads_PM, gold_PM, ns, rng=np.random.default_rng(seed)),
        heads_gain=_gain(heads_PM, proxy_PM, gold_PM, ns[-1], seed),
    )


def _mean_of_heads(model: RewardModel, scores: Scores) -> Floats:
    """Every objective in standard deviations of its training ratings, all weighing the same."""
    assert model.card.heads is not None
    sd = {objective.name: objective.sd for objective in model.card.heads.objectives}
    return np.mean([scores.objectives[name] / sd[name] for name in OBJECTIVES], axis=0)


def _gain(one_PM: Floats, other_PM: Floats, gold_PM: Floats, n: int, seed: int) -> Estimate:
    """Mean true reward of the best of n by one proxy less that by the other, paired by prompt."""
    gain_P = expected_best(one_PM, gold_PM, (n,))[:, 0] - expected_best(other_PM, gold_PM, (n,))[:, 0]
    return clustered_mean(gain_P, np.arange(len(gain_P)), rng=np.random.default_rng(seed))


def _margins(model: RewardModel, data: DemoData) -> Floats:
    sides = [exchange for pair in data.held_out for exchange in pair.exchanges()]
    reward = model.score(sides).reward
    return reward[0::2] - reward[1::2]


def _agreement(margin_N: Floats, gap_N: Floats, prompts: Sequence[Any], seed: int) -> Estimate:
    """Share of the pairs with different true rewards that `margin_N` orders rightly; a margin of 0 counts one half."""
    decided = gap_N != 0
    right_N = (np.sign(margin_N[decided]) * np.sign(gap_N[decided]) + 1.0) / 2.0
    own = [prompt for prompt, keep in zip(prompts, decided, strict=True) if keep]
    return clustered_mean(right_N, own, rng=np.random.default_rng(seed))


def _weights(data: DemoData, proxy_PM: Floats, seed: int) -> dict[str, Estimate]:
    names = [*OBJECTIVES, "log length"]
    features = np.array([[_features(data, exchange) for exchange in row] for row in data.pool])
    features = features - features.mean(1, keepdims=True)
    target = (proxy_PM - proxy_PM.mean(1, keepdims=True)).ravel()
    columns = features.reshape(-1, len(names))
    spread = columns.std(0)
    columns = columns[:, spread > 0] / spread[spread > 0]
    names = [name for name, width in zip(names, spread, strict=True) if width > 0]
    target = target / target.std()
    clusters = np.repeat(np.arange(len(data.pool)), proxy_PM.shape[1])

    def weight(k: int) -> Callable[[Any], float]:
        return lambda rows: float(np.linalg.lstsq(columns[rows], target[rows], rcond=None)[0][k])

    rng = np.random.default_rng(seed)
    return {name: clustered_statistic(weight(k), clusters, rng=rng, n_resamples=200) for k, name in enumerate(names)}


def _features(data: DemoData, exchange: Exchange) -> list[float]:
    objectives = data.world.gold(exchange)
    return [*(getattr(objectives, name) for name in OBJECTIVES), float(np.log(max(len(exchange.response), 1)))]


def sections(truth: Truth) -> list[Section]:
    """The demo's own part of the report."""
    first, last = truth.curve[0], truth.curve[-1]
    peak = max(truth.curve, key=lambda point: point.gold.value)
    verdict = (
        f"The true reward is highest at n = {peak.n} and falls from there, while the learned reward goes on rising: whoever chooses "
        f"harder ends up with worse replies. From n = {truth.fall_from} to n = {last.n} the true reward changes by {truth.fall}."
        if truth.fall.high < 0
        else f"The true reward from n = {truth.fall_from} to n = {last.n} changes by {truth.fall}: the interval holds 0, no fall is shown."
    )
    return [
        Section(
            "The learned reward beside the true one",
            (
                "This world's true reward is a program, so the model can be compared with the truth and not only with people. "
                "The simulated annotators have noise and one planted fault: each pays about "
                f"{LENGTH_BIAS:g} times the logarithm of a reply's length.",
                "One model learns from everything: what the annotators compared has a head of its own, which is the reward, and each of "
                "the five objectives has one that learned from ratings.",
            ),
            table=Table(
                ("what", "value"),
                [
                    ("held-out pairs ordered as the true reward has them", truth.agreement),
                    ("the annotators' majority, on the same pairs", truth.annotators),
                    ("rank correlation with the true reward within a prompt", truth.rank),
                ],
            ),
        ),
        Section(
            "Best of n: the learned reward rises, the true one falls",
            (
                f"Of {first.n} to {last.n} replies to a prompt the one with the highest learned reward is taken.",
                verdict,
                "The last column takes the reply with the highest mean of the five objectives' heads, which learned from ratings and not "
                f"from people who pay for length: at n = {last.n} its true reward is above that of the learned reward's choice by "
                f"{truth.heads_gain}.",
            ),
            svg=best_of_n_plot(truth.curve),
            table=Table(
                ("n", "KL bound (nats)", "learned reward", "true reward", "true reward, by the heads"),
                [
                    (point.n, point.kl_bound, point.proxy, point.gold, other.gold)
                    for point, other in zip(truth.curve, truth.heads_curve, strict=True)
                ],
            ),
        ),
        Section(
            "What the learned reward pays for",
            ("Standardised weights of the learned reward on the true objectives and on length, within prompts of the pool.",),
            table=Table(("feature", "weight"), list(truth.weights.items()), note="The true reward's own weight on length is not above 0."),
        ),
        demo_heads.section(truth.heads),
    ]
