"""Columns of `signatures` as arrays, and the column that says how good a page is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curate.pipeline.errors import UsageError, nearest

Array = np.ndarray[Any, Any]


def fixed_bytes(column: pa.ChunkedArray, width: int) -> Array:
    """A column of `width` bytes a row, without nulls, of any binary type. Shape (rows, width)."""
    array = _whole(column)
    data = array.buffers()[-1]
    if data is None or not len(array):
        return np.zeros((0, width), np.uint8)
    if pa.types.is_fixed_size_binary(array.type):
        first = array.offset * width
    else:
        first = np.frombuffer(array.buffers()[1], np.int32, 1, array.offset * 4)[0]
    return np.frombuffer(data, np.uint8, len(array) * width, first).reshape(-1, width)


def key_matrix(column: pa.ChunkedArray, width: int) -> Array:
    """A column of lists of `width` keys, without nulls. Shape (rows, width)."""
    return _whole(column).flatten().to_numpy().reshape(-1, width)


def lookup(among: Array, values: Array) -> tuple[Array, Array]:
    """Where each value stands in an ascending array, and whether it is there; the place of one that is not means nothing."""
    places = np.minimum(np.searchsorted(among, values), max(len(among) - 1, 0))
    return places, among[places] == values if len(among) else np.zeros(len(values), np.bool_)


def check_quality_column(schema: pa.Schema, path: str, name: str) -> None:
    """UsageError unless documents of this schema have a column of numbers of that name, or with dots a number of a struct."""
    numbers = {found for field in schema for found in _numbers(field.type, field.name)}
    if name not in numbers:
        raise UsageError(
            f"dedup.keep: quality needs a number, and {path} has none named {name!r} (dedup.quality_column)"
            f"{nearest(name, numbers)}"
        )


def _numbers(kind: pa.DataType, name: str) -> list[str]:
    if pa.types.is_struct(kind):
        return [found for field in kind for found in _numbers(field.type, f"{name}.{field.name}")]
    return [name] if pa.types.is_integer(kind) or pa.types.is_floating(kind) else []


def parts_of(labels: Array, parts: int) -> Array:
    """The part of each cluster, by a hash of its label (Fibonacci's): labels themselves have a pattern, as pairs of neighbours
    that are all even."""
    mixed = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
    return (mixed % np.uint64(parts)).astype(np.int64)


def _whole(column: pa.ChunkedArray) -> Any:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array
