"""The over-optimisation law of best-of-n: gold gained at distance d = sqrt(KL) from the policy is d (alpha - beta d).

Gao, Schulman and Hilton (2022), equation 1. For RL the paper has another form, d (alpha - beta log d).

Legend: K points of a curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from preferent.core.errors import ConfigError
from preferent.core.records import Floats

Form = Literal["best-of-n", "rl"]
FORMS: dict[str, Callable[[Floats], Floats]] = {"best-of-n": lambda d_K: d_K, "rl": lambda d_K: np.log(np.where(d_K > 0, d_K, 1.0))}


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted law. alpha: gold per unit of d at the start. beta: how it bends. r_squared: the share of the curve's variance about its
    mean that the law explains (1 - residual / total; below 0 when the mean explains more). peak_d: where the law is highest,
    infinite where it never turns; peak: its gain there.
    """

    alpha: float
    beta: float
    r_squared: float
    peak_d: float
    peak: float
    form: Form = "best-of-n"

    def gain(self, d_K: ArrayLike) -> Floats:
        """The law's gold gain at each d, shape (K,)."""
        d_K = np.asarray(d_K, dtype=np.float64)
        return d_K * (self.alpha - self.beta * FORMS[self.form](d_K))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: an infinite peak becomes None."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in row.items()}


def fit_law(d_K: ArrayLike, gain_K: ArrayLike, *, form: Form = "best-of-n") -> Law:
    """Least squares for alpha and beta.

    d_K: sqrt of the KL in nats, >= 0. gain_K: gold reward minus that of the policy itself (d = 0). Raises ConfigError with fewer than
    three different d > 0 (two coefficients would fit them exactly), unequal shapes, or numbers that are not finite.
    """
    d_K, gain_K = np.asarray(d_K, dtype=np.float64), np.asarray(gain_K, dtype=np.float64)
    if d_K.shape != gain_K.shape or d_K.ndim != 1 or not np.isfinite(d_K).all() or not np.isfinite(gain_K).all() or (d_K < 0).any():
        raise ConfigError(f"law: needs two finite arrays of one shape (points,), d >= 0; got {d_K.shape} and {gain_K.shape}")
    if len(np.unique(d_K[d_K > 0])) < 3:
        raise ConfigError(f"law: {len(np.unique(d_K[d_K > 0]))} different d > 0 cannot tell a fit from an interpolation; needs 3 or more")
    x_K2 = np.stack([d_K, -d_K * FORMS[form](d_K)], axis=1)
    alpha, beta = (float(c) for c in np.linalg.lstsq(x_K2, gain_K, rcond=None)[0])
    residual, total = float(((gain_K - x_K2 @ [alpha, beta]) ** 2).sum()), float(((gain_K - gain_K.mean()) ** 2).sum())
    r_squared = 1.0 - residual / total if total > 0 else float("nan")
    if beta <= 0.0:
        peak_d = float("inf")
    else:
        peak_d = max(0.0, alpha / (2 * beta)) if form == "best-of-n" else float(np.exp(min(alpha / beta - 1.0, 700.0)))
    peak = float("inf") if peak_d == float("inf") else float(peak_d * (alpha - beta * FORMS[form](np.array(peak_d))))
    return Law(alpha, beta, r_squared, peak_d, peak, form)
