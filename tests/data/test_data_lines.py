"""Files of every kind, whole and broken: rows with their place, and the rows before the break kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from preferent.core.errors import DataError
from preferent.data import lines
from preferent.data.ledger import Refusal
from preferent.data.lines import RawRow, read_raw
from preferent.data.tables import looks_like_hub_id

ROWS = [{"n": i, "text": f"row {i} ünïcode"} for i in range(500)]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def values(found: list[RawRow | Refusal]) -> list[dict]:
    return [row.value for row in found if isinstance(row, RawRow)]


def refusals(found: list[RawRow | Refusal]) -> list[Refusal]:
    return [row for row in found if isinstance(row, Refusal)]


def packed(kind: str) -> bytes:
    if kind == "gzip":
        return gzip.compress(TEXT)
    return zstandard.ZstdCompressor().compress(TEXT) if kind == "zstd" else TEXT


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a"])
def test_compression_is_told_by_content_and_not_by_name(tmp_path: Path, kind: str, name: str):
    path = tmp_path / name
    path.write_bytes(packed(kind))
    found = list(read_raw(path))
    assert values(found) == ROWS
    assert found[41].where == f"{path}:42"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_several_frames_in_one_file(tmp_path: Path, kind: str):
    (tmp_path / "a").write_bytes(packed(kind) * 2)
    assert values(list(read_raw(tmp_path / "a"))) == ROWS * 2


def noise(n: int) -> bytes:
    """Rows that compress badly, so that a cut falls into the middle of many blocks."""
    return b"".join(json.dumps({"n": i, "x": hex(hash((i, 1)) ** 5)}).encode() + b"\n" for i in range(n))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_stream_that_ends_early_keeps_the_rows_before(tmp_path: Path, kind: str, share: float):
    text = noise(20_000)
    data = gzip.compress(text) if kind == "gzip" else zstandard.ZstdCompressor().compress(text)
    (tmp_path / "a").write_bytes(data[: int(len(data) * share)])
    found = list(read_raw(tmp_path / "a"))
    assert found[:-1] == [
        RawRow(f"{tmp_path / 'a'}:{i + 1}", json.loads(line)) for i, line in enumerate(text.splitlines()[: len(found) - 1])
    ]
    last = found[-1]
    assert isinstance(last, Refusal)
    assert last.reason == "broken_stream"
    assert last.where == f"{tmp_path / 'a'}:{len(found)}"
    assert len(found) > 20_000 * share * 0.7


def test_a_damaged_gzip_stream_is_a_refusal(tmp_path: Path):
    data = bytearray(gzip.compress(noise(20_000)))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    last = list(read_raw(tmp_path / "a"))[-1]
    assert isinstance(last, Refusal)
    assert last.reason == "broken_stream"


@pytest.mark.parametrize(
    ("line", "reason", "says"),
    [
        (b'{"a": "\xff\xfe"}', "broken_utf8", "byte 8"),
        (b'{"a": "\\ud800"}', "broken_utf8", "surrogate"),
        (b'{"a": 1', "invalid_json", "begins"),
        (b"nonsense", "invalid_json", "nonsense"),
        (b"[1, 2]", "not_an_object", "a list"),
        (b"null", "not_an_object", "null"),
        (b"[" * 100_000, "invalid_json", "deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "invalid_json", "digits"),
    ],
)
def test_a_bad_line_is_refused_where_it_stands(tmp_path: Path, line: bytes, reason: str, says: str):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n\n' + line + b'\n{"n": 2}')
    found = list(read_raw(path))
    assert values(found) == [{"n": 1}, {"n": 2}]
    (refused,) = refusals(found)
    # The blank second line is no row, but it is a line.
    assert (refused.reason, refused.where) == (reason, f"{path}:3")
    assert says in refused.detail


def test_paired_surrogates_and_a_byte_order_mark_are_fine(tmp_path: Path):
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}\r\n')
    assert values(list(read_raw(tmp_path / "a"))) == [{"a": "😀"}]


def test_a_line_without_an_end_is_passed_over_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "MAX_LINE", 100)
    (tmp_path / "a").write_bytes(b'{"n": 1}\n{"a": "' + b"x" * 1000 + b'"}\n{"n": 2}\n')
    found = list(read_raw(tmp_path / "a"))
    assert values(found) == [{"n": 1}, {"n": 2}]
    assert [(row.where[-2:], row.reason.value) for row in refusals(found)] == [(":2", "row_too_long")]
    assert found[-1].where.endswith(":3")


def test_a_json_array_with_lines_and_a_broken_element(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text('[{"n": 1},\n {"n":\n 2}, 5,\n\n{"n": 3}]')
    found = list(read_raw(path))
    assert values(found) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [row.where[-2:] for row in found] == [":1", ":2", ":3", ":5"]
    path.write_text('[{"n": 1},\n {"n": ')
    first, last = read_raw(path)
    assert isinstance(first, RawRow)
    assert isinstance(last, Refusal)
    assert (last.reason, last.where) == ("invalid_json", f"{path}:2")


@pytest.mark.parametrize("text", ["[", "[{}", "[{} {}]", "[{}] x", "[,]", '[{"a": "\\ud800"}]'])
def test_broken_arrays_are_refused(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    assert refusals(list(read_raw(tmp_path / "a.json")))


def test_json_named_file_of_lines(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(TEXT)
    assert values(list(read_raw(tmp_path / "a.json"))) == ROWS


def test_parquet_whole_and_cut(tmp_path: Path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.bin"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    found = list(read_raw(path))
    assert values(found) == ROWS
    assert found[9].where == f"{path}:10"
    path.write_bytes(path.read_bytes()[:-20])
    (only,) = read_raw(path)
    assert isinstance(only, Refusal)
    assert only.reason == "broken_stream"


@pytest.mark.parametrize("saved", [True, False])
def test_a_folder_is_read_through_datasets(tmp_path: Path, saved: bool, monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "set"
    if saved:
        datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(folder))
    else:
        folder.mkdir()
        (folder / "test.jsonl").write_bytes(TEXT)
    found = list(read_raw(folder, split="test"))
    assert values(found) == ROWS
    assert found[0].where == f"{folder}:1"
    with pytest.raises(DataError, match="split 'other'"):
        list(read_raw(folder, split="other"))


def test_what_is_not_there_or_empty_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        list(read_raw(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="empty"):
        list(read_raw(tmp_path / "empty.jsonl"))
    with pytest.raises(DataError, match="no data source"):
        list(read_raw([]))


def test_hub_ids_are_told_from_paths():
    assert looks_like_hub_id("trl-lib/ultrafeedback_binarized")
    assert looks_like_hub_id("owner/name:config")
    assert not looks_like_hub_id("data/pairs.jsonl")
    assert not looks_like_hub_id("pairs")


def test_several_sources_are_read_one_after_the_other(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).write_text(json.dumps({"n": name}))
    found = list(read_raw([tmp_path / "a", str(tmp_path / "b")]))
    assert [(row.where[-3:], row.value["n"]) for row in found if isinstance(row, RawRow)] == [("a:1", "a"), ("b:1", "b")]
