"""What an experiment hands back: claims that were checked, tables, curves, and all numbers; told the same way for every experiment.

Legend: S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats, Preference
from preferent.core.scorer import Scorer


class Fit(Protocol):
    """Trains a reward model: preferences in, a scorer out; the same seed gives the same scorer."""

    def __call__(self, preferences: Sequence[Preference], seed: int, /, **settings: Any) -> Scorer: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What experiments use and the lab may not import: given by whoever runs them.

    fit: trains the reward model named in the settings. par, tilt: `optimize/shaping.py`; stop: `optimize/monitor.py`. say: told what is
    going on, in words. teach: the policy of the RL experiment (`lab/experiments/rl.py`, Teach); None where that is not run.
    """

    fit: Fit
    par: Callable[[Floats, Floats], Floats]
    tilt: Callable[[Floats, float], tuple[Floats, Floats]]
    stop: Callable[[Any, Any], tuple[int, list[Any]]]
    say: Callable[[str], None] = field(default=lambda text: None)
    teach: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A claim the experiment was built to test. passed: None where the run could not tell (too few seeds)."""

    claim: str
    passed: bool | None
    says: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"claim": self.claim, "passed": self.passed, "says": self.says}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; cells are texts, numbers, None or estimates."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        cells = [[cell.to_dict() if isinstance(cell, Estimate) else _strict(cell) for cell in row] for row in self.rows]
        return {"title": self.title, "headers": list(self.headers), "rows": cells, "note": self.note}


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a panel; low and high are its 95 % band, where there is one. dashed: a fit or a bound, drawn without points."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves with common axes; lines of one label have one colour in all panels of a figure."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Dots:
    """Estimates side by side, each with its interval. reference: a value to compare with, drawn as a line across."""

    title: str
    x_label: str
    rows: tuple[tuple[str, Estimate], ...]
    reference: float | None = None
    reference_label: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one to three panels side by side; `name` is that of its file."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel | Dots, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of one experiment. settings: as resolved. data: every number, JSON-ready."""

    title: str
    summary: tuple[str, ...]
    checks: tuple[Check, ...]
    tables: tuple[Grid, ...]
    figures: tuple[Figure, ...]
    settings: dict[str, Any]
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the figures' numbers are in `data`."""
        return {
            "title": self.title,
            "summary": list(self.summary),
            "checks": [check.to_dict() for check in self.checks],
            "tables": [grid.to_dict() for grid in self.tables],
            "settings": self.settings,
            "data": _strict(self.data),
        }


def _strict(value: Any) -> Any:
    """Numbers that JSON does not have (NaN, infinities) as None."""
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def over_seeds(values_S: ArrayLike) -> Estimate:
    """Mean over seeds with a 95 % t interval: a seed is a whole run (world, labels, training), so this holds all that chance did.

    With one seed no interval exists and the estimate says so; seeds whose value is NaN are not counted and told in `method`.
    """
    values_S = np.asarray(values_S, dtype=np.float64)
    known_S = values_S[np.isfinite(values_S)]
    left_out = f", {len(values_S) - len(known_S)} without a value" if len(known_S) < len(values_S) else ""
    if len(known_S) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, f"no seed has a value{left_out}")
    mean = float(known_S.mean())
    if len(known_S) == 1:
        return Estimate(mean, float("nan"), float("nan"), 1, f"no interval: one seed only{left_out}")
    half = float(stdtrit(len(known_S) - 1, 0.975) * known_S.std(ddof=1) / np.sqrt(len(known_S)))
    return Estimate(mean, mean - half, mean + half, len(known_S), f"t interval over {len(known_S)} seeds{left_out}")


def band(label: str, x_K: Floats, values_SK: Floats) -> Line:
    """A curve over seeds with its band."""
    points = [over_seeds(values_SK[:, k]) for k in range(values_SK.shape[1])]
    numbers = ([point.value for point in points], [point.low for point in points], [point.high for point in points])
    y, low, high = (tuple(row) for row in numbers)
    has_band = len(values_SK) > 1
    return Line(label, tuple(x_K.tolist()), y, low if has_band else (), high if has_band else ())


def powers(largest: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to `largest`, which must be one of them."""
    ns = tuple(2**k for k in range(max(1, largest).bit_length()))
    if ns[-1] != largest:
        raise ConfigError(f"the largest n is {largest!r}, allowed are powers of two")
    return ns
