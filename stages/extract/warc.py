"""WARC records out of a file, and the damage between them: every record that is whole comes through.

A record ends where its Content-Length says only if the end of the file, of its gzip member, or another record follows.
If not, the next record is looked for from the beginning of its block on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from curate.stages.extract.decode import Broken, Raw, Start, compression_of, events

HEADER_LIMIT = 1 << 16
"""Bytes of a WARC header at most."""
_SPACE = b"\r\n \t\0"
_RECORD = re.compile(rb"WARC/\d\.\d{1,2}[ \t]*\r?\n[A-Za-z][A-Za-z0-9-]*:")
_LONGEST_START = 96
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_VERSION = re.compile(rb"WARC/\d\.\d{1,2}[ \t]*\r?\n")
_LENGTH = re.compile(r"\d{1,15}")


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A whole WARC record. `number` counts records and damage in the file from 0; `offset` is the byte of the file where it
    begins (where its gzip member does); header names are lower-case; `length` is what it declares, and `block` its
    bytes, or the first ones where it is over the limit."""

    number: int
    offset: int
    headers: dict[str, str]
    block: bytes
    length: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of the file that gives no record: `headers` where the record's own could be read."""

    number: int
    offset: int
    reason: str
    detail: str
    headers: dict[str, str]


def read_warc(stream: IO[bytes], name: str, size: int, limit: int) -> Iterator[RawRecord | Damage]:
    """Records and damage of a WARC or WET file, plain, gzip or zstd, in the file's order.

    `size` is the file's in bytes (0: not known); blocks of more than `limit` bytes are cut to their first ones.
    """
    raw = Raw(stream)
    compression = compression_of(raw, name)
    found = False
    first: Damage | None = None
    for item in _Framer(raw, compression, size, limit).records():
        if not found and isinstance(item, Damage) and item.reason == "garbage":
            if first is None:
                first = item  # one row for a file that holds no record at all
                continue
        elif first is not None:
            yield first
            first = None
        found = True
        yield item
    if first is not None:
        reason, detail = _foreign(raw, compression)
        yield Damage(first.number, first.offset, reason, f"{detail}; {first.detail}", {})


def _foreign(raw: Raw, compression: str) -> tuple[str, str]:
    head = b""
    for event in events(raw, compression, resync=False):
        if isinstance(event, bytes):
            head += event
        if len(head) >= 64 or isinstance(event, Broken):
            break
    head = head or raw.prefix(0, 64)  # nothing decodes: a name may end in .gz without reason
    if head.lstrip(_SPACE).startswith(b"filedesc:"):
        return "arc_file", "ARC is not read: convert it to WARC, with `warcio recompress` for example"
    return "not_a_warc", f"begins with {head[:16]!r}"


class _Framer:
    """Cuts one run of decoded bytes after another into records. A run ends where the next member begins with a record,
    where the file is damaged, and where it ends."""

    def __init__(self, raw: Raw, compression: str, size: int, limit: int) -> None:
        self._raw = raw
        self._compression = compression
        self._size = size if compression == "plain" else 0
        self._limit = limit
        self._events = events(raw, compression)
        self._number = 0
        self._rewinds = 4 * (size or 1 << 30) + (
            1 << 30
        )  # bytes read again at most: a hostile file must not cost its square
        self._between = True
        self._broken: Broken | None = None
        self._blamed = False
        self._end = ""
        self._head: bytes | None = b""
        self._next_member = 0
        self._begin_run(b"", 0)

    def records(self) -> Iterator[RawRecord | Damage]:
        while True:
            yield from self._run()
            if self._broken is not None and not self._blamed:
                yield self._damage(self._broken.offset, self._broken.reason, self._broken.detail, {})
            if self._end == "file":
                return
            if self._end == "member":
                head, self._head = self._head or b"", None
                self._begin_run(head, self._next_member)
            else:
                self._begin_run(b"", 0)

    def _begin_run(self, head: bytes, member: int) -> None:
        self._buffer = bytearray(head)
        self._cursor = 0
        self._dropped = 0
        self._member = self._first_member = member
        self._end = ""
        self._broken = None
        self._blamed = False

    def _pull(self) -> bool:
        """Takes in more of the run; False at its end."""
        if self._end:
            return False
        event = next(self._events, None)
        if isinstance(event, bytes):
            if self._head is None:
                self._buffer += event
                return True
            self._head += event
            if len(self._head) < 5:
                return True
            if self._between or self._head.startswith(b"WARC/"):
                self._end = "member"
                return False
            self._join()
            return True
        if self._head and (event is None or isinstance(event, Start)):
            self._join()  # a member too short to tell
        if isinstance(event, Start):
            self._head, self._next_member = b"", event.offset
            return True
        if isinstance(event, Broken):
            self._broken, self._end, self._head = event, "damage", None
            return False
        self._end = "file"
        return False

    def _join(self) -> None:
        """The next member goes on with the record of the one before: some tools cut members anywhere."""
        self._buffer += self._head or b""
        self._member, self._head = self._next_member, None

    def _fill(self, size: int) -> bool:
        while len(self._buffer) - self._cursor < size:
            if not self._pull():
                return len(self._buffer) - self._cursor >= size
        return True

    def _drop(self) -> None:
        del self._buffer[: self._cursor]
        self._dropped += self._cursor
        self._cursor = 0

    def _skip_space(self) -> None:
        while True:
            rest = self._buffer[self._cursor : self._cursor + 4096]
            kept = rest.lstrip(_SPACE)
            self._cursor += len(rest) - len(kept)
            if kept or (not rest and not self._pull()):
                return

    def _offset(self) -> int:
        return self._dropped + self._cursor if self._compression == "plain" else self._member

    def _damage(self, offset: int, reason: str, detail: str, headers: dict[str, str]) -> Damage:
        self._number += 1
        return Damage(self._number - 1, offset, reason, detail, headers)

    def _run(self) -> Iterator[RawRecord | Damage]:
        while True:
            self._between = True
            self._skip_space()
            self._drop()
            if not self._fill(1):
                return
            self._between = False
            yield self._record()

    def _record(self) -> RawRecord | Damage:
        offset = self._offset()
        headers, reason, detail = self._header()
        if reason:
            return self._resync(offset, reason, detail, headers, self._cursor + (1 if not headers else 0))
        declared = headers.get("content-length", "").strip()
        if not _LENGTH.fullmatch(declared):
            return self._resync(offset, "bad_header", f"Content-Length: {declared[:80]!r}", headers, self._cursor)
        length = int(declared)
        begin = self._cursor
        if self._size and self._dropped + begin + length > self._size:
            return self._resync(
                offset, "truncated_file", f"{length} bytes declared, past the end of the file", headers, begin
            )
        if length > self._limit:
            return self._oversized(offset, headers, length)
        whole = self._fill(length)
        if whole:
            self._cursor = begin + length
            if self._ends_well():
                self._number += 1
                block = bytes(self._buffer[begin : begin + length])
                return RawRecord(self._number - 1, offset, headers, block, length)
        reason = "truncated_file" if self._end == "file" and not whole else "wrong_length"
        detail = f"{length} bytes declared" + ("" if whole else f", {len(self._buffer) - begin} there")
        return self._resync(offset, reason, detail, headers, begin)

    def _header(self) -> tuple[dict[str, str], str, str]:
        """The header, with the cursor put behind it; or what is wrong."""
        self._fill(16)
        start = self._cursor
        if not _VERSION.match(self._buffer, start):
            return {}, "garbage", "bytes that are no record"
        while (end := _HEADER_END.search(self._buffer, start, start + HEADER_LIMIT)) is None:
            # No further than the header needs: what follows may be a member of its own.
            if len(self._buffer) - start >= HEADER_LIMIT:
                return {}, "bad_header", "the WARC header does not end"
            if not self._pull():
                return {}, "truncated_file" if self._end == "file" else "bad_header", "the WARC header does not end"
        if _RECORD.search(self._buffer, start + 5, end.start()):
            return {}, "bad_header", "another record begins inside the WARC header"
        self._cursor = end.end()
        return parse_header(bytes(self._buffer[start : end.start()])), "", ""

    def _ends_well(self) -> bool:
        """True if the end of the run or another record follows; the bytes in the buffer stay."""
        self._between = True
        self._skip_space()
        good = not self._fill(5) and len(self._buffer) == self._cursor and not self._hit()
        good = good or self._buffer.startswith(b"WARC/", self._cursor)
        self._between = False
        return good

    def _hit(self) -> bool:
        """True if the damage is in the member that is being read, and not behind it."""
        return self._broken is not None and self._broken.offset <= self._member

    def _resync(self, offset: int, reason: str, detail: str, headers: dict[str, str], begin: int) -> Damage:
        """Puts the cursor on the next record of the run, from an index in the buffer on, or at the run's end."""
        if self._hit() and self._broken is not None:  # what looks like a record in a damaged member need not be one
            self._blamed, self._cursor = True, len(self._buffer)
            return self._damage(offset, self._broken.reason, self._broken.detail, headers)
        position = begin
        while True:
            found = _RECORD.search(self._buffer, position)
            if found is not None:
                self._cursor = found.start()
                break
            self._cursor = max(position, len(self._buffer) - _LONGEST_START)
            if self._cursor > 1 << 20:
                self._drop()
            position = self._cursor
            if not self._pull():
                self._cursor = len(self._buffer)
                if self._hit() and self._broken is not None and not self._blamed:
                    self._blamed = True
                    return self._damage(offset, self._broken.reason, self._broken.detail, headers)
                break
        if reason == "truncated_file" and self._cursor < len(self._buffer):
            reason = "wrong_length"
        return self._damage(offset, reason, detail, headers)

    def _oversized(self, offset: int, headers: dict[str, str], length: int) -> RawRecord | Damage:
        """A record over the limit: passed over without holding more of it, and if its length proves wrong, read again from
        the first thing in it that looks like a record."""
        self._drop()
        self._fill(self._limit)
        first = bytes(self._buffer[: self._limit])
        left, candidate = length, -1
        while self._fill(1):
            taken = min(len(self._buffer), left)
            if candidate < 0 and (found := _RECORD.search(self._buffer, 0, taken)) is not None:
                candidate = self._dropped + found.start()
            keep = 0 if taken == left else min(_LONGEST_START, taken)
            self._cursor = taken - keep
            left -= self._cursor
            self._drop()
            if not left or not self._fill(keep + 1):
                break
        if not left and self._ends_well():
            self._number += 1
            return RawRecord(self._number - 1, offset, headers, first, length)
        detail = f"{length} bytes declared"
        if candidate >= 0 and self._rewind(candidate):
            return self._damage(offset, "wrong_length", detail, headers)
        reason = "truncated_file" if left and self._end == "file" else "wrong_length"
        return self._resync(offset, reason, detail, headers, self._cursor)

    def _rewind(self, position: int) -> bool:
        """Puts the cursor on a decoded position of this run that was passed already; False where that costs too much."""
        self._rewinds -= position + self._dropped
        if self._rewinds < 0:
            return False
        if self._compression == "plain":
            self._events = events(self._raw, "plain", position)
            self._begin_run(b"", 0)
            self._dropped = position
            self._between, self._head = False, None
            next(self._events)
            return True
        self._events = events(self._raw, self._compression, self._first_member)
        self._begin_run(b"", self._first_member)
        self._between, self._head = False, None
        next(self._events)
        while self._dropped < position and self._fill(1):
            self._cursor = min(len(self._buffer), position - self._dropped)
            self._drop()
        return True


def parse_header(data: bytes) -> dict[str, str]:
    """Header fields by lower-case name, the first of each; any bytes give some text."""
    headers: dict[str, str] = {}
    name = ""
    lines = data.decode("utf-8", "replace").split("\n")
    for line in lines[1:]:
        line = line.rstrip("\r")
        if line[:1] in (" ", "\t"):
            if name:
                headers[name] = f"{headers[name]} {line.strip()}"
            continue
        key, colon, value = line.partition(":")
        key = key.strip().lower()
        name = key if colon and key not in headers else ""
        if name:
            headers[name] = value.strip()
    return headers
