"""One reader for every format of input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO

from curate.pipeline.ledger import QUARANTINED
from curate.stages.extract.records import Item, Rejected, from_damage, from_warc
from curate.stages.extract.tables import read_jsonl, read_parquet
from curate.stages.extract.warc import Damage, read_warc

HTTP_HEADER = 1 << 16
"""Bytes of a record that may stand before the page in it."""


def read_records(
    stream: IO[bytes], kind: str, name: str, size: int, max_bytes: int, columns: Mapping[str, str | None]
) -> Iterator[Item]:
    """Every record of a file of format `warc`, `jsonl` or `parquet`, in its order; damaged stretches as Rejected.

    A WARC or JSONL file without anything in it, packed or not, is one Rejected (`empty_file`): more often than not it is a
    download that failed. A Parquet file says itself that it has no rows.
    `name` tells compression by its ending, `size` is the file's bytes (0: not known), `max_bytes` a page's limit, to which
    longer ones are cut; `columns` maps text, html, id, url and date to the columns of JSONL and Parquet.
    """
    if kind == "parquet":
        yield from read_parquet(stream, max_bytes, columns)
        return
    items: Iterator[Item]
    if kind == "jsonl":
        items = read_jsonl(stream, name, max_bytes, columns)
    else:
        items = _read_warc(stream, name, size, max_bytes)
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        detail = f"no record in {size} bytes" if size else "no record in the file"
        yield Rejected(0, 0, None, None, QUARANTINED, "empty_file", detail)


def _read_warc(stream: IO[bytes], name: str, size: int, max_bytes: int) -> Iterator[Item]:
    for item in read_warc(stream, name, size, max_bytes + HTTP_HEADER):
        yield from_damage(item) if isinstance(item, Damage) else from_warc(item, max_bytes)
