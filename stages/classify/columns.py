"""Columns of the documents that quantiles ask for: groups and counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.classifiers.quantiles import Int64
from curate.pipeline.documents import nested_type, nested_values
from curate.pipeline.errors import UsageError
from curate.stages.classify.config import LABELS, ROWS, TOKENS, QuantileConfig

UNKNOWN = "unknown"
"""The group of pages in which the column is null."""
MOST_WEIGHT = 1 << 32
"""A page counts for no more: sums over two billion pages stay within 64 bits."""


def check_columns(schema: pa.Schema, quantiles: Mapping[str, QuantileConfig]) -> None:
    """UsageError unless the documents have the columns that quantiles name, of strings and of integers."""
    for name, quantile in quantiles.items():
        if quantile.within is not None and quantile.within not in LABELS:
            kind = nested_type(schema, quantile.within, f"classify.quantiles.{name}.within", tuple(LABELS))
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
                raise UsageError(
                    f"classify.quantiles.{name}.within: column {quantile.within!r} ({kind}) holds no strings"
                )
        if quantile.by not in (TOKENS, ROWS):
            kind = nested_type(schema, quantile.by, f"classify.quantiles.{name}.by", (TOKENS, ROWS))
            if not pa.types.is_integer(kind):
                raise UsageError(
                    f"classify.quantiles.{name}.by: column {quantile.by!r} ({kind}) holds no whole numbers"
                )


def documents_columns(quantiles: Mapping[str, QuantileConfig]) -> list[str]:
    """The columns of the documents that hold what quantiles name, each once."""
    names = [quantile.within for quantile in quantiles.values() if quantile.within not in (None, *LABELS)]
    names += [quantile.by for quantile in quantiles.values() if quantile.by not in (TOKENS, ROWS)]
    return list(dict.fromkeys(str(name).split(".", 1)[0] for name in names))


def groups_of(scores: pa.RecordBatch, documents: pa.RecordBatch | None, quantile: QuantileConfig) -> pa.Array:
    """The group of each page, a string and never null."""
    if quantile.within is None:
        return pa.array([""] * scores.num_rows, pa.string())
    if quantile.within in LABELS:
        values = scores.column(quantile.within)
    else:
        assert documents is not None
        values = nested_values(documents, quantile.within)
    return pc.fill_null(values.cast(pa.string()), UNKNOWN)


def weights_of(scores: pa.RecordBatch, documents: pa.RecordBatch | None, quantile: QuantileConfig) -> Int64:
    """How much each page counts: at least 1."""
    if quantile.by == ROWS:
        return np.ones(scores.num_rows, np.int64)
    if quantile.by == TOKENS:
        values = scores.column("bytes")
    else:
        assert documents is not None
        values = nested_values(documents, quantile.by)
    counts: Int64 = pc.fill_null(values.cast(pa.int64(), safe=False), 0).to_numpy()
    return np.clip(counts, 1, MOST_WEIGHT)
