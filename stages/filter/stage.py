"""The stage `filter`: language, line edits, signals, rules, masks."""

from __future__ import annotations

from dataclasses import replace

from curate.pipeline.stage import Planning, Stage, Step, Task, one_task_a_shard
from curate.stages.filter.config import FilterConfig


def plan(planning: Planning) -> list[Task]:
    """A task a shard, which writes the table of measures beside `docs` and `ledger`."""
    return [
        replace(task, outputs={**task.outputs, "measures": f"{planning.stage}/measures/{task.key}.parquet"})
        for task in one_task_a_shard(planning)
    ]


STAGE = Stage(
    name="filter",
    version=2,
    config=FilterConfig,
    steps=(Step("filter", "curate.stages.filter.work:filter_shard", plan, record_bearing=True),),
    after="extract",
    disk=0.9,
)
