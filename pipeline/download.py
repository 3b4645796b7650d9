"""One file from a URL to a local path: resumed by range, checked for length, and there only when whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from curate.pipeline.errors import CurateError, DiskFull, is_disk_full
from curate.pipeline.remote import Changed, Interrupted, Retry, Source, retrying, source
from curate.pipeline.workspace import redact

ADVANCE = 1 << 20
"""Bytes further than ever that make a new try count as the first."""


@dataclass(frozen=True)
class Transfer:
    """How far a download is: bytes received and of the whole file, and why it waits, if it does."""

    name: str
    received: int
    total: int | None
    note: str = ""


Progress = Callable[[Transfer], None]


def silent(transfer: Transfer) -> None:
    """A progress callback that shows nothing."""


def as_lines(say: Callable[[str], None]) -> Progress:
    """A progress callback that says a line at each further tenth of a file, and at whatever is worth a note."""
    said: dict[str, int] = {}

    def show(transfer: Transfer) -> None:
        tenth = 10 * transfer.received // transfer.total if transfer.total else 0
        if transfer.note or tenth > said.get(transfer.name, 0):
            whole = f" of {transfer.total / 1e6:,.1f}" if transfer.total is not None else ""
            say(f"{transfer.name}: {transfer.received / 1e6:,.1f}{whole} MB{transfer.note and ', ' + transfer.note}")
        said[transfer.name] = tenth

    return show


def download(url: str, target: Path, *, retry: Retry | None = None, progress: Progress = silent) -> Path:
    """The file at `url` under the path `target`, which appears when the file is whole.

    Until then `<target>.part` holds what came, and a later call goes on from there if the server still has the same
    file. A file that is there already with the server's length is left alone. Raises CurateError in one line.
    """
    retry = retry or Retry()
    file = source(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            found = retrying(
                file.describe, redact(url), retry, lambda text: progress(Transfer(target.name, 0, None, text))
            )
            size = target.stat().st_size
            if found.size in (None, size):
                progress(Transfer(target.name, size, size, "already there"))
                return target
        with Part(target) as part:

            def note(text: str) -> None:
                progress(Transfer(target.name, part.size, part.total, text))

            retrying(lambda: _receive(file, part, progress), redact(url), retry, note)
            part.publish()
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"no space left while writing {target}: free some, then run again") from error
        raise CurateError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _receive(file: Source, part: Part, progress: Progress) -> None:
    """Everything that is still missing, in one request; Interrupted if it was not everything."""
    try:
        body = file.open(part.size if part.mark else 0, part.mark)
        try:
            if body.start and part.total not in (None, body.total):
                raise Changed("the file's length changed on the server: starting over")
            if part.size and body.start != part.size:
                progress(Transfer(part.name, 0, body.total, "starting over"))
            if body.start != part.size or (body.mark, body.total) != (part.mark, part.total):
                part.begin(body.start if body.start == part.size else 0, body.mark, body.total)
            for chunk in body.chunks:
                part.write(chunk)
                progress(Transfer(part.name, part.size, part.total))
        finally:
            body.close()
    except Interrupted as error:
        message = str(error)
        if isinstance(error, Changed):
            part.begin(0, None, None)
        elif part.size:
            message += f" after {part.size:,} of {part.total:,} bytes" if part.total else f" after {part.size:,} bytes"
        raise Interrupted(message, error.wait, part.advanced()) from error
    if body.total is None and not body.framed:
        raise CurateError(
            f"{part.name}: the server does not say how long the file is, so nobody can tell if it is whole"
        )
    if body.total is not None and part.size != body.total:
        message = f"ended after {part.size:,} of {body.total:,} bytes"
        if part.size > body.total:
            part.begin(0, None, None)
        raise Interrupted(message, advanced=part.advanced())


class Part:
    """The file `<target>.part` being filled, locked against other processes, and what is known of the whole.

    `mark` and `total` are kept beside it, so that a later process can go on.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.name = target.name
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f".{target.name}.part.json")
        self.mark: str | None = None
        self.total: int | None = None
        self.size = 0
        self._best = 0

    def __enter__(self) -> Self:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self._stream = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have renamed the file between our open and our lock: then we hold the finished one.
            mine = self.path.exists() and os.path.samestat(os.fstat(descriptor), self.path.stat())
        except BlockingIOError:
            mine = False
        if not mine:
            self._stream.close()
            raise CurateError(f"another process is downloading {self.target}")
        self.size = self._best = self._stream.seek(0, os.SEEK_END)
        self._remember()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def begin(self, size: int, mark: str | None, total: int | None) -> None:
        """Keeps the first `size` bytes (all or none) and notes what the whole file is."""
        if size != self.size:
            self._stream.seek(0)
            self._stream.truncate(0)
            self.size = 0
        self.mark, self.total = mark, total
        temporary = self._note.with_name(f"{self._note.name}.tmp")
        temporary.write_text(json.dumps({"mark": mark, "total": total}) + "\n", "utf-8")
        temporary.replace(self._note)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self._stream.write(rest) or 0
            self.size += written
            rest = rest[written:]

    def advanced(self) -> bool:
        """True if there is clearly more of the file than ever before, which is when tries are counted anew."""
        if self.size < self._best + ADVANCE:
            return False
        self._best = self.size
        return True

    def publish(self) -> None:
        """Gives the file its final name."""
        os.fsync(self._stream.fileno())
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)
        folder = os.open(self.target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _remember(self) -> None:
        """What an earlier process noted; without a mark that the server can confirm, its bytes are thrown away."""
        try:
            data = json.loads(self._note.read_text("utf-8"))
        except (OSError, ValueError):
            return
        mark, total = (data.get("mark"), data.get("total")) if isinstance(data, dict) else (None, None)
        self.mark = mark if isinstance(mark, str) else None
        self.total = total if isinstance(total, int) else None
