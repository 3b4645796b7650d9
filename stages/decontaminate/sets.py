"""Evaluation sets, read as items: the texts of one question each."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import zstandard

from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.stages.decontaminate.config import EvaluationSet

MOST_LINE_BYTES = 64 << 20
"""A longer line is no question: an error, before it fills the memory."""


@dataclass(frozen=True)
class Item:
    """A question of an evaluation set. N-grams are taken from each of its texts, never across two."""

    set: str
    id: str
    texts: tuple[str, ...]


def read_jsonl(stream: IO[bytes], source: str, wanted: EvaluationSet) -> Iterator[Item]:
    """The items of a JSONL file, plain, gzip or zstd.

    Raises CurateError, with file and line, for what is no JSON object or holds none of the fields; UsageError for a field
    that no line has.
    """
    missing = set(wanted.fields)
    names: set[str] = set()
    for number, line in lines(stream, source):
        fields = parse(line, f"{source}, line {number}")
        texts = {name: texts_of(value_at(fields, name)) for name in wanted.fields}
        missing -= {name for name in missing if texts[name]}
        if missing and len(names) < 100:
            names |= set(fields)
        given = value_at(fields, wanted.id) if wanted.id else None
        if wanted.id and not isinstance(given, str | int):
            raise CurateError(f"{source}, line {number}: no id in the field {wanted.id!r}")
        yield Item(
            wanted.title, str(number if given is None else given), tuple(text for name in texts for text in texts[name])
        )
    if missing and names:
        name = min(missing)
        raise UsageError(f"{source}: no line has text in a field {name!r}{nearest(name, names)}")


def lines(stream: IO[bytes], source: str) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and bytes of each line that is not blank, decompressed. Raises CurateError for what cannot be."""
    try:
        with _plain(stream) as plain:
            number = 0
            while line := plain.readline(MOST_LINE_BYTES + 1):
                number += 1
                if len(line) > MOST_LINE_BYTES:
                    raise CurateError(f"{source}, line {number}: longer than {MOST_LINE_BYTES >> 20} MiB")
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CurateError(f"{source}: cannot be decompressed ({error})") from None


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


def parse(line: bytes, where: str) -> dict[str, Any]:
    """A JSON object; CurateError that names the place for anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CurateError(f"{where}: no JSON ({error})") from None
    if not isinstance(found, dict):
        raise CurateError(f"{where}: a JSON {type(found).__name__}, not an object")
    return found


def value_at(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a field, or of one within (`doc.question`); None where it is not there."""
    value: Any = fields.get(name)
    if value is None and "." in name:
        first, _, rest = name.partition(".")
        inner = fields.get(first)
        value = value_at(inner, rest) if isinstance(inner, dict) else None
    return value


def texts_of(value: Any) -> list[str]:
    """The strings of a value: itself, or those of a list; numbers and objects are none."""
    found: Iterable[Any] = value if isinstance(value, list) else [value]
    return [text for text in found if isinstance(text, str) and text.strip()]
