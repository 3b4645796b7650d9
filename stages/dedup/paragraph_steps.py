"""Which tasks the steps have that take paragraphs out of pages that others have; none without `paragraphs`. Light.

    paragraphs          a task a shard    every paragraph of the pages that stay: hash, page, place
    paragraph_hashes    a task a group    half of each hash of its shards, each once, a part for each range
    paragraph_shared    a task a part     those that several groups have, for each of these groups
    paragraph_firsts    a task a group    the whole hashes of these, with the group's earliest page of each
    paragraph_owners    a task a part     the earliest page of all, for each group that has the paragraph
    paragraph_cuts      a task a group    what goes of each page, a part for each shard

They follow `verdicts`: only pages that stay keep copies. A group is some consecutive shards of a scope; groups and parts are
cut by the number of paragraphs so that a task stays within `memory_mb`. Paragraphs that come twice in a group alone never
leave it, and a scope of one group has no steps between the first and the last.

What is written, for a page of 40 lines of which 10 have ten words: 10 rows of 21 bytes in `paragraphs`, beside its documents,
and as many of 6 in `paragraph_hashes`, which go to other tasks. What several groups have goes on with the id of a page, once
for each group, twice: 36 bytes each time. So a snapshot of 300 million pages makes 63 GB, 18 GB that travel, and where a tenth
of the paragraphs stands in several groups 22 GB more; with 1 GiB of memory in 600 groups and as many parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from curate.pipeline.stage import Done, File, Planning, Step, Task
from curate.stages.dedup.edit_steps import EDITS, Given, Scope, Scopes
from curate.stages.planning import GROUP_SHARDS, consecutive, finished, outputs

PARAGRAPHS, HASHES, SHARED = "paragraphs", "paragraph_hashes", "paragraph_shared"
FIRSTS, OWNERS, CUTS = "paragraph_firsts", "paragraph_owners", "paragraph_cuts"

BYTES_A_PARAGRAPH = 224
"""Memory for a paragraph of a group or part while it is sorted among the others (measured: 139, where all stand in several
groups 216)."""
BYTES_AN_OWNER = 512
"""Memory for one that goes on with the id of a page (measured: 370)."""

_HASHED = ("paragraphs.unit", "paragraphs.span", "paragraphs.least_words")
_WORK = "curate.stages.dedup"


@dataclass(frozen=True)
class Group:
    """Consecutive shards of a scope: the finished tasks of `paragraphs` and of `signatures`."""

    scope: str
    number: int
    paragraphs: tuple[Done, ...]
    signed: tuple[Done, ...]

    @property
    def key(self) -> str:
        return f"{self.scope}/{self.number:05d}"


@dataclass(frozen=True)
class Compared:
    """The shards of a scope whose paragraphs are compared, and into how many parts the work on their hashes is cut."""

    name: str
    groups: tuple[Group, ...]
    parts: int

    @property
    def keys(self) -> list[str]:
        return [group.key for group in self.groups]


def steps(scopes: Scopes) -> tuple[Step, ...]:
    """The steps, in order; `scopes` gives those of a run."""
    return (
        Step(
            PARAGRAPHS, f"{_WORK}.paragraphs:write_paragraphs", lambda p: plan_paragraphs(p, scopes(p)), reads=_HASHED
        ),
        Step(HASHES, f"{_WORK}.paragraphs:write_hashes", lambda p: plan_hashes(p, scopes(p)), reads=_HASHED),
        Step(SHARED, f"{_WORK}.paragraphs:write_shared", lambda p: plan_shared(p, scopes(p)), reads=_HASHED),
        Step(FIRSTS, f"{_WORK}.paragraphs:write_firsts", lambda p: plan_firsts(p, scopes(p)), reads=_HASHED),
        Step(OWNERS, f"{_WORK}.paragraphs:write_owners", lambda p: plan_owners(p, scopes(p)), reads=_HASHED),
        Step(
            CUTS,
            f"{_WORK}.paragraph_cuts:write_cuts",
            lambda p: plan_cuts(p, scopes(p)),
            reads=(*_HASHED, "paragraphs.within_pages"),
        ),
    )


def most_paragraphs(memory_mb: int) -> int:
    """Paragraphs that a task may hold at a time."""
    return max(1, (memory_mb << 20) // BYTES_A_PARAGRAPH)


def plan_paragraphs(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    if planning.config.paragraphs is None:
        return []
    documents = {shard.key: shard.file for shard in planning.shards}
    tasks = []
    for scope in scopes:
        for group in scope.groups:
            verdicts = outputs(finished(planning, "verdicts", [group.key]), "verdicts")
            for position, shard in enumerate(group.shards):
                inputs = {"docs": (documents[shard.key],), "verdicts": verdicts}
                tasks.append(_task(planning, shard.key, inputs, {"position": position}))
    return tasks


def plan_hashes(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    return [
        _task(planning, group.key, {PARAGRAPHS: outputs(group.paragraphs, PARAGRAPHS)}, {"parts": scope.parts})
        for scope in _of_several_groups(planning, scopes)
        for group in scope.groups
    ]


def plan_shared(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    tasks = []
    for scope in _of_several_groups(planning, scopes):
        files = outputs(finished(planning, HASHES, scope.keys), HASHES)
        tasks += [
            _task(planning, _part_key(scope, part), {HASHES: files}, {"part": part}) for part in range(scope.parts)
        ]
    return tasks


def plan_firsts(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    tasks = []
    for scope in _of_several_groups(planning, scopes):
        done = _shared(planning, scope)
        parts = _owner_parts(planning, done)
        for group in scope.groups:
            inputs = _of_group(group) | {SHARED: outputs(done, SHARED)}
            tasks.append(_task(planning, group.key, inputs, {"group": group.number, "parts": parts}))
    return tasks


def plan_owners(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    tasks = []
    for scope in _of_several_groups(planning, scopes):
        files = outputs(finished(planning, FIRSTS, scope.keys), FIRSTS)
        parts = range(_owner_parts(planning, _shared(planning, scope)))
        tasks += [_task(planning, _part_key(scope, part), {FIRSTS: files}, {"part": part}) for part in parts]
    return tasks


def plan_cuts(planning: Planning, scopes: Sequence[Scope]) -> list[Task]:
    tasks = []
    for scope in compared(planning, scopes):
        files: tuple[File, ...] = ()
        if len(scope.groups) > 1:
            parts = _owner_parts(planning, _shared(planning, scope))
            keys = (_part_key(scope, part) for part in range(parts))
            files = outputs(finished(planning, OWNERS, keys), OWNERS)
        tasks += [
            _task(planning, group.key, _of_group(group) | {OWNERS: files}, {"group": group.number})
            for group in scope.groups
        ]
    return tasks


def edits_of_shards(planning: Planning, scopes: Sequence[Scope]) -> dict[str, Given]:
    """As `edit_steps.edits_of_shards`, of paragraphs."""
    found: dict[str, Given] = {}
    for scope in compared(planning, scopes):
        for group in scope.groups:
            files = outputs(finished(planning, CUTS, [group.key]), CUTS)
            for position, shard in enumerate(group.paragraphs):
                found[shard.key] = ({EDITS: files}, {EDITS: position})
    return found


def compared(planning: Planning, scopes: Sequence[Scope]) -> list[Compared]:
    """The scopes of a run, from the finished tasks of `paragraphs`; none where the recipe does not ask."""
    if planning.config.paragraphs is None:
        return []
    most = most_paragraphs(planning.config.memory_mb)
    found = []
    for scope in scopes:
        signed = [shard for group in scope.groups for shard in group.shards]
        done = finished(planning, PARAGRAPHS, (shard.key for shard in signed))
        rows = [int(task.counts["records"]) for task in done]
        groups = tuple(
            Group(scope.name, number, tuple(done[first:last]), tuple(signed[first:last]))
            for number, (first, last) in enumerate(consecutive(rows, most, GROUP_SHARDS))
        )
        found.append(Compared(scope.name, groups, max(1, -(-sum(rows) // most))))
    return found


def _of_several_groups(planning: Planning, scopes: Sequence[Scope]) -> Iterator[Compared]:
    return (scope for scope in compared(planning, scopes) if len(scope.groups) > 1)


def _of_group(group: Group) -> dict[str, tuple[File, ...]]:
    return {PARAGRAPHS: outputs(group.paragraphs, PARAGRAPHS), "signatures": outputs(group.signed, "signatures")}


def _shared(planning: Planning, scope: Compared) -> list[Done]:
    return finished(planning, SHARED, (_part_key(scope, part) for part in range(scope.parts)))


def _owner_parts(planning: Planning, shared: Sequence[Done]) -> int:
    rows = sum(int(task.counts["records"]) for task in shared)
    return max(1, -(-rows * BYTES_AN_OWNER // (planning.config.memory_mb << 20)))


def _part_key(scope: Compared, part: int) -> str:
    return f"{scope.name}/{part:05d}"


def _task(planning: Planning, key: str, inputs: Mapping[str, tuple[File, ...]], params: Mapping[str, object]) -> Task:
    """A task whose only output has the step's name."""
    written = {planning.step: f"{planning.stage}/steps/{planning.step}/{key}.parquet"}
    return Task(planning.stage, planning.step, key, inputs, written, params, memory=planning.config.memory_mb << 20)
