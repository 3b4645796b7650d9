"""Synthetic pools of tokens for the benches of `mix`: what its step `tokenize` would have left, without the text.

Lengths of documents are those of web pages (lognormal: median 500 tokens, mean about 900), topics are as unequal as on the
web, quality is a vigintile; ids are random. Shards go to `stage.POOL`, so that buckets, counts, allocation and both passes
run as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.mixtures.encode import ENCODED
from curate.mixtures.hashing import document_keys, id_keys
from curate.mixtures.tokenizer import train_tokenizer
from curate.pipeline.documents import TableWriter
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace

SEED = 7


@dataclass(frozen=True)
class Lengths:
    """Tokens of a document: lognormal, cut at `longest`."""

    median: float = 500
    sigma: float = 1.1
    longest: int = 200_000

    def draw(self, random: np.random.Generator, count: int) -> npt.NDArray[np.int32]:
        values = random.lognormal(np.log(self.median), self.sigma, count)
        return np.clip(values, 2, self.longest).astype(np.int32)


def topics(random: np.random.Generator, count: int, kinds: int) -> npt.NDArray[np.int64]:
    """A topic for each document: the k-th is as frequent as 1 / (k + 1)."""
    chances = 1 / np.arange(1, kinds + 1)
    return random.choice(kinds, count, p=chances / chances.sum())


def write_pool(
    folder: Path, documents: int, shards: int, *, kinds: int = 24, lengths: Lengths | None = None
) -> list[Shard]:
    """Writes a pool into a workspace and gives its shards for `stage.POOL`; the same arguments give the same bytes."""
    place = Workspace(folder)
    random = np.random.default_rng(SEED)
    tokenizer = _write(place, "tokenizer.json", train_tokenizer(iter(["synthetic"] * 3), 300).encode())
    found = []
    for number, count in enumerate(np.diff(np.linspace(0, documents, shards + 1).astype(int)).tolist()):
        key = f"SYN/{number:05d}"
        ids = [f"doc-{number:05d}-{row:08d}" for row in range(count)]
        sizes = (lengths or Lengths()).draw(random, count)
        columns = {
            "topic": pa.array([f"topic-{kind:02d}" for kind in topics(random, count, kinds)]),
            "quality_vigintile": pa.array(random.integers(0, 20, count).astype(np.int32)),
        }
        files = {
            "docs": _table(place, f"docs/{key}.parquet", pa.table(columns)),
            "index": _table(place, f"index/{key}.parquet", _index(ids, sizes)),
            "tokens": _tokens(place, f"tokens/{key}.bin", random, sizes),
        }
        params: dict[str, Any] = {"tokens": files["tokens"], "index": files["index"], "tokenizer": tokenizer}
        found.append(Shard(key, files["docs"], count, params))
    return found


def _index(ids: list[str], sizes: npt.NDArray[np.int32]) -> pa.Table:
    names, snapshots = pa.array(ids), pa.array(["SYN"] * len(ids))
    columns = {
        "id": names,
        "snapshot": snapshots,
        "start": np.cumsum(sizes, dtype=np.int64) - sizes,
        "tokens": sizes,
        "bytes": sizes.astype(np.int64) * 4,
        "language": pa.array(["en"] * len(ids)),
        "key": document_keys(names, snapshots, SEED),
        "held": id_keys(names, SEED),
    }
    return pa.table([pa.array(columns[name]) for name in ENCODED.names], schema=ENCODED)


def _table(place: Workspace, name: str, table: pa.Table) -> File:
    with place.create(name) as output, TableWriter(output, table.schema) as writer:
        writer.write(table)
    return File(place.path(name), output.sha256, output.size, external=True)


def _tokens(place: Workspace, name: str, random: np.random.Generator, sizes: npt.NDArray[np.int32]) -> File:
    ids = random.integers(1, 300, int(sizes.sum()), dtype=np.uint16)
    ids[np.cumsum(sizes) - 1] = 0
    return _write(place, name, memoryview(ids.view(np.uint8)))


def _write(place: Workspace, name: str, data: bytes | memoryview) -> File:
    with place.create(name) as output:
        output.write(data)
    return File(place.path(name), output.sha256, output.size, external=True)
