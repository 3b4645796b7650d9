"""The first pass of the shuffle: a group of source shards, read once in order, cut up by the output files it feeds.

What a task writes is a row of blocks; each holds, output file after output file, a section: the index rows of its copies (an
Arrow record batch, `PLACED`) and their tokens, one copy after another. A table beside it says where each section lies, so
that the second pass (`materialise.gather`) reads what it needs and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.mixtures.allocate import Ints
from curate.mixtures.config import MixConfig
from curate.mixtures.decide import read_routes
from curate.mixtures.tokenizer import DocumentTokenizer
from curate.pipeline.documents import read_batches, side_by_side, with_column
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.pipeline.workspace import Output
from curate.pretrain.tokens import token_dtype

PLACED = pa.schema(
    [
        ("place", pa.uint32()),
        ("repeat", pa.int32()),
        ("id", pa.string()),
        ("snapshot", pa.string()),
        ("tokens", pa.int32()),
        ("bytes", pa.int64()),
        ("bucket", pa.string()),
        ("language", pa.string()),
    ]
)
"""One row a copy: its `place` in the output file, and what the index says of the whole document."""
SECTION = np.dtype([("offset", "<u8"), ("index", "<u8"), ("tokens", "<u8")])
"""Where a section begins in the scattered file, bytes of its index rows, bytes of its tokens, which follow them. One record
an output file and block, zeros where the block has nothing for the file."""
BLOCK_BYTES = 256 << 20
"""Tokens that a task holds at a time; as much again while they are put together."""
PIECE_BYTES = 32 << 20
"""Tokens read, or written, in one go, unless one document is larger."""
_GAP = 1 << 20
"""Bytes between documents that are rather skipped than read."""
_COPIES = 2_000_000
_ROWS = ["id", "snapshot", "start", "tokens", "bytes", "language"]


def scatter(context: Context) -> Counts:
    """Cuts the drawn documents of some source shards up by output file."""
    started = time.perf_counter()
    config: MixConfig = context.config
    with context.open(context.input("tokenizer")) as stream:
        size = token_dtype(DocumentTokenizer(stream.read(), config.tokenizer.eos).vocab_size).itemsize
    inputs, params = context.task.inputs, context.task.params
    first, files = params["first"], params["files"]
    sources = list(zip(inputs["index"], inputs["buckets"], inputs["tokens"], strict=True))
    copies = 0
    with context.create("runs") as output, context.create("sections") as table:
        block = _Block(output, table, files)
        for (index, buckets, tokens), routes in zip(sources, read_routes(context, first, len(sources)), strict=True):
            if not len(routes):
                continue
            with context.open(index) as rows, context.open(buckets) as naming, context.open(tokens) as ids:
                for batch, chosen in _drawn(rows, naming, routes):
                    for own, texts, local in _pieces(ids, batch, chosen, size):
                        block.add(own, texts, local)
                    context.progress(len(chosen))
                    copies += len(chosen)
        block.flush()
    counts = Counts(records=copies, kept=copies)
    counts.seconds["scatter"] = time.perf_counter() - started
    return counts


def _drawn(
    rows: IO[bytes], naming: IO[bytes], routes: npt.NDArray[Any]
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[Any]]]:
    """Batches of the documents that are drawn, with their buckets, and their routes, whose `row` counts in the batch."""
    first = done = 0
    for known, names in side_by_side(read_batches(rows, _ROWS), read_batches(naming)):
        upto = int(np.searchsorted(routes["row"], first + known.num_rows))
        if upto > done:
            chosen = routes[done:upto].copy()
            needed, chosen["row"] = np.unique(chosen["row"] - np.uint32(first), return_inverse=True)
            named = with_column(known, "bucket", names.column("bucket").dictionary_decode())
            yield named.take(pa.array(needed)), chosen
        first, done = first + known.num_rows, upto
    if done != len(routes):
        raise CurateError(
            "mix/steps/tokenize holds fewer documents than were allocated: remove mix/steps and run again"
        )


def _pieces(
    stream: IO[bytes], rows: pa.RecordBatch, routes: npt.NDArray[Any], size: int
) -> Iterator[tuple[pa.RecordBatch, pa.LargeBinaryArray, npt.NDArray[Any]]]:
    """The documents of a batch in parts of about PIECE_BYTES: rows, tokens (bytes; one value a row), and routes to them."""
    begins = rows.column("start").to_numpy() * size
    ends = begins + rows.column("tokens").to_numpy() * np.int64(size)
    apart = (begins[1:] - ends[:-1] > _GAP) | (np.diff(begins // PIECE_BYTES) > 0)
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(begins)]
    for low, high in pairwise(edges):
        own = routes[slice(*np.searchsorted(routes["row"], (low, high)))].copy()
        own["row"] -= np.uint32(low)
        yield rows.slice(low, high - low), _read(stream, begins[low:high], ends[low:high]), own


def _read(stream: IO[bytes], begins: Ints, ends: Ints) -> pa.LargeBinaryArray:
    """These ranges (rising, apart) of a file, read in one go."""
    first, last = int(begins[0]), int(ends[-1])
    stream.seek(first)
    data = stream.read(last - first)
    if len(data) != last - first:
        raise CurateError("mix/steps/tokenize holds fewer tokens than its index says: remove mix/steps and run again")
    # Values of an Arrow array touch each other: what lies between two ranges is a value as well, left out again.
    offsets = np.append(np.column_stack([begins, ends]).ravel(), last)[:-1] - first
    both = runs_of(pa.py_buffer(data), offsets)
    return both.take(pa.array(np.arange(0, len(both), 2)))


def runs_of(data: pa.Buffer, offsets: Ints) -> pa.LargeBinaryArray:
    """The values between these offsets (values + 1, in bytes) of a buffer, without copying it."""
    bounds = pa.py_buffer(np.ascontiguousarray(offsets, np.int64))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, [None, bounds, data])


def run_lengths(runs: pa.LargeBinaryArray) -> Ints:
    """Bytes of each value."""
    offsets = np.frombuffer(runs.buffers()[1], np.int64)[runs.offset : runs.offset + len(runs) + 1]
    lengths: Ints = np.diff(offsets)
    return lengths


def joined(runs: pa.LargeBinaryArray, order: Ints) -> Iterator[memoryview]:
    """The bytes of these values one after another, at most about PIECE_BYTES at a time."""
    ends = np.cumsum(run_lengths(runs)[order])
    edges = [0, *(np.flatnonzero(np.diff(ends // PIECE_BYTES) > 0) + 1).tolist(), len(order)]
    for low, high in pairwise(edges):
        taken = runs.take(pa.array(order[low:high]))
        offsets = np.frombuffer(taken.buffers()[1], np.int64)[taken.offset : taken.offset + len(taken) + 1]
        yield memoryview(taken.buffers()[2])[int(offsets[0]) : int(offsets[-1])]


class _Block:
    """Documents that are held until there are enough of them to be written as one block, file by file."""

    def __init__(self, output: Output, table: Output, files: int) -> None:
        self._output, self._table, self._files = output, table, files
        self._clear()

    def _clear(self) -> None:
        self._rows: list[pa.RecordBatch] = []
        self._runs: list[pa.LargeBinaryArray] = []
        self._routes: list[npt.NDArray[Any]] = []
        self._documents = self._bytes = self._copies = 0

    def add(self, rows: pa.RecordBatch, runs: pa.LargeBinaryArray, routes: npt.NDArray[Any]) -> None:
        """Adds documents and the ways that their copies go; `row` of a route counts in `rows`."""
        routes["row"] += np.uint32(self._documents)
        self._rows.append(rows)
        self._runs.append(runs)
        self._routes.append(routes)
        self._documents += rows.num_rows
        self._bytes += int(run_lengths(runs).sum())
        self._copies += len(routes)
        if self._bytes >= BLOCK_BYTES or self._copies >= _COPIES:
            self.flush()

    def flush(self) -> None:
        """Writes what is held as a block, and its line of the table."""
        if not self._copies:
            return
        table = pa.Table.from_batches(self._rows).combine_chunks()
        runs, routes = pa.concat_arrays(self._runs), np.concatenate(self._routes)
        self._clear()
        routes = routes[np.argsort(routes["file"], kind="stable")]
        sections = np.zeros(self._files, SECTION)
        files, begins = np.unique(routes["file"], return_index=True)
        for file, part in zip(files.tolist(), np.split(routes, begins[1:]), strict=True):
            offset, order = self._output.tell(), part["row"].astype(np.int64)
            index = _placed(table, part, order)
            self._output.write(memoryview(index))
            for data in joined(runs, order):
                self._output.write(data)
            sections[file] = (offset, index.size, self._output.tell() - offset - index.size)
        self._table.write(sections.tobytes())


def _placed(table: pa.Table, routes: npt.NDArray[Any], order: Ints) -> pa.Buffer:
    """The index rows of these copies as one record batch, without its schema: there are many small ones."""
    known = table.take(pa.array(order))
    columns = {
        name: known.column(name).combine_chunks()
        for name in ("id", "snapshot", "tokens", "bytes", "bucket", "language")
    }
    columns["place"] = pa.array(routes["place"].copy())
    columns["repeat"] = pa.array(routes["repeat"].astype(np.int32))
    return pa.RecordBatch.from_arrays([columns[name] for name in PLACED.names], schema=PLACED).serialize()
