"""What a worker does for the step `score`: what the classifiers say of every page of a shard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.classifiers import embedding, load
from curate.classifiers.model import Classifier
from curate.pipeline.documents import TableWriter, read_batches, read_schema, side_by_side
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.classify.columns import check_columns
from curate.stages.classify.config import COLUMNS, LABELS, SCORES, ClassifyConfig, check_output
from curate.stages.classify.contamination import kept_texts
from curate.stages.decontaminate.steps import check as check_sets

ABOUT = b"curate.classifiers"
"""In the schema's metadata: what filled each column, as JSON; null for a column that nothing filled."""
BYTES = "bytes"
"""Column of the table of scores: UTF-8 bytes of the text."""


def score_shard(context: Context) -> Counts:
    """Writes `classify/scores`: id, bytes and the score columns of every page, in the order of the documents."""
    config: ClassifyConfig = context.config
    counts = Counts()
    with context.open(context.input("docs")) as stream:
        check_columns(read_schema(stream), config.quantiles)  # refused now, before the work
    started = time.perf_counter()
    classifiers = _load(config)
    counts.seconds["load"] += time.perf_counter() - started
    schema = scores_schema(classifiers)
    with context.create("scores") as sink, TableWriter(sink, schema) as writer:
        for ids, texts in _texts(context):
            answers = _score(texts, classifiers, counts)
            sizes = pc.fill_null(pc.binary_length(texts), 0).cast(pa.int64())
            writer.write(pa.RecordBatch.from_arrays([ids, sizes, *answers], schema=schema))
            counts.records += len(ids)
            context.progress(len(ids))
    return counts


def scores_schema(classifiers: Mapping[str, Classifier]) -> pa.Schema:
    """That of `classify/scores`; each score column's metadata, and the file's, name what filled it.

    Field metadata: `meaning`, `classifier`, `kind` (`linear`, `fasttext`, `heuristic` …), `version`, `fingerprint`. Schema
    metadata `curate.classifiers`: the same for all columns as JSON; null for a column that nothing filled.
    """
    about: dict[str, dict[str, str] | None] = {}
    fields = [pa.field("id", pa.string()), pa.field(BYTES, pa.int64())]
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
        columns = [(name, pa.float32() if name in SCORES else pa.string(), meaning)]
        if name in LABELS:
            columns.append((f"{name}_score", pa.float32(), f"probability of the {name}"))
        for column, kind, text in columns:
            fields.append(pa.field(column, kind, metadata={"meaning": text, **(known or {"classifier": "none"})}))
    return pa.schema(fields, {ABOUT: json.dumps(about, sort_keys=True).encode()})


def _texts(context: Context) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and texts of the shard's documents, as they will be kept."""
    with context.open(context.input("docs")) as stream:
        documents = read_batches(stream, ["id", "text"])
        if "marks" not in context.task.inputs:
            yield from ((batch.column("id"), batch.column("text")) for batch in documents)
            return
        with context.open(context.input("marks")) as marks:
            for batch, found in side_by_side(documents, read_batches(marks, ["cut"])):
                yield batch.column("id"), kept_texts(batch, found)


def check(config: ClassifyConfig) -> None:
    """Before a run's first stage, not days later: UsageError for an evaluation set that is not there, CurateError for a
    model whose sentence encoder is not."""
    check_sets(config)
    for reference in config.references().values():
        if reference.kind == "file" and embedding.is_one(Path(reference.source)):
            embedding.find_encoder(Path(reference.source))


def _load(config: ClassifyConfig) -> dict[str, Classifier]:
    """The classifiers by column; CurateError for one that cannot fill its column."""
    named = {name: getattr(config, name) for name in COLUMNS if getattr(config, name) is not None}
    loaded = {name: load(classifier, config.device) for name, classifier in named.items()}
    for name, classifier in loaded.items():
        try:
            check_output(name, named[name], classifier.output)
        except ValueError as error:
            raise CurateError(f"classify.{name}: {error}") from None
    return loaded


def _score(texts: pa.Array, classifiers: Mapping[str, Classifier], counts: Counts) -> list[pa.Array]:
    """The score columns, in the order of the schema."""
    found: list[pa.Array] = []
    for name in COLUMNS:
        started = time.perf_counter()
        classifier = classifiers.get(name)
        answer = None if classifier is None else classifier.predict(texts)
        if name in LABELS:
            found += answer or (pa.nulls(len(texts), pa.string()), pa.nulls(len(texts), pa.float32()))
        else:
            found.append(pa.nulls(len(texts), pa.float32()) if answer is None else answer)
        counts.seconds[name] += time.perf_counter() - started
    return found
