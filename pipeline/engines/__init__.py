"""Where tasks run: `local` (a pool of processes) or `ray` (a cluster). Both run the same function on the same call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from curate.pipeline.errors import UsageError
from curate.pipeline.work import Call, Outcome


@dataclass(frozen=True)
class Progress:
    """So many more records went through the running task with this key."""

    key: str
    records: int


class Engine(Protocol):
    """A place to run calls. It runs each once: what to do about a failure is the runner's business."""

    name: str

    @property
    def capacity(self) -> int:
        """Calls that may be pending at a time: a bounded window."""

    def submit(self, call: Call) -> None:
        """Starts a call, or queues it for the next free worker."""

    def wait(self, timeout: float) -> list[Outcome | Progress]:
        """What happened since the last call; waits up to `timeout` seconds for the first event."""

    def close(self) -> None:
        """Ends every worker at once; work under way is thrown away (its files never appeared)."""


def open_engine(name: str, *, workers: int | None, address: str | None, tasks_per_worker: int) -> Engine:
    """The engine of that name with so many workers (default: one a core; on a cluster: what it has)."""
    if name == "local":
        from curate.pipeline.engines.local import LocalEngine

        if address:
            raise UsageError("--address goes with --engine ray")
        return LocalEngine(workers, tasks_per_worker)
    if name == "ray":
        from curate.pipeline.engines.ray import RayEngine

        return RayEngine(workers, address, tasks_per_worker)
    raise UsageError(f"no engine named {name!r}; valid: local, ray")
