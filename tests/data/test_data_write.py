"""What is written is read back as it was; nothing is half written, nothing overwritten unasked."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preferent.core.errors import DataError, ExistsError
from preferent.core.records import Message, Preference, user
from preferent.data.gate import check
from preferent.data.write import write_jsonl, write_preferences

ONE = Preference(prompt=user("q"), response_a="x", response_b="y", p_a=1.0)
FULL = Preference(
    prompt=(Message(role="system", content="s"), Message(role="user", content="ü\u2028\x00")),
    response_a="x",
    response_b="y\n",
    p_a=0.25,
    weight=2.5,
    margin=1.0,
    objective="tone",
    n_judgments=4,
    votes=(0.0, 0.5),
    source="s",
    id="7",
    meta={"a": [1, None]},
)


@pytest.mark.parametrize("name", ["a.jsonl", "deep/er/a.jsonl.gz"])
def test_there_and_back(tmp_path: Path, name: str):
    path = tmp_path / name
    assert write_preferences(path, [ONE, FULL]) == 2
    assert list(check(path, strict=True).records()) == [ONE, FULL]
    assert list(path.parent.iterdir()) == [path]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(p_a=st.floats(0, 1), weight=st.floats(1e-300, 1e300), text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_number_and_text_come_back_exactly(tmp_path: Path, p_a: float, weight: float, text: str):
    record = Preference(prompt=user("q" + text), response_a="a" + text, response_b="b" + text, p_a=p_a, weight=weight)
    write_preferences(tmp_path / "a.jsonl", [record], force=True)
    assert list(check(tmp_path / "a.jsonl").records()) == [record]


def test_defaults_are_left_out_and_the_same_rows_give_the_same_bytes(tmp_path: Path):
    write_preferences(tmp_path / "a.gz", [ONE])
    write_preferences(tmp_path / "b.gz", [ONE])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    row = json.loads(gzip.decompress((tmp_path / "a.gz").read_bytes()))
    assert row == {"prompt": "q", "response_a": "x", "response_b": "y", "p_a": 1.0, "weight": 1.0}


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    with pytest.raises(ExistsError, match="exists"):
        write_jsonl(path, [{"a": 1}])
    assert path.read_text() == "mine"
    write_jsonl(path, [{"a": 1}], force=True)
    assert path.read_text() == '{"a": 1}\n'


def test_a_failure_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        write_jsonl(path, [{"a": 1}, {"a": float("nan")}], force=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
