"""Experiment 4: from annotators to reward: what noise, spammers and adversaries cost, and what each way of counting votes saves.

The same pairs are judged by crowds of different make-up; the votes become labels by several rules; a reward model learns from the
labels, and what counts is the true reward of the best of n by it. Paired by seed with labels that are true.

Legend: S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from preferent.annotators.choose import choose
from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.labels import LabelResult
from preferent.annotators.simulate import Population
from preferent.annotators.table import VoteTable
from preferent.annotators.votes import soft_preferences
from preferent.core.best_of_n import expected_best
from preferent.core.estimates import Estimate
from preferent.core.records import Comparison, Exchange, Floats, Judgment, Preference
from preferent.core.settings import Settings
from preferent.lab.crowd import Crowd, judge, sample_judges
from preferent.lab.experiments.outcome import Check, Dots, Figure, Grid, Outcome, Parts, over_seeds
from preferent.lab.experiments.over_optimisation import fit_settings
from preferent.lab.experiments.treatments import decided
from preferent.lab.policy import Policy, Pool, Truth, draw_pairs, draw_pool
from preferent.lab.replies import RepliesWorld

TITLE = "From annotators to reward"
TRUE = "true labels"
RULES = ("one vote", "majority vote", "share of the vote", "dawid-skene", "auto")


class AnnotatorCost(Settings):
    """Settings of experiment 4."""

    experiment: Literal["annotators"] = "annotators"
    scorer: Literal["ngrams", "tiny"] = Field(default="ngrams", description="the learned reward: n-gram counts, or the tiny transformer")
    prior: float = Field(default=4.0, gt=0.0, description="ngrams: precision of the prior on each weight")
    epochs: float = Field(default=4.0, gt=0.0, description="tiny: passes over the comparisons")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1, description="one whole run each: world, crowd, votes, training")
    comparisons: int = Field(default=800, ge=20, description="pairs that are judged")
    annotators: int = Field(default=20, ge=3, description="in each crowd")
    votes: int = Field(default=5, ge=2, description="different annotators on each pair")
    skill: float = Field(default=6.0, gt=0.0, description="median, in logits per unit of true reward")
    skill_spread: float = Field(default=0.6, ge=0.0, description="spread of log skill among the honest")
    taste: float = Field(default=0.05, ge=0.0, description="how much annotators differ in what they weigh; 0: not at all")
    length_bias: float = Field(default=1.0, ge=0.0, description="logits per unit of log length, mean over the honest")
    list_bias: float = Field(default=0.3, ge=0.0, description="logits for the side that is a list")
    position_spread: float = Field(default=0.3, ge=0.0, description="of the logits for side a among annotators")
    spammers: float = Field(default=0.4, ge=0.0, le=1.0, description="share of the crowd in the spammed cases")
    adversaries: float = Field(default=0.25, ge=0.0, le=1.0, description="share of the crowd in the attacked cases")
    prompts: int = Field(default=32, ge=2, description="prompts of the pool")
    pool: int = Field(default=1024, ge=10, description="replies per prompt")
    n: int = Field(default=64, ge=2, description="best of how many")


Cell = tuple[str, str]  # crowd, rule


def crowds(settings: AnnotatorCost) -> dict[str, Crowd]:
    """The crowds that are compared: what honest people cost, and what the others cost on top."""

    def crowd(spammers: float, adversaries: float) -> Crowd:
        population = Population(
            skill=settings.skill,
            skill_spread=settings.skill_spread,
            length_bias=settings.length_bias,
            length_spread=settings.length_bias / 2,
            position_spread=settings.position_spread,
            tie=0.2,
            spammers=spammers,
            adversaries=adversaries,
        )
        return Crowd(population, settings.taste, settings.list_bias)

    return {
        "honest": crowd(0.0, 0.0),
        f"{settings.spammers:.0%} spammers": crowd(settings.spammers, 0.0),
        f"{settings.adversaries:.0%} adversaries": crowd(0.0, settings.adversaries),
    }


def labels(rule: str, pairs: Sequence[Comparison], judgments: Sequence[Judgment], votes: int, rng: np.random.Generator) -> list[Preference]:
    """The votes on `pairs` as preferences, in their order. `one vote` takes the first of each pair."""
    if rule == "one vote":
        return soft_preferences(pairs, [judgments[i] for i in range(0, len(judgments), votes)])
    shares = soft_preferences(pairs, judgments)
    if rule == "share of the vote":
        return shares
    if rule == "majority vote":
        return decided(shares)
    methods: dict[str, Callable[[VoteTable], LabelResult]] = {
        "dawid-skene": dawid_skene,
        "auto": lambda table: choose(table, rng).result,
    }
    result = methods[rule](VoteTable.from_judgments(judgments))
    p_of = dict(zip(result.items.tolist(), np.clip(result.p_a()[0], 0.0, 1.0).tolist(), strict=True))
    return [one.model_copy(update={"p_a": p_of[pair.id]}) for one, pair in zip(shares, pairs, strict=True)]


def run(settings: AnnotatorCost, parts: Parts) -> Outcome:
    """Run experiment 4."""
    gold_S: dict[Cell, list[float]] = {}
    right_S: dict[Cell, list[float]] = {}
    start_S: list[float] = []
    for seed in settings.seeds:
        parts.say(f"seed {seed}: {settings.comparisons:,} pairs, {settings.votes} votes each")
        rng = np.random.default_rng([seed, 41])
        prompts = RepliesWorld(seed).prompts(settings.prompts + settings.comparisons)
        pool = draw_pool(prompts[: settings.prompts], settings.pool, Policy(), Truth(), rng)
        pairs = draw_pairs(prompts[settings.prompts :], Policy(), rng)
        start_S.append(float(pool.gold_PN.mean()))
        for cell, preferences in _all_labels(settings, seed, pairs):
            gold_S.setdefault(cell, []).append(_gold(parts, preferences, pool, seed, settings))
            right_S.setdefault(cell, []).append(_right(preferences, _gap(pairs)))
    return _outcome(settings, gold_S, right_S, start_S)


def _all_labels(settings: AnnotatorCost, seed: int, pairs: Sequence[Comparison]) -> list[tuple[Cell, list[Preference]]]:
    gap_N = _gap(pairs)
    true = [
        Preference(prompt=c.prompt, response_a=c.response_a, response_b=c.response_b, p_a=float((np.sign(gap) + 1.0) / 2.0), id=c.id)
        for c, gap in zip(pairs, gap_N, strict=True)
    ]
    found: list[tuple[Cell, list[Preference]]] = [((TRUE, TRUE), true)]
    for name, crowd in crowds(settings).items():
        rng = np.random.default_rng([seed, 42])
        judgments = judge(pairs, sample_judges(settings.annotators, crowd, rng), votes=settings.votes, rng=rng)
        found += [((name, rule), labels(rule, pairs, judgments, settings.votes, np.random.default_rng([seed, 43]))) for rule in RULES]
    return found


def _gap(pairs: Sequence[Comparison]) -> Floats:
    sides = [
        [Exchange(prompt=c.prompt, response=text) for c, text in zip(pairs, texts, strict=True)]
        for texts in ([c.response_a for c in pairs], [c.response_b for c in pairs])
    ]
    return Truth().of(sides[0]) - Truth().of(sides[1])


def _gold(parts: Parts, preferences: Sequence[Preference], pool: Pool, seed: int, settings: AnnotatorCost) -> float:
    scorer = parts.fit(preferences, seed, **fit_settings(settings))
    proxy_PN = scorer.score(pool.flat).reward.reshape(pool.shape)
    return float(expected_best(proxy_PN, pool.gold_PN, (settings.n,)).mean())


def _right(preferences: Sequence[Preference], gap_N: Floats) -> float:
    """Share of the pairs with different true rewards that the labels order rightly; a label of 0.5 counts one half."""
    told = gap_N != 0.0
    lean = np.sign(np.array([one.p_a for one in preferences]) - 0.5)
    return float(((lean[told] * np.sign(gap_N[told]) + 1.0) / 2.0).mean())


def _outcome(settings: AnnotatorCost, gold_S: dict[Cell, list[float]], right_S: dict[Cell, list[float]], start_S: list[float]) -> Outcome:
    best = np.array(gold_S[TRUE, TRUE])
    rows = [
        (crowd, rule, over_seeds(right_S[crowd, rule]), over_seeds(values), over_seeds(np.array(values) - best))
        for (crowd, rule), values in gold_S.items()
    ]
    names = list(crowds(settings))
    saved = [
        (crowd, rule, over_seeds(np.array(gold_S[crowd, rule]) - np.array(gold_S[crowd, "majority vote"])))
        for crowd in names
        for rule in RULES
        if rule != "majority vote"
    ]
    spoiled = [
        (crowd, rule, over_seeds(np.array(gold_S[crowd, rule]) - np.array(gold_S["honest", rule]))) for crowd in names[1:] for rule in RULES
    ]
    tables = (
        Grid(
            f"True reward at n = {settings.n}",
            ("crowd", "labels by", "labels right", "gold", "against true labels"),
            tuple(rows),
            f"Without selection (n = 1) gold is {over_seeds(start_S)}. Intervals over seeds, differences paired.",
        ),
        Grid("What a rule saves over the majority vote", ("crowd", "labels by", "gold saved"), tuple(saved)),
        Grid("What spammers and adversaries cost", ("crowd", "labels by", "against the honest crowd"), tuple(spoiled)),
    )
    dots = Dots(
        f"true reward at n = {settings.n}, against true labels",
        "difference in gold",
        tuple((f"{crowd}: {rule}", estimate) for crowd, rule, _, _, estimate in rows if crowd != TRUE),
        0.0,
        "true labels",
    )
    cost = {(crowd, rule): estimate for crowd, rule, _, _, estimate in rows}
    summary = tuple(
        f"{crowd.capitalize()}: the majority vote costs {_cost(cost[crowd, 'majority vote'])} of true reward, "
        f"'auto' {_cost(cost[crowd, 'auto'])}."
        for crowd in names
    )
    data = {
        "n": settings.n,
        "start": start_S,
        "cells": [{"crowd": c, "rule": r, "gold": values, "labels_right": right_S[c, r]} for (c, r), values in gold_S.items()],
    }
    figure = Figure("costs", "What labels cost", "Paired by seed; 95 % intervals over seeds.", (dots,))
    return Outcome(TITLE, summary, tuple(_checks(names, saved, spoiled)), tables, (figure,), settings.model_dump(mode="json"), data)


def _cost(estimate: Estimate) -> str:
    return f"{-estimate.value:.3f}" + ("" if np.isnan(estimate.low) else f" [{-estimate.high:.3f}, {-estimate.low:.3f}]")


def _checks(names: Sequence[str], saved: Sequence[tuple[str, str, Estimate]], spoiled: Sequence[tuple[str, str, Estimate]]) -> list[Check]:
    auto = [(crowd, estimate) for crowd, rule, estimate in saved if rule == "auto"]
    says = "; ".join(f"{crowd}: {estimate}" for crowd, estimate in auto)
    costs = [(crowd, estimate) for crowd, rule, estimate in spoiled if rule == "majority vote"]
    return [
        Check(
            "spammers and adversaries cost a majority vote true reward",
            all(estimate.value < 0 for _, estimate in costs),
            "; ".join(f"{crowd}: {estimate}" for crowd, estimate in costs),
        ),
        Check(
            "aggregation saves reward where adversaries vote",
            next(e for c, e in auto if c == names[-1]).value > 0,
            f"auto - majority, {says}",
        ),
    ]
