"""Step `ids`: the pages of a snapshot whose id another page of it has. A document's key is (snapshot, id): one of them stays.

The earliest stays, then the first by text, source and offset, whatever `keep` says: rows of one id are one document.

Memory: 12 bytes a page of the snapshot, 12 an id that comes again, 56 a page that goes, and `memory_mb` for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.columns import lookup
from curate.stages.dedup.config import DedupConfig
from curate.stages.partitions import PartWriter, read_part

SAME_ID = "duplicate_id"
SHADOWS = pa.schema(
    [
        ("document", pa.int64()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("stays", pa.int64()),
        ("kept_id", pa.string()),
        ("through", pa.bool_()),
    ]
)
"""The pages that go, a part for each group, by number, each for another of its id or URL: `source` and `offset` say where that
one stands in the input, `reason` is the ledger's. `stays` and `kept_id` are the page that takes part in its place in what
follows (`kept_id` null: of the same id): another one where `through`, for a page of the same id may go for its URL."""
STANDINGS = pa.schema([SHADOWS.field(name) for name in ("document", "stays", "kept_id", "through")])
"""The same by the page that stays: a part for each group of that one."""

_ORDER = ("date", "hash_high", "hash_low", "source", "offset", "tie", "document")
"""Of the pages of an id the first by these stays, nulls last. `document` decides only where the same record came in twice."""
_COLUMNS = ("id", "id_hash", *(name for name in _ORDER if name != "document"))

BYTES_A_HASH = 32
"""Memory for a hash while it is sorted."""
BYTES_A_CANDIDATE = 1024
"""Memory for a page while its id is compared (measured: 720 with ids of 36 and sources of 140 characters)."""
_READERS = 8


def write_ids(context: Context) -> Counts:
    """Finds the ids that stand more than once in a snapshot. Reads 8 bytes a page, and more of those pages alone.

    Equal hashes only point at pages: their ids are compared before one of them goes.
    """
    config: DedupConfig = context.config
    params = context.task.params
    memory = config.memory_mb << 20
    counts = Counts()
    ends = np.cumsum([0, *params["rows"]])
    hashes = _hashes(context, ends)
    counts.records = counts.kept = len(hashes)
    context.progress(len(hashes))
    started = time.perf_counter()
    repeated, often = repeats(hashes, memory // BYTES_A_HASH)
    counts.seconds["sort"] += time.perf_counter() - started
    started = time.perf_counter()
    found = [compact(SHADOWS.empty_table())]
    for first, last in passes(often, memory // BYTES_A_CANDIDATE):
        found.append(compact(shadowed(_candidates(context, hashes, ends, repeated[first:last]))))
    del hashes, repeated, often
    counts.seconds["compare"] += time.perf_counter() - started
    groups: list[int] = params["groups"]
    firsts = [shard for shard, group in enumerate(groups) if shard == 0 or group != groups[shard - 1]]
    starts = ends[[*firsts, len(groups)]] + params["base"]
    write_shadows(context, pa.concat_tables(found).unify_dictionaries(), starts, [groups[shard] for shard in firsts])
    return counts


def write_shadows(context: Context, shadows: pa.Table, starts: Any, groups: Sequence[int]) -> None:
    """The outputs `ids` and `stays` of a task: `starts` are the numbers at which the groups begin and the last one ends."""
    for name, schema, by in (("ids", SHADOWS, "document"), ("stays", STANDINGS, "stays")):
        pages = shadows.column(by).to_numpy()
        order = np.argsort(pages, kind="stable")
        limits = np.searchsorted(pages[order], starts).tolist()
        with context.create(name) as output, PartWriter(output, schema) as writer:
            for group, (start, end) in zip(groups, pairwise(limits), strict=True):
                writer.write(group, shadows.take(pa.array(order[start:end])))


def read_shadows(context: Context, name: str = "ids", schema: pa.Schema = SHADOWS) -> pa.Table:
    """The pages of a task's group that go for their id, by number; the task has that input and the param `group`."""
    pieces = [schema.empty_table()]
    for file in context.task.inputs[name]:
        with context.open(file) as stream:
            pieces.extend(read_part(stream, context.task.params["group"]))
    return pa.concat_tables(pieces)


def repeats(hashes: Any, at_a_time: int) -> tuple[Any, Any]:
    """The values that stand more than once, ascending, and how often; sorts about `at_a_time` of them together.

    The hashes are spread evenly, so ranges of equal width hold about as many each.
    """
    ranges = max(1, -(-len(hashes) // max(1, at_a_time)))
    limits = [(2**64 * number) // ranges for number in range(ranges + 1)]
    values, often = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    for low, high in pairwise(limits):
        inside = hashes >= np.uint64(low)
        inside &= hashes <= np.uint64(high - 1)
        piece = hashes[inside]
        piece.sort()
        starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(piece)), np.bool_), piece[1:] != piece[:-1]]))
        runs = np.diff(np.append(starts, len(piece)))
        again = runs > 1
        values.append(piece[starts[again]])
        often.append(runs[again].astype(np.int32))
    return np.concatenate(values), np.concatenate(often)


def shadowed(candidates: pa.Table) -> pa.Table:
    """By SHADOWS: every page but the first of each id, for that first one. Rows with a null id stay."""
    if candidates.column("id").null_count:
        candidates = candidates.filter(pc.is_valid(candidates.column("id")))
    order = pc.sort_indices(candidates, sort_keys=[(name, "ascending") for name in ("id_hash", "id", *_ORDER)])
    ids = candidates.column("id").take(order)
    again = np.zeros(len(order), np.bool_)
    if len(order) > 1:
        again[1:] = pc.equal(ids[1:], ids[:-1]).to_numpy()
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))[again]
    rows = order.to_numpy()
    stays = candidates.select(["source", "offset", "document"]).take(pa.array(rows[first]))
    goes = candidates.column("document").take(pa.array(rows[again]))
    return shadows_of(goes, SAME_ID, stays, pa.nulls(len(goes), pa.string()))


def shadows_of(goes: pa.ChunkedArray, reason: str, stays: pa.Table, kept_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """By SHADOWS: pages that go, and for each the one that `stays` (`source`, `offset`, `document`)."""
    count = len(goes)
    reasons = pa.array([reason], pa.string()).take(pa.array(np.zeros(count, np.int64)))
    return pa.table(
        [
            goes,
            stays.column("source"),
            stays.column("offset"),
            reasons,
            stays.column("document"),
            kept_ids,
            pa.array(np.zeros(count, np.bool_)),
        ],
        schema=SHADOWS,
    )


def compact(shadows: pa.Table) -> pa.Table:
    """A page that goes costs its numbers alone: of paths there are few."""
    for place, field in enumerate(shadows.schema):
        if pa.types.is_string(field.type):
            shadows = shadows.set_column(place, field.name, shadows.column(place).dictionary_encode())
    return shadows


def _hashes(context: Context, ends: Any) -> Any:
    """The id hash of every page of the snapshot."""
    files = context.task.inputs["signatures"]
    hashes = np.empty(ends[-1], np.uint64)

    def read(shard: int) -> None:
        with context.open(files[shard]) as stream:
            values = pq.read_table(stream, columns=["id_hash"], use_threads=False).column("id_hash").to_numpy()
        start, end = ends[shard], ends[shard + 1]
        if len(values) != end - start:
            raise CurateError(f"{files[shard].path} has {len(values)} rows, its marker {end - start}: run again")
        hashes[start:end] = values

    with ThreadPoolExecutor(_READERS) as pool:  # many small reads: on an object store each is mostly waiting
        for _ in pool.map(read, range(len(files))):
            pass
    return hashes


def passes(often: Any, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of the repeated hashes with at most `most` pages each, or one hash alone."""
    total = np.cumsum(often, dtype=np.int64)
    first = 0
    while first < len(often):
        before = int(total[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(total, before + most, side="right")))
        yield first, last
        first = last


def _candidates(context: Context, hashes: Any, ends: Any, wanted: Any) -> pa.Table:
    """The pages whose id has one of these hashes (ascending); opens only the shards that hold some."""
    files = context.task.inputs["signatures"]
    base = context.task.params["base"]

    def read(shard: int) -> pa.Table | None:
        start = int(ends[shard])
        values = hashes[start : ends[shard + 1]]
        rows = np.flatnonzero(lookup(wanted, values)[1])
        if not len(rows):
            return None
        with context.open(files[shard]) as stream:
            table = pq.read_table(stream, columns=list(_COLUMNS), use_threads=False).take(pa.array(rows))
        return table.append_column("document", pa.array(rows + (base + start)))

    with ThreadPoolExecutor(_READERS) as pool:
        return pa.concat_tables([table for table in pool.map(read, range(len(files))) if table is not None])
