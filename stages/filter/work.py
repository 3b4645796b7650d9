"""What a worker does with a shard: language, signals, rules, masks; one batch after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.documents import TableWriter, read_batches, read_schema, with_column, with_field
from curate.pipeline.ledger import Counts, FailedRule, ShardWriter, record_keys, shard_writer
from curate.pipeline.stage import Context
from curate.stages.filter import pii
from curate.stages.filter.config import FilterConfig, LanguageConfig, PiiConfig
from curate.stages.filter.language import LanguageModel, load_model
from curate.stages.filter.measure import measure
from curate.stages.filter.registry import Signal, select
from curate.stages.filter.rules import decide

PIECE_BYTES = 4 << 20
"""Text that is cut into words at a time: positions take about five times the memory of the text."""

LANGUAGE, LANGUAGE_SCORE = "language", "language_score"
"""Reasons of the language step: another language than those wanted; a score below the threshold."""


@dataclass(frozen=True)
class Measured:
    """A batch and what was found out about it: signals a document, text after edits, language and score."""

    batch: pa.RecordBatch
    signals: pa.RecordBatch
    texts: pa.Array
    languages: list[str | None] | None
    scores: pa.Array

    def table(self) -> pa.RecordBatch:
        """The rows of `filter/measures`."""
        languages = (
            pa.nulls(len(self.texts), pa.string()) if self.languages is None else pa.array(self.languages, pa.string())
        )
        head = [self.batch.column("id"), languages, self.scores]
        return pa.RecordBatch.from_arrays(
            [*head, *self.signals.columns], names=["id", LANGUAGE, LANGUAGE_SCORE, *self.signals.schema.names]
        )


def filter_shard(context: Context) -> Counts:
    """Measures every document of the shard's `docs`, keeps those that pass, and writes `docs`, `ledger` and `measures`."""
    config: FilterConfig = context.config
    wanted = select(None)
    model = load_model(config.language.model) if config.language else None
    with context.open(context.input("docs")) as stream:
        schema = _schema(read_schema(stream), wanted, model is not None)
    columns = pa.schema(
        [("id", pa.string()), (LANGUAGE, pa.string()), (LANGUAGE_SCORE, pa.float32())]
        + [(signal.name, signal.type) for signal in wanted]
    )
    with (
        context.open(context.input("docs")) as stream,
        context.create("measures") as sink,
        TableWriter(sink, columns) as measures,
        shard_writer(context, schema) as writer,
    ):
        counts = writer.counts
        for batch in read_batches(stream):
            for piece in pieces(batch):
                counts.records += piece.num_rows
                measured = _measure(piece, config, wanted, model, counts)
                measures.write(measured.table())
                _apply(measured, config, writer)
            context.progress(batch.num_rows)
    return counts


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


def _schema(schema: pa.Schema, wanted: list[Signal], has_language: bool) -> pa.Schema:
    """That of the documents kept: those that came in, with language and signals."""
    if has_language:
        schema = with_field(schema, LANGUAGE, pa.string())
        schema = with_field(schema, LANGUAGE_SCORE, pa.float32())
    return with_field(schema, "signals", pa.struct([(signal.name, signal.type) for signal in wanted]))


def _measure(
    batch: pa.RecordBatch, config: FilterConfig, wanted: list[Signal], model: LanguageModel | None, counts: Counts
) -> Measured:
    began = perf_counter()
    texts = pc.fill_null(batch.column("text"), "")
    languages, scores = None, pa.nulls(batch.num_rows, pa.float32())
    if model is not None:
        languages, found = model.predict(texts.to_pylist())
        scores = pa.array(found, pa.float32())
    counts.seconds["language"] += perf_counter() - began
    began = perf_counter()
    table, edited = measure(texts, wanted, config.lines)
    counts.seconds["signals"] += perf_counter() - began
    return Measured(batch, table, texts if edited is None else edited, languages, scores)


def _apply(measured: Measured, config: FilterConfig, writer: ShardWriter) -> None:
    """Drops what fails, with every reason, and keeps the rest, masked."""
    began = perf_counter()
    _, failed = decide(measured.signals, config.active)
    if config.language is not None and measured.languages is not None:
        for row, language in enumerate(measured.languages):
            score = float(str(np.float32(measured.scores[row].as_py())))
            failed[row] = (*judge_language(config.language, language, score), *failed[row])
    keep = np.array([not rules for rules in failed], np.bool_)
    lost = np.flatnonzero(~keep).tolist()
    for row, record in zip(lost, record_keys(measured.batch, lost), strict=True):
        rules = failed[row]
        language = measured.languages[row] if measured.languages is not None else None
        detail = f"language {language}" if rules[0].rule in (LANGUAGE, LANGUAGE_SCORE) else None
        writer.drop(record, rules[0].rule, failed=rules, detail=detail)
    writer.counts.seconds["rules"] += perf_counter() - began
    if keep.any():
        began = perf_counter()
        writer.keep(_kept(measured, pa.array(keep), config.pii))
        writer.counts.seconds["mask and write"] += perf_counter() - began


def judge_language(config: LanguageConfig, language: str | None, score: float) -> list[FailedRule]:
    """What a document fails of the language step: first the language (with the score as its value), then the score."""
    failed = []
    if config.languages != "all" and language not in config.languages:
        failed.append(FailedRule(LANGUAGE, score, "is", None))
    if score < config.threshold:
        failed.append(FailedRule(LANGUAGE_SCORE, score, "min", config.threshold))
    return failed


def _kept(measured: Measured, keep: pa.Array, masks: PiiConfig) -> pa.RecordBatch:
    batch = with_column(measured.batch, "text", measured.texts).filter(keep)
    if measured.languages is not None:
        batch = with_column(batch, LANGUAGE, pa.array(measured.languages, pa.string()).filter(keep))
        batch = with_column(batch, LANGUAGE_SCORE, measured.scores.filter(keep))
    signals = measured.signals.filter(keep)
    batch = with_column(batch, "text", _masked(batch.column("text"), signals, masks))
    return with_column(batch, "signals", signals.to_struct_array())


def _masked(texts: pa.Array, signals: pa.RecordBatch, masks: PiiConfig) -> pa.Array:
    emails = np.asarray(signals.column("pii_emails")) * masks.emails
    ips = np.asarray(signals.column("pii_ips")) * masks.ips
    rows = np.flatnonzero(emails + ips).tolist()
    if not rows:
        return texts
    values = texts.to_pylist()
    for row in rows:
        if emails[row]:
            values[row] = pii.mask(values[row], pii.find_emails, pii.EMAIL_MASKS)
        if ips[row]:
            values[row] = pii.mask(values[row], pii.find_ips, pii.IP_MASKS)
    return pa.array(values, texts.type)
