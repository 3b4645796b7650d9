"""What several test folders need: a stage run in this process, small real files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline.engines import Progress
from curate.pipeline.ledger import Counts
from curate.pipeline.markers import shard_results
from curate.pipeline.stage import Context, Done, Planning, Shard, Stage, load
from curate.pipeline.work import Call, Outcome, execute
from curate.pipeline.workspace import Workspace


def run_stage(stage: Stage, config: Any, shards: Iterable[Shard], workspace: Workspace, seed: int = 0) -> list[Done]:
    """Runs every step of a stage here, one task after another; gives what it left of each shard, sums checked."""
    before: dict[str, tuple[Done, ...]] = {}
    for step in stage.steps:
        planning = Planning(stage.name, step.name, config, seed, tuple(shards), before)
        done = []
        for task in step.plan(planning):
            context = Context(task, config, seed, workspace)
            counts: Counts = load(step.run)(context)
            assert set(context.written) == set(task.outputs)
            if step.record_bearing:
                assert counts.balanced(), counts
            done.append(Done(task.key, context.written, counts.to_json(), task.params))
        before[step.name] = tuple(sorted(done, key=lambda item: item.key))
    return shard_results(stage, before)


class Inline:
    """An engine that runs each task here, at once: for runs whose processes are not what is tested."""

    name = "inline"
    capacity = 1

    def __init__(self) -> None:
        self._done: list[Outcome | Progress] = []

    def submit(self, call: Call) -> None:
        self._done.append(execute(call, lambda records: None))

    def wait(self, timeout: float) -> list[Outcome | Progress]:
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Nothing runs."""


class Noting(Inline):
    """Notes of which steps the tasks ran."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self._steps = steps

    def submit(self, call: Call) -> None:
        self._steps.append(call.task.step)
        super().submit(call)


class KilledError(BaseException):
    """What a worker says that is no more."""


class Dying(Inline):
    """In the first task of each step everything ends before the marker is written, with half-written files left."""

    def __init__(self, died: set[str]) -> None:
        super().__init__()
        self._died = died

    def submit(self, call: Call) -> None:
        if call.task.step not in self._died:
            self._died.add(call.task.step)
            place = Workspace(call.workspace)
            context = Context(call.task, call.config, call.seed, place)
            load(call.run)(context)
            for file in context.written.values():
                place.write_bytes(file.path, b"half")
            raise KilledError
        super().submit(call)


def rows(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """A Parquet file of the workspace as a list of dictionaries."""
    with workspace.open(name) as stream:
        return pq.read_table(stream).to_pylist()


def shared_data(name: str) -> Path:
    """An archive of the shared data; the test is skipped, saying so, where it is absent."""
    folder = Path(os.environ.get("CURATE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = folder / name
    if not path.exists():
        pytest.skip(f"needs {name} of the shared data (set CURATE_DATA to its folder)")
    return path
