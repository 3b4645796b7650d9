"""Parquet files in parts: one file a task, row groups by part, so that shuffles never make a file for each pair of tasks.

Which row groups hold a part stands in the file's own metadata: a reader opens the footer and fetches its part alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pipeline.workspace import Output

_KEY = b"curate.parts"
GROUP_ROWS = 100_000
"""Rows in a row group at most."""


class PartWriter:
    """Writes parts of a table in ascending order; a part may come in several pieces, one after another."""

    def __init__(self, sink: Output | IO[bytes], schema: pa.Schema, **options: Any) -> None:
        """`options` are those of Parquet's writer, such as encodings."""
        self.schema = schema
        self._parts: dict[str, list[int]] = {}
        self._groups = 0
        self._writer = pq.ParquetWriter(sink, schema, compression="zstd", compression_level=1, **options)

    def write(self, part: int, rows: pa.Table) -> None:
        """Adds rows to a part."""
        if rows.num_rows == 0:
            return
        self._writer.write_table(rows.select(self.schema.names).cast(self.schema), row_group_size=GROUP_ROWS)
        groups = -(-rows.num_rows // GROUP_ROWS)
        first, count = self._parts.get(str(part), [self._groups, 0])
        if first + count != self._groups:
            raise ValueError(f"part {part} is not written in one go")
        self._parts[str(part)] = [first, count + groups]
        self._groups += groups

    def scatter(self, rows: pa.Table, parts: np.ndarray[Any, Any]) -> None:
        """Writes each row to its part; within a part the rows keep their order."""
        for part, its in by_part(parts):
            self.write(part, rows.take(pa.array(its)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._writer.add_key_value_metadata({_KEY.decode(): json.dumps(self._parts)})
            self._writer.close()
            return
        with contextlib.suppress(OSError, pa.ArrowException):  # the file is thrown away: only Arrow's handle is let go
            self._writer.close()


def by_part(parts: np.ndarray[Any, Any]) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Each part that there is, ascending, with the numbers of its rows, ascending."""
    order = np.argsort(parts, kind="stable")
    numbers, starts, counts = np.unique(parts[order], return_index=True, return_counts=True)
    for part, start, count in zip(numbers.tolist(), starts, counts, strict=True):
        yield part, order[start : start + count]


def read_part(stream: IO[bytes], part: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The pieces of a part, each of at most GROUP_ROWS rows; none where the part is empty."""
    with pq.ParquetFile(stream) as file:
        first, count = json.loads(file.metadata.metadata[_KEY]).get(str(part), (0, 0))
        for group in range(first, first + count):
            yield file.read_row_group(group, columns=None if columns is None else list(columns))
