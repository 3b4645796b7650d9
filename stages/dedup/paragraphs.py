"""Paragraphs that other pages have: lines, or spans of sentences, of which one copy stays. Their hashes, and whose copy stays.

Units are the lines of a text (cut at the line feed, white space at the ends off, blank ones none) or its sentences, both as
`curate.stages.text.segment` cuts them. A paragraph is `span` consecutive units of a text. Two are the same if their units are,
one by one, after `normalise`: equality of 128-bit BLAKE2b hashes. What has fewer than `least_words` words (as the filters
count them; letters of scripts without spaces are words), or nothing left after normalisation, is never compared.

Of equal paragraphs the first stays, by their pages' (date, snapshot, id), nulls last, and in a page by position. All units of
the others go; with `within_pages: false` only in other pages than that of the first. So one copy of every unit stays: where
the first page that has a paragraph loses units of it, as part of another paragraph, these stand in a still earlier place.

Sources: C4 discards "all but one of any three-sentence span occurring more than once in the data set" (Raffel et al. 2020,
2.2), its code all but one of each line; datatrove's SentenceDedup takes all sentences of such a span; Dolma's Bloom filter
all but the first copy of a line. All three do so within a page too.

The steps stand in `paragraph_steps`; this module has all but the last.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.edit_config import ParagraphConfig
from curate.stages.dedup.normalise import NORMALISED_BYTES, normalise
from curate.stages.dedup.paragraph_steps import FIRSTS, HASHES, OWNERS, PARAGRAPHS, SHARED, most_paragraphs
from curate.stages.dedup.staying import staying
from curate.stages.partitions import PartWriter, read_part
from curate.stages.text.segment import segment

WINDOWS = pa.schema(
    [
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("row", pa.int32()),
        ("unit", pa.int32()),
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("before", pa.int32()),
        ("after", pa.int32()),
        ("breaks_before", pa.int8()),
        ("breaks_after", pa.int8()),
    ]
)
"""The paragraphs of a shard that are compared: the halves of the hash, the row of the page, the number of the first unit in
it; bytes `start` to before `stop` of the text; how many bytes lie between it and the units before and after, or the text's
ends, and how many line feeds these have (at most 100; -1 at an end of the text)."""
WINDOWS_AS = {
    "use_dictionary": ["before", "after", "breaks_before", "breaks_after"],
    "column_encoding": dict.fromkeys(("row", "unit", "start", "stop"), "DELTA_BINARY_PACKED"),
}
"""How they are written: some 20 bytes a row, 16 of them the hash."""

HALVES = pa.schema([("high", pa.uint64())])
FIRST = pa.schema(
    [
        ("high", pa.uint64()),
        ("low", pa.uint64()),
        ("date", pa.timestamp("ms", tz="UTC")),
        ("snapshot", pa.string()),
        ("id", pa.string()),
        ("tie", pa.uint64()),
    ]
)
"""Paragraphs of a group, each once, and the first of its pages that has it."""
OWNED = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("kept_id", pa.string()), ("own", pa.bool_())])
"""Paragraphs of a group that other groups have, and the page that keeps its copy; `own`: this page is of the group."""

_ORDER = ("date", "snapshot", "id", "tie")
_SPREAD = {"use_dictionary": False, "column_encoding": {"high": "DELTA_BINARY_PACKED"}}
_DOCUMENTS = 128
"""Pages in a batch: few, for a text of empty lines takes 20 times its size while it is cut."""


def write_paragraphs(context: Context) -> Counts:
    """Step `paragraphs`. The paragraphs of a shard's pages that stay, by WINDOWS, in order. Counts are of rows written."""
    config: ParagraphConfig = context.config.paragraphs
    position = context.task.params["position"]
    counts = Counts()
    with (
        context.create(PARAGRAPHS) as output,
        pq.ParquetWriter(output, WINDOWS, compression="zstd", compression_level=1, **WINDOWS_AS) as writer,
    ):
        waiting = [WINDOWS.empty_table()]
        inputs = context.input("docs"), context.input("verdicts")
        for batch, rows in staying(context, *inputs, position, ("text",), _DOCUMENTS):
            started = time.perf_counter()
            waiting.append(windows(batch.column("text"), rows, config))
            counts.seconds["paragraphs"] += time.perf_counter() - started
            counts.records += waiting[-1].num_rows
            context.progress(batch.num_rows)
            if sum(table.num_rows for table in waiting) > 1 << 18:
                writer.write_table(pa.concat_tables(waiting))
                waiting = [WINDOWS.empty_table()]
        writer.write_table(pa.concat_tables(waiting))
    counts.kept = counts.records
    return counts


def windows(texts: pa.Array, rows: Any, config: ParagraphConfig) -> pa.Table:
    """The paragraphs of these texts that are compared, by WINDOWS; `rows` are the numbers of their rows."""
    cut = segment(texts)
    units = cut.lines if config.unit == "line" else cut.sentences
    start, stop, span = units.start, units.stop, config.span
    pages = np.repeat(np.arange(len(cut)), np.diff(units.first))
    ends = units.first[pages + 1]  # behind the last unit of the page
    words = cut.words.start
    begins = np.flatnonzero(np.arange(len(start)) + span <= ends)
    last = begins + span - 1
    enough = np.searchsorted(words, stop[last]) - np.searchsorted(words, start[begins]) >= config.least_words
    begins, last = begins[enough], last[enough]
    hashes, some = _hashes(cut.bytes, start, stop, begins, span)
    begins, last = begins[some], last[some]
    pages, opens, closes = pages[begins], cut.documents[:-1], cut.documents[1:]
    at_start, at_end = begins == units.first[pages], last + 1 == ends[begins]
    before = np.where(at_start, opens[pages], stop[begins - 1])
    after = np.where(at_end, closes[pages], np.append(start, 0)[last + 1])
    feeds = np.flatnonzero(cut.bytes == 10)
    columns = {
        "high": hashes[:, 0],
        "low": hashes[:, 1],
        "row": np.asarray(rows)[pages].astype(np.int32),
        "unit": (begins - units.first[pages]).astype(np.int32),
        "start": (start[begins] - opens[pages]).astype(np.int32),
        "stop": (stop[last] - opens[pages]).astype(np.int32),
        "before": (start[begins] - before).astype(np.int32),
        "after": (after - stop[last]).astype(np.int32),
        "breaks_before": np.where(at_start, -1, _breaks(feeds, before, start[begins])),
        "breaks_after": np.where(at_end, -1, _breaks(feeds, stop[last], after)),
    }
    return pa.table({name: pa.array(columns[name]).cast(WINDOWS.field(name).type) for name in WINDOWS.names})


def _breaks(feeds: Any, start: Any, stop: Any) -> Any:
    return np.minimum(np.searchsorted(feeds, stop) - np.searchsorted(feeds, start), 100)


def _hashes(data: Any, start: Any, stop: Any, begins: Any, span: int) -> tuple[Any, Any]:
    """The hash of `span` units from each of `begins` on, as (high, low), of those of which something is left, and which
    these are."""
    needed = np.zeros(len(start) + 1, np.int64)
    np.add.at(needed, begins, 1)
    np.add.at(needed, begins + span, -1)
    held = np.flatnonzero(np.cumsum(needed[:-1]) > 0)
    digests, empty = [b""], np.ones(len(start), np.bool_)
    at = 0
    while at < len(held):
        upto = int(np.searchsorted(stop[held], start[held[at]] + NORMALISED_BYTES, side="right"))
        chosen = held[at : max(upto, at + 1)]
        # what lies between two units is a text of its own, which is not asked for
        made = normalise(data, np.stack([start[chosen], stop[chosen]], axis=1).reshape(-1))
        limits = made.offsets.tolist()
        view = memoryview(made.data)  # type: ignore[arg-type]  # NumPy arrays are buffers
        digests += [_digest(view[first:last]) for first, last in zip(limits[::2], limits[1::2], strict=True)]
        empty[chosen] = made.offsets[1::2] == made.offsets[::2]
        at = max(upto, at + 1)
    filled = np.cumsum(np.append(0, ~empty))
    some = filled[begins + span] > filled[begins]
    joined = b"".join(digests)
    if span > 1:
        view = memoryview(joined)
        firsts = (16 * np.searchsorted(held, begins[some])).tolist()
        joined = b"".join([_digest(view[first : first + 16 * span]) for first in firsts])
        return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2), some
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)[some], some


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclass(frozen=True)
class Pages:
    """The pages of a group that have paragraphs, shard after shard.

    `identity` has `id`, `date`, `snapshot` and `tie` of each; `rank` its place by these; `starts` the number of each shard's
    first one, and of all; `windows` the paragraphs of each shard.
    """

    identity: pa.Table
    rank: np.ndarray[Any, np.dtype[np.int32]]
    starts: list[int]
    windows: list[int]


def read_pages(context: Context) -> Pages:
    """The pages of a task's group."""
    columns = ["id", "date", "snapshot", "tie"]
    found, starts, counted = [], [0], []
    files = zip(context.task.inputs[PARAGRAPHS], context.task.inputs["signatures"], strict=True)
    for windowed, signed in files:
        with context.open(windowed) as stream:
            rows = pq.read_table(stream, columns=["row"]).column("row").to_numpy()
        with context.open(signed) as stream:
            found.append(pq.read_table(stream, columns=columns).take(pa.array(rows[new_values(rows)])))
        starts.append(starts[-1] + found[-1].num_rows)
        counted.append(len(rows))
    identity = pa.concat_tables(found)
    rank = np.empty(identity.num_rows, np.int32)
    rank[sorted_by(identity, _ORDER)] = np.arange(len(rank), dtype=np.int32)
    return Pages(identity, rank, starts, counted)


def read_windows(
    context: Context, pages: Pages, low: int = 0, high: int = 2**64 - 1
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """The paragraphs of a task's group with such hashes, a piece at a time: halves of the hash, number of the page, number
    of the paragraph, both in the group."""
    base = 0
    for shard, file in enumerate(context.task.inputs[PARAGRAPHS]):
        page, previous = pages.starts[shard] - 1, -1
        with context.open(file) as stream, pq.ParquetFile(stream) as table:
            for batch in table.iter_batches(1 << 20, columns=["high", "low", "row"]):
                hashes, rows = batch.column("high").to_numpy(), batch.column("row").to_numpy()
                if not len(rows):
                    continue
                new = new_values(rows, previous)
                numbers = page + np.cumsum(new, dtype=np.int64)
                page, previous = int(numbers[-1]), int(rows[-1])
                inside = np.flatnonzero((hashes >= np.uint64(low)) & (hashes <= np.uint64(high)))
                yield (
                    hashes[inside],
                    batch.column("low").to_numpy()[inside],
                    numbers[inside].astype(np.int32),
                    inside + base,
                )
                base += len(rows)


def passes(pages: Pages, memory_mb: int) -> Iterator[tuple[int, int]]:
    """Ranges [low, high] of hashes that are as many paragraphs as a task may hold each: one, unless a shard alone has more."""
    count = max(1, -(-sum(pages.windows) // most_paragraphs(memory_mb)))
    for low, high in pairwise((2**64 * number) // count for number in range(count + 1)):
        yield low, high - 1


def write_hashes(context: Context) -> Counts:
    """Step `paragraph_hashes`. The high halves of the hashes of a group's paragraphs, each once, a part for each range."""
    most = most_paragraphs(context.config.memory_mb)
    parts = context.task.params["parts"]
    counts = Counts()
    found, held = [np.zeros(0, np.uint64)], 0
    for file in context.task.inputs[PARAGRAPHS]:
        with context.open(file) as stream, pq.ParquetFile(stream) as table:
            for batch in table.iter_batches(1 << 20, columns=["high"]):
                found.append(batch.column("high").to_numpy())
                held += batch.num_rows
                if held > 2 * most:  # one shard of very many: its repeats need no room
                    found = [_once(found)]
                    held = len(found[0])
    hashes = _once(found)
    with context.create(HASHES) as output, PartWriter(output, HALVES, **_SPREAD) as writer:
        writer.scatter(pa.table([hashes], schema=HALVES), part_of(hashes, parts))
    counts.records = counts.kept = len(hashes)
    context.progress(len(hashes))
    return counts


def write_shared(context: Context) -> Counts:
    """Step `paragraph_shared`. The hashes of a part that several groups have, for each of these."""
    pieces, groups = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    for group, file in enumerate(context.task.inputs[HASHES]):
        with context.open(file) as stream:
            for piece in read_part(stream, context.task.params["part"]):
                pieces.append(piece.column("high").to_numpy())
                groups.append(np.full(piece.num_rows, group, np.int32))
    hashes, holders = np.concatenate(pieces), np.concatenate(groups)
    order = np.argsort(hashes, kind="stable")
    hashes, holders = hashes[order], holders[order]
    new = new_values(hashes)
    several = ~new | ~np.append(new[1:], True)[: len(new)]
    with context.create(SHARED) as output, PartWriter(output, HALVES, **_SPREAD) as writer:
        writer.scatter(pa.table([hashes[several]], schema=HALVES), holders[several])
    counts = Counts(records=int(several.sum()), kept=int(several.sum()))
    context.progress(counts.records)
    return counts


def write_firsts(context: Context) -> Counts:
    """Step `paragraph_firsts`. Of the group's paragraphs that others may have each once, by FIRST, a part for each range."""
    pages = read_pages(context)
    pieces = [np.zeros(0, np.uint64)]
    for file in context.task.inputs[SHARED]:  # in the order of their hashes
        with context.open(file) as stream:
            pieces += [piece.column("high").to_numpy() for piece in read_part(stream, context.task.params["group"])]
    shared = np.concatenate(pieces)
    counts = Counts()
    with context.create(FIRSTS) as output, PartWriter(output, FIRST, **_SPREAD) as writer:
        for limits in passes(pages, context.config.memory_mb):
            firsts = _firsts(context, pages, shared, limits)
            writer.scatter(firsts, part_of(firsts.column("high").to_numpy(), context.task.params["parts"]))
            counts.records += firsts.num_rows
    counts.kept = counts.records
    return counts


def _firsts(context: Context, pages: Pages, shared: Any, limits: tuple[int, int]) -> pa.Table:
    """By FIRST, in the order of their hashes, the paragraphs of a range that are among the shared."""
    found: list[list[Any]] = [[np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]]
    for high, low, page, _ in read_windows(context, pages, *limits):
        chosen = np.flatnonzero(_among(shared, high))
        for held, values in zip(found, (high, low, page), strict=True):
            held.append(values[chosen])
        context.progress(len(high))
    high, low, page = map(np.concatenate, found)
    order = np.lexsort((pages.rank[page], low, high))
    high, low, page = high[order], low[order], page[order]
    firsts = np.flatnonzero(new_values(high) | new_values(low))
    best = pages.identity.take(pa.array(page[firsts]))
    # where there is an id no other page of the snapshot has it: what decides among those without costs nothing then
    ties = pc.if_else(pc.is_valid(best.column("id")), pa.scalar(0, pa.uint64()), best.column("tie"))
    order_columns = [best.column(name) for name in ("date", "snapshot", "id")]
    return pa.table([high[firsts], low[firsts], *order_columns, ties], schema=FIRST)


def write_owners(context: Context) -> Counts:
    """Step `paragraph_owners`. Of the paragraphs of a part that several groups have the page that keeps its copy, by OWNED,
    for each of these groups."""
    pieces, groups = [FIRST.empty_table()], [np.zeros(0, np.int32)]
    for group, file in enumerate(context.task.inputs[FIRSTS]):
        with context.open(file) as stream:
            for piece in read_part(stream, context.task.params["part"]):
                pieces.append(piece)
                groups.append(np.full(piece.num_rows, group, np.int32))
    rows = pa.concat_tables(pieces).append_column("group", pa.array(np.concatenate(groups)))
    order = sorted_by(rows, ("high", "low", *_ORDER, "group"))
    high, low = (rows.column(name).to_numpy()[order] for name in ("high", "low"))
    new = new_values(high) | new_values(low)
    several = np.flatnonzero(~new | ~np.append(new[1:], True)[: len(new)])
    first = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))[several]
    kept = rows.column("id").take(pa.array(order[first]))
    table = pa.table([high[several], low[several], kept, pa.array(first == several)], schema=OWNED)
    with context.create(OWNERS) as output, PartWriter(output, OWNED) as writer:
        writer.scatter(table, rows.column("group").to_numpy()[order[several]])
    counts = Counts(records=len(several), kept=len(several))
    context.progress(counts.records)
    return counts


def part_of(hashes: Any, parts: int) -> Any:
    """The part of each hash, by its highest bits: equal ones share one, greater ones never have a smaller one."""
    return ((hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)).astype(np.int64)


def sorted_by(table: pa.Table, names: Sequence[str]) -> Any:
    """The numbers of the rows in the order of these columns, nulls last."""
    return pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names]).to_numpy()


def new_values(values: Any, before: int | None = None) -> Any:
    """True where a value is not the one before it; the first is, unless it is `before`."""
    new = np.ones(len(values), np.bool_)
    new[1:] = values[1:] != values[:-1]
    if before is not None and len(values):
        new[0] = values[0] != before
    return new


def _once(pieces: Sequence[Any]) -> Any:
    """All values, ascending, each once. (np.unique goes by a hash table, which takes five times as long.)"""
    values = np.concatenate(pieces)
    values.sort()
    return values[new_values(values)]


def _among(wanted: Any, values: Any) -> Any:
    """Whether each value is among the wanted, which ascend."""
    if not len(wanted):
        return np.zeros(len(values), np.bool_)
    return wanted[np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)] == values
