"""The local engine: long-lived worker processes, each with a pipe; a worker that dies is replaced, its call reported.

Workers are started as fresh interpreters (not forked), so the driver's threads and locks do not matter, and they die
with the driver: at once on Linux (the kernel's parent-death signal), within a second elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from curate.pipeline.engines import Progress
from curate.pipeline.work import Call, Outcome, execute

REPORT_SECONDS = 0.5
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")}
"""A task is one core's work: libraries that start threads of their own would take the other tasks' cores."""


class _Worker:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "curate.pipeline.engines.local", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output is the driver's, for results: what a plugin prints goes with the messages
                env=os.environ | ONE_THREAD,
            )
        self.pipe = Connection(ours.detach())
        self.call: Call | None = None
        self.calls = 0

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.pipe.close()


class LocalEngine:
    """A pool of `workers` processes (default: one a core). Starts in the time of one import."""

    name = "local"

    def __init__(self, workers: int | None, tasks_per_worker: int) -> None:
        self._size = workers or usable_cores()
        self._tasks_per_worker = tasks_per_worker
        self._workers: list[_Worker] = []
        self._queue: deque[Call] = deque()

    @property
    def capacity(self) -> int:
        return self._size

    def submit(self, call: Call) -> None:
        self._queue.append(call)
        self._feed()

    def wait(self, timeout: float) -> list[Outcome | Progress]:
        busy = {worker.pipe: worker for worker in self._workers if worker.call is not None}
        if not busy:
            time.sleep(timeout if not self._queue else 0)
        events: list[Outcome | Progress] = []
        for pipe in wait(list(busy), timeout) if busy else []:
            worker = busy[pipe]  # type: ignore[index]
            events += self._receive(worker)
        self._feed()
        return events

    def _receive(self, worker: _Worker) -> list[Outcome | Progress]:
        call = worker.call
        assert call is not None
        try:
            event: Outcome | Progress = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.stop()
            code = worker.process.returncode
            cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return [Outcome(call, kind="died", error=f"its worker died ({cause})")]
        if isinstance(event, Outcome):
            worker.call = None
            worker.calls += 1
            if worker.calls >= self._tasks_per_worker:
                self._workers.remove(worker)
                worker.stop()
        return [event]

    def _feed(self) -> None:
        while self._queue:
            idle = next((worker for worker in self._workers if worker.call is None), None)
            if idle is None:
                if len(self._workers) >= self._size:
                    return
                idle = _Worker()
                self._workers.append(idle)
            call = self._queue.popleft()
            try:
                idle.pipe.send(call)
            except OSError:  # it died while idle: its call goes to another
                self._workers.remove(idle)
                idle.stop()
                self._queue.appendleft(call)
                continue
            idle.call = call

    def close(self) -> None:
        self._queue.clear()
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def die_with_parent(parent: int) -> None:
    """Ends this process when its parent ends, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    if sys.platform != "linux":
        threading.Thread(target=watch, daemon=True).start()


def serve(pipe: Connection) -> None:
    """A worker's life: calls in, progress and outcomes out, until the pipe closes."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    while True:
        try:
            call: Call = pipe.recv()
        except EOFError:
            return
        report = Throttle(lambda records, key=call.task.key: pipe.send(Progress(key, records)))  # type: ignore[misc]
        outcome = execute(call, report.add)
        report.flush()
        pipe.send(outcome)


class Throttle:
    """Adds up record counts and passes them on every REPORT_SECONDS at most."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._pending = 0
        self._last = time.monotonic()

    def add(self, records: int) -> None:
        self._pending += records
        if time.monotonic() - self._last >= REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Passes on what has added up, if anything."""
        if self._pending:
            self._send(self._pending)
        self._pending, self._last = 0, time.monotonic()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    serve(Connection(int(sys.argv[1])))
