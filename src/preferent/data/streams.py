"""Files as bytes: plain, gzip or zstandard, told by their first bytes and never by their name."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PARQUET_MAGIC = b"PAR1"
# What reading a compressed file can raise part of the way through.
STREAM_ERRORS = (EOFError, OSError, zlib.error, zstandard.ZstdError)
_CHUNK = 16_384


class _ZstdReader(io.RawIOBase):
    """Decompressed bytes of one or several zstandard frames; raises EOFError when the last one is cut short.

    The library's own stream reader ends silently in that case.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._started = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._ready:
            if not self._fill():
                return 0
        n = min(len(buffer), len(self._ready))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def _fill(self) -> bool:
        data = self._frame.unused_data if self._frame.eof else b""
        data = data or self._file.read(_CHUNK)
        if not data:
            if self._started and not self._frame.eof:
                raise EOFError("the zstandard stream ends before its last frame does")
            return False
        if self._frame.eof:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._started = True
        self._ready = self._frame.decompress(data)
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def magic(path: Path) -> bytes:
    """The first four bytes of a file (fewer when it is shorter)."""
    with path.open("rb") as file:
        return file.read(4)


def open_bytes(path: Path) -> BinaryIO:
    """A buffered reader of the file's content, decompressed where its first bytes say so."""
    start = magic(path)
    if start.startswith(GZIP_MAGIC):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if start == ZSTD_MAGIC:
        return cast(BinaryIO, io.BufferedReader(_ZstdReader(path.open("rb")), 131_072))
    return path.open("rb")
