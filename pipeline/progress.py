"""What a run shows while it works: a live display on a terminal, plain lines in a log, JSON events for machines."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from curate.pipeline.errors import DiskFull
from curate.pipeline.ledger import Counts
from curate.pipeline.workspace import Workspace

PROGRESS = "progress.json"
LINE_SECONDS = 10.0
FILE_SECONDS = 2.0


class Display(Protocol):
    """Receives what happens; every event is also a JSON object with key `event`."""

    def event(self, kind: str, **facts: Any) -> None: ...

    def update(self, state: StepState) -> None: ...

    def close(self) -> None: ...


class StepState:
    """Where a step stands: tasks done, running and failed, records through, speed and time left."""

    noun = "shards"
    """What the tasks are."""
    note = ""
    """What is shown in place of records and their speed."""

    def __init__(self, stage: str, step: str, tasks: int, done: int, clock: Callable[[], float] = time.monotonic):
        self.stage = stage
        self.step = step
        self.tasks = tasks
        self.done = done
        self.running = 0
        self.failed = 0
        self.counts = Counts()
        self._reused = done
        self._through: Counter[str] = Counter()
        self._finished = 0
        self._clock = clock
        self._started = clock()

    def progressed(self, key: str, records: int) -> None:
        """A running task got so many records further."""
        self._through[key] += records

    def ended(self, key: str) -> None:
        """A task no longer runs; unless it finished, what it had done will be done again."""
        self._through.pop(key, None)

    def finished(self, key: str, counts: Counts) -> None:
        """A task is done."""
        self.ended(key)
        self.done += 1
        self._finished += counts.records
        self.counts = self.counts + counts

    @property
    def records(self) -> int:
        """Records through in this run, of finished and of running tasks."""
        return self._through.total() + self._finished

    @property
    def per_second(self) -> float:
        return self.records / max(self._clock() - self._started, 1e-6)

    @property
    def seconds_left(self) -> float | None:
        """By tasks finished in this run; None before the first."""
        new = self.done - self._reused
        if new <= 0:
            return None
        return (self.tasks - self.done - self.failed) * (self._clock() - self._started) / new

    @property
    def drop_share(self) -> float | None:
        """Share of the finished tasks' records that did not go on."""
        return 1 - self.counts.kept / self.counts.records if self.counts.records and self.counts.accounted else None

    def to_json(self) -> dict[str, Any]:
        left, drop = self.seconds_left, self.drop_share
        return {
            "stage": self.stage,
            "step": self.step,
            "shards": self.tasks,
            "done": self.done,
            "running": self.running,
            "failed": self.failed,
            "records": self.records,
            "records_per_second": round(self.per_second, 1),
            "seconds_left": None if left is None else round(left, 1),
            "drop_share": None if drop is None else round(drop, 4),
        }


def open_display(*, as_json: bool, stream: TextIO | None = None) -> Display:
    """JSON events if asked for, a live display on a terminal, plain lines elsewhere."""
    if as_json:
        return JsonDisplay(stream or sys.__stdout__ or sys.stdout)
    if (stream or sys.stderr).isatty():
        return LiveDisplay()
    return LineDisplay(stream or sys.stderr)


class JsonDisplay:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0

    def event(self, kind: str, **facts: Any) -> None:
        self._stream.write(json.dumps({"event": kind, **facts}, default=str) + "\n")
        self._stream.flush()

    def update(self, state: StepState) -> None:
        if time.monotonic() - self._last >= 1.0:
            self._last = time.monotonic()
            self.event("progress", **state.to_json())

    def close(self) -> None:
        self._stream.flush()


class LineDisplay:
    """Plain log lines: what begins, what ends, and where it stands every LINE_SECONDS."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = time.monotonic()

    def event(self, kind: str, **facts: Any) -> None:
        line = describe(kind, facts)
        if line:
            self._stream.write(line + "\n")
            self._stream.flush()

    def update(self, state: StepState) -> None:
        if time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            self._stream.write(f"  {state_line(state)}\n")
            self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class LiveDisplay:
    """A progress bar for the step at hand, with the lines of LineDisplay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task: Any = None
        self._name = ""
        self._bar.start()

    def event(self, kind: str, **facts: Any) -> None:
        from rich.text import Text

        line = describe(kind, facts)
        if line:
            self._console.print(Text(line))

    def update(self, state: StepState) -> None:
        name = state.stage if state.stage == state.step else f"{state.stage}: {state.step}"
        if name != self._name:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._name = name
            self._task = self._bar.add_task(name, total=state.tasks, completed=state.done, facts="")
        self._bar.update(self._task, completed=state.done, total=state.tasks, facts=_facts(state))

    def close(self) -> None:
        self._bar.stop()


def state_line(state: StepState) -> str:
    name = state.stage if state.stage == state.step else f"{state.stage}/{state.step}"
    return f"{name}: {state.done}/{state.tasks} {state.noun}, {_facts(state)}"


def _facts(state: StepState) -> str:
    facts = [state.note] if state.note else [f"{state.records:,} records", f"{state.per_second:,.0f}/s"]
    if state.drop_share is not None:
        facts.append(f"{state.drop_share:.0%} dropped")
    if state.failed:
        facts.append(f"{state.failed} failed")
    if state.seconds_left is not None and state.done < state.tasks:
        facts.append(f"{duration(state.seconds_left)} left")
    return ", ".join(facts)


def duration(seconds: float) -> str:
    """Seconds as a person says them: `12 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes as a person says them: `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def number_of(number: int, noun: str, plural: str = "") -> str:
    """A number and what it counts: `1 shard`, `1,200 shards`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def describe(kind: str, facts: dict[str, Any]) -> str:
    """An event as one line for a person; empty for those that only machines want."""
    if kind == "stage_started":
        free = f" of {size(facts['disk_free'])} free" if facts["disk_free"] is not None else ""
        return f"{facts['stage']}: {number_of(facts['shards'], 'shard')}, about {size(facts['disk_estimate'])} of disk{free}"
    if kind == "stage_finished":
        counts = Counts.from_json(facts["counts"])
        kept = f", kept {counts.kept:,} of {counts.records:,} records" if counts.records else ""
        kept += f" (dropped: {_ranked(counts.dropped)})" if counts.dropped else ""
        reused = f" ({facts['reused']} of {facts['tasks']} tasks were done before)" if facts["reused"] else ""
        ended = f"{facts['failed']} of {facts['tasks']} tasks FAILED," if facts["failed"] else "done"
        return f"{facts['stage']}: {ended} in {duration(facts['seconds'])}{kept}{reused}"
    if kind == "retry":
        return f"  {facts['stage']} {facts['key']}: try {facts['attempt']} failed: {facts['error']}; trying again"
    if kind == "failed":
        return f"  {facts['stage']} {facts['key']}: given up after {facts['attempt']} tries: {facts['error']}"
    if kind in ("warning", "note"):
        return str(facts["message"])
    return ""


REASONS = 4
"""Reasons that the end of a stage names, the commonest first; `curate status` has them all."""


def _ranked(reasons: Counter[str]) -> str:
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    named = ranked if len(ranked) == REASONS + 1 else ranked[:REASONS]
    said = [f"{reason} {number:,}" for reason, number in named]
    if rest := ranked[len(named) :]:
        said.append(f"{sum(number for _, number in rest):,} for {len(rest)} other reasons")
    return ", ".join(said)


class Recorder:
    """Passes states on to the display and keeps the latest in `progress.json`, for `curate status` elsewhere."""

    def __init__(self, workspace: Workspace, display: Display) -> None:
        self._workspace = workspace
        self._display = display
        self._last = 0.0

    def update(self, state: StepState, *, force: bool = False) -> None:
        self._display.update(state)
        if force or time.monotonic() - self._last >= FILE_SECONDS:
            self._last = time.monotonic()
            try:
                self._workspace.write_json(PROGRESS, state.to_json() | {"at": time.time()})
            except DiskFull:
                raise
            except OSError as error:  # a display is not worth a run
                self._display.event("warning", message=f"warning: cannot write {PROGRESS}: {error}")
