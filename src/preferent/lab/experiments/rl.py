"""Experiment 2: a small policy trained with GRPO against a learned reward, and what becomes of the true one (Gao et al. 2022).

One policy per seed is taught by likelihood to write as the world does; from there it is trained several times: against the single
reward model without protection, and with each mitigation. At every few steps fresh replies to prompts it does not train on give the
true reward, the learned one, and the distance sqrt(KL) from the policy it started as. The policy and its trainer come from outside
(`Parts.teach`): the lab imports no torch.

Legend: P prompts, R reference replies per prompt, N replies, E members of the ensemble, K readings of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from preferent.annotators.simulate import Population
from preferent.annotators.votes import soft_preferences
from preferent.core.errors import ConfigError
from preferent.core.records import Exchange, Floats, Preference, Prompt, Scores, user
from preferent.core.scorer import Scorer
from preferent.core.settings import Settings
from preferent.lab.crowd import Crowd, judge, sample_judges
from preferent.lab.draw import one, some
from preferent.lab.experiments.outcome import Parts
from preferent.lab.experiments.over_optimisation import fit_settings
from preferent.lab.experiments.treatments import combine, resampled
from preferent.lab.lexicon import ATTRIBUTES, HOUSES, PLACES, SECRETS
from preferent.lab.policy import Policy, Truth, draw_pairs
from preferent.lab.requests import UNSAFE_SHARE, Request, write_request

RECORDED, ASKED = 3, 2  # shorter requests than the world's, so that a reply takes about thirty words
STYLE = Policy(flaw=0.2, filler=(0.7, 0.2, 0.1))
UNPROTECTED = "unprotected"
Shape = Literal["single", "bounded", "worst"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train. shape: what the policy is paid. penalised: with the KL penalty."""

    name: str
    shape: Shape
    penalised: bool


ARMS = (
    Arm(UNPROTECTED, "single", False),
    Arm("KL penalty", "single", True),
    Arm("bounded (PAR)", "bounded", False),
    Arm("ensemble, worst case", "worst", False),
    Arm("bounded (PAR) and KL penalty", "bounded", True),
    Arm("worst case and KL penalty", "worst", True),
)
ALL_ARMS = tuple(arm.name for arm in ARMS)


class ReinforcementLearning(Settings):
    """Settings of experiment 2."""

    experiment: Literal["rl"] = "rl"
    scorer: Literal["ngrams", "tiny"] = Field(default="ngrams", description="the learned reward: n-gram counts, or the tiny transformer")
    prior: float = Field(default=1.0, gt=0.0, description="ngrams: precision of the prior on each weight")
    epochs: float = Field(default=4.0, gt=0.0, description="tiny: passes over the comparisons")
    seeds: tuple[int, ...] = Field(default=(0, 1), min_length=1, description="one whole run each: policy, labels, training")
    comparisons: int = Field(default=400, ge=10, description="comparisons that each reward model learns from")
    noise: float = Field(default=0.2, ge=0.0, lt=0.5, description="share of the answers turned round")
    skill: float = Field(default=12.0, gt=0.0, description="of the annotators: logits per unit of true reward")
    members: int = Field(default=4, ge=2, description="of the ensemble, each on its own resample of the comparisons")
    taught: int = Field(default=12000, ge=32, description="replies that the policy is first taught, one pass")
    teach_rate: float = Field(default=5e-3, gt=0.0, description="learning rate of that")
    width: int = Field(default=64, ge=8, multiple_of=8, description="of the policy")
    layers: int = Field(default=2, ge=1, description="of the policy")
    max_tokens: int = Field(default=48, ge=4, description="longest reply, in words and marks")
    steps: int = Field(default=60, ge=1, description="of GRPO")
    prompts: int = Field(default=12, ge=1, description="prompts of a step")
    replies: int = Field(default=8, ge=2, description="replies to each prompt of a step")
    rate: float = Field(default=1e-3, gt=0.0, description="learning rate of GRPO")
    arms: tuple[str, ...] = Field(default=ALL_ARMS, min_length=1, description="which trainings; 'unprotected' always runs")
    kl_penalty: float = Field(default=0.1, gt=0.0, description="standard deviations of the learned reward per nat, where penalised")
    trained: int = Field(default=128, ge=1, description="different prompts that the policy is trained on, again and again")
    every: int = Field(default=5, ge=1, description="steps between readings")
    watched: int = Field(default=48, ge=2, description="prompts of a reading; the policy is not trained on them")
    readings: int = Field(default=4, ge=1, description="replies to each watched prompt in a reading")
    references: int = Field(default=4, ge=2, description="replies of the starting policy to each prompt: the frozen scale of rewards")


@dataclass(frozen=True, slots=True)
class Plan:
    """One training run of the policy. penalty: weight of the KL in the loss. seed: of the sampling."""

    steps: int
    prompts: int
    replies: int
    rate: float
    penalty: float
    every: int
    seed: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Fresh replies after `step` steps. log_ratio_N: log-probability less that under the starting policy, nats per reply."""

    step: int
    exchanges: list[Exchange]
    log_ratio_N: Floats


class Writer(Protocol):
    """A policy that was taught to write; `improve` starts from it each time and leaves it as it is."""

    def sample(self, prompts: Sequence[Prompt], seed: int) -> list[Exchange]: ...

    def improve(self, reward: Scorer, prompts: Sequence[Prompt], watched: Sequence[Prompt], plan: Plan) -> list[Snapshot]: ...


class Teach(Protocol):
    """Teaches a fresh policy the replies given, by likelihood; the settings name its size."""

    def __call__(self, exchanges: Sequence[Exchange], seed: int, settings: Any, /) -> Writer: ...


@dataclass(frozen=True, slots=True)
class Curve:
    """One run. kl_K: mean log-ratio per reply, nats, with its standard error; gold_KP: true reward by watched prompt; proxy_K: mean
    reward of the single model in standard deviations of the starting policy's; paid_K: mean of what the policy was paid; words_K: mean
    length; example: a reply at the end."""

    step_K: Floats
    kl_K: Floats
    gold_KP: Floats
    proxy_K: Floats
    paid_K: Floats
    words_K: Floats
    kl_error_K: Floats
    example: str

    @property
    def gold_K(self) -> Floats:
        return self.gold_KP.mean(axis=1)


class Ground:
    """The frozen scale of rewards: those of the starting policy's replies to every prompt, for each member; member 0 is the single one."""

    def __init__(self, scorers: Sequence[Scorer], references: Sequence[Exchange], par: Callable[[Floats, Floats], Floats]) -> None:
        self.scorers = tuple(scorers)
        self._par = par
        rows: dict[Prompt, list[int]] = {}
        for row, exchange in enumerate(references):
            rows.setdefault(exchange.prompt, []).append(row)
        self._row_of = {prompt: p for p, prompt in enumerate(rows)}
        raw_EN = self._raw(references)
        self._reward_EPR = raw_EN[:, np.array(list(rows.values()))]
        self._mean_EP = self._reward_EPR.mean(axis=2)
        spread_E = (self._reward_EPR - self._mean_EP[:, :, None]).std(axis=(1, 2))
        self._spread_E = np.where(spread_E > 0.0, spread_E, 1.0)
        shaped_N = self._bounded(raw_EN[0], references)
        self._bounded_spread = float(shaped_N.std()) or 1.0

    def paid(self, exchanges: Sequence[Exchange], shape: Shape) -> Floats:
        """Rewards of one shape, shape (N,), with about the spread of one standard deviation at the start."""
        if shape == "bounded":
            return self._bounded(self._raw(exchanges, 1)[0], exchanges) / self._bounded_spread
        raw_EN = self._raw(exchanges, 1 if shape == "single" else None)
        members = slice(len(raw_EN))
        scaled_EN = (raw_EN - self._mean_EP[members, self._rows(exchanges)]) / self._spread_E[members, None]
        return scaled_EN[0] if shape == "single" else combine(scaled_EN, "worst")

    def _bounded(self, raw_N: Floats, exchanges: Sequence[Exchange]) -> Floats:
        return self._par(raw_N[:, None], self._reward_EPR[0, self._rows(exchanges)])[:, 0]

    def _raw(self, exchanges: Sequence[Exchange], members: int | None = None) -> Floats:
        return np.array([scorer.score(exchanges).reward for scorer in self.scorers[:members]])

    def _rows(self, exchanges: Sequence[Exchange]) -> list[int]:
        return [self._row_of[exchange.prompt] for exchange in exchanges]


class Paid:
    """What a policy is paid, as a scorer."""

    def __init__(self, ground: Ground, shape: Shape) -> None:
        self.name = f"paid ({shape})"
        self._ground = ground
        self._shape: Shape = shape

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        return Scores(self._ground.paid(exchanges, self._shape))


def run_seeds(settings: ReinforcementLearning, parts: Parts) -> dict[str, list[Curve]]:
    """Arm -> one curve for each seed. Raises ConfigError when the parts bring no policy, MissingExtraError when its trainer is absent."""
    if parts.teach is None:
        raise ConfigError("the RL experiment needs a policy and its trainer", hint="`preferent lab rl` brings them; pass Parts(teach=...)")
    if settings.steps < 3 * settings.every:
        raise ConfigError(f"{settings.steps} steps with a reading every {settings.every} are no curve: needs three readings or more")
    unknown = sorted(set(settings.arms) - set(ALL_ARMS))
    if unknown:
        raise ConfigError(f"arms: {unknown!r} unknown, allowed are {list(ALL_ARMS)}")
    arms = [arm for arm in ARMS if arm.name == UNPROTECTED or arm.name in settings.arms]
    curves: dict[str, list[Curve]] = {arm.name: [] for arm in arms}
    for seed in settings.seeds:
        rng = np.random.default_rng([seed, 31])
        taught = [Exchange(prompt=prompt, response=STYLE.reply(prompt, rng)) for prompt in short_prompts(settings.taught, rng)]
        parts.say(f"seed {seed}: teaching the policy {len(taught):,} replies")
        writer = parts.teach(taught, seed, settings)
        prompts = short_prompts(settings.trained + settings.watched, rng)
        trained, watched = prompts[settings.watched :], prompts[: settings.watched]
        references = writer.sample([prompt for prompt in prompts for _ in range(settings.references)], seed)
        ground = Ground(reward_models(settings, parts, seed, rng), references, parts.par)
        for arm in arms:
            penalty = settings.kl_penalty if arm.penalised else 0.0
            plan = Plan(settings.steps, settings.prompts, settings.replies, settings.rate, penalty, settings.every, seed)
            curve = measure(writer.improve(Paid(ground, arm.shape), trained, watched * settings.readings, plan), ground, arm)
            curves[arm.name].append(curve)
            parts.say(
                f"  {arm.name}: KL {curve.kl_K[-1]:.1f}, proxy {curve.proxy_K[-1]:+.2f} SD, gold {curve.gold_K[0]:.3f} -> "
                f"peak {curve.gold_K.max():.3f} -> {curve.gold_K[-1]:.3f}"
            )
    return curves


def reward_models(settings: ReinforcementLearning, parts: Parts, seed: int, rng: np.random.Generator) -> list[Scorer]:
    """The single model, then the members of the ensemble, each taught a resample of the same comparisons."""
    pairs = draw_pairs(short_prompts(settings.comparisons, rng), STYLE, rng)
    judges = sample_judges(40, Crowd(Population(skill=settings.skill, skill_spread=0.3)), rng)
    preferences: list[Preference] = soft_preferences(pairs, judge(pairs, judges, votes=1, rng=rng, flip=settings.noise))
    lessons = [preferences] + [resampled(preferences, rng) for _ in range(settings.members)]
    return [parts.fit(lesson, seed + 1000 * e, **fit_settings(settings)) for e, lesson in enumerate(lessons)]


def short_prompts(n: int, rng: np.random.Generator) -> list[Prompt]:
    """n different requests of the replies world with three recorded facts, two of them asked for; about 40 words each."""
    texts: dict[str, None] = {}
    while len(texts) < n:
        names, secret = some(tuple(ATTRIBUTES), RECORDED, rng), one(tuple(SECRETS), rng)
        request = Request(
            house=f"{one(PLACES, rng)} {one(HOUSES, rng)}",
            record={name: one(ATTRIBUTES[name].values, rng) for name in names},
            secret=(secret, one(SECRETS[secret].values, rng)),
            asked=some(names, ASKED, rng),
            unsafe=bool(rng.random() < UNSAFE_SHARE),
            as_list=bool(rng.random() < 0.5),
        )
        texts[write_request(request, rng)] = None
    return [user(text) for text in texts]


def measure(snapshots: Sequence[Snapshot], ground: Ground, arm: Arm) -> Curve:
    """The readings of one run."""
    ratio_KN = np.array([shot.log_ratio_N for shot in snapshots])
    return Curve(
        step_K=np.array([shot.step for shot in snapshots], dtype=np.float64),
        kl_K=ratio_KN.mean(axis=1),
        gold_KP=np.array([_by_prompt(shot.exchanges) for shot in snapshots]),
        proxy_K=np.array([ground.paid(shot.exchanges, "single").mean() for shot in snapshots]),
        paid_K=np.array([ground.paid(shot.exchanges, arm.shape).mean() for shot in snapshots]),
        words_K=np.array([np.mean([len(e.response.split()) for e in shot.exchanges]) for shot in snapshots], dtype=np.float64),
        kl_error_K=ratio_KN.std(axis=1, ddof=1) / np.sqrt(ratio_KN.shape[1]),
        example=snapshots[-1].exchanges[0].response,
    )


def _by_prompt(exchanges: Sequence[Exchange]) -> Floats:
    """Mean true reward of each different prompt, in order of first appearance."""
    rows: dict[Prompt, list[float]] = {}
    for exchange, gold in zip(exchanges, Truth().of(exchanges).tolist(), strict=True):
        rows.setdefault(exchange.prompt, []).append(gold)
    return np.array([np.mean(values) for values in rows.values()], dtype=np.float64)
