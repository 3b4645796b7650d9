"""A small pipeline with every kind of step, for the runner's tests: fast, real files, real failures on demand.

What a task shall do wrong is said in `toy.json` beside the workspace, so that a test can change it between runs.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.pipeline.config import Strict
from curate.pipeline.documents import DOCUMENT, read_batches, with_field
from curate.pipeline.ledger import Counts, FailedRule, record_keys, shard_writer
from curate.pipeline.stage import Context, Planning, Stage, Step, Task, one_task_a_shard


class CutConfig(Strict):
    every: int = 3
    """Every n-th record is dropped."""
    gpus: float = 0


class CountConfig(Strict):
    least: int = 0


def plan_cut(planning: Planning) -> list[Task]:
    return [
        Task(
            "cut",
            "cut",
            shard.key,
            {"input": (shard.file,)},
            {name: f"cut/{name}/{shard.key}.parquet" for name in ("docs", "ledger")},
            gpus=planning.config.gpus,
        )
        for shard in planning.shards
    ]


def _mischief(context: Context) -> dict[str, Any]:
    path = Path(context.workspace.root).with_name("toy.json")
    plan: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {**plan.get("*", {}), **plan.get(context.task.key, {})}


def cut(context: Context) -> Counts:
    """One record a line of the input; every n-th dropped."""
    mischief = _mischief(context)
    if "seen" in mischief:
        with Path(mischief["seen"]).open("a") as seen:
            print(os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), file=seen)
    with shard_writer(context, DOCUMENT) as out, context.open(context.input("input")) as stream:
        for number, line in enumerate(stream):
            record = {
                "id": f"{context.task.key}#{number}",
                "snapshot": "s",
                "offset": number,
                "text": line.decode().strip(),
            }
            out.counts.records += 1
            if number == mischief.get("raise_at"):
                raise ValueError(f"bad line {number}")
            if number == mischief.get("die_at"):
                os._exit(9)
            time.sleep(mischief.get("sleep", 0))
            if number % context.config.every == 0:
                out.drop(record, "every", failed=[FailedRule("every", number, "max", context.config.every)])
            elif number != mischief.get("lose_at"):
                out.keep(pa.RecordBatch.from_pylist([record], schema=DOCUMENT))
            context.progress(1)
    return out.counts


def plan_words(planning: Planning) -> list[Task]:
    return [
        Task("count", "words", shard.key, {"docs": (shard.file,)}, {"words": f"count/steps/words/{shard.key}.json"})
        for shard in planning.shards
    ]


def words(context: Context) -> Counts:
    """Counts the words of a shard."""
    found: Counter[str] = Counter()
    with context.open(context.input("docs")) as stream:
        for batch in read_batches(stream, ["text"]):
            for text in batch.column("text").to_pylist():
                found.update(text.split())
            time.sleep(_mischief(context).get("sleep", 0))
    with context.create("words") as output:
        output.write(json.dumps(dict(sorted(found.items()))).encode())
    return Counts()


def plan_total(planning: Planning) -> list[Task]:
    files = tuple(done.outputs["words"] for done in planning.before["words"])
    return [Task("count", "total", "all", {"words": files}, {"total": "count/steps/total/all.json"})]


def total(context: Context) -> Counts:
    """Adds up the words of all shards."""
    found: Counter[str] = Counter()
    for file in context.task.inputs["words"]:
        with context.open(file) as stream:
            found.update(json.loads(stream.read()))
    with context.create("total") as output:
        output.write(json.dumps(dict(sorted(found.items()))).encode())
    return Counts()


def plan_tag(planning: Planning) -> list[Task]:
    (done,) = planning.before["total"]
    return [
        Task(task.stage, task.step, task.key, {**task.inputs, "total": (done.outputs["total"],)}, task.outputs)
        for task in one_task_a_shard(planning)
    ]


def tag(context: Context) -> Counts:
    """Drops documents of words that are rare over all shards."""
    with context.open(context.input("total")) as stream:
        total = json.loads(stream.read())
    schema = with_field(DOCUMENT, "commonest", pa.int32())
    with shard_writer(context, schema) as out, context.open(context.input("docs")) as stream:
        for batch in read_batches(stream):
            best = [max((total[word] for word in text.split()), default=0) for text in batch.column("text").to_pylist()]
            keep = [value >= context.config.least for value in best]
            out.counts.records += batch.num_rows
            for record, value in zip(record_keys(batch, [i for i, k in enumerate(keep) if not k]), best, strict=False):
                out.drop(record, "least", failed=[FailedRule("least", value, "min", context.config.least)])
            batch = batch.append_column("commonest", pa.array(best, pa.int32()))
            out.keep(batch.filter(pa.array(keep)))
            context.progress(batch.num_rows)
    return out.counts


CUT = Stage("cut", 1, CutConfig, (Step("cut", "toy_stages:cut", plan_cut, record_bearing=True),), after=None)
COUNT = Stage(
    "count",
    1,
    CountConfig,
    (
        Step("words", "toy_stages:words", plan_words, reads=()),
        Step("total", "toy_stages:total", plan_total),
        Step("tag", "toy_stages:tag", plan_tag, record_bearing=True),
    ),
    after="cut",
)
