"""The stage `dedup`: which tasks its steps have. Light: imported by the command line.

    signatures   a task a shard       hashes, band keys and sketch of every page
    ids          a task a snapshot    pages whose id another page of the snapshot has: all but one of each id go, and link
                                      and keep no others
    urls …       see `exact_steps`: where asked for, pages that go for their URL; then `ids` is what both steps leave
    bands        a task a group       pages of the group that share a key, linked to the smallest of them; the keys of
                                      those, a row each, sorted into parts by the key's range
    edges        a task a part        pages of several groups that share a key, linked to the smallest of them
    components   a task a scope       union-find: the cluster of every page
    join01 …     a task a block       the same for a scope of more pages than `components.in_memory`: rounds of contraction
                                      over files, in blocks of so many pages, until each page is linked to the
                                      smallest of its cluster
    stars        a task a block       the clusters that they come to
    members      a task a group       the pages of clusters of two or more, sorted into parts by cluster; and those that went
                                      before, with the cluster of the page that stays for them
    verify       a task a part        where asked for: pages linked only where alike enough, too large clusters taken apart;
                                      with `scope: newest-first`, snapshots in turn
    choices      a task a part        which page of each cluster stays, for how many, how similar the others are to it
    report       a task a scope       how many clusters of which size, the largest of them
    verdicts     a task a group       the choices and the pages that go for their id, sorted by shard
    substrings   see `edit_steps`: where asked for, what pages that stay lose
    paragraphs … see `paragraph_steps`: the same by lines or sentences
    remove       a task a shard       docs and ledger

A scope is a snapshot, or everything (`scope: global`, `newest-first`); ids are compared within a snapshot in all of them.
Within a scope the pages are numbered: shards in the order of their keys, rows in the order of the file. A group is some
consecutive shards; groups and parts are cut by the number of pages so that a task stays within `memory_mb`. With few pages
there is one group and one part. `bands` and `edges` are two steps, not one task a band, so that no task reads what it does
not need, and a file a group keeps 90,000 shards x 14 bands at some hundred files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby

from curate.pipeline.errors import Incomplete
from curate.pipeline.stage import Done, File, Planning, Stage, Step, Task
from curate.stages.dedup import edit_steps, exact_steps, paragraph_steps
from curate.stages.dedup.config import DedupConfig
from curate.stages.planning import GROUP_SHARDS, consecutive, finished, outputs

BYTES_A_KEY = 128
"""Memory for a row of `bands` while it is linked (measured: 111 at most)."""
BYTES_A_PAGE = 1024
"""Memory for a page with its identity and its sketch while the members of clusters are gathered and compared."""

BYTES_A_DOCUMENT = 5
BYTES_A_BLOCKED_DOCUMENT = 16
"""Memory for a page while the clusters of a scope, of a block of it, are found."""
ROUNDS = 16
"""Rounds of contraction at most; 100,000 pages of a path in random order in 100 blocks take 10."""
SIGNED = ("minhash",)
LINKED = ("exact", "minhash")
"""What of the configuration changes signatures and links: another keep rule or threshold of verification goes on from them."""
KEPT = ("minhash", "keep", "scope")
COMPARED = (*KEPT, "verify", "verify_threshold", "max_cluster")
"""What changes which pages stay, and the clusters before that; what edits texts then goes on from there."""
JOIN, SPREAD = "join{:02d}", "spread{:02d}"

BYTES_OF_SHINGLES = 5120
"""Memory for a page's shingles, some thousand of 4 bytes, where they are gathered and compared (measured: 4.2 KB of a page of
1,000 words, beside some 130 MB whatever their number)."""
CHARACTERS = 4
"""So many times as much with `ngram_of: characters`: 4,096 shingles are the most that is compared."""
BYTES_AN_ID = 24
"""Memory for a page's id hash and what is found of it, beside `memory_mb`, where no id stands more than twice."""


@dataclass(frozen=True)
class Group:
    """Consecutive shards of a scope: `base` is the number of the first one's first page, `rows` the pages of each."""

    scope: str
    number: int
    base: int
    shards: tuple[Done, ...]

    @property
    def rows(self) -> list[int]:
        return [int(shard.counts["records"]) for shard in self.shards]

    @property
    def key(self) -> str:
        return f"{self.scope}/{self.number:05d}"


@dataclass(frozen=True)
class Scope:
    """The pages among which copies are looked for, and into how many parts the work on them is cut."""

    name: str
    groups: tuple[Group, ...]
    documents: int
    key_parts: int
    cluster_parts: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Block:
    """Consecutive groups of a scope whose pages, `start` to `end` - 1, one task can hold the clusters of."""

    scope: str
    number: int
    start: int
    end: int
    groups: tuple[Group, ...]

    @property
    def key(self) -> str:
        return f"{self.scope}/{self.number:05d}"

    @property
    def params(self) -> dict[str, object]:
        ends = [group.base + sum(group.rows) for group in self.groups]
        numbers = [group.number for group in self.groups]
        return {"start": self.start, "end": self.end, "groups": numbers, "ends": ends}


def scopes(planning: Planning) -> list[Scope]:
    """The scopes of a run, sorted by name, from the finished signatures."""
    config: DedupConfig = planning.config

    def scope_of(shard: Done) -> str:
        return "global" if config.everywhere else _snapshot(shard)

    shards = sorted(planning.before["signatures"], key=lambda shard: (scope_of(shard), shard.key))
    return [_scope(name, tuple(members), config) for name, members in groupby(shards, scope_of)]


def keys_a_page(config: DedupConfig) -> int:
    """Rows that a page has in `bands`."""
    return int(config.exact) + (config.minhash.bands if config.minhash.enabled else 0)


def _scope(name: str, shards: tuple[Done, ...], config: DedupConfig) -> Scope:
    memory = config.memory_mb << 20
    a_page = BYTES_A_PAGE + (8 * config.minhash.bands if config.verifies else 0)
    if config.verify == "jaccard":
        a_page += BYTES_OF_SHINGLES * (CHARACTERS if config.minhash.ngram_of == "characters" else 1)
    a_group = max(1, memory // max(a_page, BYTES_A_KEY * keys_a_page(config)))
    rows = [int(shard.counts["records"]) for shard in shards]
    before = [0, *accumulate(rows)]
    groups = tuple(
        Group(name, number, before[start], shards[start:end])
        for number, (start, end) in enumerate(consecutive(rows, a_group, GROUP_SHARDS))
    )
    documents = before[-1]
    key_parts = max(1, -(-documents * keys_a_page(config) * BYTES_A_KEY // memory))
    cluster_parts = max(1, -(-documents * a_page // memory))
    return Scope(name, groups, documents, key_parts, cluster_parts, _blocks(name, groups, config.components.in_memory))


def _blocks(name: str, groups: tuple[Group, ...], most: int) -> tuple[Block, ...]:
    pages = [sum(group.rows) for group in groups]
    blocks = []
    for number, (first, last) in enumerate(consecutive(pages, most, len(groups))):
        start = groups[first].base
        blocks.append(Block(name, number, start, start + sum(pages[first:last]), groups[first:last]))
    return tuple(blocks)


def plan_signatures(planning: Planning) -> list[Task]:
    return [
        Task(
            planning.stage, planning.step, shard.key, {"docs": (shard.file,)},
            {"signatures": f"{planning.stage}/steps/{planning.step}/{shard.key}.parquet"},
        )
        for shard in planning.shards
    ]  # fmt: skip


def plan_ids(planning: Planning) -> list[Task]:
    """Of a scope of several snapshots too: numbers and groups of a snapshot's pages are the scope's, ids are compared alone."""
    tasks = []
    for scope in scopes(planning):
        base = 0
        numbered = ((shard, group.number) for group in scope.groups for shard in group.shards)
        for snapshot, found in groupby(numbered, lambda pair: _snapshot(pair[0])):
            shards, groups = zip(*found, strict=True)
            rows = [int(shard.counts["records"]) for shard in shards]
            tasks.append(
                Task(
                    planning.stage, planning.step, snapshot,
                    {"signatures": outputs(shards, "signatures")},
                    {
                        "ids": f"{planning.stage}/steps/ids/{snapshot}.parquet",
                        "stays": f"{planning.stage}/steps/stays/{snapshot}.parquet",
                    },
                    {"base": base, "rows": rows, "groups": list(groups)},
                    memory=(planning.config.memory_mb << 20) + BYTES_AN_ID * sum(rows),
                )
            )  # fmt: skip
            base += sum(rows)
    return tasks


def plan_bands(planning: Planning) -> list[Task]:
    tasks = []
    for scope in scopes(planning):
        for block in scope.blocks:
            for group in block.groups:
                inputs = {"signatures": outputs(group.shards, "signatures"), "ids": _ids(planning, group, "ids")}
                params = {
                    "base": group.base, "group": group.number, "parts": scope.key_parts, "block": block.number
                }  # fmt: skip
                tasks.append(_task(planning, group.key, inputs, params, also="links"))
    return tasks


def plan_edges(planning: Planning) -> list[Task]:
    tasks = []
    for scope in scopes(planning):
        bands = outputs(finished(planning, "bands", (group.key for group in scope.groups)), "bands")
        starts = _starts(scope)
        tasks += [
            _task(planning, _part_key(scope, part), {"bands": bands}, {"part": part, "blocks": starts})
            for part in range(scope.key_parts)
        ]
    return tasks


def plan_join(planning: Planning) -> list[Task]:
    """A round's tasks for the scopes that need it: of several blocks, and not settled by the round before."""
    tasks = []
    for scope in scopes(planning):
        if len(scope.blocks) > 1 and _settled(planning, scope) is None:
            links = _links(planning, scope, _round(planning.step) - 1)
            for block in scope.blocks:
                params = block.params | {"block": block.number, "blocks": _starts(scope)}
                tasks.append(_contraction(planning, block, {"edges": links}, params, ("by_larger", "by_smaller")))
    return tasks


def plan_spread(planning: Planning) -> list[Task]:
    """The second half of the round, for the same scopes."""
    tasks = []
    joined = {done.key for done in planning.before[JOIN.format(_round(planning.step))]}
    for scope in scopes(planning):
        if scope.blocks[0].key in joined and len(scope.blocks) > 1:
            links = _joined(planning, scope, _round(planning.step))
            for block in scope.blocks:
                params = block.params | {"block": block.number, "blocks": _starts(scope)}
                tasks.append(_contraction(planning, block, links, params, ("edges",)))
    return tasks


def plan_components(planning: Planning) -> list[Task]:
    tasks = []
    for scope in scopes(planning):
        if len(scope.blocks) == 1:
            (block,) = scope.blocks
            inputs = {"edges": _links(planning, scope, 0)}
            # parent, whether it is clustered, and a pass's temporaries
            memory = (512 << 20) + BYTES_A_DOCUMENT * scope.documents
            tasks.append(_contraction(planning, block, inputs, block.params, ("components",), memory))
    return tasks


def plan_stars(planning: Planning) -> list[Task]:
    tasks = []
    for scope in scopes(planning):
        if len(scope.blocks) > 1:
            last = _settled(planning, scope)
            if last is None:
                raise Incomplete(
                    f"{planning.stage}: the clusters of {scope.name} are not found after {ROUNDS} rounds: "
                    f"raise dedup.components.in_memory (now {planning.config.components.in_memory})"
                )
            links = _joined(planning, scope, last)
            for block in scope.blocks:
                params = block.params | {"block": block.number}
                tasks.append(_contraction(planning, block, links, params, ("components",)))
    return tasks


def _round(step: str) -> int:
    return int(step[-2:])


def _starts(scope: Scope) -> list[int]:
    return [block.start for block in scope.blocks]


def _links(planning: Planning, scope: Scope, number: int) -> tuple[File, ...]:
    """What a round left; round 0 are the links of `bands` and `edges`."""
    if number:
        return outputs(finished(planning, SPREAD.format(number), (block.key for block in scope.blocks)), "edges")
    within = finished(planning, "bands", (group.key for group in scope.groups))
    between = finished(planning, "edges", (_part_key(scope, part) for part in range(scope.key_parts)))
    return (*outputs(within, "links"), *outputs(between, "edges"))


def _joined(planning: Planning, scope: Scope, number: int) -> dict[str, tuple[File, ...]]:
    done = finished(planning, JOIN.format(number), (block.key for block in scope.blocks))
    return {name: outputs(done, name) for name in ("by_larger", "by_smaller")}


def _settled(planning: Planning, scope: Scope) -> int | None:
    """The first round after which each page is linked to the smallest of its cluster, of those before this step, or None."""
    for number in range(1, ROUNDS + 1):
        steps = (JOIN.format(number), SPREAD.format(number))
        if steps[1] not in planning.before:
            return None
        done = [task for step in steps for task in finished(planning, step, (block.key for block in scope.blocks))]
        if all(task.counts["records"] == task.counts["kept"] for task in done):
            return number
    return None


def _contraction(
    planning: Planning,
    block: Block,
    inputs: dict[str, tuple[File, ...]],
    params: Mapping[str, object],
    names: tuple[str, ...],
    memory: int = 0,
) -> Task:
    path = f"{planning.stage}/steps/{planning.step}/{block.key}"
    written = {name: f"{path}.{name}.parquet" if len(names) > 1 else f"{path}.parquet" for name in names}
    memory = memory or (512 << 20) + BYTES_A_BLOCKED_DOCUMENT * (block.end - block.start)
    return Task(planning.stage, planning.step, block.key, inputs, written, params, memory=memory)


def plan_members(planning: Planning) -> list[Task]:
    config: DedupConfig = planning.config
    documents = {shard.key: shard.file for shard in planning.shards}
    tasks = []
    for scope in scopes(planning):
        step = "components" if len(scope.blocks) == 1 else "stars"
        for block in scope.blocks:
            components = outputs(finished(planning, step, [block.key]), "components")
            for group in block.groups:
                inputs = {
                    "components": components,
                    "signatures": outputs(group.shards, "signatures"),
                    "stays": _ids(planning, group, "stays"),
                }
                if config.keep == "quality" or config.verify == "jaccard":
                    inputs["docs"] = tuple(documents[shard.key] for shard in group.shards)
                params = {
                    "base": group.base, "group": group.number, "rows": group.rows, "parts": scope.cluster_parts
                }  # fmt: skip
                tasks.append(_task(planning, group.key, inputs, params, also="standings"))
    return tasks


def plan_verify(planning: Planning) -> list[Task]:
    config: DedupConfig = planning.config
    if not config.verifies:
        return []
    tasks = []
    for scope in scopes(planning):
        members = outputs(finished(planning, "members", (group.key for group in scope.groups)), "members")
        params = {"threshold": config.verified_from}
        tasks += [
            _task(planning, _part_key(scope, part), {"members": members}, params | {"part": part}, figures=True)
            for part in range(scope.cluster_parts)
        ]
    return tasks


def plan_choices(planning: Planning) -> list[Task]:
    tasks = []
    for scope in scopes(planning):
        members = finished(planning, "members", (group.key for group in scope.groups))
        inputs = {name: outputs(members, name) for name in ("members", "standings")}
        starts = [group.base for group in scope.groups]
        for part in range(scope.cluster_parts):
            key = _part_key(scope, part)
            if planning.config.verifies:
                inputs = inputs | {"verified": outputs(finished(planning, "verify", [key]), "verify")}
            tasks.append(_task(planning, key, inputs, {"part": part, "starts": starts}, figures=True))
    return tasks


def plan_report(planning: Planning) -> list[Task]:
    tasks = []
    for scope in scopes(planning):
        parts = [_part_key(scope, part) for part in range(scope.cluster_parts)]
        inputs = {"figures": outputs(finished(planning, "choices", parts), "figures")}
        if planning.config.verifies:
            inputs["verified"] = outputs(finished(planning, "verify", parts), "figures")
        written = {"report": f"{planning.stage}/steps/report/{scope.name}.json"}
        params = {"documents": scope.documents}
        tasks.append(Task(planning.stage, planning.step, scope.name, inputs, written, params))
    return tasks


def plan_verdicts(planning: Planning) -> list[Task]:
    tasks = []
    for scope in scopes(planning):
        parts = finished(planning, "choices", (_part_key(scope, part) for part in range(scope.cluster_parts)))
        for group in scope.groups:
            params = {"base": group.base, "group": group.number, "rows": group.rows}
            inputs = {"choices": outputs(parts, "choices"), "ids": _ids(planning, group, "ids")}
            tasks.append(_task(planning, group.key, inputs, params))
    return tasks


def plan_remove(planning: Planning) -> list[Task]:
    """Shards without signatures have no task: they failed, and the run says so."""
    documents = {shard.key: shard.file for shard in planning.shards}
    edits = edit_steps.edits_of_shards(planning, scopes(planning))
    edits |= paragraph_steps.edits_of_shards(planning, scopes(planning))  # a recipe has one of them
    tasks = []
    for _, group in _groups(planning):
        verdicts = outputs(finished(planning, "verdicts", [group.key]), "verdicts")
        for position, shard in enumerate(group.shards):
            inputs, params = edits.get(shard.key, ({}, {}))
            tasks.append(
                Task(
                    planning.stage, planning.step, shard.key,
                    {"docs": (documents[shard.key],), "verdicts": verdicts, **inputs},
                    {name: f"{planning.stage}/{name}/{shard.key}.parquet" for name in ("docs", "ledger")},
                    {"position": position, "rows": group.rows[position], **params},
                )
            )  # fmt: skip
    return tasks


def _groups(planning: Planning) -> Iterator[tuple[Scope, Group]]:
    for scope in scopes(planning):
        for group in scope.groups:
            yield scope, group


def _snapshot(shard: Done) -> str:
    return shard.key.split("/", 1)[0]


def _ids(planning: Planning, group: Group, name: str) -> tuple[File, ...]:
    """The pages that go for their id, by their own group (`ids`) or that of the page that stays (`stays`): the step `ids` of
    the snapshots of which a group holds shards, in their order; with `url` those that go for their URL too."""
    if planning.config.url:
        return exact_steps.copies_of(planning, group.scope, name)
    return outputs(finished(planning, "ids", dict.fromkeys(map(_snapshot, group.shards))), name)


def _part_key(scope: Scope, part: int) -> str:
    return f"{scope.name}/{part:05d}"


def _task(
    planning: Planning,
    key: str,
    inputs: dict[str, tuple[File, ...]],
    params: Mapping[str, object],
    also: str = "",
    figures: bool = False,
) -> Task:
    """A task of a step between the first and the last: one output of the step's name, or two, and figures for the report;
    memory as configured."""
    written = {name: f"{planning.stage}/steps/{name}/{key}.parquet" for name in (planning.step, also) if name}
    if figures:
        written["figures"] = f"{planning.stage}/steps/{planning.step}/{key}.json"
    memory = planning.config.memory_mb << 20
    return Task(planning.stage, planning.step, key, inputs, written, params, memory=memory)


def _steps_of_round(number: int) -> tuple[Step, Step]:
    return (
        Step(JOIN.format(number), "curate.stages.dedup.contraction:write_joined", plan_join, reads=LINKED),
        Step(SPREAD.format(number), "curate.stages.dedup.contraction:write_spread", plan_spread, reads=LINKED),
    )


STAGE = Stage(
    name="dedup",
    version=5,
    config=DedupConfig,
    steps=(
        Step("signatures", "curate.stages.dedup.signing:write_signatures", plan_signatures, reads=SIGNED),
        Step("ids", "curate.stages.dedup.ids:write_ids", plan_ids, reads=LINKED),
        *exact_steps.steps(scopes),
        Step("bands", "curate.stages.dedup.linking:write_bands", plan_bands, reads=LINKED),
        Step("edges", "curate.stages.dedup.linking:write_edges", plan_edges, reads=LINKED),
        Step("components", "curate.stages.dedup.linking:write_components", plan_components, reads=LINKED),
        *(step for number in range(1, ROUNDS + 1) for step in _steps_of_round(number)),
        Step("stars", "curate.stages.dedup.contraction:write_stars", plan_stars, reads=LINKED),
        Step("members", "curate.stages.dedup.members:write_members", plan_members, reads=(*COMPARED, "quality_column")),
        Step("verify", "curate.stages.dedup.verify:write_verified", plan_verify, reads=COMPARED),
        Step("choices", "curate.stages.dedup.choosing:write_choices", plan_choices, reads=KEPT),
        Step("report", "curate.stages.dedup.reporting:write_report", plan_report, reads=COMPARED),
        Step("verdicts", "curate.stages.dedup.choosing:write_verdicts", plan_verdicts, reads=LINKED),
        *edit_steps.steps(scopes),
        *paragraph_steps.steps(scopes),
        Step(
            "remove",
            "curate.stages.dedup.removal:remove",
            plan_remove,
            record_bearing=True,
            reads=("exact", "substring", "paragraphs"),
        ),
    ),
    after="filter",
    disk=1.4,
    opening="curate.stages.dedup.findings:opening",
    closing="curate.stages.dedup.findings:closing",
)
