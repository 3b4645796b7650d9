"""Step `report`: the figures of a scope's clusters, from those of its parts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.config import DedupConfig

LARGEST = 20
"""Clusters that the report names."""


class Figures:
    """What the report says of the clusters of a part: how many, of which sizes, the largest."""

    def __init__(self, sizes: Any) -> None:
        """`sizes` are the pages of each cluster, those of one page among them."""
        self._sizes = sizes
        self._least = np.full(len(sizes), np.nan)

    def add(self, index: Any, similarity: pa.ChunkedArray) -> None:
        """Pages of the clusters `index`, with their similarity to the page kept."""
        if similarity.null_count < len(similarity):
            np.fmin.at(self._least, index, similarity.to_numpy())

    def of_part(self, ids: pa.ChunkedArray) -> dict[str, Any]:
        """As JSON; `ids` are those of the pages kept, a cluster each."""
        several = np.flatnonzero(self._sizes > 1)
        sizes = self._sizes[several]
        powers = np.floor(np.log2(sizes)).astype(np.int64)
        largest = several[np.argsort(-sizes, kind="stable")]
        # all of the size of the last are ordered by id before the list is cut
        largest = largest[self._sizes[largest] >= self._sizes[largest[:LARGEST]].min(initial=2**62)]
        named = [
            {"kept_id": id, "size": int(self._sizes[row]), "least_similarity": _rounded(self._least[row])}
            for row, id in zip(largest.tolist(), ids.take(pa.array(largest)).to_pylist(), strict=True)
        ]
        return {
            "clusters": len(several),
            "clustered": int(sizes.sum()),
            "sizes": [
                [int(power), int((powers == power).sum()), int(sizes[powers == power].sum())]
                for power in np.unique(powers)
            ],
            "largest": _cut(named),
        }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _cut(named: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(named, key=lambda item: (-item["size"], item["kept_id"] or ""))[:LARGEST]


def write_report(context: Context) -> Counts:
    """Adds up the figures of a scope's parts."""
    config: DedupConfig = context.config
    parts = [_read(context, file) for file in context.task.inputs["figures"]]
    sizes: dict[int, list[int]] = {}
    for part in parts:
        for power, clusters, documents in part["sizes"]:
            held = sizes.setdefault(power, [0, 0])
            held[0] += clusters
            held[1] += documents
    clusters, clustered = (sum(part[name] for part in parts) for name in ("clusters", "clustered"))
    documents = context.task.params["documents"]
    report = {
        "schema_version": 1,
        "scope": context.task.key,
        "documents": documents,
        "clusters": clusters,
        "clustered": clustered,
        "removed": clustered - clusters,
        "sizes": [
            {"from": 2**power, "to": 2 ** (power + 1) - 1, "clusters": sizes[power][0], "documents": sizes[power][1]}
            for power in sorted(sizes)
        ],
        "largest": _cut([item for part in parts for item in part["largest"]]),
    }
    if config.verify or config.max_cluster:
        report["verification"] = _verification(context, config)
    with context.create("report") as output:
        output.write(as_json(report))
    return Counts(records=documents, kept=documents)


def _verification(context: Context, config: DedupConfig) -> dict[str, Any]:
    parts = [_read(context, file) for file in context.task.inputs["verified"]]
    total = {name: sum(part[name] for part in parts) for name in (parts[0] if parts else {})}
    if parts:
        total["largest"] = max(part["largest"] for part in parts)
    return {
        "by": config.verify,
        "threshold": round(config.verified_from, 4) if config.verify else None,
        "max_cluster": config.max_cluster,
        "strict_threshold": round(config.strict_from, 4) if config.max_cluster else None,
        **total,
    }


def _read(context: Context, file: Any) -> dict[str, Any]:
    with context.open(file) as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def as_json(value: Any) -> bytes:
    """A file of a value."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
