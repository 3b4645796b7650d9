"""Which tasks the step has that takes out of pages what others have; none where the recipe does not ask. Light.

    substrings    a task a partition    repeats across the pages that stay, a part for each shard

It follows `verdicts`: only pages that stay keep copies. `stage` puts it before `remove`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from curate.pipeline.stage import Done, File, Planning, Step, Task
from curate.stages.planning import GROUP_SHARDS, consecutive, finished, outputs

SUBSTRINGS = "substrings"
EDITS = "edits"
"""The input of `remove` that says what goes of texts, and the param that says which part of it is the shard's."""
UNPACKED = 3
"""Bytes of text for a byte of a shard's file, about: decides how many shards a task takes, which cuts its partitions by
their text."""
BYTES_A_BYTE = 16
"""Memory for a byte of a partition's text."""


class Group(Protocol):
    """Consecutive shards of a scope, the finished tasks of `signatures`."""

    @property
    def shards(self) -> tuple[Done, ...]: ...

    @property
    def key(self) -> str: ...


class Scope(Protocol):
    """The pages that are compared."""

    @property
    def name(self) -> str: ...

    @property
    def groups(self) -> Sequence[Group]: ...


Scopes = Callable[[Planning], Sequence[Scope]]


def steps(scopes: Scopes) -> tuple[Step, ...]:
    """The steps, in order; `scopes` gives those of a run."""
    return (
        Step(
            SUBSTRINGS,
            "curate.stages.dedup.edits:write_substrings",
            lambda planning: plan_substrings(planning, scopes(planning)),
            reads=("substring",),
        ),
    )


def plan_substrings(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    """The shards of a task follow from their sizes alone, never from a limit of memory, which must not change what is
    removed."""
    tasks = []
    for key, shards in _partitions(planning, scopes):
        groups = list(dict.fromkeys(group for _, group, _ in shards))
        tasks.append(
            Task(
                planning.stage, planning.step, key,
                {
                    "docs": tuple(file for file, _, _ in shards),
                    "verdicts": outputs(finished(planning, "verdicts", groups), "verdicts"),
                },
                {SUBSTRINGS: f"{planning.stage}/steps/{planning.step}/{key}.parquet"},
                {"verdicts": [[groups.index(group), position] for _, group, position in shards]},
                memory=(256 << 20) + BYTES_A_BYTE * _partition_bytes(planning),
            )
        )  # fmt: skip
    return tasks


Given = tuple[dict[str, tuple[File, ...]], dict[str, Any]]
"""Inputs and params that a task gets beside its own."""


def edits_of_shards(planning: Planning, scopes: Sequence[Scope]) -> dict[str, Given]:
    """For each shard, by key, what the step `remove` needs to edit its texts. Empty where nothing is edited.

    The input `edits` is a file, the param `edits` the shard's part of it.
    """
    keys = iter([shard.key for scope in scopes for group in scope.groups for shard in group.shards])
    found: dict[str, Given] = {}
    for key, shards in _partitions(planning, scopes):
        files = outputs(finished(planning, SUBSTRINGS, [key]), SUBSTRINGS)
        for position in range(len(shards)):
            found[next(keys)] = ({EDITS: files}, {EDITS: position})
    return found


def _partitions(planning: Planning, scopes: Sequence[Scope]) -> Iterator[tuple[str, list[tuple[File, str, int]]]]:
    """Key and shards of each task: documents, key of the group, place in the group."""
    if planning.config.substring is None:
        return
    documents = {shard.key: shard.file for shard in planning.shards}
    for scope in scopes:
        shards = [
            (documents[shard.key], group.key, place)
            for group in scope.groups
            for place, shard in enumerate(group.shards)
        ]
        sizes = [UNPACKED * file.size for file, _, _ in shards]
        for number, (first, last) in enumerate(consecutive(sizes, _partition_bytes(planning), GROUP_SHARDS)):
            yield f"{scope.name}/{number:05d}", shards[first:last]


def _partition_bytes(planning: Planning) -> int:
    size: int = planning.config.substring.partition_mb
    return size << 20
