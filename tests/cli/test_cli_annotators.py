"""`preferent annotators` from files: texts from either file, JSON for programs, nothing overwritten, one objective at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from preferent.cli.main import preferent
from preferent.core.errors import DataError, ExistsError


def run(*words: object) -> str:
    result = CliRunner().invoke(preferent, [str(word) for word in words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Five people on the pairs of six responses, the earlier one better; `liar` says the opposite."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(6):
        for j in range(i + 1, 6):
            for who in ("p0", "p1", "p2", "p3", "liar"):
                right = rng.random() < 0.92
                choice = "a" if right != (who == "liar") else "b"
                found.append({"comparison_id": f"c{i}{j}", "annotator_id": who, "choice": choice, "response_a_id": f"r{i}",
                              "response_b_id": f"r{j}", "rationale": f"because {i} is clearer" if who == "p0" else None})  # fmt: skip
    return found


def test_the_report_and_the_json(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    judgments = write(tmp_path / "judgments.jsonl", rows)
    report = tmp_path / "report.html"
    told = json.loads(run("annotators", judgments, "-o", report, "--json"))
    assert [person["annotator_id"] for person in told["people"] if person["flags"]] == ["liar"]
    assert told["coverage"]["components"] == [6]
    assert told["skipped"]["texts"].startswith("neither the judgments")
    page = report.read_text(encoding="utf-8")
    assert "is clearer" in page
    assert "(no text)" in page
    with pytest.raises(ExistsError):
        run("annotators", judgments, "-o", report)
    shown = run("annotators", judgments)
    assert "1 of 5 annotators are flagged" in shown
    assert "liar: adversary" in shown


def test_texts_come_with_the_rows_or_from_a_file_of_comparisons(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    def words(k: int) -> str:
        return f"The text of response {k}."

    with_texts = [
        {**row, "prompt": "Which?", "response_a": words(int(row["response_a_id"][1:])), "response_b": words(int(row["response_b_id"][1:]))}
        for row in rows
    ]
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    run("annotators", write(tmp_path / "full.jsonl", with_texts), "-o", one)
    unique = {row["comparison_id"]: row for row in with_texts}
    comparisons = write(
        tmp_path / "comparisons.jsonl",
        [{"id": name, **{key: row[key] for key in ("prompt", "response_a", "response_b")}} for name, row in unique.items()],
    )
    judgments = write(tmp_path / "full2.jsonl", rows)
    run("annotators", judgments, "--comparisons", comparisons, "-o", two)
    first, second = (path.read_text(encoding="utf-8").replace("full2.jsonl", "full.jsonl") for path in (one, two))
    assert first == second
    assert words(0) in first
    # Only texts, no ids: the graph is the same, since a response is its prompt and its text.
    nameless = [{key: value for key, value in row.items() if not key.endswith("_a_id") and not key.endswith("_b_id")} for row in with_texts]
    told = json.loads(run("annotators", write(tmp_path / "nameless.jsonl", nameless), "--json"))
    assert told["coverage"]["components"] == [6]
    with pytest.raises(DataError, match="no comparison that was judged"):
        run("annotators", judgments, "--comparisons", write(tmp_path / "other.jsonl", [{**unique["c01"], "comparison_id": "else"}]))


def test_one_objective_at_a_time(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    both = [{**row, "objective": objective} for row in rows for objective in ("tone", "facts")]
    path = write(tmp_path / "both.jsonl", both)
    with pytest.raises(DataError, match="several objectives"):
        run("annotators", path)
    assert json.loads(run("annotators", path, "--objective", "tone", "--json"))["votes"] == len(rows)
    with pytest.raises(DataError, match="no judgments on the objective 'else'"):
        run("annotators", path, "--objective", "else")


def test_attributes_from_every_kind_of_file(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    judgments = write(tmp_path / "judgments.jsonl", rows)
    people = [{"annotator_id": who, "region": region, "age": age} for who, region, age in
              (("p0", "north", 20), ("p1", "north", 31), ("p2", "south", 20), ("p3", None, 31), ("else", "west", 50))]  # fmt: skip
    lines = write(tmp_path / "people.jsonl", people)
    table = tmp_path / "people.csv"
    table.write_text(
        "annotator_id,region,age\n" + "".join(f"{row['annotator_id']},{row['region'] or ''},{row['age']}\n" for row in people), "utf-8"
    )
    files = [lines, table]
    pa = pytest.importorskip("pyarrow")
    files.append(tmp_path / "people.parquet")
    pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(people), files[-1])
    told = [json.loads(run("annotators", judgments, "--groups", 0, "--attributes", path, "--json"))["attributes"] for path in files]
    assert told[0]["levels"] == told[1]["levels"] == told[2]["levels"]
    counts = {(row["attribute"], row["level"]): row["annotators"] for row in told[0]["levels"]}
    assert counts == {("region", "north"): 2, ("region", "south"): 1, ("region", "(missing)"): 2,
                      ("age", "20"): 2, ("age", "31"): 2, ("age", "(missing)"): 1}  # fmt: skip
    assert any("1 annotators who gave no vote" in note for note in told[0]["notes"])
    assert any("no row for 1 of 5" in note for note in told[0]["notes"])


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("p.csv", "annotator_id,region\np0,north\np0,south\n", r"p.csv:3: the annotator 'p0' was named before, at .*p.csv:2"),
        ("p.csv", "annotator_id,region\np0,north,more\n", r"p.csv:2: .* cells"),
        ("p.csv", "who,region\np0,north\n", "no annotator_id"),
        ("p.jsonl", '{"annotator_id": "p0", "region": ["x"]}\n', r"p.jsonl:1: region: .* allowed are texts"),
        ("p.jsonl", '{"annotator_id": "stranger", "region": "x"}\n', "knows none of the 5 annotators"),
        ("p.jsonl", '{"annotator_id": "p0"}\n', "no column besides"),
    ],
)
def test_attributes_that_cannot_be_read(rows: list[dict[str, Any]], tmp_path: Path, name: str, text: str, match: str) -> None:
    judgments = write(tmp_path / "judgments.jsonl", rows)
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=match):
        run("annotators", judgments, "--attributes", tmp_path / name)
