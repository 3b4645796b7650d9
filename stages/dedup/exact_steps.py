"""Which tasks the steps have that compare URLs; none without `url`. Light.

    urls          a task a shard    the URL of every page, made comparable, and its hash
    url_copies    a task a scope    pages whose URL another page has, and those that go for their id, a part for each group

They follow `ids` and precede `bands`: what goes takes no part in what follows. With `url`, what asks for the input `ids`
takes `url_copies` in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from curate.pipeline.stage import File, Planning, Step, Task
from curate.stages.dedup.edit_steps import Scope, Scopes
from curate.stages.planning import finished, outputs

URLS, COPIES = "urls", "url_copies"
BYTES_A_URL = 24
"""Memory for a page's number and hash, and for what is found of it, beside `memory_mb`."""


def steps(scopes: Scopes) -> tuple[Step, ...]:
    """The steps, in order; `scopes` gives those of a run."""
    return (
        Step(URLS, "curate.stages.dedup.exact:write_urls", plan_urls, reads=("url",)),
        Step(
            COPIES,
            "curate.stages.dedup.exact:write_copies",
            lambda planning: plan_copies(planning, scopes(planning)),
            reads=("url", "keep", "scope"),
        ),
    )


def plan_urls(planning: Planning) -> list[Task]:
    if not planning.config.url:
        return []
    return [
        Task(
            planning.stage, planning.step, shard.key, {"docs": (shard.file,)},
            {URLS: f"{planning.stage}/steps/{planning.step}/{shard.key}.parquet"},
        )
        for shard in planning.shards
    ]  # fmt: skip


def plan_copies(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    if not planning.config.url:
        return []
    tasks = []
    for scope in scopes:
        shards = list(chain.from_iterable(group.shards for group in scope.groups))
        rows = [[int(shard.counts["records"]) for shard in group.shards] for group in scope.groups]
        snapshots = dict.fromkeys(shard.key.split("/", 1)[0] for shard in shards)
        tasks.append(
            Task(
                planning.stage, planning.step, scope.name,
                {
                    URLS: outputs(finished(planning, URLS, (shard.key for shard in shards)), URLS),
                    "signatures": outputs(shards, "signatures"),
                    "ids": outputs(finished(planning, "ids", snapshots), "ids"),
                },
                {
                    "ids": f"{planning.stage}/steps/{planning.step}/{scope.name}.parquet",
                    "stays": f"{planning.stage}/steps/url_stays/{scope.name}.parquet",
                },
                {"rows": rows},
                memory=(planning.config.memory_mb << 20) + BYTES_A_URL * sum(map(sum, rows)),
            )
        )  # fmt: skip
    return tasks


def copies_of(planning: Planning, scope: str, name: str) -> tuple[File, ...]:
    """In place of the output `ids` or `stays` of the step `ids`: the pages of a scope that go before texts are compared."""
    return outputs(finished(planning, COPIES, [scope]), name)
