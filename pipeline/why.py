"""`curate why`: the whole story of one record through the stages, with measured value and threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from curate.pipeline.documents import LEDGER
from curate.pipeline.errors import UsageError
from curate.pipeline.markers import read_manifest
from curate.pipeline.workspace import Workspace

MIX_MANIFEST = "mix/manifest.parquet"
_SHOWN = (
    "id", "url", "date", "snapshot", "source", "offset", "title", "language", "language_score", "engine", "has_math",
    "truncated", "robots", "license", "duplicates", "quality", "math", "edu", "topic", "signals",
)  # fmt: skip


def index_key(value: str) -> int:
    """The 64-bit hash (XXH3) under which extract's index holds an id or a URL."""
    return xxhash.xxh3_64_intdigest(value.encode("utf-8", "surrogatepass"))


def why(workspace: Workspace, wanted: str, stages: Sequence[str]) -> list[dict[str, Any]]:
    """What each stage did with the record(s) of that id or URL, in order; one dictionary a stage and record.

    Keys: stage, outcome (kept, dropped, quarantined), shard, and `record`: the row of the documents or of the ledger.
    Only the shards whose index holds the hash are read. Raises UsageError where extract has not run or knows it not.
    """
    wanted = wanted.removeprefix("<urn:uuid:").removesuffix(">").removeprefix("urn:uuid:")
    manifest = read_manifest(workspace, stages[0])
    if manifest is None:
        raise UsageError(f"{workspace.url} has no finished {stages[0]} stage: run `curate run {stages[0]}` first")
    shards = _shards_with(workspace, manifest, wanted)
    story: list[dict[str, Any]] = []
    ids: set[str] = set()
    for stage in stages:
        current = read_manifest(workspace, stage)
        for entry in current["shards"] if current else ():
            if entry["key"] in shards:
                for found in _find(workspace, stage, entry, wanted, ids):
                    story.append(found)
                    if found["record"].get("id"):
                        ids.add(found["record"]["id"])
    story += _in_mix(workspace, ids)
    if not story:
        raise UsageError(f"no record with id or URL {wanted!r} came into {workspace.url}")
    return story


def _in_mix(workspace: Workspace, ids: set[str]) -> Iterator[dict[str, Any]]:
    """How often the record is in the mix, where there is one: its rows of `mix/manifest.parquet`."""
    if not ids or not workspace.exists(MIX_MANIFEST):
        return
    with workspace.open(MIX_MANIFEST) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches():
            for record in batch.filter(pc.is_in(batch.column("id"), pa.array(sorted(ids)))).to_pylist():
                yield {"stage": "mix", "outcome": "kept", "shard": MIX_MANIFEST, "record": record}


def _shards_with(workspace: Workspace, manifest: dict[str, Any], wanted: str) -> set[str]:
    key = pa.scalar(index_key(wanted), pa.uint64())

    def holds(entry: dict[str, Any]) -> str | None:
        with workspace.open(entry["index"]["path"]) as stream:
            table = pq.read_table(stream, columns=["key"], filters=pc.field("key") == key, use_threads=False)
        return entry["key"] if table.num_rows else None

    with ThreadPoolExecutor(4 if workspace.is_local else 64) as pool:
        return {found for found in pool.map(holds, manifest["shards"]) if found is not None}


def _find(
    workspace: Workspace, stage: str, entry: dict[str, Any], wanted: str, ids: set[str]
) -> Iterator[dict[str, Any]]:
    for name in ("docs", "ledger"):
        with workspace.open(entry[name]["path"]) as stream, pq.ParquetFile(stream) as file:
            columns = [
                column for column in dict.fromkeys((*_SHOWN, *LEDGER.names)) if column in file.schema_arrow.names
            ]
            for batch in file.iter_batches(columns=columns):
                match = pc.or_kleene(
                    pc.equal(batch.column("url"), wanted), pc.is_in(batch.column("id"), pa.array([wanted, *ids]))
                )
                for record in batch.filter(pc.fill_null(match, False)).to_pylist():
                    outcome = record.pop("outcome", None) or "kept"
                    record.pop("stage", None)
                    shown = {key: value for key, value in record.items() if value is not None}
                    yield {"stage": stage, "outcome": outcome, "shard": entry["key"], "record": shown}
