"""The process in which pages are parsed: `python -m curate.stages.extract.guard PARENT MEMORY`, one beside each worker.

It may hang, crash or be killed by a page; the worker (`guarded.py`) knows in which page it was. The kernel ends it when a
page has used up its CPU time, even inside a C parser, and when its worker is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

from curate.stages.extract import frames
from curate.stages.extract.config import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Reads batches' places from standard input until it ends, and answers each page, in order, on standard output.

    Arguments: the worker's process id, and the descriptor of the memory in which the pages lie.
    """
    _die_with(int(sys.argv[1]))
    area = frames.AreaView(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then closes the pipe
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answers = os.dup(1)
    os.dup2(2, 1)  # what an engine prints must not mix with the answers

    def take(size: int) -> bytes:
        data = sys.stdin.buffer.read(size)
        if len(data) < size:
            raise EOFError
        return data

    limits, _ = frames.read(take)
    settings = Settings(**limits["settings"])
    _send(answers, _prepare(settings, int(limits["memory_bytes"])))
    seconds = float(limits["cpu_seconds"])
    while True:
        try:
            requests, bytes_at = area.get(take(frames.BATCH.size))
        except EOFError:
            return
        _work(requests, bytes_at, settings, seconds, answers)


def _work(
    requests: list[dict[str, Any]],
    bytes_at: Callable[[int, int], bytes],
    settings: Settings,
    seconds: float,
    answers: int,
) -> None:
    """Answers a batch, each page with a CPU timer of its own."""
    start = 0
    for request in requests:
        html = bytes_at(start, request["size"])
        start += request["size"]
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer, text = _answer(request, html, settings)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(answers, answer, text)


def _prepare(settings: Settings, memory_bytes: int) -> dict[str, Any]:
    """Imports and compiles everything, then sets the limits; what is wrong, if anything."""
    from curate.pipeline.errors import CurateError
    from curate.stages.extract import charset, engines

    try:
        charset.codec_of("utf-8")
        engines.prepare(settings)
    except CurateError as error:
        return {"fatal": str(error)}
    for what, limit in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of address space
            resource.setrlimit(what, (limit, limit))
    return {"ready": True}


def _answer(request: dict[str, Any], html: bytes, settings: Settings) -> tuple[dict[str, Any], bytes]:
    """The text and what the page declares, or the error. MemoryError and whatever else an engine raises on a page is an
    answer: the page is set aside, the run goes on."""
    from curate.stages.extract import charset, engines, page

    try:
        source = charset.read(html, request["charset"])
        found = engines.find(source, request["url"], settings)
        facts = {
            "title": found.title or page.title_of(source.text),
            "language": page.language_of(source.text, request["language"]),
            "robots": page.robots_of(source.text, request["robots"]),
            "license": page.license_of(source.text),
            "has_math": found.has_math,
            "math_prefilter": page.math_prefilter(source.utf8, found.text),
            "engine": found.engine,
            "confidence": found.confidence,
        }
        return facts, found.text.encode("utf-8")
    except engines.TooComplex as error:
        return {"error": error.reason, "detail": str(error)}, b""
    except MemoryError:
        return {"error": "memory", "detail": "out of memory"}, b""
    except Exception as error:  # noqa: BLE001 - any engine, any page
        return {"error": "extractor_error", "detail": f"{type(error).__name__}: {error}"[:500]}, b""


def _send(descriptor: int, header: dict[str, Any], body: bytes = b"") -> None:
    data = memoryview(frames.pack(header, body))
    while data:
        data = data[os.write(descriptor, data) :]


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies (Linux; elsewhere the pipe's end does, between pages)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    main()
