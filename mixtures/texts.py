"""The texts of a mix in its order: scattered from the documents to the output files, then written file by file.

Two passes, as with tokens. `scatter` reads the documents of a group of shards once and lays the copies that it finds there
by output file; `write` picks up what all groups laid for one output file, puts it in order and tests it against the file's
token index. So no shard is opened for each output file, and neither pass holds more than a part of the texts in memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.mixtures.config import MixConfig
from curate.mixtures.decide import FILE, read_routes
from curate.mixtures.rows import TEXT, WANTED, JsonLines, text_schema
from curate.mixtures.tokenizer import DocumentTokenizer
from curate.pipeline.documents import BATCH_BYTES, TableWriter, read_batches, read_schema, with_column
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.pipeline.workspace import Output
from curate.pretrain.tokens import token_dtype

PIECES = pa.schema([("file", pa.uint32()), ("start", pa.uint64()), ("bytes", pa.uint64())])
"""What `scatter` laid for which output file, and where; the columns found are in the schema's metadata."""
HELD_BYTES = 256 << 20
"""Bytes of texts that `scatter` gathers before it lays them: the larger, the longer the pieces."""
AGAIN = "remove mix/steps and run `curate mix` again"


def scatter(context: Context) -> Counts:
    """Lays the copies of the documents of a group of shards by output file."""
    started = time.perf_counter()
    docs, first = context.task.inputs["docs"], context.task.params["first"]
    found: set[str] = set()
    copies = 0
    with context.create("texts") as output, context.create("pieces") as pieces:
        spread = _Spread(output)
        for file, routes in zip(docs, read_routes(context, first, len(docs)), strict=True):
            with context.open(file) as stream:
                columns = [name for name in WANTED if name in read_schema(stream).names]
                found.update(columns)
                if len(routes):
                    stream.seek(0)
                    _lay(context, spread, read_batches(stream, columns), routes)
                    copies += len(routes)
        spread.flush()
        schema = PIECES.with_metadata({"columns": json.dumps(sorted(found))})
        with TableWriter(pieces, schema) as table:
            table.write_rows(spread.pieces)
    counts = Counts(records=copies, kept=copies)
    counts.seconds["scatter-texts"] = time.perf_counter() - started
    return counts


def _lay(context: Context, spread: _Spread, batches: Iterator[pa.RecordBatch], routes: npt.NDArray[Any]) -> None:
    """Hands the copies of one shard on, no more than about HELD_BYTES of them at a time."""
    first = done = 0
    for batch in batches:
        upto = int(np.searchsorted(routes["row"], first + batch.num_rows))
        here = routes[done:upto]
        if len(here):
            wide = _widened(batch)
            local = here["row"].astype(np.int64) - first
            sizes = pc.fill_null(pc.binary_length(wide.column("text")), 0).to_numpy()[local]
            parts = np.flatnonzero(np.diff(np.cumsum(sizes) // HELD_BYTES)) + 1
            for rows, part in zip(np.split(local, parts), np.split(here, parts), strict=True):
                spread.add(wide.take(pa.array(rows)), part["file"], part["place"])
        context.progress(len(here))
        first, done = first + batch.num_rows, upto
    if done < len(routes):
        raise CurateError(f"a shard of documents has fewer rows than its token index: {AGAIN}")


def _widened(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in the types of `TEXT`, its text with 64-bit offsets: copies of one long text can pass 2 GiB."""
    names = batch.schema.names
    kinds = [pa.large_string() if name == "text" else TEXT.field(name).type for name in names]
    columns = [batch.column(name).cast(kind) for name, kind in zip(names, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=names)


class _Spread:
    """Lays rows into one file, in pieces that are of one output file each: Arrow streams, zstd."""

    def __init__(self, output: Output) -> None:
        self.pieces: list[dict[str, int]] = []
        self._output = output
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, rows: pa.RecordBatch, files: npt.NDArray[Any], places: npt.NDArray[Any]) -> None:
        for name, values in (("file", files), ("place", places)):
            rows = rows.append_column(name, pa.array(values.astype(np.uint32)))
        if self._waiting and self._waiting[-1].schema != rows.schema:
            self.flush()
        self._waiting.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting).combine_chunks()
        self._waiting, self._bytes = [], 0
        files = table.column("file").to_numpy()
        order = np.argsort(files, kind="stable")
        numbers, starts = np.unique(files[order], return_index=True)
        for number, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            sink = pa.BufferOutputStream()
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            part = table.take(pa.array(rows)).drop_columns(["file"])
            with pa.ipc.new_stream(sink, part.schema, options=options) as stream:
                stream.write_table(part)
            data = sink.getvalue()
            self.pieces.append({"file": number, "start": self._output.tell(), "bytes": data.size})
            self._output.write(memoryview(data))


def write(context: Context) -> Counts:
    """Writes the texts of one output file of the mix, as JSON lines or Parquet, and tests them against its token index."""
    started = time.perf_counter()
    params = context.task.params
    record = context.read(context.task.inputs["files"][params["part"]], params["number"] * FILE.itemsize, FILE.itemsize)
    (file,) = np.frombuffer(record, FILE)
    texts = _Laid(context, params["file"])
    sink = JsonLines if params["format"] == "jsonl" else TableWriter
    rows = tokens = 0
    with (
        context.create("texts") as output,
        context.open(context.input("index")) as stream,
        sink(output, text_schema(texts.columns)) as table,
    ):
        for own in read_batches(stream, ["id", "snapshot", "bucket", "repeat", "tokens"]):
            for first, size in texts.parts(rows, own.num_rows):
                batch = texts.named(rows + first, own.slice(first, size))
                last = rows + first + size == int(file["copies"])
                table.write(_shortened(context, batch) if last and file["cut"] else batch)
            rows += own.num_rows
            tokens += int(own.column("tokens").to_numpy().sum(dtype=np.int64))
            context.progress(own.num_rows)
        if (rows, tokens) != (int(file["copies"]), int(file["tokens"])):
            raise CurateError(f"{context.input('index').path} is not the file that was decided: {AGAIN}")
    counts = Counts(records=rows, kept=rows)
    counts.seconds["write"] = time.perf_counter() - started
    return counts


class _Laid:
    """What all groups of shards laid for one output file, by the place of each copy in it."""

    def __init__(self, context: Context, number: int) -> None:
        self.columns: set[str] = set()
        """Those that any document of the whole mix has."""
        found: list[pa.Table] = []
        for pieces, laid in zip(context.task.inputs["pieces"], context.task.inputs["texts"], strict=True):
            with context.open(pieces) as stream:
                table = pq.read_table(stream)
            self.columns.update(json.loads(table.schema.metadata[b"columns"]))
            own = table.filter(pc.equal(table.column("file"), pa.scalar(number, pa.uint32()))).to_pylist()
            ranges = (context.read(laid, piece["start"], piece["bytes"]) for piece in own)
            found += [pa.ipc.open_stream(data).read_all() for data in ranges]
        self._table = pa.concat_tables(found, promote_options="default").combine_chunks()
        places = self._table.column("place").to_numpy()
        self._order = np.argsort(places)
        if not np.array_equal(places[self._order], np.arange(len(places))):
            raise CurateError(f"mix/steps/scatter-texts lacks copies of {context.task.key}: {AGAIN}")
        lengths = pc.fill_null(pc.binary_length(self._table.column("text")), 0).to_numpy()
        self._ends = np.cumsum(lengths[self._order])

    def parts(self, first: int, count: int) -> list[tuple[int, int]]:
        """These copies in stretches (first, size) of no more than about BATCH_BYTES of text, counted from `first`."""
        borders = np.flatnonzero(np.diff(self._ends[first : first + count] // BATCH_BYTES)) + 1
        edges = [0, *borders.tolist(), count]
        return [(begin, end - begin) for begin, end in pairwise(edges)]

    def named(self, first: int, own: pa.RecordBatch) -> pa.RecordBatch:
        """The texts from place `first` on with what the file's index says of them; CurateError where the two differ."""
        rows = self._table.take(pa.array(self._order[first : first + own.num_rows]))
        for name in ("id", "snapshot"):
            if not pc.fill_null(rows.column(name), "").combine_chunks().equals(own.column(name)):
                raise CurateError(f"the texts of the mix are not in the order of its tokens: {AGAIN}")
        columns = {name: rows.column(name) for name in rows.column_names if name not in own.schema.names}
        columns |= {name: own.column(name) for name in own.schema.names}
        columns["cut"] = pa.array(np.zeros(own.num_rows, np.int32))
        found = pa.table({name: columns[name] if name in columns else pa.nulls(own.num_rows, TEXT.field(name).type)
                          for name in text_schema(self.columns).names})  # fmt: skip
        return found.combine_chunks().to_batches()[0]


def _shortened(context: Context, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, its last row's text being that of the tokens taken: they were cut where the budget ends."""
    config: MixConfig = context.config
    with context.open(context.input("mix")) as stream:
        mix = json.loads(stream.read())
    with context.open(context.input("tokenizer")) as stream:
        encoder = DocumentTokenizer(stream.read(), config.tokenizer.eos)
    taken, whole = mix["cut_document"]["tokens"], mix["cut_document"]["whole"]
    with context.open(context.input("tokens")) as stream:
        dtype = token_dtype(encoder.vocab_size)
        stream.seek(context.input("tokens").size - taken * dtype.itemsize)
        text = encoder.decode(np.frombuffer(stream.read(), dtype))
    for name, value in (("text", text), ("cut", whole - taken)):
        kind = batch.schema.field(name).type
        values = pa.concat_arrays([batch.column(name).slice(0, batch.num_rows - 1), pa.array([value], kind)])
        batch = with_column(batch, name, values)
    return batch
