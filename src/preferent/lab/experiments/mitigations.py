"""Experiment 3: what holds the true reward up when a learned one is optimised, side by side, over seeds; failures are printed too.

Three cases from one pool of replies: *noisy* (few comparisons, many answers turned round), *length* (annotators pay for length, which truly
only costs) and *valued* (the same annotators, and length is truly worth something: calibration would do harm there).

Legend: P prompts, N replies per prompt, E members, K values of n, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from preferent.annotators.simulate import Population
from preferent.annotators.votes import soft_preferences
from preferent.core.best_of_n import expected_best
from preferent.core.errors import ConfigError
from preferent.core.length_calibration import LengthGate, length_gate, lowess_calibration
from preferent.core.records import Comparison, Floats, Preference
from preferent.core.scorer import Scorer
from preferent.core.settings import Settings
from preferent.lab.crowd import Crowd, judge, sample_judges
from preferent.lab.experiments import treatments
from preferent.lab.experiments.outcome import Parts, powers
from preferent.lab.experiments.over_optimisation import fit_settings
from preferent.lab.ngrams import NgramScorer, average
from preferent.lab.policy import Policy, Pool, Truth, draw_pairs, draw_pool, log_length
from preferent.lab.replies import RepliesWorld

CASES = ("noisy", "length", "valued")
CALIBRATED, GATED, STOPPED = "length calibration, always", "length calibration, gated", "early stopping by monitor"
REFERENCES = 8  # replies of the policy per prompt that PAR compares with
UNLABELLED = 200  # replies per prompt that the length curve is fitted on


class Mitigations(Settings):
    """Settings of experiment 3."""

    experiment: Literal["mitigations"] = "mitigations"
    scorer: Literal["ngrams", "tiny"] = Field(default="ngrams", description="the learned reward: n-gram counts, or the tiny transformer")
    prior: float = Field(default=4.0, gt=0.0, description="ngrams: precision of the prior on each weight")
    epochs: float = Field(default=4.0, gt=0.0, description="tiny: passes over the comparisons")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1, description="one whole run each: world, labels, training")
    comparisons: int = Field(default=400, ge=20, description="comparisons that the single model learns from")
    noise: float = Field(default=0.25, ge=0.0, lt=0.5, description="noisy case: share of answers turned round")
    length_bias: float = Field(default=6.0, ge=0.0, description="length cases: logits per unit of log length that annotators pay")
    length_value: float = Field(default=0.4, gt=0.0, description="valued case: true reward per unit of log length")
    skill: float = Field(default=12.0, gt=0.0, description="of the annotators: logits per unit of true reward")
    members: int = Field(default=5, ge=2, description="of the ensembles")
    caution: float = Field(default=0.5, ge=0.0, description="uncertainty-weighted: weight of the members' variance")
    more: int = Field(default=4, ge=2, description="more data: times the comparisons")
    votes: int = Field(default=5, ge=2, description="soft and majority labels: votes on each comparison")
    trusted: int = Field(default=600, ge=20, description="careful labels that the length gate is given")
    beta: float = Field(default=0.05, gt=0.0, description="KL weight of the nearly free policy, in standard deviations of the reward")
    beta_kl: float = Field(default=0.5, gt=0.0, description="KL weight of the penalised policy")
    prompts: int = Field(default=24, ge=2, description="prompts of the pool")
    pool: int = Field(default=4096, ge=10, description="replies per prompt")
    largest_n: int = Field(default=2048, ge=4, description="a power of two")


@dataclass
class CaseResult:
    """One case of one seed. gold_K: treatment -> gold at each n. tilted: treatment -> (gold, KL). stopped_n: where the monitor stopped.
    signals: name -> the monitor's readings at each n."""

    gold_K: dict[str, Floats] = field(default_factory=dict)
    tilted: dict[str, tuple[float, float]] = field(default_factory=dict)
    stopped_n: int = 0
    stopped_gold: float = float("nan")
    signals: dict[str, list[float]] = field(default_factory=dict)
    gate: LengthGate | None = None


@dataclass(frozen=True, slots=True)
class Seed:
    """What the cases of one seed share: the pool's texts, the pairs and what judges are drawn from."""

    seed: int
    pool: Pool
    pairs: list[Comparison]
    trusted: list[Comparison]


@dataclass(frozen=True, slots=True)
class Case:
    """One case of one seed, ready to be treated."""

    name: str
    truth: Truth
    crowd: Crowd
    gold_PN: Floats
    seed: Seed


def run_seeds(settings: Mitigations, parts: Parts) -> dict[str, list[CaseResult]]:
    """Case -> its results, one for each seed. Raises ConfigError for settings at odds with each other."""
    ns = powers(settings.largest_n)
    if settings.pool < ns[-1]:
        raise ConfigError(f"pool is {settings.pool!r}, but the largest n is {ns[-1]}: a prompt needs at least that many replies")
    results: dict[str, list[CaseResult]] = {name: [] for name in CASES}
    for number in settings.seeds:
        parts.say(f"seed {number}: {settings.prompts} prompts with {settings.pool:,} replies each")
        seed = _seed(settings, number)
        for name in CASES:
            results[name].append(treat(_case(settings, name, seed), settings, parts, ns))
    return results


def _seed(settings: Mitigations, number: int) -> Seed:
    rng = np.random.default_rng([number, 31])
    policy, n_pairs = Policy(), settings.comparisons * settings.more
    prompts = RepliesWorld(number).prompts(settings.prompts + n_pairs + settings.trusted)
    pool = draw_pool(prompts[: settings.prompts], settings.pool, policy, Truth(), rng)
    pairs = draw_pairs(prompts[settings.prompts :], policy, rng)
    return Seed(number, pool, pairs[:n_pairs], pairs[n_pairs:])


def _case(settings: Mitigations, name: str, seed: Seed) -> Case:
    truth = Truth(settings.length_value if name == "valued" else 0.0)
    # Where length is valued, people pay what it is worth and no more.
    bias = settings.length_bias if name == "length" else 0.0
    crowd = Crowd(Population(skill=settings.skill, skill_spread=0.3, length_bias=bias), flip=settings.noise if name == "noisy" else 0.0)
    return Case(name, truth, crowd, seed.pool.gold_PN + truth.length_value * seed.pool.length_PN, seed)


def _labels(case: Case, pairs: Sequence[Comparison], votes: int, crowd: Crowd, stream: int) -> list[Preference]:
    rng = np.random.default_rng([case.seed.seed, 32, CASES.index(case.name), stream])
    judges = sample_judges(40, crowd, rng)
    return soft_preferences(pairs, judge(pairs, judges, votes=votes, rng=rng, truth=case.truth, flip=crowd.flip))


def treat(case: Case, settings: Mitigations, parts: Parts, ns: Sequence[int]) -> CaseResult:
    """Every mitigation in one case of one seed."""
    result, pool, seed = CaseResult(), case.seed.pool, case.seed.seed

    def fit(preferences: Sequence[Preference], member: int = 0) -> tuple[Scorer, Floats]:
        scorer = parts.fit(preferences, 1000 * seed + member, **fit_settings(settings))
        return scorer, scorer.score(pool.flat).reward.reshape(pool.shape)

    def keep(name: str, proxy_PN: Floats) -> None:
        result.gold_K[name] = expected_best(proxy_PN, case.gold_PN, ns).mean(axis=0)

    every = _labels(case, case.seed.pairs, 1, case.crowd, 0)
    base = every[: settings.comparisons]
    scorer, single_PN = fit(base)
    keep("single model", single_PN)
    _length(case, scorer, single_PN, result, keep, settings)
    if case.name == "valued":
        return result
    rng = np.random.default_rng([seed, 33])
    members = [fit(treatments.resampled(base, rng), 1 + member) for member in range(settings.members)]
    raw_EPN = np.stack([proxy_PN for _, proxy_PN in members])
    scaled_EPN = treatments.on_one_scale(raw_EPN)
    for how, name in (("mean", "ensemble, mean"), ("worst", "ensemble, worst case"), ("uncertainty", "ensemble, uncertainty-weighted")):
        keep(name, treatments.combine(scaled_EPN, how, caution=settings.caution))
    linear = [one for one, _ in members if isinstance(one, NgramScorer)]
    if len(linear) == len(members):
        keep("weight averaging", average(linear).score(pool.flat).reward.reshape(pool.shape))
    keep(f"{settings.more} times the data", fit(every)[1])
    votes = _labels(case, case.seed.pairs[: settings.comparisons], settings.votes, case.crowd, 1)
    keep(f"{settings.votes} votes, majority", fit(treatments.decided(votes))[1])
    keep(f"{settings.votes} votes, soft labels", fit(votes)[1])
    keep("off-prompt augmentation (RRM)", fit(treatments.off_prompt(base, rng))[1])
    z_PN = treatments.on_one_scale(single_PN[None])[0]
    keep("bounded shaping (PAR)", parts.par(z_PN, z_PN[:, :REFERENCES]))
    _tilts(case, z_PN, scaled_EPN, result, settings, parts)
    _monitor(case, single_PN, scaled_EPN.std(axis=0), result, parts, ns)
    parts.say(
        f"  {case.name}: single model {result.gold_K['single model'].max():.3f} at its peak, "
        f"{result.gold_K['single model'][-1]:.3f} at n = {ns[-1]}"
    )
    return result


def _length(case: Case, scorer: Scorer, proxy_PN: Floats, result: CaseResult, keep: Any, settings: Mitigations) -> None:
    """Calibration by the length curve of unlabelled replies, and the gate that trusted labels decide."""
    z_PN, length_PN = treatments.on_one_scale(proxy_PN[None])[0], case.seed.pool.length_PN
    curve = lowess_calibration(z_PN[:, :UNLABELLED].ravel(), length_PN[:, :UNLABELLED].ravel())
    calibrated_PN = curve.calibrate(z_PN, length_PN)
    keep(CALIBRATED, calibrated_PN)
    careful = Crowd(Population(skill=settings.skill, skill_spread=0.0))
    labels = _labels(case, case.seed.trusted, 1, careful, 2)
    spread = float((proxy_PN - proxy_PN.mean(axis=1, keepdims=True)).std()) or 1.0
    sides = list(zip(*(row.exchanges() for row in labels), strict=True))
    reward_2N = np.stack([scorer.score(side).reward / spread for side in sides])
    length_2N = np.stack([log_length([one.response for one in side]) for side in sides])
    fair_2N = curve.calibrate(reward_2N, length_2N)
    result.gate = length_gate(
        reward_2N[0] - reward_2N[1],
        fair_2N[0] - fair_2N[1],
        [row.p_a for row in labels],
        [row.prompt for row in labels],
        rng=np.random.default_rng([case.seed.seed, 34]),
    )
    keep(GATED, calibrated_PN if result.gate.apply else proxy_PN)


def _tilts(case: Case, z_PN: Floats, scaled_EPN: Floats, result: CaseResult, settings: Mitigations, parts: Parts) -> None:
    """The best policy under a KL penalty, for rewards plain, bounded and of the ensemble."""
    bounded_PN = parts.par(z_PN, z_PN[:, :REFERENCES])
    worst_PN = treatments.combine(scaled_EPN, "worst")
    rows = (
        ("hardly any KL penalty", z_PN, settings.beta),
        ("bounded shaping (PAR), same penalty", bounded_PN, settings.beta),
        ("KL penalty", z_PN, settings.beta_kl),
        ("KL penalty, ensemble worst case", worst_PN, settings.beta_kl),
    )
    for name, reward_PN, beta in rows:
        weight_PN, kl_P = parts.tilt(reward_PN, beta)
        result.tilted[name] = (float((weight_PN * case.gold_PN).sum(axis=1).mean()), float(kl_P.mean()))


def _monitor(case: Case, proxy_PN: Floats, doubt_PN: Floats, result: CaseResult, parts: Parts, ns: Sequence[int]) -> None:
    """Where a monitor that never sees the truth would have stopped; it reads the chosen replies' length and the members' disagreement."""
    length_PN = case.seed.pool.length_PN
    columns = [expected_best(proxy_PN, value_PN, ns) for value_PN in (proxy_PN, length_PN, doubt_PN)]
    batches = [tuple(column_PK[:, k] for column_PK in columns) for k in range(len(ns))]
    at, readings = parts.stop((proxy_PN.ravel(), length_PN.ravel(), doubt_PN.ravel()), batches)
    result.stopped_n, result.stopped_gold = ns[at], float(result.gold_K["single model"][at])
    for name in ("length_shift", "disagreement_ratio"):
        result.signals[name] = [float(getattr(reading, name)) for reading in readings]
