"""TensorBoard and Weights & Biases: the lines of the log, shown elsewhere too.

A tracker is told every line that `RunLog` writes. The log alone decides where a run goes on; a tracker never changes it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace, redact_text


class Tracker(Protocol):
    """Where lines of the log go."""

    def write(self, entry: dict[str, Any]) -> None:
        """Shows a line of the log."""

    def sync(self) -> None:
        """A checkpoint follows: what was written so far should last."""

    def close(self, failed: bool) -> None:
        """The end, of the run or of this process."""


def check_trackers(names: Sequence[str]) -> None:
    """UsageError, naming the extra to install, where the package of a tracker is missing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"the tracker {name} is not installed: pip install 'curate-web[{name}]'")


def open_trackers(
    workspace: Workspace, folder: str, names: Sequence[str], *, step: int, seen: int, facts: dict[str, Any]
) -> list[Tracker]:
    """The trackers of these names for a run that goes on after `step`, where the log went to `seen` before it was stopped.

    `facts`: what a checkpoint says of the run, for people. Raises CurateError where the service refuses.
    """
    found: list[Tracker] = []
    for name in names:
        if name == "tensorboard":
            found.append(TensorBoard(workspace, f"{folder}/tensorboard", step))
        elif name == "wandb":
            found.append(WandB(workspace, folder, seen, facts))
        else:
            raise ValueError(f"no tracker {name!r}")
    return found


def scalars(entry: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of the log by name: `loss`, `validation/bits_per_byte`, `validation/buckets/NAME/loss` …"""
    return dict(_scalars({name: value for name, value in entry.items() if name != "step"}, ""))


def _scalars(values: dict[str, Any], before: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{before}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{before}{name}", float(value)


class TensorBoard:
    """Event files in `folder` of the workspace; what an earlier process wrote after `step` is declared void in them.

    In a workspace that is not local they are written to a temporary folder, from which `sync` copies them.
    """

    def __init__(self, workspace: Workspace, folder: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._workspace, self._folder = workspace, folder
        self._closing = contextlib.ExitStack()
        self._local: Path | None = None
        if workspace.is_local:
            place = workspace.path(folder)
        else:
            place = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="curate-tensorboard-"))
            self._local = Path(place)
        self._writer = SummaryWriter(place, purge_step=step + 1)

    def write(self, entry: dict[str, Any]) -> None:
        for name, value in scalars(entry).items():
            self._writer.add_scalar(name, value, entry["step"])

    def sync(self) -> None:
        self._writer.flush()
        for file in sorted(self._local.iterdir()) if self._local is not None else ():
            self._workspace.write_bytes(f"{self._folder}/{file.name}", file.read_bytes())

    def close(self, failed: bool) -> None:
        with self._closing:
            self._writer.close()
            self.sync()


class WandB:
    """A run of Weights & Biases, the same one however often training is resumed: its id is kept in `folder`/wandb.json.

    WANDB_PROJECT (default `curate`), WANDB_MODE (`offline`: to files, in the workspace if that is local) and the other
    variables of its library hold. Steps up to `seen`, the last one logged before a stop, were sent before and are not again.
    """

    def __init__(self, workspace: Workspace, folder: str, seen: int, facts: dict[str, Any]) -> None:
        import wandb

        known = workspace.read_json(f"{folder}/wandb.json") or {"id": secrets.token_hex(8)}
        workspace.write_json(f"{folder}/wandb.json", known)
        self._seen = seen
        self._closing = contextlib.ExitStack()
        if workspace.is_local:
            place = workspace.path(folder)
        else:
            place = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="curate-wandb-"))
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or "curate",
                id=known["id"],
                resume="allow",
                dir=place,
                config=facts,
                settings=wandb.Settings(console="off", quiet=True),
            )
        except (wandb.Error, OSError, RuntimeError) as error:
            self._closing.close()
            raise CurateError(
                f"the tracker wandb refuses: {redact_text(str(error))}; log in with `wandb login`, set WANDB_MODE=offline, "
                "or leave wandb out of the trackers"
            ) from error

    def write(self, entry: dict[str, Any]) -> None:
        if entry["step"] > self._seen:
            self._run.log(scalars(entry), step=entry["step"])

    def sync(self) -> None:
        """Its library sends in the background."""

    def close(self, failed: bool) -> None:
        with self._closing:
            self._run.finish(exit_code=int(failed))
