"""What workers do with a shard: measure every document, decide on the numbers alone, write the documents that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.documents import (
    LEDGER,
    SPAN,
    TableWriter,
    read_batches,
    read_schema,
    side_by_side,
    with_column,
    with_field,
)
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context, File
from curate.stages.filter import pii
from curate.stages.filter.config import FilterConfig
from curate.stages.filter.decisions import LANGUAGE, LANGUAGE_SCORE, Policy, failures, ledger_rows
from curate.stages.filter.language import LanguageModel, load_model
from curate.stages.filter.languages import canonical
from curate.stages.filter.measure import measure
from curate.stages.filter.measures.url import look_up
from curate.stages.filter.registry import Signal
from curate.stages.filter.repeats import Repeats, read_repeats
from curate.stages.text.segment import BoolArray, Segmented

PIECE_BYTES = 4 << 20
"""Text that is cut into words at a time: positions take about five times the memory of the text."""
DECIDED_ROWS = 1 << 16
"""Documents that are decided on at a time, numbers and identities alone."""

CHARACTERS = "characters"
"""Column of the table of measures: the length of the text after line edits, before masks."""
PII = "pii"
NOT_SIGNALS = ("id", LANGUAGE, LANGUAGE_SCORE, CHARACTERS, PII)
"""Columns of the table of measures that are no signals."""
KEYS = ("id", "url", "snapshot", "source", "offset")
KEPT = pa.schema([("row", pa.int64())])
"""What `decide` writes for `select`: which rows of the shard are kept, in order."""


def measure_shard(context: Context) -> Counts:
    """Step `measure`: language and signals of every document of the shard's `docs`, and where addresses stand in it."""
    config: FilterConfig = context.config
    wanted = config.wanted
    model = load_model(config.language.model, config.language.languages) if config.language else None
    repeats = read_repeats(context)
    counts = Counts()
    with (
        context.open(context.input("docs")) as stream,
        context.create("measures") as sink,
        TableWriter(sink, _measures(wanted)) as measures,
    ):
        for batch in read_batches(stream, ["id", "url", "text"]):
            for piece in pieces(batch):
                measures.write(_measured(piece, config, wanted, model, repeats, counts))
                counts.records += piece.num_rows
            context.progress(batch.num_rows)
    return counts


def _measures(wanted: list[Signal]) -> pa.Schema:
    """The table of measures."""
    head = [("id", pa.string()), (LANGUAGE, pa.string()), (LANGUAGE_SCORE, pa.float32()), (CHARACTERS, pa.int32())]
    return pa.schema([*head, *((signal.name, signal.type) for signal in wanted), (PII, pa.list_(SPAN))])


def _measured(
    batch: pa.RecordBatch,
    config: FilterConfig,
    wanted: list[Signal],
    model: LanguageModel | None,
    repeats: Repeats | None,
    counts: Counts,
) -> pa.RecordBatch:
    """The rows of `measures` for a batch of documents."""
    began = perf_counter()
    texts = pc.fill_null(batch.column("text"), "")
    size = batch.num_rows
    labels, scores = pa.nulls(size, pa.string()), pa.nulls(size, pa.float32())
    urls = batch.column("url").to_pylist()
    known: dict[str, Any] = {"url": urls, **look_up(config.urls, urls)}
    if model is not None:
        names, found = model.predict(texts.to_pylist())
        labels, scores = pa.array(names, pa.string()), pa.array(found, pa.float32())
        known |= {"language": [canonical(name) for name in names], "language_score": found}
    counts.seconds["language"] += perf_counter() - began
    began = perf_counter()
    measured = measure(
        texts, wanted, lines=config.lines, counting=config.counting, known=known, stop_words=config.stop_words,
        repeated=_repeated(repeats, batch.column("id")),
    )  # fmt: skip
    for step, characters in measured.edited.removed.items():
        counts.edits += {step: int(characters.sum())}
    counts.seconds["signals"] += perf_counter() - began
    began = perf_counter()
    spans = measured.edited.once(pii.find).spans(size)
    counts.seconds["pii"] += perf_counter() - began
    head = [batch.column("id"), labels, scores, pa.array(measured.edited.chars, pa.int32())]
    columns = [*head, *measured.table.columns, spans]
    return pa.RecordBatch.from_arrays(columns, schema=_measures(wanted))


def _repeated(repeats: Repeats | None, ids: pa.Array) -> Callable[[Segmented], BoolArray] | None:
    """Tells which lines of the texts with these ids go because they stand elsewhere in the snapshot too."""
    return None if repeats is None else lambda texts: repeats.mask(texts, ids)


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in runs of rows with at most PIECE_BYTES of text, unless one document alone has more."""
    sizes = np.asarray(pc.fill_null(pc.binary_length(batch.column("text")), 0))
    start, held = 0, 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and held + size > PIECE_BYTES:
            yield batch.slice(start, row - start)
            start, held = row, 0
        held += size
    if start < batch.num_rows:
        yield batch.slice(start)


def decide_shard(context: Context) -> Counts:
    """Step `decide`: which documents are kept, by the columns that the rules need; a ledger row for each of the others."""
    config: FilterConfig = context.config
    policy = Policy.of(config)
    counts = Counts()
    with (
        context.open(context.input("docs")) as docs,
        context.open(context.input("measures")) as measures,
        context.create("ledger") as ledger_sink,
        context.create("rows") as rows_sink,
        TableWriter(ledger_sink, LEDGER) as ledger,
        TableWriter(rows_sink, KEPT) as kept,
    ):
        _check_rows(context, docs, measures)
        columns = list(dict.fromkeys([*policy.columns, PII]))
        for keys, table in side_by_side(
            read_batches(docs, KEYS, DECIDED_ROWS), read_batches(measures, columns, DECIDED_ROWS)
        ):
            began = perf_counter()
            found = failures(table, policy)
            rows = np.flatnonzero(found.keep) + counts.records
            kept.write(pa.table({"row": pa.array(rows, pa.int64())}))
            ledger.write(ledger_rows(context.task.stage, keys, table, found))
            counts.records += keys.num_rows
            counts.kept += len(rows)
            counts.dropped += found.reasons
            counts.seconds["decide"] += perf_counter() - began
            context.progress(keys.num_rows)
    return counts


def select_shard(context: Context) -> Counts:
    """Step `select`: the documents that are kept, with line edits made, addresses masked, language and signals."""
    config: FilterConfig = context.config
    repeats = read_repeats(context)
    counts = Counts()
    with context.open(context.input("rows")) as stream:
        kept = np.concatenate(
            [np.zeros(0, np.int64), *(batch.column("row").to_numpy() for batch in read_batches(stream))]
        )
    with context.open(context.input("docs")) as docs, context.open(context.input("measures")) as measures:
        _check_rows(context, docs, measures)
        names = [name for name in read_schema(measures).names if name not in NOT_SIGNALS]
        schema = _documents(read_schema(docs), read_schema(measures), names, config)
        with context.create("docs") as sink, TableWriter(sink, schema) as writer:
            for batch, table in side_by_side(read_batches(docs), read_batches(measures)):
                began = perf_counter()
                start, stop = np.searchsorted(kept, [counts.records, counts.records + batch.num_rows]).tolist()
                rows = pa.array(kept[start:stop] - counts.records)
                for piece, numbers in _together(batch.take(rows), table.take(rows)):
                    writer.write(_document(piece, numbers, names, config, repeats))
                counts.records += batch.num_rows
                counts.kept += stop - start
                counts.seconds["select"] += perf_counter() - began
                context.progress(batch.num_rows)
    return counts


def _check_rows(context: Context, docs: Any, measures: Any) -> None:
    """CurateError where the measures are not of these documents."""
    import pyarrow.parquet as pq

    found = [pq.read_metadata(stream).num_rows for stream in (docs, measures)]
    if found[0] != found[1]:
        file: File = context.input("measures")
        raise CurateError(f"{file.path} has {found[1]} rows, its documents {found[0]}: remove it and run again")


def _documents(docs: pa.Schema, measures: pa.Schema, names: list[str], config: FilterConfig) -> pa.Schema:
    """That of the documents kept: those that came in, with language and signals."""
    if config.language is not None:
        docs = with_field(docs, LANGUAGE, pa.string())
        docs = with_field(docs, LANGUAGE_SCORE, pa.float32())
    if not names:  # Parquet has no empty struct
        return docs
    return with_field(docs, "signals", pa.struct([measures.field(name) for name in names]))


def _together(batch: pa.RecordBatch, table: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Pieces of the documents, and the same rows of their measures."""
    start = 0
    for piece in pieces(batch):
        yield piece, table.slice(start, piece.num_rows)
        start += piece.num_rows


def _document(
    batch: pa.RecordBatch, table: pa.RecordBatch, names: list[str], config: FilterConfig, repeats: Repeats | None
) -> pa.RecordBatch:
    """Documents as they are kept: text edited and masked, language and signals from the measures."""
    texts = pc.fill_null(batch.column("text"), "")
    repeated = _repeated(repeats, batch.column("id"))
    edited = measure(texts, [], lines=config.lines, counting=config.counting, repeated=repeated).strings
    texts = texts if edited is None else edited
    batch = with_column(batch, "text", pii.mask(texts, pii.Found.of(table.column(PII)), config.pii))
    if config.language is not None:
        for name in (LANGUAGE, LANGUAGE_SCORE):
            batch = with_column(batch, name, table.column(name))
    return with_column(batch, "signals", table.select(names).to_struct_array()) if names else batch
