"""`curate why`: the whole story of one record through the stages, with measured value and threshold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from curate.pipeline.documents import LEDGER, QUANTILES, SCORES
from curate.pipeline.errors import UsageError
from curate.pipeline.markers import measured_path, read_manifest
from curate.pipeline.workspace import Workspace

MIX_MANIFEST = "mix/manifest.parquet"
_SCORED = (*SCORES, "topic", "topic_score")
_SHOWN = (
    "id", "url", "date", "snapshot", "source", "offset", "title", "language", "language_score", "engine", "confidence",
    "has_math", "truncated", "robots", "license", "duplicates", *_SCORED, "signals",
    *(f"{name}_{part}" for name in _SCORED for part in QUANTILES), "contamination", "contaminated_by", "contaminated_spans",
)  # fmt: skip

Entry = dict[str, Any]
"""A shard in a manifest."""


def index_key(value: str) -> int:
    """The 64-bit hash (XXH3) under which extract's index holds an id or a URL."""
    return xxhash.xxh3_64_intdigest(value.encode("utf-8", "surrogatepass"))


def why(workspace: Workspace, wanted: str, stages: Sequence[str]) -> list[dict[str, Any]]:
    """What each stage did with the record(s) of that id or URL, in order; one dictionary a stage and record.

    Keys: stage, outcome (kept, dropped, quarantined), shard, and `record`: the row of the documents or of the ledger. What
    filter dropped has its `signals` too, what it measured the `spans` of addresses in the text (never the addresses), what
    classify dropped its scores, and a duplicate `kept_url`, the URL of the page kept.

    Only the shards whose index holds the hash are read; where extract ran in another workspace there is no index, and the
    ids and URLs of every shard are read instead. Raises UsageError where no stage has run or none knows the record.
    """
    wanted = wanted.removeprefix("<urn:uuid:").removesuffix(">").removeprefix("urn:uuid:")
    manifests = {stage: found for stage in stages if (found := read_manifest(workspace, stage)) is not None}
    if not manifests:
        raise UsageError(f"{workspace.url} has no finished {stages[0]} stage: run `curate run {stages[0]}` first")
    shards = _shards_with(workspace, next(iter(manifests.values())), {wanted})
    story: list[dict[str, Any]] = []
    ids: set[str] = set()
    for stage, manifest in manifests.items():
        for entry in manifest["shards"]:
            if entry["key"] in shards:
                story += _chapters(workspace, stage, entry, wanted, ids)
        ids |= {chapter["record"]["id"] for chapter in story if chapter["record"].get("id")}
    if not story:
        raise UsageError(f"no record with id or URL {wanted!r} came into {workspace.url}")
    _name_pages_kept(workspace, manifests, story)
    return story + list(
        _in_mix(workspace, {(item["record"].get("snapshot"), item["record"].get("id")) for item in story})
    )


def _shards_with(workspace: Workspace, manifest: Mapping[str, Any], wanted: Collection[str]) -> set[str]:
    """Keys of the shards that hold a record of one of these ids or URLs."""
    keys = sorted(index_key(value) for value in wanted)

    def holds(entry: Entry) -> bool:
        if "index" not in entry:
            return any(
                next(_rows_of(workspace, entry[name]["path"], ("id",), wanted), None) is not None
                for name in ("docs", "ledger")
            )
        return _holds_key(workspace, entry["index"]["path"], keys)

    with ThreadPoolExecutor(4 if workspace.is_local else 64) as pool:
        found = pool.map(holds, manifest["shards"])
        return {entry["key"] for entry, held in zip(manifest["shards"], found, strict=True) if held}


def _holds_key(workspace: Workspace, path: str, keys: Sequence[int]) -> bool:
    """Whether an index has one of these keys; row groups whose range has none are not read.

    Row group by row group in this thread: a scan with a filter reads ahead in threads of Arrow's, and one that still waits for
    the file when the command ends aborts the process.
    """
    values = pa.array(keys, pa.uint64())
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        column = file.schema_arrow.get_field_index("key")
        for group in range(file.num_row_groups):
            range_of = file.metadata.row_group(group).column(column).statistics
            if range_of is None or not range_of.has_min_max or any(range_of.min <= key <= range_of.max for key in keys):
                found = file.read_row_group(group, columns=["key"], use_threads=False).column("key")
                if pc.any(pc.is_in(found, values)).as_py():
                    return True
    return False


def _chapters(
    workspace: Workspace, stage: str, entry: Entry, wanted: str, ids: Collection[str]
) -> Iterator[dict[str, Any]]:
    for name in ("docs", "ledger"):
        for record in _rows_of(workspace, entry[name]["path"], (*_SHOWN, *LEDGER.names), {wanted, *ids}):
            outcome = record.pop("outcome", None) or "kept"
            record.pop("stage", None)
            if stage in _MEASURING and record.get("id") and (path := measured_path(stage, entry)):
                found = _MEASURING[stage](workspace, path, record["id"], all_of_it=name == "ledger")
                record |= {key: value for key, value in found.items() if key not in record}
            yield {"stage": stage, "outcome": outcome, "shard": entry["key"], "record": record}


def _rows_of(
    workspace: Workspace, path: str, columns: Sequence[str], wanted: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Rows whose id or URL is wanted, without nulls; ids and URLs are read first, the rest of matching row groups only."""
    values = pa.array(sorted(wanted))
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        there = set(file.schema_arrow.names)
        names = [name for name in dict.fromkeys(columns) if name in there]
        keys = [name for name in ("id", "url") if name in there]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=keys, use_threads=False)
            matches = [pc.is_in(table.column(name), values) for name in keys]
            rows = pc.indices_nonzero(matches[0] if len(matches) == 1 else pc.or_(*matches))
            if len(rows):
                for record in file.read_row_group(group, columns=names, use_threads=False).take(rows).to_pylist():
                    yield {name: value for name, value in record.items() if value is not None}


def _measured(workspace: Workspace, path: str, identity: str, *, all_of_it: bool) -> dict[str, Any]:
    """The spans of a record from the table of all that was measured; with `all_of_it` its signals, language and length too."""
    if not workspace.exists(path):
        return {}
    with workspace.open(path) as stream:
        names = pq.read_schema(stream).names
    for row in _rows_of(workspace, path, names if all_of_it else ("id", "pii"), {identity}):
        del row["id"]
        found: dict[str, Any] = {
            name: row.pop(name) for name in ("language", "language_score", "characters") if name in row
        }
        found |= {"spans": spans} if (spans := row.pop("pii", None)) else {}
        return found | ({"signals": row} if all_of_it else {})
    return {}


def _scored(workspace: Workspace, path: str, identity: str, *, all_of_it: bool) -> dict[str, Any]:
    """The scores of a record that was dropped, from the table of all scores."""
    if not all_of_it or not workspace.exists(path):
        return {}
    found = next(_rows_of(workspace, path, ("id", *_SCORED), {identity}), {})
    return {name: value for name, value in found.items() if name != "id"}


_MEASURING = {"filter": _measured, "classify": _scored}
"""What adds to a record what a stage measured of it, by stage."""


def _name_pages_kept(workspace: Workspace, manifests: Mapping[str, Any], story: Sequence[dict[str, Any]]) -> None:
    """Adds `kept_url` to the records that were dropped as copies of another page."""
    copies = [
        (chapter["stage"], chapter["record"])
        for chapter in story
        if chapter["record"].get("kept_id") not in (None, chapter["record"].get("id"))
    ]
    wanted = {record["kept_id"] for _, record in copies}
    shards = _shards_with(workspace, next(iter(manifests.values())), wanted) if wanted else set()
    for stage in dict.fromkeys(stage for stage, _ in copies):
        pages: dict[str, str] = {}
        for entry in manifests[stage]["shards"]:
            if entry["key"] in shards:
                for page in _rows_of(workspace, entry["docs"]["path"], ("id", "url"), wanted):
                    pages.setdefault(page.get("id", ""), page.get("url", ""))
        for where, record in copies:
            if where == stage and pages.get(record["kept_id"]):
                record["kept_url"] = pages[record["kept_id"]]


def _in_mix(workspace: Workspace, records: Collection[tuple[Any, Any]]) -> Iterator[dict[str, Any]]:
    """How often these records (snapshot, id) are in the mix, where there is one: their rows of `mix/manifest.parquet`."""
    ids = {identity for _, identity in records if identity}
    if not ids or not workspace.exists(MIX_MANIFEST):
        return
    with workspace.open(MIX_MANIFEST) as stream:
        names = pq.read_schema(stream).names
    for record in _rows_of(workspace, MIX_MANIFEST, names, ids):
        if (record.get("snapshot"), record["id"]) in records:
            yield {"stage": "mix", "outcome": "kept", "shard": MIX_MANIFEST, "record": record}
