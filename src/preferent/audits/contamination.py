"""Were the prompts of a benchmark in the training data? Overlap of each with the sketch that the checkpoint carries.

Two signs, each from hashes only (`core.ngrams`): the whole prompt, up to case, punctuation and spacing, is a training prompt; or at
least half of its windows of eight words occur in training prompts. The second finds prompts quoted inside longer ones and lightly
edited ones; half is between the published rules (PaLM: 70 % of the 8-grams, Chowdhery et al. 2022, section 8; GPT-3: any 13-gram,
Brown et al. 2020, appendix C, which marks every prompt that shares a boilerplate sentence). Windows in more than 10 (and more than
2 %) of the benchmark's distinct prompts are its own template and do not count.

Legend: N prompts, U distinct ones, S windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.core.estimates import Estimate
from preferent.core.findings import Finding
from preferent.core.ngrams import Hasher, Sketch, below, member
from preferent.core.records import Floats, Prompt

SHARE = 0.5
TEMPLATE_LEAST, TEMPLATE_SHARE = 10, 0.02
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Contamination:
    """What a benchmark shares with training data.

    mask_N: True for the prompts that were in training by either sign. overlap_N: the share of a prompt's windows that were (NaN where
    it has none that can be asked). share: contaminated among distinct prompts; n_whole of them are equal to a training prompt, n_windows
    only overlap. n_touched more share at least one window and less than half: a quotation, or an edited copy (with a tenth of its words
    replaced, about half of the copies end here: bench/contamination.py). n_blind are shorter than a window (or, in a sampled sketch,
    have no window in the sample), so that only the first sign can find them. false_match: chance of one such prompt being marked by
    collisions of hashes alone, an upper bound over the file.
    """

    mask_N: NDArray[np.bool_]
    overlap_N: Floats
    share: Estimate
    n_prompts: int
    n_whole: int
    n_windows: int
    n_touched: int
    n_blind: int
    window: int
    kept: float
    false_match: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the columns."""
        names = ("n_prompts", "n_whole", "n_windows", "n_touched", "n_blind", "window", "kept", "false_match")
        return {"share": self.share.to_dict()} | {name: getattr(self, name) for name in names}

    def render(self) -> str:
        """Two or three sentences."""
        lines = [
            f"contamination: {self.n_whole + self.n_windows:,} of {self.n_prompts:,} distinct prompts were in the training data "
            f"({self.share.value:.1%}): {self.n_whole:,} whole, {self.n_windows:,} by at least {SHARE:.0%} of their "
            f"{self.window}-word windows."
        ]
        if self.n_touched:
            lines.append(f"{self.n_touched:,} more share at least one window.")
        if self.n_blind:
            lines.append(f"{self.n_blind:,} prompts have no window to ask about; they are found only when whole.")
        if self.kept < 1:
            lines.append(f"The sketch keeps {self.kept:.1%} of the training windows, so overlap is an estimate.")
        lines.append(f"A prompt is marked by chance collisions of hashes with probability below {self.false_match:.1e}.")
        return " ".join(lines)

    def finding(self, benchmark: str) -> Finding:
        """As one line of an audit."""
        n = self.n_whole + self.n_windows
        return Finding(
            audit="contamination",
            name=f"prompts of {benchmark} in the training data",
            estimate=self.share,
            compared_with="0",
            verdict="finding" if n else "clear",
            summary=f"{n:,} of {self.n_prompts:,} distinct prompts of {benchmark} were in the training data",
            severity=10 * self.share.value,
        )


def contamination(prompts: Sequence[Prompt], sketch: Sketch) -> Contamination:
    """Which of these prompts the training data held, by its sketch. The share is counted, not sampled, so it has no interval."""
    hasher = Hasher(sketch.window)
    distinct = list(dict.fromkeys(prompts))
    place = {prompt: u for u, prompt in enumerate(distinct)}
    whole_U = np.array([hasher.whole(prompt) for prompt in distinct], dtype=np.uint64)
    windows = [below(hasher.windows(prompt), sketch.window_share) for prompt in distinct]
    template = _template(windows, len(distinct))
    overlap_U = np.array([_overlap(hash_S[~member(hash_S, template)], sketch) for hash_S in windows], dtype=np.float64)
    equal_U = member(whole_U, sketch.whole_H)
    near_U = ~equal_U & (np.nan_to_num(overlap_U, nan=0.0) >= SHARE)
    mask_U = equal_U | near_U
    n = len(distinct)
    value = float(mask_U.mean()) if n else NAN
    rows = np.array([place[prompt] for prompt in prompts], dtype=np.int64)
    return Contamination(
        mask_N=mask_U[rows] if n else np.zeros(0, dtype=np.bool_),
        overlap_N=overlap_U[rows] if n else np.zeros(0),
        share=Estimate(value, NAN, NAN, n, "no interval: every prompt of the file was looked up" if n else "no prompts"),
        n_prompts=n,
        n_whole=int(equal_U.sum()),
        n_windows=int(near_U.sum()),
        n_touched=int((~mask_U & (np.nan_to_num(overlap_U, nan=0.0) > 0)).sum()),
        n_blind=int(np.isnan(overlap_U).sum()),
        window=sketch.window,
        kept=sketch.window_share,
        false_match=sketch.false_match * max((len(hash_S) for hash_S in windows), default=0) + len(sketch.whole_H) / 2**64,
    )


def _overlap(hash_S: NDArray[np.uint64], sketch: Sketch) -> float:
    return float(member(hash_S, sketch.window_H).mean()) if len(hash_S) else NAN


def _template(windows: Sequence[NDArray[np.uint64]], n: int) -> NDArray[np.uint64]:
    """Windows of the benchmark's own boilerplate, sorted."""
    if not windows:
        return np.zeros(0, dtype=np.uint64)
    distinct, count = np.unique(np.concatenate(windows), return_counts=True)
    return distinct[count > max(TEMPLATE_LEAST, TEMPLATE_SHARE * n)]
