"""The battery: every counterfactual edit and every planted error, scored in one request.

    battery = run_battery(scorer)                               # the probe texts of the package
    battery = run_battery(scorer, audit_data(preferences))      # the caller's own
    for finding in battery.findings: print(finding.verdict, finding.summary)

Legend: E natural exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.audits.battery_settings import BatterySettings
from preferent.audits.blind_spots import Detection, judge_errors, plan_errors
from preferent.audits.counterfactual import Asked, EditEffect, judge_edits, plan_edits
from preferent.audits.edits.all import standard_edits
from preferent.audits.edits.base import Edit
from preferent.audits.probe import AuditData, built_in_probes
from preferent.core.errors import ModelError
from preferent.core.findings import Finding
from preferent.core.records import Exchange, Floats, Prompt
from preferent.core.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Battery:
    """What the battery found. effects, detections: everything that was asked, in the order of the battery. natural_E: rewards of
    `data.exchanges`. within_std, overall_std: of those. n_scored: distinct texts that were scored."""

    scorer: str
    data: AuditData
    settings: BatterySettings
    effects: tuple[EditEffect, ...]
    detections: tuple[Detection, ...]
    natural_E: Floats
    within_std: float
    overall_std: float
    n_scored: int

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All lines, the worst first."""
        lines = [effect.finding for effect in self.effects] + [detection.finding for detection in self.detections]
        rank = {"finding": 0, "unknown": 1, "clear": 2}
        return tuple(sorted(lines, key=lambda line: (rank[line.verdict], -line.severity)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the examples (they are in the findings)."""
        return {
            "scorer": self.scorer,
            "source": self.data.source,
            "n_prompts": self.data.n_prompts,
            "n_exchanges": len(self.data.exchanges),
            "n_scored": self.n_scored,
            "within_prompt_std": self.within_std,
            "overall_std": self.overall_std,
            "smallest": self.settings.smallest,
            "level": self.settings.level,
            "effects": [effect.to_dict() for effect in self.effects],
            "detections": [detection.to_dict() for detection in self.detections],
        }


def run_battery(
    scorer: Scorer,
    data: AuditData | None = None,
    *,
    edits: Sequence[Edit] | None = None,
    settings: BatterySettings | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Battery:
    """Ask `scorer` everything. Without data, on the built-in probes; without `edits`, the standard ones.

    Every distinct text is scored once, those of a prompt side by side, in calls of about `settings.slab` texts; `progress` is called after
    each with (texts scored, texts in all). Raises ModelError when a reward is not a finite number.
    """
    data, settings = data or built_in_probes(), settings or BatterySettings()
    edits = tuple(standard_edits(data.exchanges)) if edits is None else tuple(edits)
    plans = plan_edits(data, edits, per_edit=settings.per_edit, seed=seed)
    errors = plan_errors(data, per_kind=settings.per_edit, seed=seed)
    wanted = [*data.exchanges]
    wanted += [side for cells in plans for cell in cells for side in (cell.without, cell.edited)]
    wanted += [side for planted in errors.values() for error in planted for side in (error.right, error.wrong)]
    rewards = score_once(scorer, wanted, slab=settings.slab, progress=progress)
    asked = Asked.of(data, rewards, settings, seed=seed)
    return Battery(
        scorer=scorer.name,
        data=data,
        settings=settings,
        effects=tuple(judge_edits(edits, plans, asked)),
        detections=tuple(judge_errors(errors, rewards, settings, ids_P=data.ids_P)),
        natural_E=asked.natural_E,
        within_std=asked.scale.within,
        overall_std=asked.scale.overall,
        n_scored=len(rewards),
    )


def score_once(
    scorer: Scorer, exchanges: Sequence[Exchange], *, slab: int = 4096, progress: Callable[[int, int], None] | None = None
) -> dict[Exchange, float]:
    """The reward of every distinct exchange. Those of a prompt go in one call, side by side, so that a scorer can compute it once."""
    by_prompt: dict[Prompt, dict[Exchange, None]] = {}
    for exchange in exchanges:
        by_prompt.setdefault(exchange.prompt, {})[exchange] = None
    total, rewards = sum(map(len, by_prompt.values())), {}
    waiting: list[Exchange] = []
    groups = list(by_prompt.values())
    for place, group in enumerate(groups):
        waiting.extend(group)
        if len(waiting) >= slab or place == len(groups) - 1:
            rewards.update(_scored(scorer, waiting))
            waiting = []
            if progress is not None:
                progress(len(rewards), total)
    return rewards


def _scored(scorer: Scorer, exchanges: Sequence[Exchange]) -> dict[Exchange, float]:
    reward_N = np.asarray(scorer.score(exchanges).reward, dtype=np.float64)
    if reward_N.shape != (len(exchanges),):
        raise ModelError(f"{scorer.name!r} gave rewards of shape {reward_N.shape} for {len(exchanges)} exchanges, allowed is one for each")
    if not np.isfinite(reward_N).all():
        bad = int(np.flatnonzero(~np.isfinite(reward_N))[0])
        raise ModelError(
            f"{scorer.name!r} gave the reward {float(reward_N[bad])!r} to the response {exchanges[bad].response[:80]!r}",
            hint="an audit needs a finite reward for every text; very long or empty texts are the usual cause",
        )
    return dict(zip(exchanges, reward_N.tolist(), strict=True))
