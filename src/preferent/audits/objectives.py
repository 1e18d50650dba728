"""The heads of a model of several objectives beside what people said: each with its ratings, with length, and with each other.

Spearman's correlations throughout, with 95 % intervals from resampling whole prompts. An objective that a response was not rated on is
no part of its numbers.

Legend: R rated responses, K objectives, N comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from preferent.audits.metrics import hits
from preferent.audits.objectives_front import Front, front_of
from preferent.core.errors import DataError
from preferent.core.estimates import Estimate, clustered_mean, clustered_statistic
from preferent.core.records import Exchange, Floats, Preference, Prompt, Rating
from preferent.core.scorer import Scorer

RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class HeadNumbers:
    """One objective. with_ratings: head against people; beside: what else was compared with the same ratings, by name ("length" is the
    bar any head must pass). with_length: head against length; people_with_length: ratings against length, what an honest head may
    have. accuracy: of its own held-out comparisons."""

    name: str
    with_ratings: Estimate
    beside: dict[str, Estimate]
    with_length: Estimate
    people_with_length: Estimate
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class ObjectiveStudy:
    """Everything `study_objectives` found. between_KK: correlation of head k with head l over all responses; people_KK: of the ratings,
    NaN where fewer than three responses have both. reward_with_length: of the combined reward. front: None where nothing can be chosen
    from."""

    heads: tuple[HeadNumbers, ...]
    between_KK: Floats
    people_KK: Floats
    reward_with_length: Estimate
    front: Front | None
    n_responses: int
    n_prompts: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the objectives, in their order."""
        return tuple(head.name for head in self.heads)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        row: dict[str, Any] = {"responses": self.n_responses, "prompts": self.n_prompts, "heads": {}}
        for head in self.heads:
            row["heads"][head.name] = {
                "with_ratings": head.with_ratings.to_dict(),
                "beside": {name: estimate.to_dict() for name, estimate in head.beside.items()},
                "with_length": head.with_length.to_dict(),
                "people_with_length": head.people_with_length.to_dict(),
                "accuracy": head.accuracy.to_dict(),
            }
        row["between"] = _listed(self.between_KK)
        row["between_people"] = _listed(self.people_KK)
        row["reward_with_length"] = self.reward_with_length.to_dict()
        if self.front is not None:
            row["front"] = {
                "hypervolume": self.front.hypervolume.to_dict(),
                "oracle_hypervolume": self.front.oracle,
                "prompts": self.front.n_prompts,
                "points": [
                    {"weights": weights, "gains": gains, "efficient": bool(is_best)}
                    for weights, gains, is_best in zip(
                        self.front.weights_SK.tolist(), self.front.points_SK.tolist(), self.front.efficient_S, strict=True
                    )
                ],
            }
        return row


@dataclass
class _Table:
    """Exchanges in order of first appearance, with what people said of them."""

    place: dict[Exchange, int] = field(default_factory=dict)

    def at(self, prompt: Prompt, response: str) -> int:
        return self.place.setdefault(Exchange(prompt=prompt, response=response), len(self.place))


def study_objectives(
    scorer: Scorer,
    records: Sequence[Rating | Preference],
    *,
    beside: Mapping[str, Scorer] | None = None,
    seed: int = 0,
) -> ObjectiveStudy:
    """Score held-out ratings and comparisons that name an objective, and say what each head is worth.

    `beside`: other scorers whose reward is compared with every objective's ratings ("single scalar"); length always is. Length is in
    characters of the response. Raises DataError when no record speaks about an objective of the scorer.
    """
    table = _Table()
    ratings = [record for record in records if isinstance(record, Rating)]
    pairs = [record for record in records if isinstance(record, Preference) and record.objective is not None]
    rated_R = [table.at(record.prompt, record.response) for record in ratings]
    sides = [(table.at(pair.prompt, pair.response_a), table.at(pair.prompt, pair.response_b)) for pair in pairs]
    exchanges = list(table.place)
    scores = scorer.score(exchanges) if exchanges else None
    names = [] if scores is None else list(scores.objectives)
    named = {*(name for record in ratings for name in record.values), *(pair.objective for pair in pairs)}
    if scores is None or not named & set(names):
        stated, spoken = ", ".join(names) or "no objective", ", ".join(sorted(map(str, named))) or "none"
        raise DataError(f"{scorer.name} states {stated}, and the records speak about {spoken}", hint="objectives are told by their names")
    prompts = [exchange.prompt for exchange in exchanges]
    length_R = np.array([len(exchange.response) for exchange in exchanges], dtype=np.float64)
    said_RK = np.full((len(exchanges), len(names)), np.nan)
    for row, record in zip(rated_R, ratings, strict=True):
        for k, name in enumerate(names):
            said_RK[row, k] = record.values.get(name, np.nan)
    head_RK = np.stack([scores.objectives[name] for name in names], axis=1)
    others = {"length": length_R, **{name: other.score(exchanges).reward for name, other in (beside or {}).items()}}
    heads = []
    for k, name in enumerate(names):
        own = [(a, b, pair) for (a, b), pair in zip(sides, pairs, strict=True) if pair.objective == name]
        known = ~np.isnan(said_RK[:, k])
        heads.append(
            HeadNumbers(
                name=name,
                with_ratings=rank_correlation(head_RK[:, k], said_RK[:, k], prompts, seed=seed),
                beside={other: rank_correlation(value_R, said_RK[:, k], prompts, seed=seed) for other, value_R in others.items()},
                with_length=rank_correlation(head_RK[:, k], length_R, prompts, seed=seed),
                people_with_length=rank_correlation(np.where(known, length_R, np.nan), said_RK[:, k], prompts, seed=seed),
                accuracy=_accuracy(head_RK[:, k], own, seed=seed),
            )
        )
    return ObjectiveStudy(
        heads=tuple(heads),
        between_KK=correlation_matrix(head_RK),
        people_KK=correlation_matrix(said_RK),
        reward_with_length=rank_correlation(scores.reward, length_R, prompts, seed=seed),
        front=front_of(names, prompts, head_RK, said_RK, rng=np.random.default_rng([seed, 1])),
        n_responses=len(exchanges),
        n_prompts=len(set(prompts)),
    )


def rank_correlation(one_R: Floats, other_R: Floats, prompts: Sequence[Prompt], *, seed: int) -> Estimate:
    """Spearman's correlation over the responses where both are known, with its interval over prompts."""
    known: NDArray[np.int64] = np.flatnonzero(~np.isnan(one_R) & ~np.isnan(other_R))
    nan = float("nan")
    if len(known) < 3:
        return Estimate(nan, nan, nan, len(known), "fewer than three responses")
    one, other = one_R[known], other_R[known]
    clusters = [prompts[row] for row in known.tolist()]
    rng = np.random.default_rng(seed)
    return clustered_statistic(lambda rows: spearman(one[rows], other[rows]), clusters, rng=rng, n_resamples=RESAMPLES)


def spearman(one_N: Floats, other_N: Floats) -> float:
    """Pearson's correlation of mean ranks; NaN where one of the two is constant."""
    a, b = rankdata(one_N), rankdata(other_N)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0.0 else float("nan")


def correlation_matrix(values_RK: Floats) -> Floats:
    """Spearman's correlation of every two columns over the rows that have both, shape (K, K); NaN below three such rows."""
    count = values_RK.shape[1]
    found = np.full((count, count), np.nan)
    for k in range(count):
        for other in range(count):
            both = ~np.isnan(values_RK[:, k]) & ~np.isnan(values_RK[:, other])
            if both.sum() >= 3:
                found[k, other] = spearman(values_RK[both, k], values_RK[both, other])
    return found


def _accuracy(head_R: Floats, own: Sequence[tuple[int, int, Preference]], *, seed: int) -> Estimate:
    decided = [(a, b, pair) for a, b, pair in own if pair.p_a != 0.5]
    nan = float("nan")
    if not decided:
        return Estimate(nan, nan, nan, 0, "no decided comparison of it is held out")
    margin_N = np.array([head_R[a] - head_R[b] for a, b, _ in decided])
    p_N = np.array([pair.p_a for _, _, pair in decided])
    weights_N = np.array([pair.weight for _, _, pair in decided])
    clusters = [pair.prompt for _, _, pair in decided]
    return clustered_mean(hits(margin_N, p_N), clusters, rng=np.random.default_rng(seed), weights_N=weights_N)


def _listed(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]
