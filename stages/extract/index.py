"""The hash index of a shard: does it hold a record of this id or URL, kept or not? `curate why` asks it."""

from __future__ import annotations

from array import array

import numpy as np
import pyarrow as pa

from curate.pipeline.documents import TableWriter
from curate.pipeline.stage import Context
from curate.pipeline.why import index_key

INDEX = pa.schema([("key", pa.uint64()), ("kind", pa.string())])
"""`key` is the xxh3_64 of an id or a URL in UTF-8, ascending; `kind` is `id` or `url`."""
_CHUNK = 100_000


class IndexBuilder:
    """Collects keys, 8 bytes each, and writes them sorted, each once."""

    def __init__(self) -> None:
        self._keys = {"id": array("Q"), "url": array("Q")}

    def add(self, identity: str | None, url: str | None) -> None:
        for kind, value in (("id", identity), ("url", url)):
            if value:
                self._keys[kind].append(index_key(value))

    def write(self, context: Context) -> None:
        """Writes the task's output `index`."""
        ids, urls = (np.unique(np.frombuffer(keys, dtype=np.uint64)) for keys in self._keys.values())
        keys = np.concatenate([ids, urls])
        order = np.argsort(keys, kind="stable")
        with context.create("index") as output, TableWriter(output, INDEX) as table:
            for start in range(0, len(keys), _CHUNK):
                part = order[start : start + _CHUNK]
                kinds = pa.array(np.where(part < len(ids), "id", "url"))
                table.write(pa.RecordBatch.from_arrays([pa.array(keys[part]), kinds], schema=INDEX))
