"""Raw rows with their location, one at a time: JSON lines, JSON arrays, Parquet, data sets of the hub.

Memory does not grow with the source, except for `.json` arrays, which are read whole and limited in size. What cannot be read as a
row becomes a located refusal; the rows before it are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from preferent.core.errors import DataError
from preferent.data.ledger import Reason, Refusal
from preferent.data.streams import PARQUET_MAGIC, STREAM_ERRORS, magic, open_bytes
from preferent.data.tables import dataset_rows, looks_like_hub_id, parquet_rows

Source = str | Path | Sequence[str | Path]

MAX_LINE = 64 * 2**20
MAX_ARRAY = 256 * 2**20
_BOM = b"\xef\xbb\xbf"


class RawRow(NamedTuple):
    """A row as it stands in the source. `where` is `path:line` (1-based); rows of tables count from 1 as well."""

    where: str
    value: dict[str, Any]


def as_paths(source: Source) -> tuple[str, ...]:
    """The sources one by one, as text."""
    if isinstance(source, str | Path):
        return (str(source),)
    if not source:
        raise DataError("no data source given", hint="name at least one file, folder or hub data set")
    return tuple(str(path) for path in source)


def read_raw(source: Source, *, split: str = "train") -> Iterator[RawRow | Refusal]:
    """Every row of the source(s), in order.

    A file is told by its content: gzip, zstandard and Parquet by their first bytes; a `.json` file that begins with `[` is an array;
    all else is JSON lines (blank lines are no rows). A folder, or a hub id `owner/name` or `owner/name:config` that is no file, is
    read through `datasets`, its part named by `split`.

    Raises DataError for a source that does not exist or holds nothing.
    """
    for name in as_paths(source):
        yield from _read_one(name, split)


def _read_one(name: str, split: str) -> Iterator[RawRow | Refusal]:
    path = Path(name)
    if path.is_dir() or (not path.exists() and looks_like_hub_id(name)):
        yield from _located(name, dataset_rows(name, split))
        return
    if not path.exists():
        raise DataError(
            f"{name}: no such file or folder", hint="give a JSONL, JSON or Parquet file, a data-set folder, or a hub id like owner/name"
        )
    start = _first_bytes(path)
    if start == PARQUET_MAGIC or path.suffix == ".parquet":
        yield from _located(name, parquet_rows(path))
    elif ".json" in path.suffixes and _begins_an_array(path):
        yield from _array_rows(path)
    else:
        yield from _line_rows(path)


def _first_bytes(path: Path) -> bytes:
    try:
        start = magic(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not start:
        raise DataError(f"{path}: the file is empty", hint="a data file holds one row per line")
    return start


def _located(name: str, rows: Iterator[dict[str, Any] | str]) -> Iterator[RawRow | Refusal]:
    """Rows of a table; a text in place of a row says why there are no more."""
    for number, row in enumerate(rows, 1):
        where = f"{name}:{number}"
        yield Refusal(where, Reason.BROKEN_STREAM, row) if isinstance(row, str) else RawRow(where, row)


# ---- JSON lines ----


def _line_rows(path: Path) -> Iterator[RawRow | Refusal]:
    number = 0
    name = str(path)
    try:
        with open_bytes(path) as file:
            while line := file.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    yield Refusal(f"{name}:{number}", Reason.ROW_TOO_LONG, f"more than {MAX_LINE} bytes without a line break")
                    _skip_line(file)
                    continue
                if number == 1 and line.startswith(_BOM):
                    line = line[len(_BOM) :]
                if not line.isspace() and line:
                    yield parse_line(line, f"{name}:{number}")
    except STREAM_ERRORS as error:
        yield Refusal(f"{name}:{number + 1}", Reason.BROKEN_STREAM, _stream_detail(error))


def _skip_line(file: Any) -> None:
    while part := file.readline(MAX_LINE):
        if part.endswith(b"\n"):
            return


def _stream_detail(error: BaseException) -> str:
    return f"{error}; what follows in this file could not be read"


def parse_line(line: bytes, where: str) -> RawRow | Refusal:
    """One line as a row, or why it is none."""
    try:
        text = line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        found = bytes(line[error.start : error.start + 8])
        return Refusal(where, Reason.BROKEN_UTF8, f"byte {error.start + 1} of the line: {found!r} is not UTF-8")
    try:
        value = json.loads(text)
    except RecursionError:
        return Refusal(where, Reason.INVALID_JSON, "nested too deeply")
    except ValueError as error:
        return Refusal(where, Reason.INVALID_JSON, f"{error}; the line begins {short(text)}")
    if not isinstance(value, dict):
        return Refusal(where, Reason.NOT_AN_OBJECT, f"found {type_name(value)}: {short(value)}")
    if ("\\ud" in text or "\\uD" in text) and not _encodes(value):
        return Refusal(where, Reason.BROKEN_UTF8, "an unpaired surrogate (\\ud800 to \\udfff) that no UTF-8 text can hold")
    return RawRow(where, value)


def _encodes(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# ---- JSON arrays ----


def _begins_an_array(path: Path) -> bool:
    try:
        with open_bytes(path) as file:
            start = file.read(4096)
    except STREAM_ERRORS:
        return False
    return start.removeprefix(_BOM).lstrip().startswith(b"[") and ".jsonl" not in path.suffixes


def _array_rows(path: Path) -> Iterator[RawRow | Refusal]:
    """The elements of a JSON array, each at the line it begins on. After a broken element nothing can be told apart any more."""
    try:
        with open_bytes(path) as file:
            data = file.read(MAX_ARRAY + 1)
    except STREAM_ERRORS as error:
        yield Refusal(f"{path}:1", Reason.BROKEN_STREAM, _stream_detail(error))
        return
    if len(data) > MAX_ARRAY:
        raise DataError(f"{path}: a JSON array of more than {MAX_ARRAY >> 20} MiB", hint="write it as JSON lines: one row per line")
    text = data.decode("utf-8-sig", errors="surrogateescape")
    decoder = json.JSONDecoder()
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        at = _skip_space(text, at)
        line, counted = line + text.count("\n", counted, at), at
        where = f"{path}:{line}"
        if text[at : at + 1] == "]":
            yield from _after_array(text, at + 1, where)
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except RecursionError:
            yield Refusal(where, Reason.INVALID_JSON, "nested too deeply; what follows in this file could not be read")
            return
        except ValueError as error:
            yield Refusal(where, Reason.INVALID_JSON, f"{error}; what follows in this file could not be read")
            return
        yield _element(value, where)
        at = _skip_space(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            yield Refusal(f"{path}:{line}", Reason.INVALID_JSON, "the array is not closed; what follows in this file could not be read")
            return


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] in {" ", "\t", "\n", "\r"}:
        at += 1
    return at


def _after_array(text: str, at: int, where: str) -> Iterator[Refusal]:
    rest = text[at:].strip()
    if rest:
        yield Refusal(where, Reason.INVALID_JSON, f"text after the end of the array: {short(rest)}")


def _element(value: Any, where: str) -> RawRow | Refusal:
    if not isinstance(value, dict):
        return Refusal(where, Reason.NOT_AN_OBJECT, f"found {type_name(value)}: {short(value)}")
    if not _encodes(value):
        return Refusal(where, Reason.BROKEN_UTF8, "bytes that are not UTF-8, or an unpaired surrogate")
    return RawRow(where, value)


# ---- words for messages ----


def type_name(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def short(value: Any, limit: int = 60) -> str:
    """`repr`, cut to a length that fits a line and safe to print."""
    text = repr(value[: limit * 2] if isinstance(value, str) else value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 1] + "…"
