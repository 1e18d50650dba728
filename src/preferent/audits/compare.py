"""Two scorers on the same texts: who is better where, and what cannot be told.

Everything is paired: both are asked about the same pairs, edits and errors, and whole prompts are resampled together, so the interval
is that of the difference. Effects are in each scorer's own standard deviation of natural rewards within a prompt; what is compared is
the size of the fault, so that 0 is best for both.

Legend: N labelled pairs, J edited texts, P prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preferent.audits.audit_answer import normal_p
from preferent.audits.audit_subject import AuditSettings, Memo, Subject
from preferent.audits.blind_spots import plan_errors
from preferent.audits.counterfactual import plan_edits
from preferent.audits.counterfactual_stats import benjamini_hochberg
from preferent.audits.edits.all import standard_edits
from preferent.audits.edits.base import Edit
from preferent.audits.metrics import hits
from preferent.audits.probe import AuditData, built_in_probes
from preferent.audits.resample import Codes, Column, clustered_means, no_estimate
from preferent.core.errors import ConfigError
from preferent.core.estimates import Estimate
from preferent.core.records import Floats
from preferent.core.scorer import Scorer

LEVEL = 0.05
# Differences within these do not matter: SD of natural rewards for edits, a share otherwise.
SMALL = {"accuracy": 0.01, "edits": 0.1, "blind_spots": 0.02}


@dataclass(frozen=True, slots=True)
class Difference:
    """One line. group: 'accuracy', 'edits' or 'blind_spots'. first, second: each scorer's number. gain: how much better the second is (the
    sign is turned so that above 0 favours the second), paired. p_value: of no difference, corrected over its group. better: 'first' or
    'second'; 'same' where the interval allows no difference that matters; '' when it cannot be told. what: in words."""

    group: str
    name: str
    what: str
    first: Estimate
    second: Estimate
    gain: Estimate
    p_value: float | None
    better: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        estimates = {"first": self.first.to_dict(), "second": self.second.to_dict(), "gain": self.gain.to_dict()}
        return {
            "group": self.group,
            "name": self.name,
            "what": self.what,
            **estimates,
            "p_value": self.p_value,
            "better": self.better or None,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scorers, line by line."""

    first: str
    second: str
    source: str
    n_prompts: int
    n_pairs: int
    seed: int
    lines: tuple[Difference, ...]

    def of(self, better: str) -> tuple[Difference, ...]:
        """Lines with this word in `better`, the largest difference first."""
        return tuple(sorted((line for line in self.lines if line.better == better), key=lambda line: -abs(line.gain.value)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = ("first", "second", "source", "n_prompts", "n_pairs", "seed")
        return {name: getattr(self, name) for name in names} | {"lines": [line.to_dict() for line in self.lines]}


def compare(
    first: Scorer | Memo,
    second: Scorer | Memo,
    data: AuditData | None = None,
    *,
    settings: AuditSettings | None = None,
) -> Comparison:
    """Paired differences in accuracy, in every edit's effect, and in every kind of planted error. Raises ConfigError for two scorers of one
    name, since no line could say which is which; ModelError for a reward that is no number."""
    data, settings = data or built_in_probes(), settings or AuditSettings()
    if first.name == second.name:
        raise ConfigError(f"both scorers are called {first.name!r}", hint="give two different ones")
    pair = tuple(Subject(s if isinstance(s, Memo) else Memo(s), data, settings) for s in (first, second))
    lines = (*_accuracy(pair), *_edits(pair), *_errors(pair))
    return Comparison(first.name, second.name, data.source, data.n_prompts, len(data.preferences), settings.seed, lines)


Pair = tuple[Subject, ...]
Row = tuple[str, str, Floats, Floats]  # name, what, and both scorers' values


def _accuracy(pair: Pair) -> tuple[Difference, ...]:
    """Accuracy overall, and where the longer or the shorter side is right."""
    first, _ = pair
    if not first.n_decided:
        return ()
    hit = [hits(subject.margin_N, subject.p_N) for subject in pair]
    longer_N = np.sign(first.chars_N2[:, 0] - first.chars_N2[:, 1]) * np.sign(first.p_N - 0.5)
    parts = {
        "accuracy": ("of all pairs that name a side", np.ones(len(longer_N), dtype=np.bool_)),
        "accuracy, longer side right": ("of pairs whose preferred side is longer", longer_N > 0),
        "accuracy, shorter side right": ("of pairs whose preferred side is shorter", longer_N < 0),
    }
    rows = []
    for name, (what, where_N) in parts.items():
        values = [np.where(where_N, hit_N, np.nan) for hit_N in hit]
        rows.append((name, what, values[0], values[1]))
    return _corrected(_judged("accuracy", rows, first.codes_N, first.weights_N, pair))


def _edits(pair: Pair) -> tuple[Difference, ...]:
    """For each edit, how far the mean change lies on the wrong side."""
    first, _ = pair
    data, settings = first.data, first.settings
    edits = standard_edits(data.exchanges)
    plans = plan_edits(data, edits, per_edit=settings.battery.per_edit, seed=settings.seed)
    texts = [side for cells in plans for cell in cells for side in (cell.without, cell.edited)]
    for subject in pair:
        subject.scorer.score(texts)  # one request each: a prompt's texts side by side
    rows = []
    for edit, cells in zip(edits, plans, strict=True):
        prompt_J = data.prompt_E[np.array([cell.row for cell in cells], dtype=np.int64)]
        if len(np.unique(prompt_J)) < settings.battery.min_prompts:
            continue
        change = []
        for subject in pair:
            reward = subject.scorer.score([side for cell in cells for side in (cell.without, cell.edited)]).reward
            change.append((reward[1::2] - reward[0::2]) / (subject.scale.within or 1.0))
        rows.append(_fault(edit, change, prompt_J, first))
    return _corrected(rows)


def _fault(edit: Edit, change: Sequence[Floats], prompt_J: Codes, subject: Subject) -> Difference:
    """The size of an edit's fault for both, and the difference: |mean| where either direction is one, the mean in its direction else.

    |mean| has no influence function at 0, so its difference is resampled as it is, with the prompts' draws shared.
    """
    mean_first, mean_second = (_mean(change_J, prompt_J, subject) for change_J in change)
    smallest = subject.settings.battery.smallest
    n = int(prompt_J.max()) + 1
    sums = [np.bincount(prompt_J, change_J, n) for change_J in change]
    size = np.bincount(prompt_J, minlength=n).astype(np.float64)
    used = size > 0
    rng = np.random.default_rng([subject.settings.seed, 201])
    counts = rng.multinomial(int(used.sum()), np.full(int(used.sum()), 1.0 / used.sum()), size=subject.settings.n_resamples)
    draws = [(counts @ row[used]) / (counts @ size[used]) for row in sums]
    gain_R = _size(edit, draws[0], smallest) - _size(edit, draws[1], smallest)
    values = [_size(edit, np.array([mean.value]), smallest) for mean in (mean_first, mean_second)]
    value = float((values[0] - values[1])[0])
    low, high = (float(x) for x in np.quantile(gain_R, [0.025, 0.975]))
    gain = Estimate(value, low, high, len(prompt_J), f"paired bootstrap over {int(used.sum())} prompts")
    return Difference("edits", edit.name, f"the response {edit.what}", mean_first, mean_second, gain, normal_p(gain), "")


def _size(edit: Edit, mean: Floats, smallest: float) -> Floats:
    """How large a fault a mean change is: 0 is best. What must fall is at fault by how much it falls short of `smallest`."""
    if edit.expects == "must_fall":
        return np.maximum(mean + smallest, 0.0)
    return {"up": np.maximum(mean, 0.0), "down": np.maximum(-mean, 0.0), "either": np.abs(mean)}[edit.bias]


def _errors(pair: Pair) -> tuple[Difference, ...]:
    """Share of planted errors that lower the reward, by kind."""
    first, _ = pair
    settings = first.settings
    planted = plan_errors(first.data, per_kind=settings.battery.per_edit, seed=settings.seed)
    for subject in pair:
        subject.scorer.score([side for errors in planted.values() for error in errors for side in (error.right, error.wrong)])
    lines: list[Difference] = []
    for kind, errors in planted.items():
        prompts = np.array([error.prompt for error in errors], dtype=np.int64)
        if len(np.unique(prompts)) < settings.battery.min_prompts:
            continue
        seen = []
        for subject in pair:
            reward = subject.scorer.score([side for error in errors for side in (error.right, error.wrong)]).reward
            seen.append(0.5 + 0.5 * np.sign(reward[0::2] - reward[1::2]))
        row = (kind, f"planted errors of the kind '{kind}' that lower the reward", seen[0], seen[1])
        lines += _judged("blind_spots", [row], prompts, np.ones(len(prompts)), pair)
    return _corrected(lines)


def _judged(group: str, rows: Sequence[Row], codes: Codes, weights: Floats, pair: Pair) -> tuple[Difference, ...]:
    """Means of both and of second - first, from the same draws; more is better."""
    columns: dict[str, Column] = {}
    for k, (_, _, first, second) in enumerate(rows):
        columns[f"{k}/first"], columns[f"{k}/second"] = (Column.of(values, weights, share=True) for values in (first, second))
        columns[f"{k}/gain"] = Column.of(second - first, weights)
    codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    found = clustered_means(
        columns, codes, rng=np.random.default_rng([pair[0].settings.seed, 200]), n_resamples=pair[0].settings.n_resamples
    )
    lines = []
    for k, (name, what, *_) in enumerate(rows):
        gain = found[f"{k}/gain"]
        lines.append(Difference(group, name, what, found[f"{k}/first"], found[f"{k}/second"], gain, normal_p(gain), ""))
    return tuple(lines)


def _mean(change_J: Floats, prompt_J: Codes, subject: Subject) -> Estimate:
    if not len(change_J):
        return no_estimate("no text")
    codes = np.unique(prompt_J, return_inverse=True)[1].astype(np.int64)
    column = {"mean": Column.of(change_J, np.ones(len(change_J)))}
    return clustered_means(column, codes, rng=np.random.default_rng([subject.settings.seed, 202]))["mean"]


def _corrected(lines: Sequence[Difference]) -> tuple[Difference, ...]:
    """p-values by Benjamini and Hochberg over these lines; the better one is named where p and the interval agree."""
    adjusted = benjamini_hochberg(np.array([np.nan if line.p_value is None else line.p_value for line in lines], dtype=np.float64))
    rows = []
    for line, p in zip(lines, adjusted.tolist(), strict=True):
        small = SMALL[line.group]
        told = not np.isnan(p) and p <= LEVEL and (line.gain.low > 0 or line.gain.high < 0)
        better = "" if not told else "second" if line.gain.value > 0 else "first"
        if -small <= line.gain.low and line.gain.high <= small:
            better = "same"
        estimates = (line.first, line.second, line.gain)
        rows.append(Difference(line.group, line.name, line.what, *estimates, None if np.isnan(p) else p, better))
    return tuple(rows)
