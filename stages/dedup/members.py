"""Step `members`: the pages of clusters, brought together by cluster.

They lie in many shards, and the answers go back by shard (`verdicts`): two shuffles of small rows, each task bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pipeline.documents import read_batches
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.clusters import firsts, keep_order, order_columns
from curate.stages.dedup.columns import check_quality_column, lookup, parts_of
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.ids import STANDINGS, read_shadows
from curate.stages.dedup.linking import COMPONENTS
from curate.stages.dedup.normalise import normalised_batches
from curate.stages.dedup.signing import signature_schema
from curate.stages.dedup.similarity import Growing, gathered, shingle_sets
from curate.stages.partitions import PartWriter, by_part, read_part

STANDINGS_AT = pa.schema([("label", pa.int64()), *STANDINGS])
"""The pages that go for their id or URL, each with the cluster of the page that stays for it; where that one is in none, its
own number."""
TEXT = ("hash_high", "hash_low")
"""Equal for pages of the same normalised text."""
SHINGLES = 4096
"""Shingles of a text that are compared: those with the lowest hashes."""
_ROW_GROUP = 1 << 21
"""Shingles in a row group, about: Parquet's writer and reader take several times its 8 MB, and no more."""


def member_schema(config: DedupConfig) -> pa.Schema:
    """What `members` brings together: components, and of the pages what chooses, compares and verifies.

    `quality` with `keep: quality`; with verification `bands`, and with that by shingles `shingles`: the hashes of the page's
    shingles, sorted, once each, null for all but one page of the same text in a group.
    """
    signed = signature_schema(config)
    fields = [*COMPONENTS, *(signed.field(name) for name in _signed(config))]
    if config.keep == "quality":
        fields.append(pa.field("quality", pa.float64()))
    if config.verify == "jaccard":
        fields.append(pa.field("shingles", pa.large_list(pa.uint32())))
    return pa.schema(fields)


def _signed(config: DedupConfig) -> list[str]:
    """The columns of signatures that go into `members`."""
    names = [name for name in order_columns(config.keep) if name != "quality"]
    return [*names, *(["sketch"] if config.minhash.enabled else []), *(["bands"] if config.verifies else [])]


def write_members(context: Context) -> Counts:
    """The pages of a group that have copies, a part for some of the clusters each; and as `standings` those that went before
    texts were compared and for which a page of the group stays."""
    config: DedupConfig = context.config
    params = context.task.params
    with context.open(context.input("components")) as stream:
        found = pa.concat_tables([COMPONENTS.empty_table(), *read_part(stream, params["group"])])
    schema = member_schema(config)
    columns = [name for name in schema.names[2:] if name != "shingles"]
    pieces = [schema.empty_table().select(columns)]
    for shard, rows in _by_shard(context, found.column("document").to_numpy()):
        with context.open(context.task.inputs["signatures"][shard]) as stream:
            piece = pq.read_table(stream, columns=_signed(config)).take(pa.array(rows))
        if config.keep == "quality":
            docs = context.task.inputs["docs"][shard]
            with context.open(docs) as stream:
                quality = numbers(stream, docs.path, config.quality_column)
            piece = piece.append_column("quality", quality.take(pa.array(rows)))
        pieces.append(piece.select(columns))
        context.progress(params["rows"][shard])
    members = pa.table([*found.columns, *pa.concat_tables(pieces).columns], names=schema.names[: len(columns) + 2])
    del pieces
    parts = parts_of(members.column("label").to_numpy(), params["parts"])
    shingles = _all_shingles(context, members, config) if config.verify == "jaccard" else None
    # hashes do not come again: a dictionary of them is only made to be thrown away
    repeated = [name for name in schema.names if name not in ("bands", "shingles")]
    with context.create("members") as output, PartWriter(output, schema, use_dictionary=repeated) as writer:
        if shingles is None:
            writer.scatter(members, parts)
        else:
            for part, rows in by_part(parts):
                for some in shingles.cut(rows):
                    writer.write(part, members.take(pa.array(some)).append_column("shingles", shingles.take(some)))
    standings = _standings(context, found)
    with context.create("standings") as output, PartWriter(output, STANDINGS_AT) as writer:
        writer.scatter(standings, parts_of(standings.column("label").to_numpy(), params["parts"]))
    records = sum(params["rows"])
    return Counts(records=records, kept=records)


def _standings(context: Context, found: pa.Table) -> pa.Table:
    """By STANDINGS_AT; `found` are the group's pages that are in a cluster, by COMPONENTS, ascending."""
    standings = read_shadows(context, "stays", STANDINGS)
    stays = standings.column("stays").to_numpy()
    places, there = lookup(found.column("document").to_numpy(), stays)
    labels = stays.copy()
    labels[there] = found.column("label").to_numpy()[places[there]]
    return standings.add_column(0, "label", pa.array(labels))


def _by_shard(context: Context, documents: Any) -> Iterator[tuple[int, Any]]:
    """The group's shards that hold some of these pages (ascending), with their rows."""
    base = context.task.params["base"]
    for shard, rows in enumerate(context.task.params["rows"]):
        start, end = np.searchsorted(documents, [base, base + rows]).tolist()
        if end > start:
            yield shard, documents[start:end] - base
        base += rows


@dataclass(frozen=True)
class _Shingles:
    """The column `shingles` of some rows: those of row i are `values[starts[i]:starts[i] + sizes[i]]`, null unless `held`."""

    values: Any
    starts: Any
    sizes: Any
    held: Any

    def take(self, rows: Any) -> pa.Array:
        """The column of these rows."""
        sizes = self.sizes[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        values = gathered(self.values, self.starts[rows], sizes)
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values), mask=pa.array(~self.held[rows]))

    def cut(self, rows: Any) -> list[Any]:
        """The rows in pieces of about `_ROW_GROUP` shingles."""
        before = np.cumsum(self.sizes[rows]) - self.sizes[rows]
        return np.split(rows, np.flatnonzero(np.diff(before // _ROW_GROUP)) + 1)


def _all_shingles(context: Context, members: pa.Table, config: DedupConfig) -> _Shingles:
    """The shingles of a group's members: of each text once, with the page that comes first."""
    documents = members.column("document").to_numpy()
    chosen = np.sort(firsts(members, keep_order(config.keep, config.scope), TEXT).column("document").to_numpy())
    values, sizes = Growing(np.uint32), [np.zeros(0, np.int64)]
    for shard, rows in _by_shard(context, chosen):
        with context.open(context.task.inputs["docs"][shard]) as stream:
            for hashes, offsets in _shingles(stream, rows, config):
                values.extend(hashes)
                sizes.append(np.diff(offsets))
    places, held = lookup(chosen, documents)
    found = np.concatenate([*sizes, [0]])  # a last one for no text at all
    return _Shingles(values.whole(), (np.cumsum(found) - found)[places], np.where(held, found[places], 0), held)


def numbers(stream: IO[bytes], path: str, name: str) -> pa.ChunkedArray:
    """A column of numbers, or a number of a struct, as float64; UsageError where there is none of that name."""
    check_quality_column(pq.read_schema(stream), path, name)
    first, *inner = name.split(".")
    values = pq.ParquetFile(stream).read(columns=[name]).column(first)  # read_table names it by its last part
    for part in inner:
        values = pc.struct_field(values, part)
    return values.cast(pa.float64())


def _shingles(stream: IO[bytes], rows: Any, config: DedupConfig) -> Iterator[tuple[Any, Any]]:
    """The shingles of some of a shard's texts, ascending, and their offsets."""
    first = 0
    for batch in read_batches(stream, ("text",)):
        start, end = np.searchsorted(rows, [first, first + batch.num_rows]).tolist()
        for part in normalised_batches(batch.column("text").take(pa.array(rows[start:end] - first))):
            yield shingle_sets(part, config.minhash.ngram, config.minhash.ngram_of).lowest(SHINGLES)
        first += batch.num_rows


def read_members(context: Context, columns: Sequence[str]) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """Each group's number and the pieces of its members in the task's part."""
    for group, file in enumerate(context.task.inputs["members"]):
        with context.open(file) as stream:
            yield group, (piece.select(columns) for piece in read_part(stream, context.task.params["part"], columns))
