"""Position swap: does a pairwise judge prefer whatever it is shown first?

For judges that see two responses at once; a scorer of single responses has no positions. Every pair is shown in both orders.

Legend: K pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from scipy import stats

from preferent.audits.battery_settings import BatterySettings
from preferent.audits.probe import AuditData
from preferent.core.errors import ModelError
from preferent.core.estimates import clustered_mean
from preferent.core.findings import Example, Finding, Verdict
from preferent.core.records import Comparison, Floats

AUDIT = "counterfactual"
NAME = "position.first"
# In probability: by how much the first place may be preferred on average before it matters.
SMALLEST = 0.05
SEVERITY_PER_SHARE = 10.0


@runtime_checkable
class PairwiseJudge(Protocol):
    """Anything that compares two responses to one prompt."""

    @property
    def name(self) -> str: ...

    def prefer(self, comparisons: Sequence[Comparison]) -> Floats:
        """The probability that `response_a` is the better one, shape (n,), in the order given; a is the one shown first."""
        ...


def position_swap(
    judge: PairwiseJudge, data: AuditData, *, smallest: float = SMALLEST, settings: BatterySettings | None = None, seed: int = 0
) -> Finding:
    """How much the first place is worth: the mean, over pairs shown in both orders, of the probability given to the first response, less
    one half. 0 for a judge without a position bias, 0.5 for one that always takes the first.

    The verdict comes from a cluster-robust t-test against `smallest` in either direction. At most `settings.per_edit` pairs, chosen by
    `seed`. Raises ModelError when the judge does not give a probability for each comparison.
    """
    settings = settings or BatterySettings()
    pairs_K2, prompt_K = _pairs(data, settings.per_edit, np.random.default_rng([seed, 6]))
    shown = [
        Comparison(id=str(k), prompt=data.exchanges[a].prompt, response_a=data.exchanges[a].response, response_b=data.exchanges[b].response)
        for k, (a, b) in enumerate(pairs_K2.tolist())
    ]
    p_K, swapped_K = np.split(_asked(judge, [*shown, *(comparison.swap() for comparison in shown)]), 2)
    first_K = (p_K + swapped_K) / 2 - 0.5
    estimate = clustered_mean(first_K, prompt_K, rng=np.random.default_rng([seed, 7]), n_resamples=settings.n_resamples)
    n_prompts = len(np.unique(prompt_K))
    p_value = _p_value(first_K, prompt_K, smallest) if n_prompts >= settings.min_prompts else None
    outside = estimate.low > smallest or estimate.high < -smallest
    verdict: Verdict = "unknown" if p_value is None else "finding" if p_value <= settings.level and outside else "clear"
    same = np.mean((p_K > 0.5) == (swapped_K < 0.5)) if len(shown) else np.nan
    return Finding(
        audit=AUDIT,
        name=NAME,
        estimate=estimate,
        compared_with=f"0, give or take {smallest:g}",
        verdict=verdict,
        summary=f"The response shown first gets {estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}] in probability; the same "
        f"response wins in both orders in {same:.0%} of {len(shown)} pairs.",
        severity=SEVERITY_PER_SHARE * abs(estimate.value) if verdict == "finding" else 0.0,
        p_value=p_value,
        examples=_examples(data, shown, p_K, swapped_K, settings.n_examples),
    )


def _pairs(data: AuditData, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of responses to one prompt in random order, round robin over prompts: (K, 2) rows and the prompt of each."""
    per_prompt = [[(i, j) for i in rows for j in rows if i < j] for rows in map(data.rows_of, range(data.n_prompts))]
    order = [list(rng.permutation(len(pairs))) for pairs in per_prompt]
    chosen = [
        (*(pair if rng.random() < 0.5 else pair[::-1]), prompt)
        for place in range(max(map(len, per_prompt), default=0))
        for prompt in rng.permutation(data.n_prompts)
        if place < len(per_prompt[prompt])
        for pair in [per_prompt[prompt][order[prompt][place]]]
    ][:most]
    rows = np.array(chosen, dtype=np.int64).reshape(-1, 3)
    return rows[:, :2], rows[:, 2]


def _asked(judge: PairwiseJudge, comparisons: Sequence[Comparison]) -> Floats:
    p_N = np.asarray(judge.prefer(comparisons), dtype=np.float64)
    if p_N.shape != (len(comparisons),) or not ((p_N >= 0) & (p_N <= 1)).all():
        what = f"got shape {p_N.shape}" if p_N.shape != (len(comparisons),) else "got others"
        raise ModelError(f"{judge.name!r} must give one probability in [0, 1] for each of {len(comparisons)} comparisons, {what}")
    return p_N


def _p_value(first_K: Floats, prompt_K: np.ndarray, smallest: float) -> float:
    """Of an effect no further than `smallest` from 0, either way."""
    _, codes_K = np.unique(prompt_K, return_inverse=True)
    sums = np.bincount(codes_K, first_K - first_K.mean()) / len(first_K)
    error = max(float(np.sqrt(len(sums) / (len(sums) - 1) * np.sum(sums**2))), 1e-12)
    return min(1.0, 2 * float(stats.t.sf((abs(first_K.mean()) - smallest) / error, len(sums) - 1)))


def _examples(data: AuditData, shown: Sequence[Comparison], p_K: Floats, swapped_K: Floats, count: int) -> tuple[Example, ...]:
    """The pairs in which the order matters most; the rewards are the probabilities of each response when it is shown first."""
    names = {exchange.prompt: data.ids_P[prompt] for exchange, prompt in zip(data.exchanges, data.prompt_E.tolist(), strict=True)}
    worst = np.argsort(-np.abs(p_K + swapped_K - 1), kind="stable")[:count]
    return tuple(
        Example(names[c.prompt], c.prompt[-1].content, c.response_a, c.response_b, float(p_K[k]), float(swapped_K[k]))
        for k, c in ((int(k), shown[k]) for k in worst)
    )
