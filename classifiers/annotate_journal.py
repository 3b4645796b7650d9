"""What was paid for: every answer of a language model, in a file that only grows.

A line an answer: a checksum and a JSON object. A process that dies in the middle of a line loses that line alone; the next
one cuts it off and goes on. Answers are found by a key, a fingerprint of everything that was asked.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import zlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from curate.pipeline.errors import CurateError, DiskFull, WorkspaceLocked, is_disk_full

HEADER = {"journal": "curate.annotate", "version": 1}


@dataclass(frozen=True)
class Answer:
    """An answer that was paid for: to what (`key`), which attempt at it (from 0), and what it cost in tokens.

    `value` is the score where the model gave it as a number of its own (an expected value); else it is read from `text`.
    """

    key: str
    attempt: int
    text: str
    tokens_in: int
    tokens_out: int
    value: float | None = None


def encode(fields: dict[str, Any]) -> bytes:
    """A line: CRC-32 in hex, a space, JSON in ASCII, a line feed."""
    data = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(data), data)


def decode(line: bytes) -> dict[str, Any] | None:
    """A line's fields; None for one that is not whole."""
    data = line[9:-1]
    if line[8:9] != b" " or line[-1:] != b"\n" or b"%08x" % zlib.crc32(data) != line[:8]:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def to_answer(fields: dict[str, Any]) -> Answer | None:
    """The answer that a line's fields make up; None where they make up none."""
    kinds = {"key": str, "attempt": int, "text": str, "tokens_in": int, "tokens_out": int}
    if any(type(fields.get(name)) is not kind for name, kind in kinds.items()):
        return None
    value = fields.get("value")
    if value is not None and type(value) is not float:
        return None
    return Answer(**{name: fields[name] for name in kinds}, value=value)


class Journal:
    """The answers in a file, and a way to add to them; one process at a time.

    `damaged` counts lines within the file that are not whole: what they held is asked again. `tokens_in` and `tokens_out`
    are sums over all answers. WorkspaceLocked where another process has the file; CurateError where it is another kind of file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = self.tokens_in = self.tokens_out = 0
        self._places: dict[str, list[int]] = defaultdict(list)
        self._mutex = threading.Lock()
        self._dirty = False
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise CurateError(f"cannot open the journal {path}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceLocked(f"another process writes {path}: wait for it or stop it") from None
            self._scan()
        except BaseException:
            self._file.close()
            raise

    def _scan(self) -> None:
        end = 0
        with self.path.open("rb") as stream:
            first = stream.readline(1 << 10)
            header = decode(first)
            if header is None and encode(HEADER).startswith(first):  # empty, or cut off in its first line
                self._file.truncate(0)
                self._write(encode(HEADER))
                _sync_folder(self.path.parent)
                return
            if header != HEADER:
                raise CurateError(f"{self.path} is no journal of `curate annotate`: give another --journal")
            end = stream.tell()
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                fields = decode(line)
                answer = to_answer(fields) if fields is not None else None
                if answer is None:
                    self.damaged += 1
                else:
                    self._add(answer, end)
                end += len(line)
        self._file.truncate(end)

    def _add(self, answer: Answer, place: int) -> None:
        self._places[answer.key].append(place)
        self.tokens_in += answer.tokens_in
        self.tokens_out += answer.tokens_out

    def _write(self, line: bytes) -> int:
        """Where the line begins in the file."""
        place = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            self._file.truncate(place)  # half a line would spoil the next one
            if is_disk_full(error):
                raise DiskFull(f"no space left for the journal {self.path}: free some, then run again") from error
            raise
        self._dirty = True
        return place

    def append(self, answer: Answer) -> None:
        """Adds an answer: a killed process keeps it from here on, a machine that loses power from the next `sync` on."""
        line = encode(asdict(answer))
        with self._mutex:
            self._add(answer, self._write(line))

    def sync(self) -> None:
        """Puts on the disk what was added."""
        with self._mutex:
            dirty, self._dirty = self._dirty, False
        if dirty:
            os.fsync(self._file.fileno())

    def __len__(self) -> int:
        with self._mutex:
            return sum(map(len, self._places.values()))

    def answers(self, key: str) -> list[Answer]:
        """The answers to what has this key, in the order in which they came."""
        with self._mutex:
            places = list(self._places.get(key, ()))
        found = []
        for place in places:
            fields = decode(self._line(place))
            answer = to_answer(fields) if fields is not None else None
            if answer is None:
                raise CurateError(f"{self.path} changed while it was read (byte {place})")
            found.append(answer)
        return found

    def _line(self, place: int) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            more = os.pread(self._file.fileno(), 1 << 14, place + len(data))
            if not more:
                break
            data += more.split(b"\n", 1)[0] + (b"\n" if b"\n" in more else b"")
        return data

    def close(self) -> None:
        self.sync()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
