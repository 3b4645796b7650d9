"""What workers do for quantiles: sum weights by score over many shards, find the boundaries from the sums."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from curate.classifiers import quantiles
from curate.pipeline.documents import TableWriter, read_batches, read_schema, side_by_side
from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context, File
from curate.stages.classify.columns import check_columns, documents_columns, groups_of, weights_of
from curate.stages.classify.config import LABELS, ClassifyConfig, quantile_columns
from curate.stages.classify.scoring import BYTES

BATCH = 1 << 16
"""Pages at a time, numbers alone."""
MOST_GROUPS = 1_000
"""Values of the column within which pages are compared."""


def spread_group(context: Context) -> Counts:
    """Steps `spread…`: the histogram of a group of shards, of the buckets that the step before wants."""
    config: ClassifyConfig = context.config
    level = int(context.task.params["level"])
    wanted = read_wanted(context, "wanted") if level else None
    counts = Counts()
    seen: dict[str, set[str]] = {name: set() for name in config.quantiles}

    def histograms() -> Iterator[pa.Table]:
        for scores, documents in _pages(context, config):
            counts.records += scores.num_rows
            for name, quantile in config.quantiles.items():
                values = scores.column(name).to_numpy(zero_copy_only=False)
                groups, weights = groups_of(scores, documents, quantile), weights_of(scores, documents, quantile)
                seen[name].update(groups.unique().to_pylist())
                _check_groups(name, len(seen[name]), config)  # at once: a column of URLs would fill the memory
                yield quantiles.spread(name, groups, values, weights, level, wanted)
            context.progress(scores.num_rows)

    found = quantiles.merged(histograms())
    with context.create("histogram") as sink, TableWriter(sink, quantiles.HISTOGRAM) as writer:
        writer.write(found)
    return counts


def narrow_all(context: Context) -> Counts:
    """Steps `narrow…` and `boundaries`: which buckets hold a boundary, at last the boundaries themselves."""
    config: ClassifyConfig = context.config
    level = int(context.task.params["level"])
    wanted = read_wanted(context, "wanted") if level else None
    found = quantiles.merged(_read(context, file, quantiles.HISTOGRAM) for file in context.task.inputs["histograms"])
    for row in found.group_by("column").aggregate([("group", "count_distinct")]).to_pylist():
        _check_groups(row["column"], row["group_count_distinct"], config)
    parts: dict[str, list[int]] = {}
    for score, count in quantile_columns(config.quantiles).values():
        parts.setdefault(score, []).append(count)
    narrowed = quantiles.narrow(found, parts, level, wanted)
    with context.create("wanted") as sink, TableWriter(sink, quantiles.WANTED) as writer:
        writer.write(narrowed)
    return Counts(records=found.num_rows, kept=narrowed.num_rows)


def read_wanted(context: Context, name: str) -> pa.Table:
    """What a step `narrow…` or `boundaries` wrote."""
    return _read(context, context.input(name), quantiles.WANTED)


def _read(context: Context, file: File, schema: pa.Schema) -> pa.Table:
    with context.open(file) as stream:
        return pq.read_table(stream).select(schema.names).cast(schema)


def _pages(context: Context, config: ClassifyConfig) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | None]]:
    """Scores of all shards of the group, with the same rows of their documents where quantiles ask for these."""
    names = [BYTES, *LABELS, *config.quantiles]
    columns = documents_columns(config.quantiles)
    documents = context.task.inputs.get("docs", ())
    for number, file in enumerate(context.task.inputs["scores"]):
        with context.open(file) as stream:
            scores = read_batches(stream, names, BATCH)
            if not columns:
                yield from ((batch, None) for batch in scores)
                continue
            with context.open(documents[number]) as docs:
                check_columns(read_schema(docs), config.quantiles)
                yield from side_by_side(scores, read_batches(docs, columns, BATCH))


def _check_groups(name: str, groups: int, config: ClassifyConfig) -> None:
    """UsageError for a column of too many values: URLs, say."""
    if groups > MOST_GROUPS:
        raise UsageError(
            f"classify.quantiles.{name}.within: column {config.quantiles[name].within!r} has more than {MOST_GROUPS} "
            "values: give one of fewer"
        )
