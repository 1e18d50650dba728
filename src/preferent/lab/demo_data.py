"""The judgments and ratings of the demo: the replies world seen by annotators who are honest, noisy, and pay for length, and by raters.

The length bias is the one planted fault. A reward model that learns from these judgments learns to pay for length too; choosing the
best of many responses by it then ends in filler, and the true reward falls while the learned one still rises. The raters give one
reply at a time 1 to 5 on each of the five objectives, with noise; they have nothing to compare and do not pay for length.

Legend: N pairs, P prompts of the pool, M responses per prompt of the pool, R rated replies, O the five objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from preferent.annotators.simulate import Annotator, Population, sample_annotators, simulate
from preferent.annotators.votes import soft_preferences
from preferent.core.errors import ConfigError
from preferent.core.records import Comparison, Exchange, Floats, Judgment, Preference, Prompt, Rating
from preferent.lab.replies import OBJECTIVES, GoldScorer, RepliesWorld

SOURCE = "replies-world"


@dataclass(frozen=True, slots=True)
class DemoSizes:
    """How much the demo makes; train, held-out and pool prompts are all different. rated: share of the training replies that a rater
    sees; of the held-out ones all are seen."""

    n_prompts: int = 300
    n_responses: int = 6
    pairs_per_prompt: int = 7
    n_held_out: int = 80
    votes: int = 3
    n_annotators: int = 20
    pool_prompts: int = 24
    pool_responses: int = 320
    n_raters: int = 6
    rated: float = 0.5

    def __post_init__(self) -> None:
        if not (0.0 <= self.rated <= 1.0 and self.n_raters >= 1):
            raise ConfigError(f"DemoSizes(rated={self.rated!r}, n_raters={self.n_raters!r}): allowed are rated in [0, 1] and n_raters >= 1")


@dataclass(frozen=True, slots=True)
class DemoData:
    """Everything the demo shows, with the truth beside it.

    train, held_out: preferences by share of the vote, in the order of `comparisons`, train first. train_gap_N, held_out_gap_N: true
    reward of a minus that of b. pool: P x M exchanges to choose among; pool_gold_PM: their true rewards. ratings, held_out_ratings: of
    replies to the same prompts as train and held_out, each by one rater, some objectives missing.
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
    ratings: list[Rating]
    held_out_ratings: list[Rating]
    world: RepliesWorld = field(repr=False)


# In logits per unit of log length, where a whole unit of true reward is worth `skill` logits. Below about 3.5 a tiny model trained on
# so few judgments shows no clear fall; above about 5 the annotators' majority is wrong too often to be called decent.
LENGTH_BIAS = 4.2
POPULATION = Population(skill=12.0, skill_spread=0.3, length_bias=LENGTH_BIAS, length_spread=0.5, tie=0.15)
# On the raters' scale of 1 to 5. A rating is 1 + 4 times the truth, plus the rater's own leniency, plus noise, rounded.
LENIENCY_SD, NOISE_SD = 0.25, 0.6
# Chance that a rater leaves an objective out.
MISSING = 0.3


def make_demo_data(seed: int, sizes: DemoSizes | None = None, population: Population = POPULATION) -> DemoData:
    """Comparisons, judgments, preferences, ratings and the best-of-n pool, all from `seed`; a second or two on one core.

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
    # Draws of its own, so that the judgments are the same whatever is rated.
    raters = np.random.default_rng([seed, 3])
    leniency = raters.normal(0.0, LENIENCY_SD, sizes.n_raters)
    of_train, of_held_out = _replies(comparisons[:n_train]), _replies(comparisons[n_train:])
    kept = np.flatnonzero(raters.random(len(of_train)) < sizes.rated)
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
        ratings=_ratings([of_train[i] for i in kept.tolist()], leniency, raters),
        held_out_ratings=_ratings(of_held_out, leniency, raters),
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


def _replies(comparisons: Sequence[Comparison]) -> list[Exchange]:
    """Every reply once, in order of appearance."""
    sides = (Exchange(prompt=c.prompt, response=text) for c in comparisons for text in (c.response_a, c.response_b))
    return list(dict.fromkeys(sides))


def _ratings(replies: Sequence[Exchange], leniency: Floats, rng: np.random.Generator) -> list[Rating]:
    """One rating of each reply by a rater drawn at random; a reply of which every objective was left out has none."""
    gold = GoldScorer().score(replies).objectives
    truth_RO = np.stack([gold[name] for name in OBJECTIVES], axis=1) if replies else np.empty((0, len(OBJECTIVES)))
    who_R = rng.integers(0, len(leniency), len(replies))
    felt_RO = 1.0 + 4.0 * truth_RO + leniency[who_R][:, None] + rng.normal(0.0, NOISE_SD, truth_RO.shape)
    given_RO = np.clip(np.round(felt_RO), 1.0, 5.0)
    there_RO = rng.random(truth_RO.shape) >= MISSING
    ratings = []
    for reply, who, given, there in zip(replies, who_R.tolist(), given_RO.tolist(), there_RO.tolist(), strict=True):
        values = {name: value for name, value, known in zip(OBJECTIVES, given, there, strict=True) if known}
        if values:
            ratings.append(Rating(prompt=reply.prompt, response=reply.response, values=values, annotator_id=f"rater-{who}", source=SOURCE))
    return ratings
