"""Documents and ledger rows as Arrow tables: schemas, bounded reading, bounded writing.

Parquet with zstd, readable by DuckDB, Polars, pandas and Hugging Face `datasets` as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.workspace import Output

BATCH_ROWS = 1_000
"""Documents in a batch at most: a batch is what a stage holds in memory at a time."""
BATCH_BYTES = 64 << 20
"""Bytes of a batch's columns at most, unless one document alone is larger."""

DOCUMENT = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("date", pa.timestamp("ms", tz="UTC")),
        ("snapshot", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("has_math", pa.bool_()),
        ("math_prefilter", pa.bool_()),
        ("truncated", pa.string()),
        ("robots", pa.string()),
        ("license", pa.string()),
        ("engine", pa.string()),
        ("confidence", pa.float32()),
    ]
)
"""What extract writes. `offset` is the record's byte offset in `source` (row number for JSONL and Parquet). `engine` names
whose text it is, and `confidence` says how sure that engine (or the one that was asked before it) is of the text; null where
an engine cannot say.
`language` and `language_score` are what the page declares, and null, until filter measures them. Later stages append
columns: filter `signals` (struct), dedup `duplicates` (int32, size of its cluster), classify `quality`, `math`,
`edu` (float32) and `topic` (string)."""

SCORES = ("quality", "math", "edu")
"""Columns of scores that classify appends."""
QUANTILES = ("percentile", "quartile", "quintile", "decile", "vigintile")
"""Ends of the names of columns that say where a score stands among all, as in `quality_vigintile`."""

FAILED_RULE = pa.struct(
    [("rule", pa.string()), ("value", pa.float64()), ("bound", pa.string()), ("threshold", pa.float64())]
)

SPAN = pa.struct([("kind", pa.string()), ("start", pa.int32()), ("stop", pa.int32())])
"""A stretch of a text: characters from `start` to before `stop`, and what stands there (`email`, `ip`, …)."""

LEDGER = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("snapshot", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("stage", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("kept_id", pa.string()),
        ("detail", pa.string()),
        ("failed", pa.list_(FAILED_RULE)),
        ("spans", pa.list_(SPAN)),
    ]
)
"""One row for every record that did not go on. `outcome` is `dropped` or `quarantined`; `reason` the first rule that
failed, with its measured `value` and its `threshold`; `failed` all of them; `kept_id` the page kept for a duplicate.
`spans` are what a stage found where in the text that it measured, null where nothing: never what stands there."""


class TableWriter:
    """A Parquet file written batch by batch in row groups of bounded size; the same rows give the same bytes."""

    def __init__(self, sink: Output | IO[bytes], schema: pa.Schema, *, level: int = 3) -> None:
        self.schema = schema
        self._rows = 0
        self._loose: list[dict[str, Any]] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self._writer = pq.ParquetWriter(
            sink, schema, compression="zstd", compression_level=level, write_statistics=True
        )

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._rows + len(self._loose)

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Adds rows; columns are put in the schema's order and cast to its types."""
        self._gather()
        self._add(batch)

    def _add(self, batch: pa.RecordBatch | pa.Table) -> None:
        for part in _batches(batch, self.schema):
            for start in range(0, part.num_rows, BATCH_ROWS):
                piece = part.slice(start, BATCH_ROWS)
                if self._pending_rows and (
                    self._pending_rows + piece.num_rows > BATCH_ROWS or self._pending_bytes + piece.nbytes > BATCH_BYTES
                ):
                    self._flush()
                self._pending.append(piece)
                self._pending_rows += piece.num_rows
                self._pending_bytes += piece.nbytes
        self._rows += batch.num_rows

    def write_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds rows given as dictionaries; missing keys are null."""
        self._loose += rows
        if len(self._loose) >= BATCH_ROWS:
            self._gather()

    def _gather(self) -> None:
        """Rows that came one by one become a batch: a batch for each would cost half a millisecond."""
        if self._loose:
            self._add(pa.RecordBatch.from_pylist(self._loose, schema=self.schema))
            self._loose = []

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending, self.schema), row_group_size=BATCH_ROWS)
            self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def close(self) -> None:
        self._gather()
        self._flush()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(Exception):  # the file is thrown away: only Arrow's own handle is let go
            self._writer.close()


def _batches(rows: pa.RecordBatch | pa.Table, schema: pa.Schema) -> list[pa.RecordBatch]:
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    batches: list[pa.RecordBatch] = table.select(schema.names).cast(schema).to_batches()
    return batches


def read_batches(
    stream: IO[bytes], columns: Sequence[str] | None = None, rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file, at most so many rows each: one a row group as we write them, unless told otherwise."""
    with pq.ParquetFile(stream) as file:
        yield from file.iter_batches(batch_size=rows, columns=None if columns is None else list(columns))


def side_by_side(
    first: Iterator[pa.RecordBatch], second: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Batches of two tables of as many rows each, cut so that the same rows stand in both."""
    left = right = None
    while True:
        left = next(first, None) if left is None or not left.num_rows else left
        right = next(second, None) if right is None or not right.num_rows else right
        if left is None or right is None:
            return
        size = min(left.num_rows, right.num_rows)
        yield left.slice(0, size), right.slice(0, size)
        left, right = left.slice(size), right.slice(size)


def read_schema(stream: IO[bytes]) -> pa.Schema:
    """The Arrow schema of a Parquet file."""
    return pq.read_schema(stream)


def with_column(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    """The batch with one column replaced, or appended where there is none of that name."""
    index = batch.schema.get_field_index(name)
    if index >= 0:
        return batch.set_column(index, pa.field(name, values.type), values)
    return batch.append_column(pa.field(name, values.type), values)


def with_field(schema: pa.Schema, name: str, kind: pa.DataType) -> pa.Schema:
    """The schema with one field's type replaced, or the field appended."""
    index = schema.get_field_index(name)
    return schema.set(index, pa.field(name, kind)) if index >= 0 else schema.append(pa.field(name, kind))


def nested_type(schema: pa.Schema, name: str, where: str, others: Sequence[str] = ()) -> pa.DataType:
    """The type of a column, or of a field within one (`signals.word_count`); UsageError that begins with `where` and names
    the nearest of the columns and of `others` where there is none."""
    kind: pa.DataType = pa.struct(schema)
    path = ""
    for part in name.split("."):
        index = kind.get_field_index(part) if pa.types.is_struct(kind) else -1
        if index < 0:
            choices = [path + inner.name for inner in kind] if pa.types.is_struct(kind) else list(schema.names)
            raise UsageError(f"{where}: the documents have no column {name!r}{nearest(name, (*choices, *others))}")
        kind, path = kind.field(index).type, f"{path}{part}."
    return kind


def nested_values(batch: pa.RecordBatch, name: str) -> pa.Array:
    """The values of a column, or of a field within one."""
    top, *inner = name.split(".")
    values = batch.column(top)
    for part in inner:
        values = pc.struct_field(values, part)
    return values
