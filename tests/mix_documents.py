"""Small documents for tests of the mix, as classify would leave them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.pipeline.documents import DOCUMENT, TableWriter
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace

SCHEMA = DOCUMENT.append(pa.field("quality", pa.float32())).append(pa.field("topic", pa.string()))
TOPICS = ("science", "sport", None)
WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "über",
    "naïve",
    "東京",
    "epsilon",
    "zeta",
    "123",
    "4567",
    "foo-bar",
    "baz.",
    "qux,",
    "'tis",
    "∑",
]
SMALL: dict[str, Any] = {"tokenizer": {"vocab_size": 400}, "validation": 0.1, "shard_tokens": 4_000}


def documents(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Documents of 1 to 300 words; a third of them in a second snapshot too, under the same id."""
    random = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for number in range(count):
        text = " ".join(random.choice(WORDS, int(random.integers(1, 300))))
        row: dict[str, Any] = {
            "id": f"doc-{number:04d}",
            "snapshot": "CC-1",
            "text": text,
            "language": "en" if number % 2 else "de",
        }
        row |= {"topic": TOPICS[number % 3], "quality": float(random.random()) if number % 5 else None}
        made.append(row)
        if number % 3 == 0:
            made.append(row | {"snapshot": "CC-2"})
    return made


def write_shards(workspace: Workspace, documents: Sequence[dict[str, Any]], count: int) -> list[Shard]:
    parts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, row in enumerate(documents):
        parts[f"{row['snapshot']}/part-{number % count}"].append(row)
    found = []
    for key, own in parts.items():
        name = f"classify/docs/{key}.parquet"
        with workspace.create(name) as output, TableWriter(output, SCHEMA) as table:
            table.write_rows(own)
        found.append(Shard(key, File(name, output.sha256, output.size), len(own)))
    return sorted(found, key=lambda shard: shard.key)
