"""What `audit` and `compare` have in common: the texts, and how long it will take."""

from __future__ import annotations

import time
from typing import Any

from preferent.audits.audit_subject import Memo
from preferent.audits.probe import AuditData
from preferent.cli.output import talk

WARM, TIMED = 16, 64


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
    """Score a few texts from all over the data, which the audit needs anyway, and say what all of them will take."""
    sample = data.exchanges[:: max(1, len(data.exchanges) // (WARM + TIMED))][: WARM + TIMED]
    memo.score(sample[:WARM])  # the first call also warms up
    rest = sample[WARM:] or sample
    began, before = time.perf_counter(), memo.n_scored
    memo.score(rest)
    done = memo.n_scored - before
    pace = (time.perf_counter() - began) / done if done else memo.seconds / max(memo.n_scored, 1)
    left = pace * max(0, total - memo.n_scored)
    if left >= 5:
        words = f"{left:,.0f} seconds" if left < 90 else f"{left / 60:,.0f} minutes"
        talk(f"about {total:,} texts to score; at the pace of the first {memo.n_scored} that is about {words}")
