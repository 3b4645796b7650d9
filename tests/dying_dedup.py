"""Dedup in a process of its own, a worker of which is killed in the middle of each of some steps: `dying_dedup.py WORKSPACE …`.

As a module it is what the workers run: `dying_dedup:bands` is the step `bands`, the first task of which ends in kill -9
with its output half written. Left behind is a file `killed-<step>` in the workspace.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.pipeline.engines import open_engine
from curate.pipeline.ledger import Counts
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead, RunConfig
from curate.pipeline.runner import open_runner
from curate.pipeline.stage import Context, File, Shard, load
from curate.pipeline.workspace import Output, Workspace
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.stage import STAGE


def __getattr__(step: str) -> Callable[[Context], Counts]:
    run = next((found.run for found in STAGE.steps if found.name == step), None)
    if run is None:
        raise AttributeError(step)

    def killed_once(context: Context) -> Counts:
        with contextlib.suppress(FileExistsError):
            (Path(context.workspace.root) / f"killed-{step}").touch(exist_ok=False)
            context.create = lambda name: _killed(Context.create(context, name))  # type: ignore[method-assign]
        counts: Counts = load(run)(context)
        return counts

    return killed_once


@contextlib.contextmanager
def _killed(created: Any) -> Iterator[Output]:
    with created as output:
        yield output
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--address")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-in", nargs="*", default=[])
    given = parser.parse_args()
    place = Workspace(given.workspace)
    shards = []
    for name in place.list("filter/docs"):
        key = name.removeprefix("filter/docs/").removesuffix(".parquet")
        with place.open(name) as stream:
            shards.append(Shard(key, File(name, key), pq.ParquetFile(stream).metadata.num_rows))
    steps = (
        replace(step, run=f"dying_dedup:{step.name}") if step.name in given.kill_in else step for step in STAGE.steps
    )
    recipe = Recipe(RecipeHead(run=RunConfig(attempts=3, backoff_seconds=0.05)), {"dedup": DedupConfig()})
    with open_runner(
        place,
        recipe,
        lambda: open_engine(given.engine, workers=given.workers, address=given.address, tasks_per_worker=64),
        open_display(as_json=True, stream=sys.stdout),
    ) as runner:
        result = runner.run(replace(STAGE, steps=tuple(steps)), shards)
    sys.exit(1 if result.failed else 0)


if __name__ == "__main__":
    main()
