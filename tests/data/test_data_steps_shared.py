"""The public step data beside the checkout, read whole: counts that its manifest states, and nothing lost on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from preferent.data.steps_gate import check_steps

SHARED = Path(os.environ.get("PREFERENT_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))


def ledger(name: str):
    path = SHARED / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    found = check_steps(path).ledger
    assert found.kept + found.refused + found.merged == found.rows + found.further
    return found


def test_prmbench_has_three_repeats_and_three_contradictions():
    found = ledger("prmbench")
    assert (found.rows, found.kept, found.refused) == (6874, 6868, 0)
    assert (found.merged_exact, found.merged_contradictory, found.contradictions) == (3, 3, 3)


def test_mr_ben_rows_whose_place_counts_blank_lines_are_refused():
    """In 199 of the 235 rows with blank lines and an error, the place points at the step so numbered only when blanks are not counted."""
    found = ledger("mr_ben")
    assert found.rows == 4295
    assert {refusal.reason.value for refusal in found.refusals} == {"empty_step"}
    assert found.refused == 142


def test_processbench_sample():
    found = ledger("processbench")
    assert (found.kept, found.with_error) == (60, 60)
