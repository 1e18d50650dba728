"""Experiment 1: best-of-n by a learned reward, and what becomes of the true one (Gao et al. 2022).

For several numbers of comparisons and noise rates: gold and proxy against sqrt(KL), the law d (alpha - beta d), where it peaks, the
exact KL beside the bound, and the variance of the unbiased estimator beside that of disjoint blocks.

Legend: P prompts, N replies per prompt, K values of n, S seeds, M numbers of comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from preferent.annotators.simulate import Population
from preferent.annotators.votes import soft_preferences
from preferent.core.best_of_n import block_best, exact_kl, expected_best, kl_bound
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate, clustered_statistic
from preferent.core.over_optimisation import Law, fit_law
from preferent.core.records import Exchange, Floats, Preference
from preferent.core.scorer import Scorer
from preferent.core.settings import Settings
from preferent.lab.crowd import Crowd, judge, sample_judges
from preferent.lab.experiments.outcome import Parts, powers
from preferent.lab.policy import Policy, Pool, Truth, draw_pairs, draw_pool
from preferent.lab.replies import RepliesWorld

BLOCK_NS = (4, 16, 64)
SUB_POOLS = 10


class OverOptimisation(Settings):
    """Settings of experiment 1."""

    experiment: Literal["over-optimisation"] = "over-optimisation"
    scorer: Literal["ngrams", "tiny"] = Field(default="ngrams", description="the learned reward: n-gram counts, or the tiny transformer")
    prior: float = Field(default=4.0, gt=0.0, description="ngrams: precision of the prior on each weight")
    epochs: float = Field(default=4.0, gt=0.0, description="tiny: passes over the comparisons")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3), min_length=1, description="one whole run each: world, labels, training")
    comparisons: tuple[int, ...] = Field(default=(250, 1000, 4000), min_length=1, description="numbers of comparisons to learn from")
    noise: tuple[float, ...] = Field(default=(0.0, 0.25), min_length=1, description="shares of answers turned round, each in [0, 0.5)")
    skill: float = Field(default=12.0, gt=0.0, description="of the annotators: logits per unit of true reward")
    prompts: int = Field(default=24, ge=2, description="prompts of the pool")
    pool: int = Field(default=6000, ge=10, description="replies per prompt; more than the largest n, or the last points are noisy")
    largest_n: int = Field(default=4096, ge=4, description="a power of two")
    grades: int = Field(default=10, ge=2, description="of the coarse judge whose exact KL leaves the bound")


@dataclass(frozen=True, slots=True)
class Arm:
    """One number of comparisons at one noise rate. Curves of means over prompts, one row per seed; accuracy on fresh pairs."""

    comparisons: int
    noise: float
    gold_SK: Floats
    proxy_SK: Floats
    accuracy_S: Floats
    kl_SK: Floats
    law: Law
    peak_d: Estimate

    @property
    def name(self) -> str:
        return f"{self.comparisons:,} comparisons, {self.noise:.0%} noise"


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one seed can be taught: the same comparisons for every arm, a noisier arm having more of the same answers turned round."""

    pool: Pool
    preferences: dict[float, list[Preference]]
    test: list[tuple[Exchange, Exchange]]
    test_gap: Floats


@dataclass(frozen=True, slots=True)
class Findings:
    """What all seeds found. variance_S2: for each seed the variances of the estimator over all subsets and over blocks, one number for
    each of BLOCK_NS; coarse_SK: exact KL of the coarse judge."""

    ns: tuple[int, ...]
    arms: list[Arm]
    variance: list[tuple[Floats, Floats]]
    coarse_SK: Floats


def run_seeds(settings: OverOptimisation, parts: Parts) -> Findings:
    """Teach, fit and measure for every seed, number of comparisons and noise rate. Raises ConfigError for settings at odds."""
    ns = powers(settings.largest_n)
    if settings.pool < ns[-1]:
        raise ConfigError(f"pool is {settings.pool!r}, but the largest n is {ns[-1]}: a prompt needs at least that many replies")
    grid = [(m, noise) for m in sorted(settings.comparisons) for noise in sorted(settings.noise)]
    found: dict[tuple[int, float], list[dict[str, Any]]] = {cell: [] for cell in grid}
    variance, coarse_SK = [], []
    for seed in settings.seeds:
        parts.say(f"seed {seed}: {settings.prompts} prompts with {settings.pool:,} replies each")
        lesson = teach(settings, seed)
        proxy_PN = lesson.pool.gold_PN
        for m, noise in grid:
            scorer = parts.fit(lesson.preferences[noise][:m], seed, **fit_settings(settings))
            proxy_PN = scorer.score(lesson.pool.flat).reward.reshape(lesson.pool.shape)
            row = _measure(scorer, proxy_PN, lesson, ns)
            found[m, noise].append(row)
            parts.say(f"  {m:,} comparisons, noise {noise:g}: accuracy {row['accuracy']:.3f}, peak at n = {ns[int(row['gold'].argmax())]}")
        # Both are about estimators, not about a model: measured on the last one.
        variance.append(_variances(proxy_PN, lesson.pool.gold_PN))
        coarse_SK.append(_coarse_kl(proxy_PN, settings.grades, ns))
    return Findings(ns, [_arm(m, noise, found[m, noise], ns) for m, noise in grid], variance, np.array(coarse_SK))


def fit_settings(settings: Any) -> dict[str, Any]:
    """What the trainer named in the settings takes."""
    return {"prior": settings.prior} if settings.scorer == "ngrams" else {"epochs": settings.epochs}


def teach(settings: OverOptimisation, seed: int) -> Lesson:
    """The pool, the comparisons with their answers at each noise rate, and 1,000 fresh pairs to test on."""
    rng = np.random.default_rng([seed, 11])
    world, policy, n_test = RepliesWorld(seed), Policy(), 1000
    most = max(settings.comparisons)
    prompts = world.prompts(settings.prompts + most + n_test)
    pool = draw_pool(prompts[: settings.prompts], settings.pool, policy, Truth(), rng)
    pairs = draw_pairs(prompts[settings.prompts :], policy, rng)
    judges = sample_judges(40, Crowd(Population(skill=settings.skill, skill_spread=0.3)), rng)
    preferences = {}
    for noise in settings.noise:
        same = np.random.default_rng([seed, 12])
        preferences[noise] = soft_preferences(pairs[:most], judge(pairs[:most], judges, votes=1, rng=same, flip=noise))
    test = [(Exchange(prompt=c.prompt, response=c.response_a), Exchange(prompt=c.prompt, response=c.response_b)) for c in pairs[most:]]
    gap = Truth().of([a for a, _ in test]) - Truth().of([b for _, b in test])
    return Lesson(pool, preferences, test, gap)


def _measure(scorer: Scorer, proxy_PN: Floats, lesson: Lesson, ns: Sequence[int]) -> dict[str, Any]:
    gold_PK = expected_best(proxy_PN, lesson.pool.gold_PN, ns)
    spread = float((proxy_PN - proxy_PN.mean(axis=1, keepdims=True)).std()) or 1.0
    centred_PN = (proxy_PN - proxy_PN.mean(axis=1, keepdims=True)) / spread
    told = lesson.test_gap != 0.0
    margin = scorer.score([a for a, _ in lesson.test]).reward - scorer.score([b for _, b in lesson.test]).reward
    right = (np.sign(margin[told]) * np.sign(lesson.test_gap[told]) + 1.0) / 2.0
    return {
        "gold": gold_PK.mean(axis=0),
        "gold_PK": gold_PK,
        "proxy": expected_best(centred_PN, centred_PN, ns).mean(axis=0),
        "accuracy": float(right.mean()),
        "kl": np.array([np.mean([exact_kl(row, n) for row in proxy_PN]) for n in ns]),
    }


def _arm(m: int, noise: float, rows: list[dict[str, Any]], ns: Sequence[int]) -> Arm:
    gold_SK, d_K = np.array([row["gold"] for row in rows]), distances(ns)
    flat = np.concatenate([row["gold_PK"] for row in rows])

    def peak(rows_N: np.ndarray) -> float:
        law = fit_law(d_K, flat[rows_N].mean(axis=0) - flat[rows_N, 0].mean())
        return min(law.peak_d, 2 * float(d_K[-1]))  # a law that does not turn in sight peaks "far out"

    return Arm(
        m,
        noise,
        gold_SK,
        np.array([row["proxy"] for row in rows]),
        np.array([row["accuracy"] for row in rows]),
        np.array([row["kl"] for row in rows]),
        fit_law(d_K, gold_SK.mean(axis=0) - gold_SK[:, 0].mean()),
        clustered_statistic(peak, np.arange(len(flat)), rng=np.random.default_rng(0), n_resamples=300),
    )


def distances(ns: Sequence[int]) -> Floats:
    """sqrt of the KL bound, shape (K,)."""
    return np.array([kl_bound(n) ** 0.5 for n in ns], dtype=np.float64)


def _variances(proxy_PN: Floats, gold_PN: Floats) -> tuple[Floats, Floats]:
    """Variance of both estimators over 10 sub-pools, mean over prompts, for each of BLOCK_NS that fits."""
    size = proxy_PN.shape[1] // SUB_POOLS
    ns = [n for n in BLOCK_NS if 2 * n <= size]
    if not ns:  # a pool too small to be cut
        return np.zeros(0), np.zeros(0)
    pieces = [slice(k * size, (k + 1) * size) for k in range(SUB_POOLS)]
    subsets = np.stack([expected_best(proxy_PN[:, piece], gold_PN[:, piece], ns) for piece in pieces])
    blocks = np.stack([np.stack([block_best(proxy_PN[:, piece], gold_PN[:, piece], n) for n in ns], axis=1) for piece in pieces])
    return subsets.var(axis=0, ddof=1).mean(axis=0), blocks.var(axis=0, ddof=1).mean(axis=0)


def _coarse_kl(proxy_PN: Floats, grades: int, ns: Sequence[int]) -> Floats:
    """Exact KL of a judge that sees only `grades` equally wide grades of the same proxy, mean over prompts, shape (K,)."""
    low_P1, high_P1 = proxy_PN.min(axis=1, keepdims=True), proxy_PN.max(axis=1, keepdims=True)
    grade_PN = np.minimum(np.floor((proxy_PN - low_P1) / np.maximum(high_P1 - low_P1, 1e-300) * grades), grades - 1)
    return np.array([float(np.mean([exact_kl(row, n) for row in grade_PN])) for n in ns], dtype=np.float64)
