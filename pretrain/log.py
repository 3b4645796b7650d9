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

LOG = "pretrain/log.jsonl"


class RunLog:
    """`pretrain/log.jsonl`, cut back to the step from which the run goes on, then appended to.

    `sync` must be called before a checkpoint is marked complete: the log then always holds at least the steps up to the
    newest checkpoint, and what it holds beyond is cut off at resume. In a workspace that is not local, lines gather in a
    temporary file that `sync` puts there whole.
    """

    def __init__(self, workspace: Workspace, step: int) -> None:
        self._workspace = workspace
        kept = b"".join(_lines_up_to(workspace, step))
        workspace.write_bytes(LOG, kept)
        self._closing = contextlib.ExitStack()
        path = Path(workspace.path(LOG))
        self._local: Path | None = None
        if not workspace.is_local:
            folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="curate-log-"))
            self._local = path = Path(folder, "log.jsonl")
            path.write_bytes(kept)
        self._stream = self._closing.enter_context(path.open("ab"))

    def write(self, entry: dict[str, Any]) -> None:
        """Appends a line; it can be read at once in a local workspace. DiskFull where there is no space."""
        with _named():
            self._stream.write((json.dumps(entry) + "\n").encode())
            self._stream.flush()

    def sync(self) -> None:
        """Makes the lines so far survive a crash of the machine."""
        with _named():
            os.fsync(self._stream.fileno())
        if self._local is not None:
            self._workspace.write_bytes(LOG, self._local.read_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()


def read_log(workspace: Workspace) -> list[dict[str, Any]]:
    """The log's entries in order: those of optimiser steps have `loss`, the others `validation`: {loss, bits_per_byte}."""
    try:
        with workspace.open(LOG) as stream:
            return [json.loads(line) for line in stream if line.endswith(b"\n")]
    except FileNotFoundError:
        return []


def _lines_up_to(workspace: Workspace, step: int) -> list[bytes]:
    kept = []
    if workspace.exists(LOG):
        with workspace.open(LOG) as stream:
            for line in stream:
                # A line that a crash cut short, or filled with zeros, is always later than the last checkpoint.
                try:
                    if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    continue
    return kept


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"no space left while writing {LOG}: free some, then run again") from error
        raise
