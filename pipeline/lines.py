"""Lines of a file, plain, gzip or zstd, one at a time, however long they are."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO, Any

import zstandard

from curate.pipeline.errors import CurateError

MOST_LINE_BYTES = 64 << 20
"""A longer line is passed over before it fills the memory."""


def lines(stream: IO[bytes], source: str) -> Iterator[tuple[int, bytes | None]]:
    """Number, from 1, and bytes of each line that is not blank, decompressed; None for one over 64 MiB.

    Raises CurateError for what cannot be decompressed, a cut-off file included.
    """
    number = 0
    try:
        with _plain(stream) as plain:
            while line := plain.readline(MOST_LINE_BYTES + 1):
                number += 1
                if len(line) <= MOST_LINE_BYTES:
                    if line.strip():
                        yield number, line
                    continue
                while line and not line.endswith(b"\n"):
                    line = plain.readline(1 << 20)
                yield number, None
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CurateError(
            f"{source}: cannot be decompressed after line {number}: damaged or cut off ({error})"
        ) from None


def _plain(stream: IO[bytes]) -> IO[bytes]:
    head = stream.read(4)
    stream.seek(0)
    if head[:2] == b"\x1f\x8b":
        return gzip.open(stream, "rb")  # type: ignore[return-value]  # binary, by its mode
    if head == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_Zstandard(stream))
    return stream


class _Zstandard(io.RawIOBase):
    """Frames of zstd, decompressed; EOFError where the last one is cut off, which the library's reader passes over."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._frame = _frame()
        self._waiting = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        while not self._waiting:
            data = self._frame.unused_data if self._frame.eof else b""
            data = data or self._stream.read(1 << 12)
            if not data:
                if self._begun and not self._frame.eof:
                    raise EOFError("the last zstd frame is cut off")
                return 0
            if self._frame.eof:
                self._frame = _frame()
            self._begun = True
            self._waiting = self._frame.decompress(data)
        part, self._waiting = self._waiting[: len(room)], self._waiting[len(room) :]
        room[: len(part)] = part
        return len(part)


def _frame() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
