"""Records of JSONL and Parquet files, by a column mapping."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import IO, Any

from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.ledger import QUARANTINED
from curate.stages.extract.decode import Broken, Raw, compression_of, events
from curate.stages.extract.payload import cut
from curate.stages.extract.records import CUT, URL_LIMIT, Page, Rejected, clean, content_id, seconds_of, short_id

BATCH_ROWS = 64
SAMPLE_ROWS = 1_000
"""Rows of a JSONL file after which it is clear that it has no column of the mapped name."""
_NAMES = 50
_NAME_LENGTH = 100


def read_jsonl(
    stream: IO[bytes], name: str, max_bytes: int, columns: Mapping[str, str | None]
) -> Iterator[Page | Rejected]:
    """A record a line that is not blank; `offset` is the line's number, from 0.

    A line that is no JSON object with the mapped column is quarantined (`bad_json`, `bad_row`), and so are one too long to
    be read (`too_large`: over 1 MiB and six times the limit) and what cannot be decompressed. Raises UsageError where the
    mapped column for text or HTML is in none of the first 1,000 objects, or of all where there are fewer.
    """
    number = objects = 0
    content = _content(columns)
    names: set[str] = set()
    there = False
    for row, line in _lines(stream, name, 6 * max_bytes + (1 << 20)):
        if isinstance(line, Broken):
            yield Rejected(number, row, None, None, QUARANTINED, line.reason, line.detail)
        elif isinstance(line, int):
            yield Rejected(number, row, None, None, QUARANTINED, "too_large", f"a line of {line} bytes")
        elif not line.strip():
            continue
        else:
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Rejected(number, row, None, None, QUARANTINED, "bad_json", str(error)[:200])
            else:
                if isinstance(fields, dict):
                    there = there or content in fields
                    if not there:
                        objects += 1
                        names.update(name[:_NAME_LENGTH] for name in islice(fields, _NAMES - len(names)))
                        if objects == SAMPLE_ROWS:
                            raise _no_column(columns, names, f"in the first {objects:,} rows of {name}")
                    yield from_row(number, row, fields, max_bytes, columns)
                else:
                    yield Rejected(number, row, None, None, QUARANTINED, "bad_row", "the line is no JSON object")
        number += 1
    if objects and not there:
        raise _no_column(columns, names, f"in any row of {name}")


def _content(columns: Mapping[str, str | None]) -> str:
    """The column that holds the text or the HTML."""
    return columns["html"] or columns["text"] or "text"


def _no_column(columns: Mapping[str, str | None], names: set[str], where: str) -> UsageError:
    content, printable = _content(columns), {name for name in names if name.isprintable()}
    return UsageError(
        f"input.{'html' if columns['html'] else 'text'}: no column {content!r} {where}{nearest(content, printable)}"
    )


def _lines(stream: IO[bytes], name: str, limit: int) -> Iterator[tuple[int, bytes | int | Broken]]:
    """Number and bytes of each line; its length alone where that is over the limit."""
    raw = Raw(stream)
    row = 0
    parts: list[bytes] = []
    size = 0

    def ended() -> bytes | int:
        return b"".join(parts) if size <= limit else size

    for event in events(raw, compression_of(raw, name), resync=False):
        if isinstance(event, Broken):
            yield row, event
            return
        if not isinstance(event, bytes):
            continue
        pieces = event.split(b"\n")
        for index, piece in enumerate(pieces):
            if index:
                yield row, ended()
                row, parts, size = row + 1, [], 0
            size += len(piece)
            if size <= limit:
                parts.append(piece)
            else:
                parts.clear()
    if size:
        yield row, ended()


def read_parquet(stream: IO[bytes], max_bytes: int, columns: Mapping[str, str | None]) -> Iterator[Page | Rejected]:
    """A record a row; `offset` is the row's number, from 0. A file, or the rest of one, that cannot be read is one row of
    the ledger. Raises UsageError where the file has no column of the mapped name for text or HTML."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(stream) as file:
            names = set(file.schema_arrow.names)
            if _content(columns) not in names:
                raise _no_column(columns, names, "in the file")
            wanted = [name for name in dict.fromkeys(columns.values()) if name is not None and name in names]
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                for index in range(batch.num_rows):
                    fields = {name: batch.column(name)[index].as_py() for name in wanted}
                    yield from_row(row, row, fields, max_bytes, columns)
                    row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        message = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        yield Rejected(row, row, None, None, QUARANTINED, "corrupt_parquet", f"{message}; from row {row} to the end")


def from_row(
    number: int, row: int, fields: dict[str, Any], max_bytes: int, columns: Mapping[str, str | None]
) -> Page | Rejected:
    """A row as a page or a text, cut to `max_bytes`."""
    markup = columns["html"] is not None
    content = fields.get(_content(columns))
    url = _text(fields.get(columns["url"] or "url"))
    url = clean(url)[:URL_LIMIT] if url else None
    identity = short_id(clean(_text(fields.get(columns["id"] or "id")) or ""))
    if isinstance(content, str):
        body = clean(content).encode("utf-8")
    elif isinstance(content, bytes) and markup:
        body = content
    else:
        kind = "missing or null" if content is None else type(content).__name__
        return Rejected(number, row, identity, url, QUARANTINED, "bad_row", f"no text in the row: {kind}")
    identity = identity or content_id(url, body)
    date = seconds_of(fields.get(columns["date"] or "date"))
    charset = "utf-8" if isinstance(content, str) else None
    truncated = CUT if len(body) > max_bytes else None
    return Page(number, row, identity, url, date, cut(body, max_bytes), markup, charset=charset, truncated=truncated)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 256 else None
