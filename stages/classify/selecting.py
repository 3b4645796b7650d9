"""What a worker does for the step `select`: documents with their scores and quantiles; those outside the bounds go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.classifiers.quantiles import Boundaries
from curate.pipeline.documents import read_batches, read_schema, side_by_side, with_column
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts, FailedRule, ShardWriter, record_keys, shard_writer
from curate.pipeline.stage import Context
from curate.stages.classify.columns import groups_of
from curate.stages.classify.config import (
    COLUMNS,
    LABELS,
    PERCENTILE,
    Bound,
    ClassifyConfig,
    QuantileConfig,
    quantile_columns,
)
from curate.stages.classify.contamination import dropped_rows, kept_texts
from curate.stages.classify.scoring import ABOUT
from curate.stages.classify.spreading import read_wanted
from curate.stages.decontaminate import decide as evaluation

SCORE_COLUMNS = tuple(column for name in COLUMNS for column in ((name, f"{name}_score") if name in LABELS else (name,)))
QUANTILES = b"curate.quantiles"
"""In the schema's metadata: the recipe's section as JSON, where there are quantiles."""


def select_shard(context: Context) -> Counts:
    """Writes the documents that go on, with the stage's columns, and a ledger row for each of the others."""
    config: ClassifyConfig = context.config
    boundaries = Boundaries(read_wanted(context, "boundaries")) if config.quantiles else None
    schema = _schema(context, config)
    with shard_writer(context, schema) as writer:
        counts = writer.counts
        for batch, scores, marks in _rows(context):
            counts.records += batch.num_rows
            documents = batch
            for name in SCORE_COLUMNS:
                batch = with_column(batch, name, scores.column(name))
            if boundaries is not None:
                batch = _with_quantiles(batch, scores, documents, boundaries, config.quantiles)
            if marks is not None:
                batch = _decontaminated(batch, marks, writer)
            writer.keep(_within(batch, config.keep, writer))
            context.progress(documents.num_rows)
        return counts


def _schema(context: Context, config: ClassifyConfig) -> pa.Schema:
    """The documents' schema with the columns of the stage, which say in their metadata what they are."""
    with context.open(context.input("docs")) as stream:
        schema = read_schema(stream)
    with context.open(context.input("scores")) as stream:
        scores = read_schema(stream)
    fields = [scores.field(name) for name in SCORE_COLUMNS]
    for column, (name, parts) in quantile_columns(config.quantiles).items():
        fields.append(pa.field(column, pa.int8(), metadata=_meaning(name, parts, config.quantiles[name])))
    for field in fields:
        place = schema.get_field_index(field.name)
        schema = schema.set(place, field) if place >= 0 else schema.append(field)
    if "marks" in context.task.inputs:
        schema = evaluation.with_fields(schema)
    about = {ABOUT: scores.metadata[ABOUT]}
    if config.quantiles:
        section = {name: quantile.model_dump() for name, quantile in config.quantiles.items()}
        about[QUANTILES] = json.dumps(section, sort_keys=True).encode()
    return schema.with_metadata({**(schema.metadata or {}), **about})


def _meaning(name: str, parts: int, quantile: QuantileConfig) -> dict[str, str]:
    pages = "all pages" if quantile.within is None else f"pages of the same {quantile.within}"
    what = {"tokens": "tokens (judged by bytes)", "pages": "number"}.get(quantile.by, quantile.by)
    meaning = (
        f"share in percent, rounded down, of {pages} that have a lower {name}, by their {what}"
        if parts == 100
        else f"1 (lowest) to {parts}: which of {parts} equal parts of {pages} by {name}, equal in their {what}"
    )
    return {
        "meaning": meaning, "of": name, "within": quantile.within or "", "by": quantile.by, "parts": str(parts)
    }  # fmt: skip


def _rows(context: Context) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch, pa.RecordBatch | None]]:
    """The shard's documents with the same rows of their scores and marks; CurateError where these are of others."""
    with context.open(context.input("docs")) as docs, context.open(context.input("scores")) as scores:
        names = ["docs", "scores", *(("marks",) if "marks" in context.task.inputs else ())]
        _check_rows(context, names)
        scored = read_batches(scores, SCORE_COLUMNS)
        if "marks" not in names:
            yield from ((batch, found, None) for batch, found in side_by_side(read_batches(docs), scored))
            return
        with context.open(context.input("marks")) as marks:
            both = (_joined(*pair) for pair in side_by_side(scored, read_batches(marks)))
            for batch, found in side_by_side(read_batches(docs), both):
                yield batch, found.select(SCORE_COLUMNS), found.select([*evaluation.COLUMNS, "cut", "refused"])


def _check_rows(context: Context, names: Sequence[str]) -> None:
    found = {}
    for name in names:
        with context.open(context.input(name)) as stream:
            found[name] = pq.read_metadata(stream).num_rows
    for name in names[1:]:
        if found[name] != found["docs"]:
            path = context.input(name).path
            raise CurateError(f"{path} has {found[name]} rows, its documents {found['docs']}: remove it and run again")


def _joined(scores: pa.RecordBatch, marks: pa.RecordBatch) -> pa.RecordBatch:
    marks = marks.select([*evaluation.COLUMNS, "cut", "refused"])
    return pa.RecordBatch.from_arrays(
        [*scores.columns, *marks.columns], names=[*scores.schema.names, *marks.schema.names]
    )


def _with_quantiles(
    batch: pa.RecordBatch,
    scores: pa.RecordBatch,
    documents: pa.RecordBatch,
    boundaries: Boundaries,
    quantiles: Mapping[str, QuantileConfig],
) -> pa.RecordBatch:
    for column, (name, parts) in quantile_columns(quantiles).items():
        groups = groups_of(scores, documents, quantiles[name])
        values = scores.column(name).to_numpy(zero_copy_only=False)
        below = boundaries.below(name, parts, groups, values)
        # a percentile is what lies below; a part is counted from 1
        found = below if column.endswith(f"_{PERCENTILE}") else pc.add(below, pa.scalar(1, pa.int8()))
        batch = with_column(batch, column, found)
    return batch


def _decontaminated(batch: pa.RecordBatch, marks: pa.RecordBatch, writer: ShardWriter) -> pa.RecordBatch:
    """The documents that go on, texts cut; a ledger row for each of the others."""
    batch = with_column(batch, "text", kept_texts(batch, marks))
    for name in evaluation.COLUMNS:
        batch = with_column(batch, name, marks.column(name))
    dropped = dropped_rows(marks)
    for row, record in zip(dropped, record_keys(batch, dropped), strict=True):
        refused, spans = marks.column("refused")[row].as_py(), marks.column("contaminated_spans")[row].as_py()
        writer.drop(
            record, evaluation.REASON, value=refused["share"], detail=refused["detail"], spans=spans or ()
        )  # fmt: skip
    return _without(batch, dropped)


def _within(batch: pa.RecordBatch, keep: Mapping[str, Bound], writer: ShardWriter) -> pa.RecordBatch:
    """The documents within all bounds; a ledger row for each of the others."""
    failed = _failed(batch, keep)
    for row, record in zip(failed, record_keys(batch, failed), strict=True):
        writer.drop(record, failed[row][0].rule, failed=failed[row])
    return _without(batch, list(failed))


def _without(batch: pa.RecordBatch, rows: Sequence[int]) -> pa.RecordBatch:
    if not rows:
        return batch
    keep = np.ones(batch.num_rows, np.bool_)
    keep[list(rows)] = False
    return batch.filter(pa.array(keep))


def _failed(batch: pa.RecordBatch, keep: Mapping[str, Bound]) -> dict[int, list[FailedRule]]:
    """The rows outside any bound, in order, each with all that it failed."""
    failed: dict[int, list[FailedRule]] = {}
    for name in sorted(keep):
        values = batch.column(name).to_numpy(zero_copy_only=False)
        # Compared as float32, as the column is kept: a page whose stored score equals the bound stays.
        for kind, threshold in (("min", keep[name].min), ("max", keep[name].max)):
            if threshold is None:
                continue
            bounds = np.full(len(values), np.float32(threshold))
            eased = keep[name].min_with_latex
            if kind == "min" and eased is not None:
                bounds[_with_latex(batch)] = np.float32(eased)
            outside = values < bounds if kind == "min" else values > bounds
            for row in np.flatnonzero(outside).tolist():
                asked = threshold if eased is None or bounds[row] == np.float32(threshold) else eased
                failed.setdefault(row, []).append(FailedRule(name, float(values[row]), kind, asked))
    return dict(sorted(failed.items()))


def _with_latex(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """True for the pages in which extract found LaTeX."""
    if "has_math" not in batch.schema.names:
        return np.zeros(batch.num_rows, np.bool_)
    found: npt.NDArray[np.bool_] = pc.fill_null(batch.column("has_math"), False).to_numpy(zero_copy_only=False)
    return found
