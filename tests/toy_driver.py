"""Runs the toy pipeline in a process of its own, so that a test can kill it: `toy_driver.py WORKSPACE INPUTS …`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import toy_stages

from curate.pipeline.engines import open_engine
from curate.pipeline.errors import CurateError
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead, RunConfig
from curate.pipeline.runner import open_runner, raise_if_incomplete, upstream_shards
from curate.pipeline.stage import File, Shard
from curate.pipeline.status import stage_statuses
from curate.pipeline.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace")
    parser.add_argument("inputs")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--address")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--least", type=int, default=0)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--gpus", type=float, default=0)
    options = parser.parse_args()
    head = RecipeHead(run=RunConfig(attempts=options.attempts, backoff_seconds=0.05))
    config = {
        "cut": toy_stages.CutConfig(every=options.every, gpus=options.gpus),
        "count": toy_stages.CountConfig(least=options.least),
    }
    workspace = Workspace(options.workspace)
    shards = [
        Shard(
            f"s/{path.stem}",
            File(str(path), f"{path.stat().st_size}-{path.stat().st_mtime_ns}", path.stat().st_size, True),
        )
        for path in sorted(Path(options.inputs).iterdir())
    ]
    try:
        with open_runner(
            workspace,
            Recipe(head, config),
            lambda: open_engine(options.engine, workers=options.workers, address=options.address, tasks_per_worker=64),
            open_display(as_json=True, stream=sys.stdout),
        ) as runner:
            results = [runner.run(toy_stages.CUT, shards)]
            if results[0].published:
                results.append(runner.run(toy_stages.COUNT, upstream_shards(workspace, "cut")))
        statuses = stage_statuses(workspace, ["cut", "count"], verify=True)
        raise_if_incomplete(results, [problem for status in statuses for problem in status.problems])
    except CurateError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
