"""The step that decides: which documents of all indices, how often, in which order, in which file."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.mixtures.allocate import NOT_DRAWN, Cut, Ints, Pool, arrange, by_bucket, draw, shards, targets
from curate.mixtures.config import MixConfig
from curate.mixtures.count import MOST_BUCKETS, too_many_buckets
from curate.mixtures.hashing import HELD_ORDER, UInt64, fraction, remix
from curate.mixtures.shares import bucket_shares
from curate.mixtures.stage import FILE_BYTES
from curate.pipeline.documents import TableWriter, read_batches, side_by_side, with_column
from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context, File

ROUTE = np.dtype([("row", "<u4"), ("file", "<u4"), ("place", "<u4"), ("repeat", "<u2")])
"""Where one copy of a document goes: row of its shard's index, number of the output file (training, then validation), place
in it, copies before it. Sorted by shard and row."""
FILE = np.dtype([("first", "<u8"), ("copies", "<u8"), ("tokens", "<u8"), ("cut", "<u8")])
"""One output file: copies in the files before it, and in it, its tokens; `cut` is 1 where its last copy is cut short."""
MANIFEST = pa.schema(
    [
        ("id", pa.string()),
        ("snapshot", pa.string()),
        ("bucket", pa.string()),
        ("split", pa.string()),
        ("repeats", pa.int32()),
        ("tokens", pa.int32()),
        ("cut", pa.int32()),
    ]
)
"""One row a document of the mix: `split` is `train` or `validation`, `tokens` those of one whole copy, `repeats` its copies.

`cut` is how many tokens are left out at the end of the last copy: 0 but for one document at most. So the sum of
`tokens * repeats - cut` where `split` is `train` is the budget.
"""
_BLOCK = 1 << 20

assert FILE.itemsize == FILE_BYTES


@dataclass(frozen=True)
class Everything:
    """All documents of the indices, in the order of files and rows."""

    pool: Pool
    rows: Ints
    """Documents by file."""
    held: Ints
    """Documents held out of training, by number."""
    held_buckets: npt.NDArray[np.int32]
    empty: int
    """Documents without text."""


def allocate(context: Context) -> Counts:
    """Decides the mix: which documents, how often, in which order, in which file. Reads the indices, moves no tokens."""
    config: MixConfig = context.config
    started = time.perf_counter()
    everything = _read(context, config.validation)
    pool = everything.pool
    sizes = pool.sizes()
    budget = config.budget if config.budget is not None else sum(sizes)
    shares, said = bucket_shares(config, pool.names, sizes, context.task.params["weights"], budget)
    repeats, cut = draw(pool, targets(pool.names, sizes, shares, budget, config.max_repeats))
    which, copy, taken, segments = _order(pool, repeats, cut, config.layout)
    drawn = int(taken.sum(dtype=np.int64))
    if drawn != budget or int(repeats.max(initial=0)) > config.max_repeats:
        raise RuntimeError(f"mix: drew {drawn:,} tokens for a budget of {budget:,}")
    written = _validation(everything, config.validation_tokens)
    training = _files(taken, config.shard_tokens, segments)
    if cut is not None:  # the cut copy is the last of its segment
        ends = training["first"] + training["copies"]
        training["cut"] = (which[ends - 1] == cut.document) & (taken[ends - 1] == cut.tokens)
    held = _files(pool.tokens[written], config.shard_tokens)
    held["first"] += len(which)
    firsts = np.concatenate([training["first"], held["first"]]).astype(np.int64)
    _write_routes(context, everything.rows, np.append(which, written.astype(np.uint32)), copy, firsts)
    for name, files in (("training", training), ("validation", held)):
        with context.create(name) as output:
            output.write(files.tobytes())
    summary = _summary(everything, repeats, cut, shares, config, context.seed) | said
    del which, copy, taken
    named = _write_manifest(context, repeats, written, cut)
    if cut is not None:
        summary["cut_document"] = named | {"tokens": cut.tokens, "whole": int(pool.tokens[cut.document])}
    with context.create("summary") as output:
        output.write(json.dumps(summary, sort_keys=True).encode())
    counts = _count(everything, repeats)
    counts.seconds["allocate"] = time.perf_counter() - started
    return counts


def _order(
    pool: Pool, repeats: npt.NDArray[np.int16], cut: Cut | None, layout: str
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16], npt.NDArray[np.int32], Ints]:
    """(documents, copies before each, tokens of each, where segments begin): the copies as they lie in the output files.

    A segment is a bucket, or the whole; the cut copy, if there is one, is the last of its segment.
    """
    which, copy = arrange(pool.key, repeats, cut)
    taken = pool.tokens[which]
    if cut is not None:
        taken[-1] = cut.tokens
    if layout == "shuffled":
        return which, copy, taken, np.zeros(1, np.int64)
    buckets = pool.bucket[which]
    order = np.argsort(buckets, kind="stable")
    segments = np.union1d([0], np.searchsorted(buckets[order], np.unique(buckets)))  # 0 also where nothing was drawn
    return which[order], copy[order], taken[order], segments


def _read(context: Context, validation: float) -> Everything:
    files = context.task.inputs["index"]
    rows = [_length(context, file) for file in files]
    total = sum(rows)
    tokens, bucket = np.empty(total, np.int32), np.empty(total, np.int32)
    key, hold = np.empty(total, np.uint64), np.empty(total, np.uint64)
    codes: dict[str, int] = {}
    first = 0
    for file, buckets in zip(files, context.task.inputs["buckets"], strict=True):
        with context.open(file) as stream, context.open(buckets) as naming:
            for batch, names in side_by_side(read_batches(stream, ["tokens", "key", "held"]), read_batches(naming)):
                here = slice(first, first + batch.num_rows)
                named = names.column("bucket")
                code = np.array([codes.setdefault(name, len(codes)) for name in named.dictionary.to_pylist()], np.int32)
                bucket[here] = code[named.indices.to_numpy()]
                for column, array in (("tokens", tokens), ("key", key), ("held", hold)):
                    array[here] = batch.column(column).to_numpy()
                first = here.stop
                context.progress(batch.num_rows)
        if len(codes) > MOST_BUCKETS:
            raise UsageError(too_many_buckets())
    names = sorted(codes)
    rank = {name: number for number, name in enumerate(names)}
    bucket = np.array([rank[name] for name in codes], np.int32)[bucket] if names else bucket
    usable = tokens > 0
    out = _hold_out(hold, usable, validation) & usable
    held = np.flatnonzero(out)
    held_buckets = bucket[held]
    bucket[out | ~usable] = NOT_DRAWN
    pool = Pool(tokens, bucket, key, tuple(names))
    return Everything(pool, np.array(rows, np.int64), held, held_buckets, total - int(usable.sum()))


def _length(context: Context, file: File) -> int:
    with context.open(file) as stream:
        return int(pq.read_metadata(stream).num_rows)


def _hold_out(keys: UInt64, usable: npt.NDArray[np.bool_], share: float) -> npt.NDArray[np.bool_]:
    """Documents kept out of training: those of the lowest keys, one id at least; none where nothing else would be left."""
    none = np.zeros(len(keys), np.bool_)
    if not share or not usable.any():
        return none
    lowest = int(keys[usable].min())
    out: npt.NDArray[np.bool_] = keys <= np.uint64(max(fraction(share), lowest))
    return out if (usable & ~out).any() else none


def _validation(everything: Everything, most: int) -> Ints:
    """Held-out documents to write, in a seeded order, one at least where there are any."""
    held, pool = everything.held, everything.pool
    order = held[np.argsort(remix(pool.key[held], HELD_ORDER), kind="stable")]
    sums = np.cumsum(pool.tokens[order], dtype=np.int64)
    return order[: max(int(np.searchsorted(sums, most, side="right")), 1)]


def _write_routes(
    context: Context, rows: Ints, which: npt.NDArray[np.uint32], copy: npt.NDArray[np.int16], firsts: Ints
) -> None:
    """Writes a ROUTE a copy by shard and row, and where each shard's begin (a number a shard, and their end).

    `which`: the documents of all output files, one after another; `firsts`: where each file begins; `copy`: copies before each,
    of the first ones (held-out documents, which come last, are there once).
    """
    begins = np.cumsum(rows) - rows
    order = np.argsort(which, kind="stable")
    counts = np.zeros(len(rows), np.int64)
    with context.create("routes") as output:
        for start in range(0, len(order), _BLOCK):
            position = order[start : start + _BLOCK]
            document = which[position].astype(np.int64)
            source = (
                np.searchsorted(begins, document, side="right") - 1
            )  # of shards that begin here the last: it has rows
            counts += np.bincount(source, minlength=len(rows))
            records = np.empty(len(position), ROUTE)
            records["row"] = document - begins[source]
            file = np.searchsorted(firsts, position, side="right") - 1
            records["file"], records["place"] = file, position - firsts[file]
            inside = position < len(copy)
            records["repeat"] = np.where(inside, copy[np.where(inside, position, 0)] if len(copy) else 0, 0)
            output.write(records.tobytes())
    with context.create("starts") as output:
        output.write(np.concatenate([[0], np.cumsum(counts)]).astype("<u8").tobytes())


def read_routes(context: Context, first: int, count: int) -> Iterator[npt.NDArray[Any]]:
    """The copies that come from each of `count` shards from `first` on (ROUTE, by row), of a task with the inputs `routes` and
    `starts` that `allocate` left: what is read is theirs alone."""
    starts = np.frombuffer(context.read(context.input("starts"), 8 * first, 8 * (count + 1)), "<u8")
    for begin, end in pairwise((starts * ROUTE.itemsize).tolist()):
        yield np.frombuffer(context.read(context.input("routes"), begin, end - begin), ROUTE)


def _files(taken: npt.NDArray[np.int32], shard_tokens: int, segments: Sequence[int] | Ints = (0,)) -> npt.NDArray[Any]:
    """The output files that hold these copies, none reaching over the beginning of a segment; shape: one record a file."""
    bounds = pairwise([*segments, len(taken)])
    edges = np.unique(np.concatenate([begin + shards(taken[begin:end], shard_tokens) for begin, end in bounds]))
    files = np.zeros(len(edges) - 1, FILE)
    files["first"], files["copies"] = edges[:-1], np.diff(edges)
    if len(files):
        files["tokens"] = np.add.reduceat(taken, edges[:-1], dtype=np.int64)
    return files


def _write_manifest(context: Context, repeats: npt.NDArray[np.int16], written: Ints, cut: Cut | None) -> dict[str, Any]:
    """Names every document of the mix, in the order of files and rows; gives the names of the one that is cut."""
    validation = np.zeros(len(repeats), np.bool_)
    validation[written] = True
    found: dict[str, Any] = {}
    first = 0
    with context.create("manifest") as output, TableWriter(output, MANIFEST) as table:
        for file, buckets in zip(context.task.inputs["index"], context.task.inputs["buckets"], strict=True):
            with context.open(file) as stream, context.open(buckets) as naming:
                for known, names in side_by_side(
                    read_batches(stream, ["id", "snapshot", "tokens"]), read_batches(naming)
                ):
                    batch = with_column(known, "bucket", names.column("bucket").dictionary_decode())
                    here = slice(first, first + batch.num_rows)
                    left_out = np.zeros(batch.num_rows, np.int32)
                    if cut is not None and first <= cut.document < here.stop:
                        row = batch.slice(cut.document - first, 1).to_pylist()[0]
                        found = {name: row[name] for name in ("id", "snapshot", "bucket")}
                        left_out[cut.document - first] = row["tokens"] - cut.tokens
                    inside = np.flatnonzero((repeats[here] > 0) | validation[here])
                    rows = batch.take(pa.array(inside))
                    columns = {name: rows.column(name) for name in ("id", "snapshot", "bucket", "tokens")}
                    columns["split"] = pc.if_else(pa.array(validation[here][inside]), "validation", "train")
                    columns["repeats"] = pa.array(np.maximum(repeats[here][inside], 1).astype(np.int32))
                    columns["cut"] = pa.array(left_out[inside])
                    table.write(pa.RecordBatch.from_arrays([columns[name] for name in MANIFEST.names], schema=MANIFEST))
                    first = here.stop
    return found


def _summary(
    everything: Everything,
    repeats: npt.NDArray[np.int16],
    cut: Cut | None,
    shares: Sequence[Fraction],
    config: MixConfig,
    seed: int,
) -> dict[str, Any]:
    """The buckets as they were and as they are in the mix, for `tokens.json`."""
    pool = everything.pool
    count = len(pool.names)
    tokens = pool.sums(pool.tokens * repeats.astype(np.int64))
    if cut is not None:
        tokens[pool.bucket[cut.document]] -= int(pool.tokens[cut.document]) - cut.tokens
    most = np.zeros(count + 1, np.int16)
    np.maximum.at(most, pool.bucket, repeats)  # those not drawn, -1, fall into the last place
    sizes = pool.sizes()
    columns = {
        "tokens": tokens,
        "share": [value / sum(tokens) for value in tokens],
        "weight": [float(share) for share in shares],
        "documents": pool.sums(repeats > 0),
        "copies": pool.sums(repeats),
        "most_repeats": most[:count].tolist(),
        "pool_tokens": sizes,
        "pool_documents": pool.sums(np.ones(len(repeats), np.bool_)),
        "pool_share": [size / sum(sizes) for size in sizes],
        "held_out_tokens": by_bucket(everything.held_buckets, pool.tokens[everything.held], count),
        "at_cap": [have > 0 and have >= config.max_repeats * size for have, size in zip(tokens, sizes, strict=True)],
    }
    buckets = {name: {key: values[index] for key, values in columns.items()} for index, name in enumerate(pool.names)}
    return {"budget": sum(tokens), "seed": seed, "max_repeats": config.max_repeats, "buckets": buckets}


def _count(everything: Everything, repeats: npt.NDArray[np.int16]) -> Counts:
    counts = Counts(records=len(repeats), kept=int(np.count_nonzero(repeats)))
    free = int(np.count_nonzero((repeats == 0) & (everything.pool.bucket != NOT_DRAWN)))
    dropped = {"empty": everything.empty, "validation": len(everything.held), "not_selected": free}
    counts.dropped = Counter({reason: number for reason, number in dropped.items() if number})
    if not counts.balanced():
        raise RuntimeError(f"documents do not add up in mix: {counts}")
    return counts
