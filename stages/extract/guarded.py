"""The worker's side of the extraction process: batches of pages in, one outcome a page out, whatever the pages do."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from curate.pipeline.errors import CurateError
from curate.stages.extract import frames
from curate.stages.extract.config import Settings
from curate.stages.extract.records import Page

START_SECONDS = 600.0
"""Wall time for the process to start: on a busy machine, and compiling our engine for the first time."""
PAGES_PER_PROCESS = 5_000
"""After so many pages the process is replaced, which bounds what native libraries leak."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The main text of a page and what the page declares."""

    text: str
    title: str | None
    language: str | None
    robots: str | None
    license: str | None
    has_math: bool
    math_prefilter: bool
    engine: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a page gave nothing: `too_deep`, `too_many_nodes`, `timeout`, `stalled`, `crashed`, `memory` or
    `extractor_error`."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The engine, and its limits on one page: CPU seconds and bytes of address space."""

    settings: Settings
    cpu_seconds: float
    memory_bytes: int

    @property
    def wall_seconds(self) -> float:
        """After so long without an answer the process is taken to hang."""
        return 10 * self.cpu_seconds + 30


class _Died(Exception):
    """The process ended, or was ended, while it had a page in hand."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(reason, detail)


class Guard:
    """One extraction process, started when needed and replaced when it dies. Not for use by several threads at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._area: frames.Area | None = None
        self._answers = bytearray()
        self._pages = 0

    def extract(self, pages: Sequence[Page]) -> Generator[Extracted | Failure, None, None]:
        """The outcome of each page, in order.

        A page that uses up its CPU time, or hangs, fails at once. One in which the process dies otherwise or runs out of
        memory is tried once more, alone, in a fresh process (it may have been the pages before it, or the machine).
        """
        done, suspect = 0, -1
        while done < len(pages):
            if self._pages >= PAGES_PER_PROCESS:
                self.stop()
            batch = pages[done : done + 1] if suspect == done else pages[done:]
            try:
                for outcome in self._send(batch):
                    if isinstance(outcome, Failure) and outcome.reason == "memory":
                        self.stop()
                        raise _Died(outcome.reason, outcome.detail)
                    done += 1
                    yield outcome
            except _Died as death:
                self.stop()
                if death.failure.reason in ("timeout", "stalled") or suspect == done:
                    done += 1
                    yield death.failure
                else:
                    suspect = done

    def stop(self) -> None:
        """Ends the process; the next page starts another."""
        process, self._process, self._pages = self._process, None, 0
        self._answers.clear()
        if self._area is not None:
            self._area.close()
            self._area = None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdout, process.stdin):
            if pipe is not None:
                pipe.close()
        process.wait()

    def _send(self, pages: Sequence[Page]) -> Iterator[Extracted | Failure]:
        process = self._process or self._start()
        headers = [
            {"url": page.url, "charset": page.charset, "language": page.language, "robots": page.robots}
            for page in pages
        ]
        assert self._area is not None
        message = self._area.put(headers, [page.body for page in pages])
        with contextlib.suppress(BrokenPipeError):  # a process that is gone gives no answer either
            _write(process, message)
        answered = 0
        try:
            for _ in pages:
                header, body = self._receive(process, self._limits.wall_seconds)
                answered += 1
                self._pages += 1
                yield _outcome(header, body)
        finally:
            if answered < len(pages):
                self.stop()  # answers to a batch that nobody waits for would be taken for the next one's

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [entry or str(os.getcwd()) for entry in sys.path]  # noqa: PTH109
        area = self._area = frames.Area()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "curate.stages.extract.guard", str(os.getpid()), str(area.descriptor)],
            pass_fds=(area.descriptor,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
            bufsize=0,
        )
        self._process, self._pages = process, 0
        try:
            _write(process, frames.pack(asdict(self._limits)))
            header, _ = self._receive(process, START_SECONDS)
        except (BrokenPipeError, _Died) as error:
            self.stop()
            raise CurateError(f"the extraction process does not start: {_why_not() or error}") from None
        if "fatal" in header:
            self.stop()
            raise CurateError(f"extract.engine: {header['fatal']}")
        return process

    def _receive(self, process: subprocess.Popen[bytes], seconds: float) -> tuple[dict[str, Any], bytes]:
        deadline = time.monotonic() + seconds
        try:
            return frames.read(lambda size: self._take(process, size, deadline))
        except TimeoutError:
            raise _Died("stalled", f"no answer in {seconds:g} s") from None
        except (EOFError, frames.BadFrame) as error:
            process.kill()
            code = process.wait()
            if code == -signal.SIGPROF:
                raise _Died("timeout", f"more than {self._limits.cpu_seconds:g} s of CPU time") from None
            raise _Died("crashed", _cause(code) if isinstance(error, EOFError) else "sent no valid answer") from None

    def _take(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        """Exactly so many bytes of what the process says; EOFError at its end, TimeoutError after the deadline."""
        assert process.stdout is not None
        while len(self._answers) < size:
            poll = select.poll()
            poll.register(process.stdout, select.POLLIN | select.POLLHUP)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part:
                raise EOFError
            self._answers += part
        data = bytes(self._answers[:size])
        del self._answers[:size]
        return data


def _why_not() -> str:
    """The last line that the process says when it is started once more by hand: which module is missing, mostly."""
    command = [sys.executable, "-P", "-m", "curate.stages.extract.guard", "0", "0"]
    try:
        said = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return (said.stderr.strip().splitlines() or [""])[-1]


def _outcome(header: dict[str, Any], body: bytes) -> Extracted | Failure:
    if "error" in header:
        return Failure(header["error"], header["detail"])
    return Extracted(
        body.decode("utf-8"),
        **{field.name: header[field.name] for field in fields(Extracted) if field.name != "text"},
    )


def _cause(code: int) -> str:
    if code >= 0:
        return f"the process ended with status {code}"
    try:
        return f"the process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was ended by signal {-code}"


def _write(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    view = memoryview(data)
    while view:
        view = view[process.stdin.write(view) or 0 :]


_shared: dict[int, tuple[Limits, Guard]] = {}


def guard_for(limits: Limits) -> Guard:
    """This worker's guard, kept from task to task; another where limits differ (or the worker is a fork of another)."""
    held = _shared.get(os.getpid())
    if held is not None and held[0] == limits:
        return held[1]
    if held is not None:
        held[1].stop()
    guard = Guard(limits)
    _shared[os.getpid()] = (limits, guard)
    return guard


@atexit.register
def _stop_all() -> None:
    held = _shared.pop(os.getpid(), None)
    if held is not None:
        held[1].stop()
