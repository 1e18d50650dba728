"""What one property of a text, changed by a program, does to its reward.

`plan_edits` makes the texts, the battery scores them all at once, `judge_edits` says what came of it.

Legend: E natural exchanges, P prompts, J cells (an edit of one exchange), K labelled pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.audits.battery_settings import BatterySettings
from preferent.audits.counterfactual_stats import Rows, Scale, Shift, benjamini_hochberg, resamples, shift_of
from preferent.audits.counterfactual_words import compared_with, summary_of
from preferent.audits.edits.base import Edit
from preferent.audits.probe import AuditData
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.findings import Example, Finding, Verdict
from preferent.core.records import Exchange, Floats

AUDIT = "counterfactual"
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"), 0, "")


@dataclass(frozen=True, slots=True)
class Cell:
    """One edit of one natural exchange (`row`): the text without the property and the text with it."""

    row: int
    without: Exchange
    edited: Exchange


@dataclass(frozen=True, slots=True)
class EditEffect:
    """What an edit does. effect: mean paired change in within-prompt standard deviations; overall: the same in overall ones. flip_rate:
    among the pairs that the scorer orders right (by label, or by its own order where there are no labels), the share in which the
    edited worse response overtakes the better one (for an effect below 0: in which the edited better response falls behind).
    p_zero: of no change, not corrected. p_value: of a sound scorer, Benjamini-Hochberg over the edit's family. finding: the line of
    the report."""

    edit: Edit
    effect: Estimate
    overall: float
    flip_rate: Estimate
    p_zero: float
    p_value: float
    n_prompts: int
    finding: Finding

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "edit": self.edit.name,
            "what": self.edit.what,
            "expects": self.edit.expects,
            "bias": self.edit.bias,
            "effect": self.effect.to_dict(),
            "effect_overall": None if np.isnan(self.overall) else self.overall,
            "flip_rate": self.flip_rate.to_dict(),
            "p_zero": None if np.isnan(self.p_zero) else self.p_zero,
            "p_value": None if np.isnan(self.p_value) else self.p_value,
            "n_prompts": self.n_prompts,
            "verdict": self.finding.verdict,
        }


def plan_edits(data: AuditData, edits: Sequence[Edit], *, per_edit: int, seed: int) -> list[list[Cell]]:
    """The cells of every edit: as many prompts as there are (or `per_edit`, the same ones for every edit), then more responses of each.

    An edit that must lower the reward is made to the best response of a prompt, where labels say which that is.
    """
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(data.n_prompts)
    shuffled = [rng.permutation(data.rows_of(prompt)) for prompt in order]
    lost = np.bincount(data.worse_K, minlength=len(data.exchanges))
    best_first = [rows[np.argsort(lost[rows], kind="stable")] for rows in shuffled]
    plans = []
    for number, edit in enumerate(edits):
        edit_rng = np.random.default_rng([seed, 2, number])
        plans.append(_cells(data, edit, best_first if edit.expects == "must_fall" else shuffled, per_edit, edit_rng))
    return plans


def _cells(data: AuditData, edit: Edit, rows_of: Sequence[Rows], per_edit: int, rng: np.random.Generator) -> list[Cell]:
    """Round by round: one more response of every prompt, until there are enough."""
    cells: list[Cell] = []
    for place in range(1 if edit.expects == "must_fall" else max(map(len, rows_of), default=0)):
        for rows in rows_of:
            if len(cells) >= per_edit:
                return cells
            # A response the edit does not apply to gives way to the next of its prompt in a must-fall edit, and is passed over otherwise.
            for row in rows if edit.expects == "must_fall" else rows[place : place + 1]:
                pair = edit.pair(data.exchanges[row], rng)
                if pair is not None:
                    cells.append(Cell(int(row), *pair))
                    break
    return cells


@dataclass(frozen=True, slots=True)
class Asked:
    """What every edit is judged against. natural_E: rewards of the exchanges as they are. pairs_K2: (better, worse) rows in the order that
    the scorer gives them too. examples: how many per finding."""

    data: AuditData
    rewards: Mapping[Exchange, float]
    settings: BatterySettings
    seed: int
    natural_E: Floats
    scale: Scale
    pairs_K2: Rows

    @classmethod
    def of(cls, data: AuditData, rewards: Mapping[Exchange, float], settings: BatterySettings, *, seed: int) -> Asked:
        natural_E = np.array([rewards[exchange] for exchange in data.exchanges])
        scale = Scale.of(natural_E, data.prompt_E, data.n_prompts)
        return cls(data, rewards, settings, seed, natural_E, scale, right_pairs(data, natural_E))


def judge_edits(edits: Sequence[Edit], plans: Sequence[Sequence[Cell]], asked: Asked) -> list[EditEffect]:
    """The effect of every edit, in the order given. `asked.rewards` holds every text of the data and of `plans`."""
    settings = asked.settings
    counts_RP = resamples(asked.data.n_prompts, settings.n_resamples, np.random.default_rng([asked.seed, 3]))
    shifts: list[Shift | None] = []
    for edit, cells in zip(edits, plans, strict=True):
        change_J = np.array([asked.rewards[cell.edited] - asked.rewards[cell.without] for cell in cells])
        prompt_J = asked.data.prompt_E[np.array([cell.row for cell in cells], dtype=np.int64)]
        enough = len(np.unique(prompt_J)) >= settings.min_prompts and asked.scale.within > 0
        measured = {"edit": edit, "smallest": settings.smallest, "counts_RP": counts_RP}
        shifts.append(shift_of(change_J, prompt_J, asked.scale, **measured) if enough else None)
    p_K = np.array([np.nan if shift is None else shift.p_bound for shift in shifts])
    adjusted_K = np.full(len(p_K), np.nan)
    for family in ("neutral", "must_fall"):
        members = np.array([edit.expects == family for edit in edits], dtype=bool)
        adjusted_K[members] = benjamini_hochberg(p_K[members])
    return [_effect(edit, cells, shift, float(p), asked) for edit, cells, shift, p in zip(edits, plans, shifts, adjusted_K, strict=True)]


def right_pairs(data: AuditData, natural_E: Floats) -> Rows:
    """(better, worse) rows of the pairs that the scorer orders as the labels do; without any labels, all pairs of a prompt in its order."""
    if len(data.better_K):
        pairs_K2 = np.stack([data.better_K, data.worse_K], axis=1)
    else:
        both = [(i, j) for prompt in range(data.n_prompts) for i in data.rows_of(prompt) for j in data.rows_of(prompt) if i != j]
        pairs_K2 = np.array(both, dtype=np.int64).reshape(-1, 2)
    return pairs_K2[natural_E[pairs_K2[:, 0]] > natural_E[pairs_K2[:, 1]]]


def _effect(edit: Edit, cells: Sequence[Cell], shift: Shift | None, p_value: float, asked: Asked) -> EditEffect:
    """One edit's line. `p_value` is corrected; `shift` is None where there is too little to go by."""
    smallest = asked.settings.smallest
    verdict: Verdict = "unknown"
    if shift is None:
        why = "rewards do not differ within prompts" if not asked.scale.within > 0 and cells else _too_few(cells, asked)
        shift = Shift(Estimate(np.nan, np.nan, np.nan, len(cells), why), np.nan, np.nan, np.nan, 0)
        flips = UNKNOWN
    else:
        flips = flip_rate(cells, shift.value.value, edit, asked)
        verdict = "finding" if p_value <= asked.settings.level and _outside(shift.value, edit, smallest) else "clear"
    effect = shift.value
    finding = Finding(
        audit=AUDIT,
        name=edit.name,
        estimate=effect,
        compared_with=compared_with(edit, smallest),
        verdict=verdict,
        summary=summary_of(edit, effect, flips, verdict, p_zero=shift.p_zero, smallest=smallest),
        severity=severity_of(edit, effect.value, verdict),
        p_value=None if np.isnan(p_value) else p_value,
        examples=_examples(cells, effect.value, edit, asked),
    )
    return EditEffect(edit, effect, shift.overall, flips, shift.p_zero, p_value, shift.n_prompts, finding)


def _too_few(cells: Sequence[Cell], asked: Asked) -> str:
    prompts = len({int(asked.data.prompt_E[cell.row]) for cell in cells})
    return f"no verdict: the edit applies to {prompts} prompts, fewer than {asked.settings.min_prompts}"


def _outside(effect: Estimate, edit: Edit, smallest: float) -> bool:
    """Whether the interval lies beyond what a sound scorer may show, on the side of the bias."""
    if edit.expects == "must_fall":
        return effect.low > -smallest
    up, down = effect.low > smallest, effect.high < -smallest
    return {"up": up, "down": down, "either": up or down}[edit.bias]


def severity_of(edit: Edit, effect: float, verdict: Verdict) -> float:
    """In standard deviations of natural rewards: the size of an effect that should be none; for one that must fall, what is missing to a
    fall of one standard deviation. 0 for what is no finding."""
    if verdict != "finding":
        return 0.0
    return abs(effect) if edit.expects == "neutral" else max(0.0, 1.0 + effect)


def flip_rate(cells: Sequence[Cell], effect: float, edit: Edit, asked: Asked) -> Estimate:
    """How often the edit turns a pair over; see `EditEffect`."""
    edited = {cell.row: asked.rewards[cell.edited] for cell in cells}
    fell = effect < 0 and edit.expects == "neutral"
    side = 0 if fell else 1
    chosen = asked.pairs_K2[[row in edited for row in asked.pairs_K2[:, side].tolist()]]
    if not len(chosen):
        return Estimate(np.nan, np.nan, np.nan, 0, "no pairs with an edited response")
    new_K = np.array([edited[row] for row in chosen[:, side].tolist()])
    other_K = asked.natural_E[chosen[:, 1 - side]]
    turned_K = (new_K < other_K) if fell else (new_K > other_K)
    return clustered_mean(turned_K, asked.data.prompt_E[chosen[:, 0]], rng=np.random.default_rng([asked.seed, 4]), n_resamples=500)


def _examples(cells: Sequence[Cell], effect: float, edit: Edit, asked: Asked) -> tuple[Example, ...]:
    """The largest changes in the direction of the effect (upwards for an edit that must fall), one per prompt."""
    sign = -1.0 if effect < 0 and edit.expects == "neutral" else 1.0
    change = [sign * (asked.rewards[cell.edited] - asked.rewards[cell.without]) for cell in cells]
    chosen: dict[int, Cell] = {}
    for place in np.argsort(-np.array(change), kind="stable"):
        chosen.setdefault(int(asked.data.prompt_E[cells[place].row]), cells[place])
        if len(chosen) >= asked.settings.n_examples:
            break
    return tuple(
        Example(
            id=asked.data.ids_P[prompt],
            prompt=cell.edited.prompt[-1].content,
            left=cell.without.response,
            right=cell.edited.response,
            reward_left=asked.rewards[cell.without],
            reward_right=asked.rewards[cell.edited],
        )
        for prompt, cell in chosen.items()
    )
