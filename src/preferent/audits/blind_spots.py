"""Errors that a scorer must see: one planted error in a right response has to lower its reward.

Reported per kind: the detection rate, the share of (right, wrong) pairs in which the right one has the higher reward (equal rewards
count one half), with a Wilson interval in which a prompt with several errors counts as one observation at worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from preferent.audits.battery_settings import BatterySettings
from preferent.audits.counterfactual_stats import benjamini_hochberg, wilson
from preferent.audits.edits.errors import KINDS, error_changes
from preferent.audits.probe import AuditData
from preferent.core.estimates import Estimate
from preferent.core.findings import Example, Finding, Verdict
from preferent.core.records import Exchange

AUDIT = "blind_spots"
# A difference of shares on the scale of standard deviations, as the report orders by one scale: times ten.
SEVERITY_PER_SHARE = 10.0


@dataclass(frozen=True, slots=True)
class Planted:
    """A right exchange and the same with one error in it; `prompt` is the prompt's number."""

    prompt: int
    right: Exchange
    wrong: Exchange


@dataclass(frozen=True, slots=True)
class Detection:
    """One kind of error. rate: the detection rate. p_value: of "at least `required`", Benjamini-Hochberg over the kinds."""

    kind: str
    rate: Estimate
    required: float
    p_value: float
    n_prompts: int
    finding: Finding

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "kind": self.kind,
            "rate": self.rate.to_dict(),
            "required": self.required,
            "p_value": None if np.isnan(self.p_value) else self.p_value,
            "n_prompts": self.n_prompts,
            "verdict": self.finding.verdict,
        }


def plan_errors(data: AuditData, *, per_kind: int, seed: int) -> dict[str, list[Planted]]:
    """Planted errors by kind, at most `per_kind` each: those written by hand where the data has them, and else one per prompt and kind
    by a program, in the response that the labels put first."""
    rng = np.random.default_rng([seed, 5])
    planted: dict[str, list[Planted]] = {kind: [] for kind in KINDS}
    by_hand = {(error.kind, int(data.prompt_E[error.row])) for error in data.errors}
    for error in data.errors:
        right = data.exchanges[error.row]
        wrong = right.model_copy(update={"response": error.wrong})
        planted.setdefault(error.kind, []).append(Planted(int(data.prompt_E[error.row]), right, wrong))
    changes = error_changes([exchange.response for exchange in data.exchanges])
    lost = np.bincount(data.worse_K, minlength=len(data.exchanges))
    for prompt in rng.permutation(data.n_prompts):
        rows = data.rows_of(int(prompt))
        right = data.exchanges[rows[np.argmin(lost[rows])]]
        for kind, change in changes.items():
            if (kind, int(prompt)) in by_hand or len(planted[kind]) >= per_kind:
                continue
            wrong = change(right.response, rng)
            if wrong is not None and wrong.strip() and wrong != right.response:
                planted[kind].append(Planted(int(prompt), right, right.model_copy(update={"response": wrong})))
    return planted


def judge_errors(
    planted: Mapping[str, Sequence[Planted]], rewards: Mapping[Exchange, float], settings: BatterySettings, *, ids_P: Sequence[str]
) -> list[Detection]:
    """The detection rate of every kind, in order. `rewards` holds every text of `planted`."""
    tests = [
        detection_rate(
            [0.5 + 0.5 * float(np.sign(rewards[error.right] - rewards[error.wrong])) for error in errors],
            [error.prompt for error in errors],
            settings,
        )
        for errors in planted.values()
    ]
    adjusted_K = benjamini_hochberg(np.array([p for _, p, _ in tests]))
    rows = zip(planted.items(), tests, adjusted_K.tolist(), strict=True)
    return [
        _detection(kind, rate, p, n, settings, _missed(errors, rewards, ids_P, settings.n_examples))
        for (kind, errors), (rate, _, n), p in rows
    ]


def detection_rate(hits_K: Sequence[float], prompt_K: Sequence[int], settings: BatterySettings) -> tuple[Estimate, float, int]:
    """(rate, p-value against the required rate, prompts) of K planted errors: a score test, whose variance is that of the null hypothesis.

    hits_K: 1 for an error that was seen, 0 for one that was not, 1/2 for a tie. The p-value is NaN with too few prompts.
    """
    size = np.bincount(prompt_K) if len(prompt_K) else np.zeros(0)
    n, n_prompts, hits = len(prompt_K), int(np.count_nonzero(size)), float(sum(hits_K))
    if n_prompts < settings.min_prompts:
        value = hits / n if n else float("nan")
        why = f"no verdict: such errors can be planted in {n_prompts} prompts, fewer than {settings.min_prompts}"
        return Estimate(value, float("nan"), float("nan"), n, why), float("nan"), n_prompts
    effective = float(n**2 / np.sum(size**2))
    rate = wilson(hits, n, effective, f"Wilson interval over {n_prompts} prompts")
    required = settings.required_detection
    p_value = float(stats.norm.cdf((rate.value - required) / np.sqrt(required * (1 - required) / effective)))
    return rate, p_value, n_prompts


def _missed(errors: Sequence[Planted], rewards: Mapping[Exchange, float], ids_P: Sequence[str], count: int) -> tuple[Example, ...]:
    """The errors that raised the reward most, one per prompt."""
    chosen: dict[int, Planted] = {}
    for error in sorted(errors, key=lambda error: rewards[error.right] - rewards[error.wrong]):
        if len(chosen) < count:
            chosen.setdefault(error.prompt, error)
    return tuple(
        Example(ids_P[prompt], e.right.prompt[-1].content, e.right.response, e.wrong.response, rewards[e.right], rewards[e.wrong])
        for prompt, e in chosen.items()
    )


def _detection(
    kind: str, rate: Estimate, p_value: float, n_prompts: int, settings: BatterySettings, examples: tuple[Example, ...]
) -> Detection:
    required = settings.required_detection
    verdict: Verdict = "unknown" if np.isnan(p_value) else "finding" if p_value <= settings.level and rate.high < required else "clear"
    if verdict == "unknown":
        summary = f"Planted errors of the kind '{kind}': {rate.method}."
    else:
        share = f"{rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}] of {rate.n} responses"
        summary = f"A planted error of the kind '{kind}' lowers the reward in {share}"
        summary += ", no more often than a coin would." if rate.low <= 0.5 else "."
    finding = Finding(
        audit=AUDIT,
        name=kind,
        estimate=rate,
        compared_with=f"a detection rate of at least {required:.0%}",
        verdict=verdict,
        summary=summary,
        severity=max(0.0, SEVERITY_PER_SHARE * (required - rate.value)) if verdict == "finding" else 0.0,
        p_value=None if np.isnan(p_value) else p_value,
        examples=examples,
    )
    return Detection(kind, rate, required, p_value, n_prompts, finding)
