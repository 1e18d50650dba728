"""Ask a scorer about preferences: score each distinct exchange once, then every number from one prompt-clustered bootstrap.

Legend: N pairs, E distinct exchanges, M rankings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preferent.audits import baselines, metrics, slices
from preferent.audits.evaluation import Counts, Evaluation, Histogram, Mistake
from preferent.audits.rankings import ranking_columns
from preferent.audits.resample import Codes, Column, clustered_means, no_estimate
from preferent.audits.shape import shape_of_rewards
from preferent.core.errors import ConfigError, DataError, ModelError
from preferent.core.estimates import Estimate, cluster_codes
from preferent.core.records import Exchange, Floats, Preference, Ranking
from preferent.core.scorer import Scorer

N_MISTAKES = 10
HISTOGRAM_BINS = 40
SHARES = {"accuracy", "longer_side", "annotator", "scorer_on_annotator", "tied", "picks_longer", "labels_pick_longer"}


@dataclass(frozen=True, slots=True)
class Scored:
    """The pairs as arrays. Orientation: `margin_N` = reward of a - reward of b; `p_N` = P(a preferred)."""

    pairs: list[Preference]
    rankings: list[Ranking]
    exchanges: list[Exchange]
    reward_E: Floats
    a_N: NDArray[np.int64]
    b_N: NDArray[np.int64]
    ranked: list[NDArray[np.int64]]
    p_N: Floats
    weights_N: Floats
    codes_N: Codes
    chars_E: Floats

    @property
    def margin_N(self) -> Floats:
        return self.reward_E[self.a_N] - self.reward_E[self.b_N]


def evaluate(
    scorer: Scorer,
    preferences: Iterable[Preference | Ranking],
    *,
    temperature: float = 1.0,
    seed: int = 0,
    n_resamples: int = 2000,
) -> Evaluation:
    """Everything `preferent` says about a scorer on preferences, with 95 % intervals from resampling whole prompts.

    A ranking of K responses counts as its K(K-1)/2 pairs (equal ranks are label ties), and is also judged as a ranking. Weights of the
    records are respected in every mean over pairs. Probabilities are sigmoid(margin / temperature). Raises DataError where there is
    nothing to evaluate or a reward is not a finite number (naming the first exchanges), ConfigError for a temperature that is not
    above 0, ModelError where the scorer does not answer every exchange.
    """
    temperature = metrics.check_temperature(temperature)
    if n_resamples < 100:
        raise ConfigError(f"n_resamples is {n_resamples!r}; allowed: 100 or more", hint="2000 is the default")
    data = _score(scorer, preferences)
    streams = [np.random.default_rng([seed, k]) for k in range(4)]
    margin_N, p_N, weights_N, codes_N = data.margin_N, data.p_N, data.weights_N, data.codes_N
    confidence_N, label_N = metrics.confidence(margin_N, p_N, temperature)
    calibration = metrics.reliability(confidence_N, label_N, weights_N, codes_N, rng=streams[1], n_resamples=n_resamples)
    chars_a_N, chars_b_N = data.chars_E[data.a_N], data.chars_E[data.b_N]
    masks = slices.slice_masks([pair.source for pair in data.pairs], chars_a_N, chars_b_N, p_N)
    annotator = baselines.held_out_annotator([pair.votes for pair in data.pairs], margin_N)
    scorer_N, longer_N = metrics.hits(margin_N, p_N), baselines.longer_hits(chars_a_N, chars_b_N, p_N)
    columns = _columns(data, scorer_N, longer_N, annotator, temperature) | slices.slice_columns(masks, scorer_N, longer_N, weights_N)
    found = clustered_means(columns, codes_N, rng=streams[0], n_resamples=n_resamples)
    rows = slices.slices_from(masks, found)
    numbers = _numbers(found, annotator, rows) | {"ece": calibration.ece, "ece_noise": calibration.noise}
    uncalibrated = None
    if temperature != 1.0:
        raw = metrics.confidence(margin_N, p_N)
        rng = np.random.default_rng([seed, 4])
        uncalibrated = metrics.reliability(*raw, weights_N, codes_N, rng=rng, n_resamples=n_resamples)
        numbers |= {"ece_before": uncalibrated.ece}
    ranked = ranking_columns([data.reward_E[index] for index in data.ranked], data.rankings)
    if data.rankings:
        ranking_codes = cluster_codes([ranking.prompt for ranking in data.rankings])
        numbers |= clustered_means(ranked.columns, ranking_codes, rng=streams[2], n_resamples=n_resamples)
    exchange_codes = cluster_codes([exchange.prompt for exchange in data.exchanges])
    numbers |= shape_of_rewards(data.reward_E, data.chars_E, exchange_codes, rng=streams[3], n_resamples=n_resamples)
    return Evaluation(
        scorer=scorer.name,
        temperature=temperature,
        seed=seed,
        n_resamples=n_resamples,
        counts=_counts(data, annotator, ranked.n_flat),
        numbers=numbers,
        reliability=calibration,
        slices=rows,
        margins=histogram(metrics.preferred_margin(margin_N, p_N)),
        mistakes=_mistakes(data, temperature),
        uncalibrated=uncalibrated,
    )


def _counts(data: Scored, annotator: baselines.Annotator, flat_rankings: int) -> Counts:
    """How much was seen, and what each number leaves out."""
    return Counts(
        pairs=len(data.p_N),
        prompts=int(data.codes_N.max()) + 1,
        exchanges=len(data.exchanges),
        rankings=len(data.rankings),
        label_ties=int(np.count_nonzero(data.p_N == 0.5)),
        reward_ties=int(np.count_nonzero((data.margin_N == 0) & (data.p_N != 0.5))),
        votes=annotator.n_votes,
        undecided_votes=annotator.n_undecided,
        flat_rankings=flat_rankings,
    )


def _score(scorer: Scorer, records: Iterable[Preference | Ranking]) -> Scored:
    """Expand rankings, give every distinct exchange one place, score them in one call, and check the answer."""
    places: dict[Exchange, int] = {}
    pairs: list[Preference] = []
    rankings: list[Ranking] = []
    ranked: list[NDArray[np.int64]] = []
    for record in records:
        if isinstance(record, Ranking):
            rankings.append(record)
            exchanges = [Exchange(prompt=record.prompt, response=response) for response in record.responses]
            ranked.append(np.array([places.setdefault(exchange, len(places)) for exchange in exchanges]))
            pairs.extend(record.preferences())
        else:
            pairs.append(record)
    if not pairs:
        raise DataError(
            "nothing to evaluate: no preferences and no rankings", hint="every row may have been refused: see `preferent check`"
        )
    ends = [[places.setdefault(exchange, len(places)) for exchange in pair.exchanges()] for pair in pairs]
    exchanges = list(places)
    return Scored(
        pairs=pairs,
        rankings=rankings,
        exchanges=exchanges,
        reward_E=_rewards(scorer, exchanges),
        a_N=np.array([a for a, _ in ends]),
        b_N=np.array([b for _, b in ends]),
        ranked=ranked,
        p_N=np.array([pair.p_a for pair in pairs]),
        weights_N=np.array([pair.weight for pair in pairs]),
        codes_N=cluster_codes([pair.prompt for pair in pairs]),
        chars_E=np.array([len(exchange.response) for exchange in exchanges], dtype=np.float64),
    )


def _rewards(scorer: Scorer, exchanges: list[Exchange]) -> Floats:
    """The scorer's rewards, one finite number per exchange, or the error that says which are not."""
    reward_E = np.asarray(scorer.score(exchanges).reward, dtype=np.float64)
    if reward_E.shape != (len(exchanges),):
        raise ModelError(f"scorer {scorer.name!r} answered {len(exchanges)} exchanges with rewards of shape {reward_E.shape}")
    bad = np.flatnonzero(~np.isfinite(reward_E))
    if len(bad):
        first = "; ".join(
            f"{reward_E[i]} for response {exchanges[i].response[:60]!r} to {_last_turn(exchanges[i])[:60]!r}" for i in bad[:3]
        )
        raise DataError(
            f"scorer {scorer.name!r} gave {len(bad):,} of {len(exchanges):,} exchanges a reward that is not a finite number: {first}",
            hint="score these few exchanges alone in float32; half precision overflows, and an all-masked row divides by zero",
        )
    return reward_E


def _last_turn(exchange: Exchange) -> str:
    return exchange.prompt[-1].content if exchange.prompt else ""


def _columns(data: Scored, scorer_N: Floats, longer_N: Floats, annotator: baselines.Annotator, temperature: float) -> dict[str, Column]:
    """Every mean over pairs as a column of the shared bootstrap."""
    margin_N, p_N = data.margin_N, data.p_N
    longer_side_N = np.sign(data.chars_E[data.a_N] - data.chars_E[data.b_N])
    unequal_N = longer_side_N != 0
    values = {
        "accuracy": scorer_N,
        "longer_side": longer_N,
        "minus_longer": scorer_N - longer_N,
        "minus_shorter": scorer_N - (1.0 - longer_N),
        "annotator": annotator.annotator_N,
        "scorer_on_annotator": annotator.scorer_N,
        "minus_annotator": annotator.scorer_N - annotator.annotator_N,
        "nll": metrics.nll(margin_N, p_N, temperature),
        **({} if temperature == 1.0 else {"nll_before": metrics.nll(margin_N, p_N)}),
        "label_entropy": metrics.label_entropy(p_N),
        "brier": metrics.brier(margin_N, p_N, temperature),
        "mean_margin": metrics.preferred_margin(margin_N, p_N),
        "tied": np.where(data.a_N == data.b_N, np.nan, margin_N == 0),
        "picks_longer": np.where(unequal_N, 0.5 + 0.5 * np.sign(margin_N) * longer_side_N, np.nan),
        "labels_pick_longer": np.where(unequal_N, 0.5 + (p_N - 0.5) * longer_side_N, np.nan),
    }
    return {name: Column.of(np.asarray(row_N, dtype=np.float64), data.weights_N, share=name in SHARES) for name, row_N in values.items()}


def _numbers(found: dict[str, Estimate], annotator: baselines.Annotator, rows: tuple[slices.Slice, ...]) -> dict[str, Estimate]:
    """The named estimates without the slices, and without baselines that do not apply."""
    numbers = {name: estimate for name, estimate in found.items() if "/" not in name}
    if not numbers["longer_side"].value < 0.5:
        del numbers["minus_shorter"]
    if annotator.n_votes == 0:
        for name in ("annotator", "scorer_on_annotator", "minus_annotator"):
            del numbers[name]
    matched = [row.accuracy for row in rows if (row.group, row.name) == ("length", slices.MATCHED)]
    return numbers | {"matched_accuracy": matched[0] if matched else no_estimate("no observations")}


def histogram(margin_N: Floats, bins: int = HISTOGRAM_BINS) -> Histogram:
    """Counts of finite margins in about `bins` bins between their 0.5 % and 99.5 % quantiles; what lies beyond is in the outer bins.

    Where the range holds 0, 0 is an edge, so that no bin mixes mistakes with right answers.
    """
    margin_N = margin_N[np.isfinite(margin_N)]
    if len(margin_N) == 0:
        return Histogram((0.0, 1.0), (0,))
    low, high = np.quantile(margin_N, [0.005, 0.995])
    if high - low <= 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = (high - low) / bins
    edges = np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step if low < 0 < high else np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(np.clip(margin_N, edges[0], edges[-1]), bins=edges)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)))


def _mistakes(data: Scored, temperature: float) -> tuple[Mistake, ...]:
    """The decided pairs with the reward on the wrong side, the highest NLL first."""
    margin_N, p_N = data.margin_N, data.p_N
    wrong = np.flatnonzero(metrics.hits(margin_N, p_N) == 0.0)
    worst = wrong[np.argsort(-metrics.nll(margin_N, p_N, temperature)[wrong], kind="stable")][:N_MISTAKES]
    confidence_N, _ = metrics.confidence(margin_N, p_N, temperature)
    rows = []
    for i in worst:
        swap = p_N[i] < 0.5
        pair = data.pairs[i].swap() if swap else data.pairs[i]
        preferred, other = (data.b_N[i], data.a_N[i]) if swap else (data.a_N[i], data.b_N[i])
        rows.append(
            Mistake(
                prompt=pair.prompt,
                preferred=pair.response_a,
                other=pair.response_b,
                reward_preferred=float(data.reward_E[preferred]),
                reward_other=float(data.reward_E[other]),
                p_preferred=pair.p_a,
                confidence=float(confidence_N[i]),
                source=pair.source,
                id=pair.id,
            )
        )
    return tuple(rows)
