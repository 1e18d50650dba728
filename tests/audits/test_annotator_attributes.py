"""Known attributes in the annotator report: a planted one is found with its conflicts, a coin is not, hostile names stay text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from preferent.annotators.attribute_levels import Attributes, attribute_levels
from preferent.annotators.pair_ends import Pair
from preferent.annotators.table import VoteTable
from preferent.audits.annotator_report import annotator_verdict, render_annotator_report
from preferent.audits.annotator_study import AnnotatorStudy, StudySettings, study_annotators
from preferent.cli.output import emit_json
from preferent.core.records import user

HOSTILE = "<script>alert(1)</script>"
LEVELS = (HOSTILE, '{{ 7 * 7 }}"><img src=x onerror=alert(1)>')
# The two levels of "region" agree on responses 0 to 4 and want the opposite of each other on 5 to 9.
TASTE = np.stack([np.r_[3, 1.5, 0, -1.5, -3, 2.5, 1.2, 0, -1.2, -2.5], np.r_[3, 1.5, 0, -1.5, -3, -2.5, -1.2, 0, 1.2, 2.5]])


def world() -> tuple[VoteTable, dict[str, Pair], Attributes]:
    """Thirty people; every second one is of the second level; each judges 20 of the 45 pairs. The age is noise."""
    rng = np.random.default_rng(0)
    every = [(i, j) for i in range(10) for j in range(i + 1, 10)]
    pairs = {f"c{i}{j}": Pair(f"r{i}", f"r{j}", user("which?"), f"text {i}", f"text {j}") for i, j in every}
    rows = []
    for person in range(30):
        for k in rng.choice(45, 20, replace=False).tolist():
            i, j = every[k]
            p = 1 / (1 + np.exp(TASTE[person % 2, j] - TASTE[person % 2, i]))
            rows.append((f"c{i}{j}", f"p{person:02d}", "a" if rng.random() < p else "b"))
    table = VoteTable.from_arrays(*zip(*rows, strict=True), labels=("a", "b"))
    region = [LEVELS[person % 2] for person in range(30)]
    return table, pairs, attribute_levels({HOSTILE: region, "age": rng.permutation(np.arange(20, 50)).tolist(), "one": [1] * 30})


@pytest.fixture(scope="module")
def study() -> AnnotatorStudy:
    table, pairs, attributes = world()
    return study_annotators(table, pairs, StudySettings(groups=0), attributes=attributes)


def test_the_planted_attribute_is_told_from_noise_with_its_conflicts(study: AnnotatorStudy) -> None:
    found = study.attributes
    assert found is not None
    assert {name: test.accepted for name, test in found.tests.items()} == {HOSTILE: True, "age": False}
    assert found.left_out == {"one": "everybody has the value 1"}
    assert len(found.conflicts) == 10
    for one in found.conflicts:
        i, j = int(one.pair.a[1:]), int(one.pair.b[1:])
        gaps = TASTE[:, i] - TASTE[:, j]
        assert gaps[0] * gaps[1] < 0
        for level, p in zip(one.levels, one.p_a, strict=True):
            assert (p.value > 0.5) == (gaps[LEVELS.index(level)] > 0)
            assert p.low <= p.value <= p.high
    region, age = ([row for row in found.levels if row.attribute == name] for name in (HOSTILE, "age"))
    # Both levels are as far from the average annotator: on the pairs they judge, about half of what they are from each other.
    truth = np.abs(1 / (1 + np.exp(-_gaps(0))) - 1 / (1 + np.exp(-(_gaps(0) + _gaps(1)) / 2))).mean()
    for row in region:
        assert row.distance.low < truth < row.distance.high
        assert row.annotators == 15
        assert row.departs > 10
    assert max(row.distance.value for row in age) < 0.3 * truth
    assert all(row.departs == 0 for row in age)
    assert any("foretells held-out votes" in line for line in annotator_verdict(study))


def _gaps(level: int) -> np.ndarray:
    one, two = np.triu_indices(10, 1)
    return TASTE[level, one] - TASTE[level, two]


def test_the_section_is_text_and_the_json_has_everything(study: AnnotatorStudy, capsys: pytest.CaptureFixture[str]) -> None:
    class Page(HTMLParser):
        def __init__(self, page: str) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.words: list[str] = []
            self.feed(page)

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.tags.append(tag)
            assert not any(key.startswith("on") or key == "src" for key, _ in attrs)

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    page = Page(render_annotator_report(title="t", study=study))
    assert not {"script", "img"} & set(page.tags)
    text = " ".join(page.words)
    for words in ("Attributes of annotators", "Does it matter", "more than noise", HOSTILE, "want opposite sides", LEVELS[1]):
        assert words in text
    emit_json(study.to_dict())
    told = json.loads(capsys.readouterr().out)["attributes"]
    assert [(row["attribute"], row["accepted"]) for row in told["attributes"]] == [(HOSTILE, True), ("age", False)]
    assert {row["level"] for row in told["levels"] if row["attribute"] == HOSTILE} == set(LEVELS)
    assert told["conflicts"][0]["probability"] >= 0.95


def test_columns_become_levels() -> None:
    made = attribute_levels({
        "age": [20, 21, 22, 30, 31, 32, 60, 61, None],
        "few": [1, 2, 1, 2, 1, 2, 1, 2, None],
        "name": [*"abcdefgh", None],
        "nobody": [None] * 9,
        "told": ["yes"] * 8 + [None],
    })  # fmt: skip
    # Thirds of eight numbers begin at the 3rd and 6th step of 7: at 30 (7/3 up to 3) and 32 (14/3 up to 5).
    assert made.columns["age"] == ["20 to 22"] * 3 + ["30 to 31"] * 2 + ["32 to 61"] * 3 + [None]
    assert made.columns["few"] == [1, 2, 1, 2, 1, 2, 1, 2, None]
    assert made.columns["told"][0] == "yes"  # told or not is an attribute as well
    assert set(made.left_out) == {"nobody"}
    assert len(made.columns["name"]) == 9
    wide = attribute_levels({"id": [f"x{k}" for k in range(40)]})
    assert "no kinds of people" in wide.left_out["id"]


def test_what_cannot_be_looked_at_is_said() -> None:
    table, pairs, _ = world()
    study = study_annotators(table, pairs, StudySettings(groups=0), attributes=attribute_levels({"one": [1] * 30}))
    assert study.attributes is None
    assert study.skipped["attributes"] == "no column can be used: one: everybody has the value 1"
    assert "Left out: attributes" in render_annotator_report(title="t", study=study)
    assert study_annotators(table, pairs, StudySettings(groups=0)).skipped.get("attributes") is None
