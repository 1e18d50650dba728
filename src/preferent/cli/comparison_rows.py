"""Aggregated rows together with the texts of their comparisons: what `preferent train` reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def with_comparisons(rows: Iterator[dict[str, Any]], comparisons: Path) -> Iterator[dict[str, Any]]:
    """Native preference rows; DataError for a comparison without texts or a line that is no comparison."""
    from pydantic import ValidationError

    from preferent.core.errors import DataError
    from preferent.core.records import Comparison
    from preferent.data.ledger import Refusal
    from preferent.data.lines import read_raw

    texts: dict[str, Comparison] = {}
    for row in read_raw(comparisons):
        if isinstance(row, Refusal):
            raise DataError(str(row))
        try:
            comparison = Comparison.model_validate(row.value)
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(f"{row.where}: not a comparison: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                            hint="a row has id, prompt (messages), response_a, response_b") from error  # fmt: skip
        texts[comparison.id] = comparison
    for row in rows:
        if row["comparison_id"] not in texts:
            raise DataError(f"{comparisons}: no comparison has the id {row['comparison_id']!r}, which was judged")
        known = texts[row["comparison_id"]]
        told = {name: row[name] for name in ("low", "high", "warnings") if name in row}
        yield {
            "id": known.id if "objective" not in row else f"{known.id}/{row['objective']}",
            "prompt": [message.model_dump() for message in known.prompt],
            "response_a": known.response_a,
            "response_b": known.response_b,
            "p_a": row["p_a"],
            "n_judgments": row["n_judgments"],
            **{name: row[name] for name in ("objective", "weight") if name in row},
            "source": known.source,
            "meta": {**known.meta, **told},
        }
