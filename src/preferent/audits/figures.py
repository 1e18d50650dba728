"""From a matplotlib figure to an inline SVG string: same input, same bytes; no global state; text stays text; fits light and dark pages.

Colours are written as CSS variables with a fallback (`var(--c1, #0072b2)`), text and axes as `currentColor`, so that a page can set both.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np

from preferent.core.errors import MissingExtraError
from preferent.core.estimates import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinguishable with every common colour blindness
SCORER, BASELINE, GOLD, MUTED = "#0072b2", "#d55e00", "#009e73", "#8a8a8a"
INK = "#010203"  # stands for currentColor until the SVG is written
VARIABLES = {SCORER: "var(--c1, #0072b2)", BASELINE: "var(--c2, #d55e00)", GOLD: "var(--c3, #009e73)", INK: "currentColor"}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a dollar sign in a source's name is a dollar sign
    "svg.fonttype": "none",
    "axes.unicode_minus": True,
}


def draw(name: str, title: str, paint: Callable[[Figure], None], *, width: float = 5.6, height: float = 3.4) -> str:
    """Let `paint` draw on a fresh figure of `width` x `height` inches and return it as an `<svg>` element with `title` as its label.

    Raises MissingExtraError without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots") from error
    stream = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's browser has the glyph
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return inline(stream.getvalue(), title)


def inline(document: str, title: str) -> str:
    """The `<svg>` element of a matplotlib document, labelled, without metadata, with unique ids and page colours."""
    body = document[document.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.S)
    used = set(re.findall(r"""(?:url\(#|href="#)([^)"]+)""", body))
    mark = hashlib.sha256(body.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    body = re.sub(r'\sid="([^"]*)"', lambda found: f' id="{mark}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r"""(url\(#|href="#)([^)"]+)""", lambda found: f"{found[1]}{mark}-{found[2]}", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    body = re.sub(r"font-family: [^;\"]+|'DejaVu Sans'[^;\"]*", "sans-serif", body)
    return body.replace("<svg ", f'<svg role="img" aria-label={quoteattr(clean(title, 200))} ', 1)


def clean(text: str, limit: int = 30) -> str:
    """`text` as a label: control characters and lone surrogates shown as a box, cut at `limit` characters."""
    shown = "".join("\ufffd" if unicodedata.category(letter) in {"Cc", "Cs", "Cn"} else letter for letter in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def whiskers(axes: Axes, place: float, estimate: Estimate, *, colour: str, marker: str = "o", across: bool = True) -> None:
    """One estimate: a marker (a diamond is hollow) and its interval along x where `across`, else along y; no line without an interval.

    `place` is where it stands on the other axis.
    """
    if not np.isnan(estimate.low):
        (axes.hlines if across else axes.vlines)(place, estimate.low, estimate.high, colors=colour, linewidth=1.6)
    x, y = (estimate.value, place) if across else (place, estimate.value)
    axes.plot([x], [y], marker, color=colour, markersize=6, markerfacecolor="none" if marker == "D" else colour, markeredgewidth=1.4)
