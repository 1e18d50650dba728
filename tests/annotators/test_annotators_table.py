"""Votes as columns: names, order, policies, files. What is left out is always told."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import Policies, intern
from preferent.annotators.table_read import read_votes
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Judgment

ITEMS, PEOPLE, LABELS = ["p2", "p1", "p2", "p3"], ["w1", "w1", "w2", "w2"], ["a", "tie", "b", "a"]


def test_names_are_sorted_and_rows_in_one_order():
    table = VoteTable.from_arrays(ITEMS, PEOPLE, LABELS)
    assert table.items.tolist() == ["p1", "p2", "p3"]
    assert table.labels == ("a", "b", "tie")
    assert table.item_V.tolist() == [0, 1, 1, 2]
    assert table.annotator_V.tolist() == [0, 0, 1, 1]
    assert table.label_V.tolist() == [2, 0, 1, 0]
    assert table.counts_IL.tolist() == [[0, 0, 1], [1, 1, 0], [1, 0, 0]]
    assert table.votes_I.tolist() == [1, 2, 1]
    assert table.votes_A.tolist() == [2, 2]
    assert table.notes == ()


@given(st.permutations(range(4)))
def test_the_order_of_rows_never_matters(order):
    plain = VoteTable.from_arrays(ITEMS, PEOPLE, LABELS, seconds=[1.0, 2.0, 3.0, 4.0])
    columns = {"item": ITEMS, "annotator": PEOPLE, "label": LABELS, "seconds": [1.0, 2.0, 3.0, 4.0]}
    mixed = VoteTable.from_columns({name: [values[i] for i in order] for name, values in columns.items()})
    for name in ("item_V", "annotator_V", "label_V", "seconds_V"):
        assert np.array_equal(getattr(plain, name), getattr(mixed, name))


@pytest.mark.parametrize(
    "values",
    [
        ["x", "y", "x", None, "z"],
        np.array(["x", "y", "x", None, "z"], dtype=object),
        pa.array(["x", "y", "x", None, "z"]),
        pa.chunked_array([pa.array(["x", "y"]), pa.array(["x", None, "z"])]),
        pa.array(["x", "y", "x", None, "z"]).dictionary_encode(),
    ],
)
def test_every_kind_of_column_gives_the_same_codes(values):
    codes, names = intern(values)
    assert codes.tolist() == [0, 1, 0, -1, 2]
    assert names.tolist() == ["x", "y", "z"]


def test_numbers_as_ids():
    assert [part.tolist() for part in intern(np.array([7, 3, 7]))] == [[1, 0, 1], [3, 7]]
    assert [part.tolist() for part in intern(np.array([10**15, 3, 10**15]))] == [[1, 0, 1], [3, 10**15]]
    assert [part.tolist() for part in intern(np.array([7.0, np.nan, 3.0]))] == [[1, -1, 0], [3, 7]]
    with pytest.raises(DataError, match="fractions"):
        intern(np.array([1.5, 2.0]))
    with pytest.raises(DataError, match="all texts or all whole numbers"):
        intern(["a", 1])


@pytest.mark.parametrize("column", ["item", "annotator", "label"])
@pytest.mark.parametrize("null", [None, "", float("nan")])
def test_nulls_are_refused_or_counted(column, null):
    columns = {"item": list(ITEMS), "annotator": list(PEOPLE), "label": list(LABELS)}
    columns[column][2] = null
    with pytest.raises(DataError, match=f"row 3: 1 rows without .* the first has no {column}"):
        VoteTable.from_columns(columns)
    table = VoteTable.from_columns(columns, policies=Policies(nulls="drop"))
    assert len(table) == 3
    assert "dropped 1 rows" in table.notes[0]


def test_labels_outside_the_allowed_set():
    with pytest.raises(DataError, match=r"'tie'; allowed are \['a', 'b'\]"):
        VoteTable.from_arrays(ITEMS, PEOPLE, LABELS, labels=("a", "b"))
    table = VoteTable.from_arrays(ITEMS, PEOPLE, LABELS, labels=("a", "b"), policies=Policies(unknown="drop"))
    assert len(table) == 3
    assert any("dropped 1 votes" in note for note in table.notes)
    assert any("'p1'" in note for note in table.notes), "an item that lost its only vote is named"


def test_skips_are_counted_and_ties_of_every_kind_stay_apart():
    labels = ["both_bad", "skip", "both_good", "tie"]
    table = VoteTable.from_arrays(ITEMS, PEOPLE, labels)
    assert table.skipped == 1
    assert table.labels == ("both_bad", "both_good", "tie")
    assert table.items.tolist() == ["p2", "p3"]
    assert any("left out 1 items" in note for note in table.notes)
    with pytest.raises(DataError, match="no votes"):
        VoteTable.from_arrays(["x"], ["w"], ["skip"])


def test_repeated_votes():
    # w on p: a, a (identical); v on p: a, b (contradictory); u on q: a.
    item, who, label = ["p", "p", "p", "p", "q"], ["w", "w", "v", "v", "u"], ["a", "a", "b", "a", "a"]
    with pytest.raises(DataError, match="2 repeated votes"):
        VoteTable.from_arrays(item, who, label)
    merged = VoteTable.from_arrays(item, who, label, policies=Policies(repeats="merge"))
    assert merged.counts_IL.tolist() == [[1, 0], [1, 0]]
    assert merged.annotators.tolist() == ["u", "w"]
    assert "1 contradictory groups were dropped" in merged.notes[0]
    shared = VoteTable.from_arrays(item, who, label, policies=Policies(repeats="share"))
    assert shared.counts_IL.tolist() == [[1.5, 0.5], [1, 0]]
    assert shared.votes_I.tolist() == [2, 1], "two annotators voted on p, however often"
    kept = VoteTable.from_arrays(item, who, label, policies=Policies(repeats="keep"))
    assert kept.counts_IL.tolist() == [[3, 1], [1, 0]]
    assert all(table.notes for table in (merged, shared, kept))


def test_one_annotator_may_judge_two_objectives():
    table = VoteTable.from_arrays(["p", "p"], ["w", "w"], ["a", "b"], objective=["tone", "safety"])
    assert table.objectives == ("safety", "tone")
    with pytest.raises(DataError, match="different objectives"):
        table.one_objective()
    parts = table.by("objective")
    assert {name: part.counts_IL.tolist() for name, part in parts.items()} == {"safety": [[0, 1]], "tone": [[1, 0]]}
    with pytest.raises(ConfigError, match="'age'"):
        table.by("age")


def test_swapping_sides_turns_votes_and_display_order():
    table = VoteTable.from_arrays(ITEMS, PEOPLE, LABELS, shown_first=["a", None, "b", "a"])
    swapped = table.swap()
    assert swapped.label_V.tolist() == [2, 1, 0, 1]
    assert table.first_V is not None
    assert swapped.first_V is not None
    assert table.first_V.tolist() == [-1, 0, 1, 0]
    assert swapped.first_V.tolist() == [-1, 1, 0, 1]
    assert swapped.swap().label_V.tolist() == table.label_V.tolist()
    with pytest.raises(DataError, match="no label 'left'"):
        table.swap("left", "right")


def test_columns_go_round():
    table = VoteTable.from_arrays(ITEMS, PEOPLE, LABELS, weight=[1.0, 2.0, 3.0, 4.0], source=["x", "y", None, "x"])
    again = VoteTable.from_columns(table.columns(), labels=table.labels)
    for name in ("item_V", "annotator_V", "label_V", "weight_V", "source_V"):
        assert np.array_equal(getattr(table, name), getattr(again, name))


def test_bad_columns():
    with pytest.raises(DataError, match=r"missing \['label'\]"):
        VoteTable.from_columns({"item": [1], "annotator": [1]})
    with pytest.raises(DataError, match=r"not known \['vote'\]"):
        VoteTable.from_arrays([1], [1], ["a"], vote=[1])
    with pytest.raises(DataError, match="different lengths"):
        VoteTable.from_arrays([1, 2], [1], ["a"])
    with pytest.raises(DataError, match="weight"):
        VoteTable.from_arrays([1, 2], [1, 2], ["a", "b"], weight=[1.0, 0.0])
    with pytest.raises(DataError, match="shown_first"):
        VoteTable.from_arrays([1], [1], ["a"], shown_first=["left"])


def test_from_judgments():
    rows = [Judgment(comparison_id="p", annotator_id=who, choice=choice) for who, choice in (("u", "a"), ("v", "skip"), ("w", "tie"))]
    table = VoteTable.from_judgments(rows)
    assert table.labels == ("a", "b", "tie")
    assert table.counts_IL.tolist() == [[1, 0, 1]]
    assert table.skipped == 1
    assert VoteTable.from_judgments(rows[:1]).labels == ("a", "b"), "a side that nobody chose is still a label"


ROWS = [
    {"comparison_id": "p", "annotator_id": "u", "choice": "a", "response_a": "text", "seconds": None},
    {"comparison_id": "p", "annotator_id": "v", "choice": "b", "seconds": 2.5},
    {"comparison_id": "q", "annotator_id": "v", "choice": "b"},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_files_by_their_own_field_names(tmp_path, suffix):
    path = tmp_path / f"votes{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{"seconds": None, **row} for row in ROWS]), path)
    else:
        opener = gzip.open if suffix.endswith("gz") else open
        with opener(path, "wt", encoding="utf-8") as file:
            file.write("\n\n".join(json.dumps(row) for row in ROWS))
    table = read_votes(path)
    assert table.items.tolist() == ["p", "q"]
    assert table.counts_IL.tolist() == [[1, 1], [0, 1]]
    assert table.seconds_V is not None
    assert np.isnan(table.seconds_V).tolist() == [True, False, True]


def test_a_file_names_the_line(tmp_path):
    path = tmp_path / "votes.jsonl"
    good = '{"item": "p", "annotator": "u", "label": "a"}\n'
    for bad, says in (
        ("{oops", "not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"item": "p", "label": "a"}', r"no field for \['annotator'\]"),
        ('{"item": "p", "annotator": null, "label": "a"}', "no annotator"),
    ):
        path.write_text(good + "\n" + bad + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=rf"votes\.jsonl:3: .*{says}"):
            read_votes(path)
    with pytest.raises(DataError, match="no such file"):
        read_votes(tmp_path / "none.jsonl")
    path.write_bytes(gzip.compress(good.encode())[:-8])
    with pytest.raises(DataError, match="cannot be read"):
        read_votes(path.rename(tmp_path / "cut.jsonl.gz"))
