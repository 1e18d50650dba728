"""The judgments of the demo: the replies world seen by annotators who are honest, noisy, and pay for length.

The length bias is the one planted fault. A reward model that learns from these judgments learns to pay for length too; choosing the
best of many responses by it then ends in filler, and the true reward falls while the learned one still rises.

Legend: N pairs, P prompts of the pool, M responses per prompt of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from preferent.annotators.simulate import Annotator, Population, sample_annotators, simulate
from preferent.annotators.votes import soft_preferences
from preferent.core.errors import ConfigError
from preferent.core.records import Comparison, Exchange, Floats, Judgment, Preference, Prompt
from preferent.lab.replies import RepliesWorld

SOURCE = "replies-world"


@dataclass(frozen=True, slots=True)
class DemoSizes:
    """How much the demo makes; train, held-out and pool prompts are all different."""

    n_prompts: int = 300
    n_responses: int = 6
    pairs_per_prompt: int = 7
    n_held_out: int = 80
    votes: int = 3
    n_annotators: int = 20
    pool_prompts: int = 24
    pool_responses: int = 320


@dataclass(frozen=True, slots=True)
class DemoData:
    """Everything the demo shows, with the truth beside it.

    train, held_out: preferences by share of the vote, in the order of `comparisons`, train first. train_gap_N, held_out_gap_N: true
    reward of a minus that of b. pool: P x M exchanges to choose among; pool_gold_PM: their true rewards.
    """

    train: list[Preference]
    held_out: list[Preference]
    train_gap_N: Floats
    held_out_gap_N: Floats
    comparisons: list[Comparison]
    judgments: list[Judgment]
    annotators: list[Annotator]
    pool: list[list[Exchange]]
    pool_gold_PM: Floats
    world: RepliesWorld = field(repr=False)


# In logits per unit of log length, where a whole unit of true reward is worth `skill` logits. Below about 3.5 a tiny model trained on
# so few judgments shows no clear fall; above about 5 the annotators' majority is wrong too often to be called decent.
LENGTH_BIAS = 4.2
POPULATION = Population(skill=12.0, skill_spread=0.3, length_bias=LENGTH_BIAS, length_spread=0.5, tie=0.15)


def make_demo_data(seed: int, sizes: DemoSizes | None = None, population: Population = POPULATION) -> DemoData:
    """Comparisons, judgments, preferences and the best-of-n pool, all from `seed`; a second or two on one core.

    Raises ConfigError when more pairs per prompt are asked for than the responses have.
    """
    sizes = DemoSizes() if sizes is None else sizes
    most = sizes.n_responses * (sizes.n_responses - 1) // 2
    if not 1 <= sizes.pairs_per_prompt <= most:
        raise ConfigError(f"pairs_per_prompt={sizes.pairs_per_prompt!r}, allowed are 1 to {most} with {sizes.n_responses} responses")
    world, rng = RepliesWorld(seed), np.random.default_rng([seed, 2])
    prompts = world.prompts(sizes.n_prompts + sizes.n_held_out + sizes.pool_prompts)
    judged = prompts[: sizes.n_prompts + sizes.n_held_out]
    comparisons = _comparisons(world, judged, sizes, rng)
    sides = [Exchange(prompt=c.prompt, response=text) for c in comparisons for text in (c.response_a, c.response_b)]
    gold_N2 = world.gold_total(sides).reshape(-1, 2)
    annotators = sample_annotators(sizes.n_annotators, population, rng)
    judgments = simulate(comparisons, gold_N2[:, 0], gold_N2[:, 1], annotators, votes_per_comparison=sizes.votes, rng=rng)
    preferences, gap_N = soft_preferences(comparisons, judgments), gold_N2[:, 0] - gold_N2[:, 1]
    n_train = sizes.n_prompts * sizes.pairs_per_prompt
    pool = [
        [Exchange(prompt=prompt, response=text) for text in world.responses(prompt, sizes.pool_responses)]
        for prompt in prompts[len(judged) :]
    ]
    return DemoData(
        train=preferences[:n_train],
        held_out=preferences[n_train:],
        train_gap_N=gap_N[:n_train],
        held_out_gap_N=gap_N[n_train:],
        comparisons=comparisons,
        judgments=judgments,
        annotators=annotators,
        pool=pool,
        pool_gold_PM=np.array([world.gold_total(row) for row in pool]),
        world=world,
    )


def _comparisons(world: RepliesWorld, prompts: Sequence[Prompt], sizes: DemoSizes, rng: np.random.Generator) -> list[Comparison]:
    """`pairs_per_prompt` different pairs of each prompt's responses, sides at random."""
    left_I, right_I = np.triu_indices(sizes.n_responses, 1)
    comparisons = []
    for p, prompt in enumerate(prompts):
        texts = world.responses(prompt, sizes.n_responses)
        for k, i in enumerate(rng.permutation(len(left_I))[: sizes.pairs_per_prompt]):
            sides = (texts[left_I[i]], texts[right_I[i]])
            a, b = sides if rng.random() < 0.5 else sides[::-1]
            comparisons.append(Comparison(id=f"{p}-{k}", prompt=prompt, response_a=a, response_b=b, source=SOURCE))
    return comparisons
