"""The process in which pages are parsed: `python -m curate.stages.extract.guard`, one beside each worker, fed through pipes.

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
from typing import Any

from curate.stages.extract import frames
from curate.stages.extract.config import ENGINES

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Reads requests from standard input until it ends, and answers each, in order, on standard output."""
    _die_with(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then closes the pipe
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answers = os.dup(1)
    os.dup2(2, 1)  # what an engine prints must not mix with the answers

    def take(size: int) -> bytes:
        data = sys.stdin.buffer.read(size)
        if len(data) < size:
            raise EOFError
        return data

    settings, _ = frames.read(take)
    _send(answers, _prepare(settings))
    seconds = float(settings["cpu_seconds"])
    while True:
        try:
            request, html = frames.read(take)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer, text = _answer(request, html, settings["engine"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(answers, answer, text)


def _prepare(settings: dict[str, Any]) -> dict[str, Any]:
    """Imports everything, then sets the limits; what is wrong, if anything."""
    from curate.pipeline.errors import CurateError
    from curate.stages.extract import charset, engines

    try:
        engines.engine_of(settings["engine"])
        charset.codec_of("utf-8")
        if settings["engine"] in ENGINES:  # ours import parts of themselves on their first page
            engines.main_text("<html><body><p>Warm up.</p></body></html>", None, settings["engine"])
    except CurateError as error:
        return {"fatal": str(error)}
    for what, limit in ((resource.RLIMIT_AS, int(settings["memory_bytes"])), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of address space
            resource.setrlimit(what, (limit, limit))
    return {"ready": True}


def _answer(request: dict[str, Any], html: bytes, engine: str) -> tuple[dict[str, Any], bytes]:
    """The text and what the page declares, or the error. MemoryError and whatever else an engine raises on a page is an
    answer: the page is set aside, the run goes on."""
    from curate.stages.extract import charset, engines, page

    try:
        source, codec = charset.decode(html, request["charset"])
        text = engines.main_text(source, request["url"], engine)
        facts = {
            "title": page.title_of(source),
            "language": page.language_of(source, request["language"]),
            "robots": page.robots_of(source, request["robots"]),
            "license": page.license_of(source),
            "has_math": page.has_math(text),
            "math_prefilter": page.math_prefilter(html, text),
            "charset": codec,
        }
        return facts, text.encode("utf-8")
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
