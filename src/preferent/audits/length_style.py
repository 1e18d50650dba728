"""What a reward pays for length and looks, beyond what people's labels pay for them.

A slope of the reward on length is no fault by itself: longer replies may be better. What is held against the scorer is its *excess*: on
pairs whose sides differ in a feature, how much more probability it gives to the side with more of it than the labels do. A scorer that
knows P(preferred) has none, however much length there is in the labels; accuracy that differs between "the longer side is right" and
"the shorter side is right" may come from noisy labels alone, and is shown without a verdict.

Legend: N pairs, E exchanges, F features, P prompts, B bins, C clusters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from preferent.audits.metrics import hits, nll, probability
from preferent.audits.resample import Codes, Column, clustered_counts, clustered_means, sums
from preferent.audits.slices import LENGTH_BUCKETS, length_buckets, relative_difference
from preferent.core.estimates import Estimate, cluster_codes
from preferent.core.records import Floats

FEATURES: dict[str, Callable[[str], float]] = {
    "length": lambda text: float(np.log2(len(text) + 1)),
    "list items": lambda text: float(len(re.findall(r"^\s*(?:[-*+]|\d+[.)])\s", text, re.M))),
    "headers": lambda text: float(len(re.findall(r"^\s*#{1,6}\s", text, re.M))),
    "bold": lambda text: float(len(re.findall(r"\*\*[^*\n]+\*\*|__[^_\n]+__", text))),
    "code": lambda text: float(len(re.findall(r"```|`[^`\n]+`", text))),
    "exclamation marks": lambda text: float(text.count("!")),
    "emoji": lambda text: float(len(re.findall("[\U0001f300-\U0001faff\u2600-\u27bf]", text))),
}
ENOUGH = 20
BINS = 8


def style_features(texts: Sequence[str]) -> Floats:
    """Counts of each of FEATURES in each text (length: log2 of characters + 1), shape (E, F)."""
    return np.array([[count(text) for count in FEATURES.values()] for text in texts], dtype=np.float64).reshape(len(texts), len(FEATURES))


def best_temperature(margin_N: Floats, p_N: Floats) -> float:
    """The temperature with the lowest NLL on these pairs: takes over- and under-confidence out before a slope is read."""
    scale = float(np.std(margin_N)) or 1.0
    found = minimize_scalar(lambda log_t: float(nll(margin_N, p_N, np.exp(log_t) * scale).mean()), bounds=(-6.0, 6.0), method="bounded")
    return float(np.exp(found.x) * scale)


def excess(difference_N: Floats, margin_N: Floats, p_N: Floats, weights_N: Floats, codes_N: Codes, *, rng: np.random.Generator) -> Estimate:
    """Mean of (q - p) on the side with more of a feature, over the pairs that differ in it; in probability, [-1, 1].

    difference_N: feature of a minus feature of b. q = sigmoid(margin / T) with T refitted on these pairs. 0 for any scorer whose
    probabilities are right; above 0 the scorer leans to more of the feature than the labels do. Exchanging sides changes nothing.
    """
    q_N = probability(margin_N, best_temperature(margin_N, p_N))
    lean_N = np.where(difference_N == 0, np.nan, (q_N - p_N) * np.sign(difference_N))
    return clustered_means({"excess": Column.of(lean_N, weights_N)}, codes_N, rng=rng)["excess"]


def lean(
    difference_N: Floats, margin_N: Floats, p_N: Floats, weights_N: Floats, codes_N: Codes, *, rng: np.random.Generator
) -> tuple[Estimate, Estimate]:
    """(labels, scorer): mean probability above one half that each gives to the side with more of a feature, [-0.5, 0.5]."""
    q_N = probability(margin_N, best_temperature(margin_N, p_N))
    sign_N = np.where(difference_N == 0, np.nan, np.sign(difference_N))
    columns = {name: Column.of((value_N - 0.5) * sign_N, weights_N) for name, value_N in (("labels", p_N), ("scorer", q_N))}
    found = clustered_means(columns, codes_N, rng=rng)
    return found["labels"], found["scorer"]


def feature_weights(
    reward_E: Floats, features_EF: Floats, codes_E: Codes, *, rng: np.random.Generator, n_resamples: int = 300
) -> list[Estimate]:
    """Partial slopes of the reward on every feature at once, within prompts: SD of the reward per SD of the feature, each of shape (F,).

    Both sides are centred within their prompt and scaled by their own spread there; a feature that does not vary has no value. The
    least squares are refitted on every resample of prompts.
    """
    y_E, x_EF = _centred(reward_E[:, None], codes_E)[:, 0], _centred(features_EF, codes_E)
    spread_F = x_EF.std(0)
    kept = np.flatnonzero(spread_F > 1e-12)
    x_EF = x_EF[:, kept] / spread_F[kept]
    y_E = y_E / (y_E.std() or 1.0)

    def slopes(counts_E: Floats) -> Floats:
        gram = (x_EF * counts_E[:, None]).T @ x_EF
        ridge = 1e-6 * np.trace(gram) / max(1, len(kept))
        return np.linalg.solve(gram + ridge * np.eye(len(kept)), x_EF.T @ (counts_E * y_E))

    none = Estimate(np.nan, np.nan, np.nan, len(y_E), "does not vary within a prompt")
    found = [none] * features_EF.shape[1]
    seed = int(rng.integers(2**63))
    for place, feature in enumerate(kept):
        own = np.random.default_rng(seed)  # the same draws for every feature
        found[feature] = clustered_counts(lambda c, k=place: float(slopes(c)[k]), codes_E, rng=own, n_resamples=n_resamples)
    return found


def _centred(values_EF: Floats, codes_E: Codes) -> Floats:
    n = int(codes_E.max()) + 1
    size_C = np.bincount(codes_E, minlength=n)
    mean_CF = np.stack([sums(codes_E, column_E, n) / size_C for column_E in values_EF.T], axis=1)
    return values_EF - mean_CF[codes_E]


def length_curve(reward_E: Floats, features_EF: Floats, codes_E: Codes, *, rng: np.random.Generator) -> list[tuple[float, Estimate]]:
    """Partial dependence of the reward on length: (length as a multiple of the prompt's mean reply, reward in its own SD) per bin.

    The part of both that the other features explain is taken out first (Frisch, Waugh and Lovell); bins hold equal numbers.
    """
    y_E, x_EF = _centred(reward_E[:, None], codes_E)[:, 0], _centred(features_EF, codes_E)
    length_E, others_EF = x_EF[:, 0], x_EF[:, 1:]
    others_EF = others_EF[:, others_EF.std(0) > 1e-12]
    if others_EF.shape[1]:
        targets = np.stack([y_E, length_E], axis=1)
        targets = targets - others_EF @ np.linalg.lstsq(others_EF, targets, rcond=None)[0]
        y_E, length_E = targets[:, 0], targets[:, 1]
    if np.ptp(length_E) < 1e-9:
        return []
    bin_E = np.searchsorted(np.quantile(length_E, np.linspace(0, 1, BINS + 1)[1:-1]), length_E, side="right")
    scale = y_E.std() or 1.0
    columns = {str(b): Column.of(y_E / scale, np.ones(len(y_E)), bin_E == b) for b in range(BINS)}
    found = clustered_means(columns, codes_E, rng=rng)
    return [(float(2.0 ** length_E[bin_E == b].mean()), found[str(b)]) for b in range(BINS) if (bin_E == b).any()]


def accuracy_by_length_gap(
    margin_N: Floats, p_N: Floats, chars_N2: Floats, weights_N: Floats, codes_N: Codes, *, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Accuracy in each of the five LENGTH_BUCKETS of the preferred side; chars_N2: characters of a and b."""
    bucket_N, hit_N = length_buckets(chars_N2[:, 0], chars_N2[:, 1], p_N), hits(margin_N, p_N)
    columns = {name: Column.of(hit_N, np.where(bucket_N == k, weights_N, 0.0), share=True) for k, name in enumerate(LENGTH_BUCKETS)}
    return clustered_means(columns, codes_N, rng=rng)


@dataclass(frozen=True, slots=True)
class Controlled:
    """Accuracy as it is, with length made useless by weights, and what was lost by that (plain minus controlled, paired)."""

    plain: Estimate
    controlled: Estimate
    lost: Estimate


def length_controlled_accuracy(
    margin_N: Floats, p_N: Floats, chars_N2: Floats, weights_N: Floats, codes_N: Codes, *, rng: np.random.Generator, n_resamples: int = 500
) -> Controlled:
    """Accuracy after weights that make the longer side right exactly half of the time within each size of length gap (within 10 %, within
    a factor of two, beyond). 'The longer side wins' scores 0.5 here whatever the labels are. Weights are renewed in every resample."""
    hit_N = hits(margin_N, p_N)
    gap_N = np.round(relative_difference(chars_N2[:, 0], chars_N2[:, 1], p_N), 9)
    size_N = np.where(np.abs(gap_N) <= 0.1, 0, np.where(np.abs(gap_N) <= 0.5, 1, 2))
    cell_N = size_N * 2 + (gap_N > 0)
    counted_N = ~np.isnan(hit_N)
    value_N, mass_N = np.nan_to_num(hit_N), np.where(counted_N, weights_N, 0.0)

    def plain(counts_N: Floats) -> float:
        total = float(counts_N @ mass_N)
        return float(counts_N @ (mass_N * value_N)) / total if total else np.nan

    def controlled(counts_N: Floats) -> float:
        right, mass = sums(cell_N, counts_N * mass_N * value_N, 6), sums(cell_N, counts_N * mass_N, 6)
        both = mass.reshape(3, 2).min(1) > 0
        if not both.any():
            return np.nan
        per_size = (right / np.maximum(mass, 1e-300)).reshape(3, 2).mean(1)
        share = mass.reshape(3, 2).sum(1) * both
        return float(per_size @ share / share.sum())

    seed = int(rng.integers(2**63))
    statistics = (plain, controlled, lambda counts_N: plain(counts_N) - controlled(counts_N))
    rows = [clustered_counts(s, codes_N, rng=np.random.default_rng(seed), n_resamples=n_resamples) for s in statistics]
    return Controlled(*rows)


@dataclass(frozen=True, slots=True)
class StyleGrid:
    """matrix[i][j]: accuracy when the better answer has style i and the worse style j (plainest first). easy: the better answer has the
    richer style; normal: both have one style; hard: the worse one has the richer style. lost: normal minus hard, paired."""

    styles: tuple[str, ...]
    matrix: tuple[tuple[Estimate, ...], ...]
    easy: Estimate
    normal: Estimate
    hard: Estimate
    average: Estimate
    lost: Estimate


def style_grid(
    better_PS: Floats, worse_PS: Floats, prompts_P: Sequence[object], *, styles: Sequence[str], rng: np.random.Generator
) -> StyleGrid:
    """RM-Bench's grid (Liu et al. 2024, section 3.2): rewards of the better and the worse answer of each item in S styles, shape (P, S).

    As its authors count: only a strictly higher reward is right. Intervals resample prompts.
    """
    n_styles = better_PS.shape[1]
    right_PSS = (better_PS[:, :, None] > worse_PS[:, None, :]).astype(np.float64)
    i, j = np.indices((n_styles, n_styles))
    parts = {"easy": i > j, "normal": i == j, "hard": i < j, "average": i >= 0}
    ones_P = np.ones(len(right_PSS))
    mean_P = {name: right_PSS[:, where].mean(1) for name, where in parts.items()}
    columns = {name: Column.of(row_P, ones_P, share=True) for name, row_P in mean_P.items()}
    columns["lost"] = Column.of(mean_P["normal"] - mean_P["hard"], ones_P)
    columns |= {f"{a}/{b}": Column.of(right_PSS[:, a, b], ones_P, share=True) for a in range(n_styles) for b in range(n_styles)}
    found = clustered_means(columns, cluster_codes(list(prompts_P)), rng=rng)
    matrix = tuple(tuple(found.pop(f"{a}/{b}") for b in range(n_styles)) for a in range(n_styles))
    return StyleGrid(tuple(styles), matrix, **found)
