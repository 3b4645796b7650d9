"""What a worker does with one task: run it, check it, write its marker. The same function on every engine."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from curate.pipeline.errors import CurateError, DiskFull, UsageError, WorkspaceLocked, is_disk_full
from curate.pipeline.ledger import Counts
from curate.pipeline.lock import holds
from curate.pipeline.markers import write_marker
from curate.pipeline.recipe import import_plugins
from curate.pipeline.stage import Context, Task, load
from curate.pipeline.workspace import Workspace, redact_text


@dataclass(frozen=True)
class Call:
    """A task on its way to a worker, with all that it needs there."""

    task: Task
    run: str
    """Import path of the step's function."""
    record_bearing: bool
    config: Any
    seed: int
    plugins: tuple[str, ...]
    workspace: str
    token: str
    """Of the driver that sent it: once another driver holds the workspace, nothing is published any more."""
    identity: str
    marker: str
    attempt: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a call. `marker` where it was done, else `kind` and `error` (and `trace` for a bug)."""

    call: Call
    marker: dict[str, Any] | None = None
    kind: Literal["done", "error", "died", "disk_full", "usage", "lost"] = "done"
    error: str = ""
    trace: str = ""


def execute(call: Call, report: Callable[[int], None]) -> Outcome:
    """Runs one call here and now; never raises but for KeyboardInterrupt and SystemExit."""
    try:
        return Outcome(call, _execute(call, report))
    except Exception as error:  # noqa: BLE001 - whatever a task raises is counted, retried and in the end shown
        trace = redact_text(traceback.format_exc(limit=20))
        text = redact_text(f"{type(error).__name__}: {error}")
        if is_disk_full(error):
            shown = str(error) if isinstance(error, DiskFull) else f"no space left on the disk: {error}"
            return Outcome(call, kind="disk_full", error=redact_text(shown))
        if isinstance(error, WorkspaceLocked):
            return Outcome(call, kind="lost", error=str(error))
        if isinstance(error, UsageError):
            return Outcome(call, kind="usage", error=redact_text(str(error)))
        return Outcome(
            call, kind="error", error=redact_text(str(error)) if isinstance(error, CurateError) else text, trace=trace
        )


def _execute(call: Call, report: Callable[[int], None]) -> dict[str, Any]:
    import_plugins(call.plugins)
    workspace = Workspace(call.workspace)

    def fence() -> None:
        if not holds(workspace, call.token):
            raise WorkspaceLocked("another driver has taken the workspace over: this one stops, nothing was published")

    context = Context(call.task, call.config, call.seed, workspace, report, fence)
    fence()
    workspace.remove(call.marker)  # from the first file that is replaced, an older marker would vouch for what is gone
    started = time.perf_counter()
    counts: Counts = load(call.run)(context)
    missing = set(call.task.outputs) - set(context.written)
    if missing:
        raise RuntimeError(f"{call.run} did not write {', '.join(sorted(missing))}")
    if call.record_bearing and not counts.balanced():
        raise RuntimeError(
            f"records do not add up in {call.task.stage} {call.task.key}: {counts.records} in, {counts.accounted} accounted for"
        )
    counts.seconds["total"] += time.perf_counter() - started
    fence()
    return write_marker(workspace, call.marker, call.task, call.identity, context.written, counts.to_json())
