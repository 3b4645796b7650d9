"""What a worker does for the stage classify: score one shard, drop what the recipe's bounds refuse."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from curate.classifiers import load
from curate.classifiers.model import Classifier
from curate.pipeline.documents import read_batches, read_schema, with_column
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts, FailedRule, record_keys, shard_writer
from curate.pipeline.stage import Context
from curate.stages.classify import COLUMNS, LABELS, SCORES, Bound, ClassifyConfig, check_output


def classify(context: Context) -> Counts:
    """Adds the score columns to a shard's documents; a page outside the recipe's bounds is dropped with its score."""
    config: ClassifyConfig = context.config
    started = time.perf_counter()
    classifiers = _load(config)
    loading = time.perf_counter() - started
    source = context.input("docs")
    with context.open(source) as stream:
        schema = output_schema(read_schema(stream), classifiers)
    with context.open(source) as stream, shard_writer(context, schema) as writer:
        counts = writer.counts
        counts.seconds["load"] += loading
        for batch in read_batches(stream):
            counts.records += batch.num_rows
            scored = _score(batch, classifiers, counts)
            failed = _failed(scored, config.keep)
            if failed:
                for row, record in zip(failed, record_keys(scored, failed), strict=True):
                    writer.drop(record, failed[row][0].rule, failed=failed[row])
                keep = np.ones(scored.num_rows, bool)
                keep[list(failed)] = False
                scored = scored.filter(pa.array(keep))
            writer.keep(scored)
            context.progress(batch.num_rows)
        return counts


def output_schema(schema: pa.Schema, classifiers: Mapping[str, Classifier]) -> pa.Schema:
    """The documents' schema with the score columns; each column's metadata, and the file's, name what filled it.

    Field metadata: `meaning`, `classifier`, `kind` (`linear`, `fasttext`, `heuristic`), `version`, `fingerprint`. Schema
    metadata `curate.classifiers`: the same for all columns as JSON; null for a column that nothing filled.
    """
    about: dict[str, dict[str, str] | None] = {}
    for name in COLUMNS:
        classifier = classifiers.get(name)
        meaning = (
            {**SCORES, **LABELS}[name]
            if classifier is None or classifier.kind != "heuristic"
            else "a formula's value, no model's"
        )
        known = None if classifier is None else {
            "classifier": classifier.name, "kind": classifier.kind, "version": classifier.version,
            "fingerprint": classifier.fingerprint,
        }  # fmt: skip
        about[name] = known
        fields = [(name, pa.float32() if name in SCORES else pa.string(), meaning)]
        if name in LABELS:
            fields.append((f"{name}_score", pa.float32(), f"probability of the {name}"))
        for column, kind, text in fields:
            field = pa.field(column, kind, metadata={"meaning": text, **(known or {"classifier": "none"})})
            index = schema.get_field_index(column)
            schema = schema.set(index, field) if index >= 0 else schema.append(field)
    return schema.with_metadata(
        {**(schema.metadata or {}), b"curate.classifiers": json.dumps(about, sort_keys=True).encode()}
    )


def _load(config: ClassifyConfig) -> dict[str, Classifier]:
    """The classifiers by column; CurateError for one that cannot fill its column."""
    loaded = {name: load(getattr(config, name)) for name in COLUMNS if getattr(config, name) is not None}
    for name, classifier in loaded.items():
        try:
            check_output(name, getattr(config, name), classifier.output)
        except ValueError as error:
            raise CurateError(f"classify.{name}: {error}") from None
    return loaded


def _score(batch: pa.RecordBatch, classifiers: Mapping[str, Classifier], counts: Counts) -> pa.RecordBatch:
    texts = batch.column("text")
    for name in COLUMNS:
        started = time.perf_counter()
        classifier = classifiers.get(name)
        answer = None if classifier is None else classifier.predict(texts)
        if name in LABELS:
            labels, scores = answer or (pa.nulls(len(texts), pa.string()), pa.nulls(len(texts), pa.float32()))
            batch = with_column(with_column(batch, name, labels), f"{name}_score", scores)
        else:
            batch = with_column(batch, name, pa.nulls(len(texts), pa.float32()) if answer is None else answer)
        counts.seconds[name] += time.perf_counter() - started
    return batch


def _failed(batch: pa.RecordBatch, keep: Mapping[str, Bound]) -> dict[int, list[FailedRule]]:
    """The rows outside any bound, in order, each with all that it failed."""
    failed: dict[int, list[FailedRule]] = {}
    for name in sorted(keep):
        values = batch.column(name).to_numpy(zero_copy_only=False)
        # Compared as float32, as the column is kept: a page whose stored score equals the bound stays.
        for kind, threshold in (("min", keep[name].min), ("max", keep[name].max)):
            if threshold is None:
                continue
            outside = values < np.float32(threshold) if kind == "min" else values > np.float32(threshold)
            for row in np.flatnonzero(outside).tolist():
                failed.setdefault(row, []).append(FailedRule(name, float(values[row]), kind, threshold))
    return dict(sorted(failed.items()))
