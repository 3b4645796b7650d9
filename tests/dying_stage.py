"""A stage in a process of its own, which is killed in the middle of some steps: `dying_stage.py STAGE WORKSPACE …`.

As a module it is what the workers run: `dying_stage:dedup/bands` is the step `bands`, the first task of which ends in kill -9
with its output half written; `dying_stage:dedup/bands!` takes the driver with it. Left behind is a file `killed-<step>` in the
workspace.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.pipeline import session
from curate.pipeline.engines import open_engine
from curate.pipeline.ledger import Counts
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead, RunConfig
from curate.pipeline.runner import open_runner
from curate.pipeline.stage import Context, File, Shard, load
from curate.pipeline.workspace import Output, Workspace


def __getattr__(name: str) -> Callable[[Context], Counts]:
    stage, _, step = name.removesuffix("!").partition("/")
    if stage not in session.ORDER:
        raise AttributeError(name)
    run = next(found.run for found in session.stage(stage).steps if found.name == step)

    def killed_once(context: Context) -> Counts:
        with contextlib.suppress(FileExistsError):
            (Path(context.workspace.root) / f"killed-{step}").touch(exist_ok=False)
            driver = name.endswith("!")
            context.create = lambda output: _killed(Context.create(context, output), driver)  # type: ignore[method-assign]
        counts: Counts = load(run)(context)
        return counts

    return killed_once


@contextlib.contextmanager
def _killed(created: Any, driver: bool) -> Iterator[Output]:
    with created as output:
        yield output
        if driver:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    parser.add_argument("workspace")
    parser.add_argument("--config", default="{}", help="the stage's section of the recipe, JSON")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--address")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-in", nargs="*", default=[])
    parser.add_argument("--kill-driver-in", help="a step, on the local engine")
    given = parser.parse_args()
    place, stage = Workspace(given.workspace), session.stage(given.stage)
    shards, folder = [], f"{stage.after}/docs/"
    for name in place.list(folder.rstrip("/")):
        key = name.removeprefix(folder).removesuffix(".parquet")
        data = Path(place.path(name)).read_bytes()
        file = File(name, hashlib.sha256(data).hexdigest(), len(data))
        shards.append(Shard(key, file, pq.read_metadata(place.path(name)).num_rows))
    runs = {step: f"dying_stage:{stage.name}/{step}" for step in given.kill_in}
    if given.kill_driver_in:
        runs[given.kill_driver_in] = f"dying_stage:{stage.name}/{given.kill_driver_in}!"
    steps = tuple(replace(step, run=runs.get(step.name, step.run)) for step in stage.steps)
    config = stage.config.model_validate(json.loads(given.config))
    recipe = Recipe(RecipeHead(run=RunConfig(attempts=3, backoff_seconds=0.05)), {stage.name: config})
    with open_runner(
        place,
        recipe,
        lambda: open_engine(given.engine, workers=given.workers, address=given.address, tasks_per_worker=64),
        open_display(as_json=True, stream=sys.stdout),
    ) as runner:
        result = runner.run(replace(stage, steps=steps), shards)
    sys.exit(1 if result.failed else 0)


if __name__ == "__main__":
    main()
