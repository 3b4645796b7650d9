"""What several test folders need: a stage run in this process, small real files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context, Done, Planning, Shard, Stage, load
from curate.pipeline.workspace import Workspace


def run_stage(stage: Stage, config: Any, shards: Iterable[Shard], workspace: Workspace, seed: int = 0) -> list[Done]:
    """Runs every step of a stage here, one task after another; gives the last step's finished tasks, sums checked."""
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
    return list(before[stage.steps[-1].name])


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
