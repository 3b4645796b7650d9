"""One reader for every format of input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO

from curate.stages.extract.records import Item, from_damage, from_warc
from curate.stages.extract.tables import read_jsonl, read_parquet
from curate.stages.extract.warc import PREFIX, Damage, read_warc


def read_records(
    stream: IO[bytes], kind: str, name: str, size: int, max_bytes: int, columns: Mapping[str, str | None]
) -> Iterator[Item]:
    """Every record of a file of format `warc`, `jsonl` or `parquet`, in its order; damaged stretches as Rejected.

    `name` tells compression by its ending, `size` is the file's bytes (0: not known), `max_bytes` a page's limit;
    `columns` maps text, html, id, url and date to the columns of JSONL and Parquet.
    """
    if kind == "jsonl":
        yield from read_jsonl(stream, name, max_bytes, columns)
    elif kind == "parquet":
        yield from read_parquet(stream, max_bytes, columns)
    else:
        for item in read_warc(stream, name, size, max_bytes + PREFIX):
            yield from_damage(item) if isinstance(item, Damage) else from_warc(item, max_bytes)
