"""Post-hoc length calibration: take out of a reward what length alone predicts, and a test that says whether that is wise.

The reward of any scorer is smoothed over the length of the response (LOWESS, Cleveland 1979) and the smooth is subtracted (Huang et al.
2024, "Post-hoc reward calibration"). Where people do value length this does harm, so `length_gate` decides on labelled pairs.

Use the log of the length: a word more matters less in a longer text. Legend: N responses, or pairs; J places of the curve.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.errors import DataError
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.records import Floats

FEWEST = 20  # responses below which a local fit is a story about noise
PLACES = 60


@dataclass(frozen=True, slots=True)
class LengthCurve:
    """Mean reward as a function of length: straight between places, flat beyond the first and the last.

    length_J ascending, reward_J: the curve. mean: the curve's mean over the responses it was fitted on; calibration keeps the level.
    """

    length_J: tuple[float, ...]
    reward_J: tuple[float, ...]
    mean: float

    def at(self, length_N: ArrayLike) -> Floats:
        """The curve at these lengths, shape (N,)."""
        return np.interp(np.asarray(length_N, dtype=np.float64), self.length_J, self.reward_J)

    def calibrate(self, reward_N: ArrayLike, length_N: ArrayLike) -> Floats:
        """Rewards without what length predicts, at the old mean level, shape (N,)."""
        return np.asarray(reward_N, dtype=np.float64) - self.at(length_N) + self.mean

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"length": list(self.length_J), "reward": list(self.reward_J), "mean": self.mean}


def lowess_calibration(reward_N: ArrayLike, length_N: ArrayLike, *, span: float = 2 / 3, robust_rounds: int = 2) -> LengthCurve:
    """Fit the curve: at each of up to 60 places (quantiles of the lengths) a straight line, weighted by nearness and against outliers.

    span: share of the responses that each local line uses, in (0, 1]. robust_rounds: rounds of Tukey's bisquare weights on residuals.
    Length in whatever unit it will be applied in. Raises DataError for unequal shapes, numbers that are not finite, fewer than 20
    responses, or a span outside (0, 1].
    """
    reward_N, length_N = np.asarray(reward_N, dtype=np.float64), np.asarray(length_N, dtype=np.float64)
    if reward_N.shape != length_N.shape or reward_N.ndim != 1:
        raise DataError(f"length calibration: needs one length per reward, got shapes {reward_N.shape} and {length_N.shape}")
    if not (np.isfinite(reward_N).all() and np.isfinite(length_N).all()):
        raise DataError("length calibration: rewards and lengths must be finite")
    if len(reward_N) < FEWEST:
        raise DataError(f"length calibration: {len(reward_N)} responses, needs {FEWEST} or more", hint="score more unlabelled responses")
    if not 0.0 < span <= 1.0:
        raise DataError(f"length calibration: span={span!r}, allowed are numbers in (0, 1]")
    order = np.argsort(length_N, kind="stable")
    x_N, y_N = length_N[order], reward_N[order]
    places_J = np.unique(np.quantile(x_N, np.linspace(0.0, 1.0, PLACES)))
    trust_N, curve_J = np.ones(len(x_N)), np.zeros(len(places_J))
    width = max(2, int(np.ceil(span * len(x_N))))
    for round_ in range(robust_rounds + 1):
        curve_J = np.array([_local_line(x_N, y_N, trust_N, place, width) for place in places_J])
        residual_N = y_N - np.interp(x_N, places_J, curve_J)
        scale = 6.0 * float(np.median(np.abs(residual_N)))
        if round_ == robust_rounds or scale <= 0.0:
            break
        trust_N = np.clip(1.0 - (residual_N / scale) ** 2, 0.0, None) ** 2
    mean = float(np.interp(x_N, places_J, curve_J).mean())
    return LengthCurve(tuple(places_J.tolist()), tuple(curve_J.tolist()), mean)


def _local_line(x_N: Floats, y_N: Floats, trust_N: Floats, place: float, width: int) -> float:
    """The value at `place` of the line through the `width` nearest points, with tricube weights; their mean where all stand together."""
    # The first window whose next point on the right is not nearer than its first on the left; the sums ascend.
    start = int(np.searchsorted(x_N[:-width] + x_N[width:], 2 * place)) if width < len(x_N) else 0
    piece = slice(start, start + width)
    gap = x_N[piece] - place
    reach = float(np.abs(gap).max())
    weight = trust_N[piece] * ((1.0 - np.minimum(np.abs(gap) / reach, 1.0) ** 3) ** 3 if reach > 0 else 1.0)
    if weight.sum() <= 0.0:
        weight = np.ones(width)
    total = weight.sum()
    mean_x, mean_y = float(weight @ gap / total), float(weight @ y_N[piece] / total)
    spread = float(weight @ (gap - mean_x) ** 2)
    slope = float(weight @ ((gap - mean_x) * (y_N[piece] - mean_y))) / spread if spread > 1e-12 * max(reach, 1e-300) ** 2 * total else 0.0
    return mean_y - slope * mean_x


@dataclass(frozen=True, slots=True)
class LengthGate:
    """Whether to calibrate. gain: log-likelihood per labelled pair that calibration adds (nats), paired, clustered by prompt.

    accuracy_raw, accuracy_calibrated: on the decided pairs. apply: only if the whole interval of `gain` is above 0.
    """

    apply: bool
    gain: Estimate
    accuracy_raw: Estimate
    accuracy_calibrated: Estimate
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        parts = {name: getattr(self, name).to_dict() for name in ("gain", "accuracy_raw", "accuracy_calibrated")}
        return {"apply": self.apply, **parts, "reason": self.reason}


def length_gate(
    margin_N: ArrayLike, calibrated_margin_N: ArrayLike, p_a_N: ArrayLike, prompts_N: Sequence[Hashable], *, rng: np.random.Generator
) -> LengthGate:
    """Does calibration help on labelled pairs?

    margin_N, calibrated_margin_N: reward of a minus that of b, before and after. p_a_N in [0, 1]: labels that are *trusted*: if they
    carry the length bias themselves, they will vote for keeping it. prompts_N: the prompt of each pair. Both sets of margins get the
    temperature that suits them best, so the test is about order and confidence, not about scale. Raises DataError for no pairs,
    unequal shapes or labels outside [0, 1].
    """
    margin_N, calibrated_N, p_N = (np.asarray(array, dtype=np.float64) for array in (margin_N, calibrated_margin_N, p_a_N))
    if not (margin_N.shape == calibrated_N.shape == p_N.shape == (len(prompts_N),)) or len(p_N) == 0:
        shapes = [margin_N.shape, calibrated_N.shape, p_N.shape, (len(prompts_N),)]
        raise DataError(f"length gate: needs one margin, calibrated margin, label and prompt per pair, got shapes {shapes}")
    if not ((p_N >= 0.0) & (p_N <= 1.0)).all():
        raise DataError("length gate: p_a must lie in [0, 1]")
    gain_N = _log_likelihood(calibrated_N, p_N) - _log_likelihood(margin_N, p_N)
    gain = clustered_mean(gain_N, prompts_N, rng=rng)
    decided = p_N != 0.5
    own = [prompt for prompt, keep in zip(prompts_N, decided, strict=True) if keep]
    raw, calibrated = (
        clustered_mean((np.sign(m[decided]) * np.sign(p_N[decided] - 0.5) + 1.0) / 2.0, own, rng=rng) for m in (margin_N, calibrated_N)
    )
    apply = bool(gain.low > 0.0)
    if apply:
        reason = "calibrate: on trusted pairs the calibrated reward is the better one"
    elif gain.high < 0.0:
        reason = "do not calibrate: on trusted pairs the raw reward is the better one; length is valued here"
    else:
        reason = "do not calibrate: these pairs do not show that it helps"
    return LengthGate(apply, gain, raw, calibrated, reason)


def _log_likelihood(margin_N: Floats, p_N: Floats) -> Floats:
    """Per pair, at the inverse temperature with the highest mean (a grid: the function is concave and this is a test, not a fit)."""
    scale = float(np.sqrt(np.mean(margin_N**2))) or 1.0
    best: Floats | None = None
    for inverse in np.concatenate([[0.0], np.geomspace(0.02, 50.0, 80)]):
        z_N = margin_N * inverse / scale
        value_N = -(p_N * np.logaddexp(0.0, -z_N) + (1.0 - p_N) * np.logaddexp(0.0, z_N))
        if best is None or value_N.mean() > best.mean():
            best = value_N
    return best if best is not None else np.zeros_like(p_N)
