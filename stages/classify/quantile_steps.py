"""Which tasks the quantiles have; none without `quantiles`. Light: imported by `stage`.

    spread1      a task a group    weight by group and by the upper half of the score's bits
    narrow1      one task          which buckets hold a boundary
    spread2 …    the same of 8 bits more in those buckets alone, and of the last 8
    boundaries   one task          the boundaries, exactly

A group is some consecutive shards. Scores and weights are read three times, 20 bytes a page; no task holds more of them than
a batch, and `curate.classifiers.quantiles` says how many rows a histogram has at most.
"""

from __future__ import annotations

from curate.pipeline.stage import File, Planning, Step, Task
from curate.stages.planning import GROUP_SHARDS, consecutive, finished, outputs

GROUP_PAGES = 1 << 24
"""Pages in a group at most."""
SPREAD = ("spread1", "spread2", "spread3")
NARROW = ("narrow1", "narrow2", "boundaries")
ALL = "all"
"""Key of a task over all groups."""


def plan_spread(planning: Planning) -> list[Task]:
    if not planning.config.quantiles:
        return []
    level = SPREAD.index(planning.step)
    inputs = {} if level == 0 else {"wanted": _narrowed(planning, level - 1)}
    scored = finished(planning, "score", (shard.key for shard in planning.shards))
    rows = [int(done.counts["records"]) for done in scored]
    tasks = []
    for number, (start, end) in enumerate(consecutive(rows, GROUP_PAGES, GROUP_SHARDS)):
        files = {"scores": outputs(scored[start:end], "scores")}
        if planning.config.asks_documents:
            files["docs"] = tuple(shard.file for shard in planning.shards[start:end])
        key = f"{number:05d}"
        written = {"histogram": f"{planning.stage}/steps/{planning.step}/{key}.parquet"}
        tasks.append(Task(planning.stage, planning.step, key, {**files, **inputs}, written, {"level": level}))
    return tasks


def plan_narrow(planning: Planning) -> list[Task]:
    if not planning.config.quantiles:
        return []
    level = NARROW.index(planning.step)
    inputs = {"histograms": outputs(planning.before[SPREAD[level]], "histogram")}
    if level:
        inputs["wanted"] = _narrowed(planning, level - 1)
    written = {"wanted": f"{planning.stage}/steps/{planning.step}/{ALL}.parquet"}
    return [Task(planning.stage, planning.step, ALL, inputs, written, {"level": level}, memory=2 << 30)]


def boundaries(planning: Planning) -> dict[str, tuple[File, ...]]:
    """What a task that looks scores up has among its inputs; nothing without `quantiles`."""
    return {"boundaries": _narrowed(planning, len(NARROW) - 1)} if planning.config.quantiles else {}


def _narrowed(planning: Planning, level: int) -> tuple[File, ...]:
    return outputs(finished(planning, NARROW[level], [ALL]), "wanted")


_WORK = "curate.stages.classify.spreading"
STEPS = tuple(
    step
    for spread, narrow in zip(SPREAD, NARROW, strict=True)
    for step in (
        Step(spread, f"{_WORK}:spread_group", plan_spread, reads=("quantiles",)),
        Step(narrow, f"{_WORK}:narrow_all", plan_narrow, reads=("quantiles",)),
    )
)
