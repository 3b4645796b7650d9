"""Steps `bands`, `edges` and `components`: from the keys of every page to the clusters of a scope."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.clusters import Clusters, links
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.ids import read_shadows
from curate.stages.partitions import PartWriter, read_part

KEYS = pa.schema([("key", pa.uint64()), ("check", pa.uint64()), ("document", pa.int64())])
"""A row for each key of each page with words that does not go for its id: band keys, and the exact hash's halves as `key`
and `check` (0 for bands)."""
EDGES = pa.schema([("smallest", pa.int64()), ("document", pa.int64())])
"""Two pages that share a key; a part for each block of pages, that of `document`."""
EDGES_AS = {"use_dictionary": False, "column_encoding": {"document": "DELTA_BINARY_PACKED"}}
"""How they are written: numbers of which few come twice, those of `document` ascending."""
COMPONENTS = pa.schema([("document", pa.int64()), ("label", pa.int64())])
"""The pages of clusters of two or more; a part for each group. `label` is the cluster's smallest page."""


def write_bands(context: Context) -> Counts:
    """The keys of a group's pages, a part for each range of keys, and the links within the group as `links`.

    Pages that go for their id have no keys: they neither link others nor stay.

    Of the pages that share a key here only the smallest goes on: so no key has more rows than there are groups, and a part
    is bounded however often a page is copied.
    """
    config: DedupConfig = context.config
    counts = Counts()
    base, parts = context.task.params["base"], context.task.params["parts"]
    wanted = [
        "empty",
        *(("hash_high", "hash_low") if config.exact else ()),
        *(("bands",) if config.minhash.enabled else ()),
    ]
    shadows = read_shadows(context).column("document").to_numpy()
    pieces = []
    for file in context.task.inputs["signatures"]:
        with context.open(file) as stream:
            table = pq.read_table(stream, columns=wanted)
        pieces.append(_keys(table, base + counts.records, shadows, config))
        counts.records += table.num_rows
        context.progress(table.num_rows)
    started = time.perf_counter()
    keys = pa.concat_tables(pieces)
    del pieces
    smallest, others, heads = links(*(keys.column(name).to_numpy() for name in KEYS.names))
    keys = keys.take(pa.array(heads))
    counts.seconds["link"] += time.perf_counter() - started
    with context.create("links") as output, PartWriter(output, EDGES, **EDGES_AS) as writer:
        writer.write(context.task.params["block"], pa.table([smallest, others], schema=EDGES))
    with context.create("bands") as output, PartWriter(output, KEYS) as writer:
        # the highest bits choose the part: equal keys always share one
        ranges = (keys.column("key").to_numpy() >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)
        writer.scatter(keys, ranges.astype(np.int64))
    counts.kept = counts.records
    return counts


def _keys(signatures: pa.Table, first: int, shadows: Any, config: DedupConfig) -> pa.Table:
    linked = ~signatures.column("empty").to_numpy()
    start, end = np.searchsorted(shadows, [first, first + len(linked)]).tolist()
    linked[shadows[start:end] - first] = False
    rows = np.flatnonzero(linked)
    keys, checks = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    each = 0
    if config.exact:
        keys.append(signatures.column("hash_high").to_numpy()[rows])
        checks.append(signatures.column("hash_low").to_numpy()[rows])
        each += 1
    if config.minhash.enabled:
        bands = signatures.column("bands").combine_chunks().flatten().to_numpy().reshape(-1, config.minhash.bands)[rows]
        keys.extend(bands.T)
        checks.append(np.zeros(bands.size, np.uint64))
        each += config.minhash.bands
    columns = [np.concatenate(keys), np.concatenate(checks), np.tile(rows.astype(np.int64) + first, each)]
    return pa.table(columns, schema=KEYS)


def write_edges(context: Context) -> Counts:
    """The links between pages of several groups that share a key of this part's range."""
    part = context.task.params["part"]
    pieces = [KEYS.empty_table()]
    for file in context.task.inputs["bands"]:
        with context.open(file) as stream:
            pieces.extend(read_part(stream, part))
    keys = pa.concat_tables(pieces)
    started = time.perf_counter()
    smallest, others, _ = links(*(keys.column(name).to_numpy() for name in KEYS.names))
    seconds = time.perf_counter() - started
    with context.create("edges") as output, PartWriter(output, EDGES, **EDGES_AS) as writer:
        blocks = np.searchsorted(context.task.params["blocks"], others, side="right") - 1
        writer.scatter(pa.table([smallest, others], schema=EDGES), blocks)
    counts = Counts(records=keys.num_rows, kept=keys.num_rows)
    counts.seconds["link"] += seconds
    return counts


def write_components(context: Context) -> Counts:
    """The clusters of a scope that one task can hold."""
    params = context.task.params
    documents = params["end"] - params["start"]
    counts = Counts(records=documents, kept=documents)
    started = time.perf_counter()
    clusters = Clusters(documents)
    for file in context.task.inputs["edges"]:
        with context.open(file) as stream:
            for piece in read_part(stream, 0):
                clusters.join(piece.column("smallest").to_numpy(), piece.column("document").to_numpy())
    labels, clustered = clusters.labels(), clusters.clustered()
    counts.seconds["union"] += time.perf_counter() - started
    with context.create("components") as output, PartWriter(output, COMPONENTS) as writer:
        write_groups(writer, labels, clustered, params)
    context.progress(documents)
    return counts


def write_groups(writer: PartWriter, labels: Any, clustered: Any, params: Mapping[str, Any]) -> None:
    """A part for each group of the clustered pages; `labels` are those of the pages from `params["start"]` on."""
    for number, end, base in zip(params["groups"], params["ends"], [params["start"], *params["ends"]], strict=False):
        first, last = base - params["start"], end - params["start"]
        members = first + np.flatnonzero(clustered[first:last])
        found = labels[members].astype(np.int64, copy=False)
        writer.write(number, pa.table([members + params["start"], found], schema=COMPONENTS))
