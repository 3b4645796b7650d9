"""Buckets: what the mixture weighs, named by the values of a document's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.documents import nested_type, nested_values
from curate.pipeline.errors import UsageError

UNKNOWN = "unknown"
"""The value of a column where it is null or empty."""
ALL = "all"
"""The only bucket where no column is named."""


def check_columns(schema: pa.Schema, by: Sequence[str], bins: Mapping[str, Sequence[float]]) -> None:
    """UsageError unless every column of `by` is there and of a type that can make buckets."""
    for name in by:
        field = nested_type(schema, name, "mix.by")
        if pa.types.is_nested(field) or pa.types.is_binary(field) or pa.types.is_temporal(field):
            raise UsageError(f"mix.by: column {name!r} ({field}) makes no buckets")
        numeric = pa.types.is_integer(field) or pa.types.is_floating(field)
        if pa.types.is_floating(field) and name not in bins:
            raise UsageError(f"mix.by: column {name!r} holds measured numbers: cut it with mix.bins.{name}=[0.3, 0.7]")
        if name in bins and not (numeric or pa.types.is_null(field)):
            raise UsageError(f"mix.bins: column {name!r} ({field}) holds no numbers")


def bucket_names(batch: pa.RecordBatch, by: Sequence[str], bins: Mapping[str, Sequence[float]]) -> pa.Array:
    """The bucket of every document of a batch: its values of `by` joined with `/` (a `/` within a value becomes `|`
    where there are several columns). Type string, shape one a row, no nulls."""
    if not by:
        return pa.array([ALL] * batch.num_rows, pa.string())
    columns = []
    for name in by:
        values = nested_values(batch, name)
        named = _binned(values, bins[name]) if name in bins else _named(values)
        columns.append(pc.replace_substring(named, "/", "|") if len(by) > 1 else named)
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "/")


def bin_names(edges: Sequence[float]) -> list[str]:
    """Names of the bins that edges make, in rising order: `<0.3`, `0.3-0.7`, `>=0.7`; none without edges."""
    if not edges:
        return []
    inner = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    return [f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"]


def _named(values: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.fill_null(pc.equal(text, ""), True), UNKNOWN, text)


def _binned(values: pa.Array, edges: Sequence[float]) -> pa.Array:
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    which = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers, side="right")
    which = np.where(np.isnan(numbers), len(edges) + 1, which)
    return pa.array([*bin_names(edges), UNKNOWN], pa.string()).take(pa.array(which))
