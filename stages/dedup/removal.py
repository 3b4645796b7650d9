"""Step `remove`: a shard without its copies, and a ledger row for each of them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from curate.pipeline.documents import read_batches, read_schema, with_column, with_field
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts, ShardWriter, record_keys, shard_writer
from curate.pipeline.stage import Context
from curate.stages.dedup.choosing import VERDICTS
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.edits import Edits, read_edits
from curate.stages.dedup.ids import SAME_ID
from curate.stages.partitions import read_part

EXACT = "exact_duplicate"
NEAR = "near_duplicate"


def remove(context: Context) -> Counts:
    """Reads the shard's `docs` and its part of `verdicts`; writes `docs` with the column `duplicates`, and `ledger`."""
    config: DedupConfig = context.config
    docs = context.input("docs")
    with context.open(context.input("verdicts")) as stream:
        verdicts = pa.concat_tables([VERDICTS.empty_table(), *read_part(stream, context.task.params["position"])])
    places = verdicts.column("row").to_numpy()
    edits = read_edits(context)
    with context.open(docs) as stream:
        schema = with_field(read_schema(stream), "duplicates", pa.int32())
    with context.open(docs) as stream, shard_writer(context, schema) as writer:
        counts = writer.counts
        for batch in read_batches(stream):
            started = time.perf_counter()
            first = counts.records
            counts.records += batch.num_rows
            start, end = np.searchsorted(places, [first, counts.records]).tolist()
            _settle(writer, batch, first, verdicts.slice(start, end - start), config, edits)
            counts.seconds["remove"] += time.perf_counter() - started
            context.progress(batch.num_rows)
    if counts.records != context.task.params["rows"]:
        raise CurateError(
            f"{docs.path} has {counts.records} rows, its signatures {context.task.params['rows']}: run again"
        )
    return counts


def _settle(
    writer: ShardWriter, batch: pa.RecordBatch, first: int, verdicts: pa.Table, config: DedupConfig, edits: Edits | None
) -> None:
    """Keeps and drops the rows of a batch, the shard's rows from `first` on; `verdicts` are those of its rows."""
    stays = np.ones(batch.num_rows, np.bool_)
    duplicates = np.ones(batch.num_rows, np.int32)
    rows = verdicts.column("row").to_numpy() - first
    stays[rows] = verdicts.column("kept").to_numpy()
    duplicates[rows] = verdicts.column("size").fill_null(1).to_numpy()
    kept = with_column(batch, "duplicates", pa.array(duplicates)).filter(pa.array(stays))
    if edits is None:
        writer.keep(kept)
    else:
        edits.settle(writer, kept, first + np.flatnonzero(stays))
    dropped = [verdict for verdict in verdicts.to_pylist() if not verdict["kept"]]
    records = record_keys(batch, (verdict["row"] - first for verdict in dropped))
    for record, verdict in zip(records, dropped, strict=True):
        if verdict["reason"] is not None:
            kept_id = record["id"] if verdict["reason"] == SAME_ID and not verdict["through"] else verdict["kept_id"]
            writer.drop(record, verdict["reason"], kept_id=kept_id, detail=_place(verdict))
            continue
        exact = config.exact and verdict["exact"]
        # The similarity of a near copy has no threshold: whether two pages are linked is a matter of chance, likelier the
        # more alike they are, and a page may resemble the one kept through others only.
        similarity = None if exact else verdict["similarity"]
        detail = f"one of {verdict['size']} copies"
        writer.drop(record, EXACT if exact else NEAR, value=similarity, kept_id=verdict["kept_id"], detail=detail)


def _place(verdict: dict[str, Any]) -> str:
    """Where the page of the same id or URL stands; the number first, for a long path may be cut off."""
    offset = "" if verdict["offset"] is None else f"offset {verdict['offset']} of "
    said = "a copy itself" if verdict["through"] else "kept"
    return f"{said}: {offset}{verdict['source'] or 'a page without a source'}"
