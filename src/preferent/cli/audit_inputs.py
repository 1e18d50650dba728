"""What `audit` and `compare` read: a scorer of any kind, and texts."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from preferent.audits.audit_subject import Memo
from preferent.audits.probe import AuditData
from preferent.cli.output import talk
from preferent.core.errors import ConfigError
from preferent.core.records import Exchange, Scores
from preferent.core.scorer import Scorer

CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
TIMED = 16


def load_any(model: str, *, threads: int | None = None, trust_remote_code: bool = False) -> tuple[Scorer, float]:
    """What MODEL names, and its temperature: `module:function`, or what `cli.scorers.load_scorer` knows."""
    if CALLABLE.fullmatch(model) and not Path(model).exists():
        return callable_scorer(model), 1.0
    from preferent.cli.scorers import load_scorer

    return load_scorer(model, threads=threads, trust_remote_code=trust_remote_code)


def callable_scorer(word: str) -> Scorer:
    """A scorer from `module:name` (looked for in the working directory, too): an object with `score`, or a function.

    The function is called with a list of Exchange (`.prompt`: messages with role and content; `.response`: text) and returns one number
    for each. Raises ConfigError when it cannot be imported or is neither.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = resolve_name(word)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{word!r} cannot be imported: {error}", hint="give module:function, importable from here") from error
    if isinstance(found, Scorer):
        return found
    if not callable(found):
        raise ConfigError(f"{word!r} is a {type(found).__name__}; allowed: a function of a list of exchanges, or an object with score()")
    return _Function(word, found)


class _Function:
    """A function of a list of exchanges as a scorer."""

    def __init__(self, name: str, function: Callable[[list[Exchange]], Any]) -> None:
        self.name = name
        self._function = function

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        if not exchanges:
            return Scores(reward=np.zeros(0))
        return Scores(reward=np.asarray(self._function(list(exchanges)), dtype=np.float64))


def audit_texts(source: str | None, *, split: str, data_format: Any, strict: bool, prompts: int, seed: int) -> tuple[AuditData, Any]:
    """The texts of DATA and its ledger; without DATA the built-in probes and None."""
    from preferent.audits.probe import audit_data

    if source is None:
        return audit_data(), None
    from preferent.data.gate import check

    checked = check(source, format=data_format, strict=strict, split=split)
    data = audit_data(checked.records(), max_prompts=prompts, seed=seed)
    if checked.ledger.refused:
        talk(f"{checked.ledger.refused} of {checked.ledger.rows} rows were refused: see `preferent check {source}`")
    return data, checked.ledger.to_dict()


def say_how_long(memo: Memo, data: AuditData, total: int) -> None:
    """Score the first few texts, which the audit needs anyway, and say what all of them will take."""
    sample = data.exchanges[: 2 * TIMED]
    memo.score(sample[:TIMED])  # the first call also warms up
    rest = sample[TIMED:] or sample
    began, before = time.perf_counter(), memo.n_scored
    memo.score(rest)
    done = memo.n_scored - before
    pace = (time.perf_counter() - began) / done if done else memo.seconds / max(memo.n_scored, 1)
    left = pace * max(0, total - memo.n_scored)
    if left >= 5:
        words = f"{left:,.0f} seconds" if left < 90 else f"{left / 60:,.0f} minutes"
        talk(f"about {total:,} texts to score; at the pace of the first {memo.n_scored} that is about {words}")
