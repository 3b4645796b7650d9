"""The log of a run: one JSON line an optimiser step and one a validation, each step once however often the run resumed."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from curate.pipeline.errors import DiskFull, is_disk_full
from curate.pipeline.workspace import Workspace
from curate.pretrain.trackers import Tracker

LOG = "pretrain/log.jsonl"


class RunLog:
    """`pretrain/log.jsonl`, cut back to the step from which the run goes on, then appended to.

    `sync` must be called before a checkpoint is marked complete: the log then always holds at least the steps up to the
    newest checkpoint, and what it holds beyond is cut off at resume. In a workspace that is not local, lines gather in a
    temporary file that `sync` puts there whole. `trackers` (`trackers.open_trackers`) are told every line.
    """

    def __init__(self, workspace: Workspace, step: int, name: str = LOG) -> None:
        self._workspace = workspace
        self._name = name
        self.trackers: list[Tracker] = []
        found = list(_lines(workspace, name))
        self.seen = max((entry["step"] for entry, _ in found), default=-1)
        """The last step that an earlier process logged, which may be one that is cut off; -1 where there is none."""
        kept = b"".join(line for entry, line in found if entry["step"] <= step)
        workspace.write_bytes(name, kept)
        self._closing = contextlib.ExitStack()
        path = Path(workspace.path(name))
        self._local: Path | None = None
        if not workspace.is_local:
            folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="curate-log-"))
            self._local = path = Path(folder, "log.jsonl")
            path.write_bytes(kept)
        self._stream = self._closing.enter_context(path.open("ab"))

    def write(self, entry: dict[str, Any]) -> None:
        """Appends a line; it can be read at once in a local workspace. DiskFull where there is no space."""
        with _named(self._name):
            self._stream.write((json.dumps(entry) + "\n").encode())
            self._stream.flush()
            for tracker in self.trackers:
                tracker.write(entry)

    def sync(self) -> None:
        """Makes the lines so far survive a crash of the machine."""
        with _named(self._name):
            os.fsync(self._stream.fileno())
        if self._local is not None:
            self._workspace.write_bytes(self._name, self._local.read_bytes())
        with _named(self._name):
            for tracker in self.trackers:
                tracker.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._closing:
            for tracker in self.trackers:
                with _named(self._name) if error is None else contextlib.suppress(OSError):
                    tracker.close(failed=error is not None)


def read_log(workspace: Workspace, name: str = LOG) -> list[dict[str, Any]]:
    """The log's entries in order: those of optimiser steps have `loss`, the others `validation`: {loss, bits_per_byte}.

    Lines that a crash cut short or filled with zeros are left out.
    """
    return [entry for entry, _ in _lines(workspace, name)]


def _lines(workspace: Workspace, name: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The entries of the lines that are whole, with the lines."""
    if not workspace.exists(name):
        return
    with workspace.open(name) as stream:
        for line in stream:
            # A line that a crash cut short, or filled with zeros, is always later than the last checkpoint.
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if line.endswith(b"\n") and isinstance(entry, dict) and isinstance(entry.get("step"), int):
                yield entry, line


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"no space left while writing {name}: free some, then run again") from error
        raise
