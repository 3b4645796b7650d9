"""A text of the mix as a row: its columns, and JSON lines of them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from types import TracebackType
from typing import IO, Any, Self, cast

import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from curate.pipeline.documents import SCORES
from curate.pipeline.workspace import Output

TEXT = pa.schema(
    [
        ("id", pa.string()),
        ("snapshot", pa.string()),
        ("url", pa.string()),
        ("date", pa.timestamp("ms", tz="UTC")),
        ("text", pa.string()),
        ("language", pa.string()),
        ("bucket", pa.string()),
        ("repeat", pa.int32()),
        ("tokens", pa.int32()),
        ("cut", pa.int32()),
        ("language_score", pa.float32()),
        ("topic", pa.string()),
        *((name, pa.float32()) for name in SCORES),
    ]
)
"""One row a copy of a document, in the order of the mix. `repeat`: copies of it that came before. `tokens`: those taken, with
the end-of-text token. `cut`: those left out at the end, 0 but for one copy at most, which ends where the budget does; its text
is what its tokens decode to (the last character is U+FFFD where they end within one), all others are the documents' own."""
WHERE_THERE = ("language_score", "topic", *SCORES)
"""Columns that only a mix has of which some document has them."""
WANTED = ("id", "snapshot", "url", "date", "text", "language", *WHERE_THERE)
"""Columns that come from the document."""


def text_schema(found: Collection[str]) -> pa.Schema:
    """`TEXT` less those columns that no document has; `found` are those of the documents."""
    return pa.schema([field for field in TEXT if field.name not in WHERE_THERE or field.name in found])


class JsonLines:
    """Rows as JSON lines in one zstd frame: UTF-8, one object a line, its keys in the schema's order.

    A time is `2026-01-31T12:00:00.000Z`, a number that JSON does not have (NaN, infinity) null, a float32 the shortest
    number that is it. The same rows give the same bytes.
    """

    def __init__(self, sink: Output | IO[bytes], schema: pa.Schema, *, level: int = 3) -> None:
        self.schema = schema
        self._stream = zstandard.ZstdCompressor(level=level).stream_writer(cast(IO[bytes], sink), closefd=False)

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows, which have the schema's columns."""
        names = self.schema.names
        columns = [_plain(batch.column(name)) for name in names]
        for row in zip(*columns, strict=True):
            line = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False)
            self._stream.write(line.encode() + b"\n")

    def close(self) -> None:
        self._stream.flush(zstandard.FLUSH_FRAME)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()


def _plain(values: pa.Array) -> list[Any]:
    """The values as JSON has them."""
    if pa.types.is_timestamp(values.type):
        found: list[Any] = pc.replace_substring(values.cast(pa.string()), " ", "T").to_pylist()
        return found
    if pa.types.is_floating(values.type):
        numbers = (None if text is None else float(text) for text in values.cast(pa.string()).to_pylist())
        return [number if number is not None and math.isfinite(number) else None for number in numbers]
    return list(values.to_pylist())
