"""A scorer, rows and a benchmark put together: every distinct exchange is scored once, in one call.

Legend: N items, K responses of an item, E distinct exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.audits.benchmarks.items import Item, Rows
from preferent.audits.benchmarks.registry import Benchmark
from preferent.audits.benchmarks.result import N_RESAMPLES, Bootstrap, Result
from preferent.audits.contamination import Contamination, contamination
from preferent.core.errors import DataError, ModelError
from preferent.core.ngrams import Sketch
from preferent.core.records import Exchange, Floats, Scores
from preferent.core.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result; and with a sketch of the training prompts, what is contaminated and the result without it (None when nothing is left
    or nothing was contaminated)."""

    result: Result
    contamination: Contamination | None = None
    clean: Result | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **self.result.to_dict(),
            "contamination": None if self.contamination is None else self.contamination.to_dict(),
            "without_contaminated": None if self.clean is None else self.clean.to_dict(),
        }

    def render(self) -> str:
        """For a terminal."""
        lines = [self.result.render()]
        if self.contamination is not None:
            lines.append(self.contamination.render())
            if self.clean is not None:
                lines.append(f"without the contaminated items: {self.clean.headline} {self.clean.score} (n={self.clean.score.n:,})")
            elif self.contamination.mask_N.any():
                lines.append("without the contaminated items nothing is left")
        return "\n".join(lines)


def run(
    scorer: Scorer,
    benchmark: Benchmark,
    rows: Rows,
    *,
    sketch: Sketch | None = None,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    **options: Any,
) -> Outcome:
    """Read, score and judge. `options` go to the benchmark's scorer (`threshold` for ProcessBench).

    Raises DataError for rows that are not the benchmark's or rewards that are not finite, ModelError where the scorer does not answer
    every exchange.
    """
    items = benchmark.read(rows)
    rewards = item_rewards(scorer, items, steps=benchmark.steps)

    def judge(kept: Sequence[int]) -> Result:
        boot = Bootstrap(np.random.default_rng(seed), n_resamples)
        return benchmark.score([items[n] for n in kept], [rewards[n] for n in kept], boot, scorer=scorer.name, **options)

    result = judge(range(len(items)))
    if sketch is None:
        return Outcome(result)
    found = contamination([item.prompt for item in items], sketch)
    kept = np.flatnonzero(~found.mask_N).tolist()
    return Outcome(result, found, judge(kept) if 0 < len(kept) < len(items) else None)


def item_rewards(scorer: Scorer, items: Sequence[Item], *, steps: bool = False) -> list[Floats]:
    """The rewards of every item's responses, shape (K,) each. With `steps`, a scorer that gives step rewards is asked once per item."""
    if steps:
        ready = _step_rewards(scorer, items)
        if ready is not None:
            return ready
    places: dict[Exchange, int] = {}
    rows = [[places.setdefault(exchange, len(places)) for exchange in item.exchanges()] for item in items]
    exchanges = list(places)
    reward_E = _checked(scorer, exchanges, scorer.score(exchanges))
    return [reward_E[row] for row in rows]


def _checked(scorer: Scorer, exchanges: Sequence[Exchange], scores: Scores) -> Floats:
    reward_E = np.asarray(scores.reward, dtype=np.float64)
    if reward_E.shape != (len(exchanges),):
        raise ModelError(f"scorer {scorer.name!r} answered {len(exchanges)} exchanges with rewards of shape {reward_E.shape}")
    bad = np.flatnonzero(~np.isfinite(reward_E))
    if len(bad):
        first = exchanges[int(bad[0])].response[:60]
        raise DataError(f"scorer {scorer.name!r} gave {len(bad):,} of {len(exchanges):,} exchanges no finite reward; the first: {first!r}")
    return reward_E


def _step_rewards(scorer: Scorer, items: Sequence[Item]) -> list[Floats] | None:
    """One array per item from a scorer that gives steps, None from one that does not (it was then asked about one item only)."""
    if scorer.score([items[0].exchanges()[-1]]).steps is None:
        return None
    whole = [item.exchanges()[-1] for item in items]
    scores = scorer.score(whole)
    _checked(scorer, whole, scores)
    found = [np.asarray(step_S, dtype=np.float64) for step_S in scores.steps or ()]
    for item, step_S in zip(items, found, strict=True):
        if step_S.shape != (len(item.responses),) or not np.isfinite(step_S).all():
            raise ModelError(
                f"{item.where}: {len(item.responses)} steps, and scorer {scorer.name!r} gave step rewards of shape {step_S.shape}",
                hint="steps are joined by a blank line; the scorer must cut them there",
            )
    return found
