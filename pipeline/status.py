"""`curate status` and `curate clean`: where a workspace stands, whether its sums hold, what may go."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow.parquet as pq

from curate.pipeline.ledger import Counts
from curate.pipeline.lock import current_holder
from curate.pipeline.markers import read_manifest
from curate.pipeline.progress import PROGRESS
from curate.pipeline.workspace import Workspace

MARKERS = 200
"""Markers of mix that are looked at to tell whether it is out of date."""
_BEFORE_MIX = ("extract", "filter", "dedup", "classify")


@dataclass
class StageStatus:
    """One stage: shards done and failed, records by what became of them, speed, and what does not add up."""

    stage: str
    shards: int
    failed: list[dict[str, str]]
    counts: Counts
    stale: bool = False
    """An earlier stage has run since, or is out of date itself; `curate run all` brings it up to date."""
    problems: list[str] = field(default_factory=list)
    verified: tuple[int, int] | None = None
    """Files whose rows were counted, and their rows; None where nobody asked."""

    def to_json(self) -> dict[str, Any]:
        seconds = self.counts.seconds.get("total", 0.0)
        return {
            "stage": self.stage,
            "shards": {"done": self.shards, "failed": len(self.failed)},
            **self.counts.to_json(),
            "records_per_second": round(self.counts.records / seconds, 1) if seconds else None,
            "failures": self.failed,
            "stale": self.stale,
            "problems": self.problems,
            "verified": None if self.verified is None else dict(zip(("files", "rows"), self.verified, strict=True)),
        }


def stage_statuses(workspace: Workspace, stages: Sequence[str], *, verify: bool = False) -> list[StageStatus]:
    """The stages that have run here, in order, their sums checked within each shard and from stage to stage.

    `verify` also reads every file whole, compares its SHA-256, and counts: rows in `docs` are the kept ones, those in
    `ledger` the others, those in `measures` all of them.
    """
    statuses: list[StageStatus] = []
    before: dict[str, dict[str, Any]] | None = None
    for stage in stages:
        manifest = read_manifest(workspace, stage)
        if manifest is None:
            before = None
            continue
        entries = {entry["key"]: entry for entry in manifest["shards"]}
        total = sum((Counts.from_json(entry["counts"]) for entry in entries.values()), Counts())
        status = StageStatus(stage, len(entries), manifest["failed"], total)
        for key, entry in sorted(entries.items()):
            _check_shard(status, key, entry, None if before is None else before.get(key))
            if verify:
                _check_files(workspace, status, key, entry)
        if before is not None:
            failed = {item["key"] for item in manifest["failed"]}
            others = (set(before) - failed) != set(entries)  # inputs that came, or went, since this stage ran
            status.stale = status.stale or others or statuses[-1].stale
        if {**total.to_json(), "seconds": None} != {**manifest["counts"], "seconds": None}:
            status.problems.append(f"{stage}: the manifest's totals are not the sums of its shards")
        statuses.append(status)
        before = entries
    return statuses


def stale_stages(workspace: Workspace, stages: Sequence[str]) -> list[str]:
    """The stages that are out of date, in order: an earlier one has run since, so their documents are of another run."""
    return [status.stage for status in stage_statuses(workspace, stages) if status.stale]


def mix_is_behind(workspace: Workspace) -> bool:
    """Whether the mix was made of other documents than classify's, or these are out of date; False where either is missing.

    Of a large workspace, the markers of MARKERS shards are looked at, evenly spread: a stage that ran again has rewritten
    most of them.
    """
    classified, mixed = read_manifest(workspace, "classify"), read_manifest(workspace, "mix")
    if classified is None or mixed is None:
        return False
    if classified["counts"]["kept"] != mixed["counts"]["records"] or stale_stages(workspace, _BEFORE_MIX):
        return True
    pools = [workspace.read_json(f"mix/steps/{step}/done/{step}.json") for step in ("count", "allocate")]
    if all(pools) and pools[0]["params"].get("pool") != pools[1]["params"].get("pool"):
        return True  # counted again since (`curate mix buckets`), of other tokens than those that were allocated
    shards = sorted(classified["shards"], key=lambda entry: str(entry["key"]))
    chosen = shards[:: -(-len(shards) // MARKERS) or 1]
    with ThreadPoolExecutor(1 if workspace.is_local else 32) as pool:
        names = [f"mix/steps/tokenize/done/{entry['key']}.json" for entry in chosen]
        markers = list(pool.map(workspace.read_json, names))
    return any(
        marker is None or marker["read"].get("docs") != entry["docs"]["sha256"]
        for entry, marker in zip(chosen, markers, strict=True)
    )


def _check_shard(status: StageStatus, key: str, entry: dict[str, Any], above: dict[str, Any] | None) -> None:
    counts = Counts.from_json(entry["counts"])
    if not counts.balanced():
        status.problems.append(f"{status.stage} {key}: {counts.records} records in, {counts.accounted} accounted for")
    if above is None:
        return
    if entry["read"].get("docs") != above["docs"]["sha256"]:
        status.stale = True
    elif counts.records != above["counts"]["kept"]:
        status.problems.append(
            f"{status.stage} {key}: the stage before kept {above['counts']['kept']} records, this one read {counts.records}"
        )


def _check_files(workspace: Workspace, status: StageStatus, key: str, entry: dict[str, Any]) -> None:
    counts = Counts.from_json(entry["counts"])
    expected = {"docs": counts.kept, "ledger": counts.records - counts.kept, "measures": counts.records}
    files, rows = status.verified or (0, 0)
    for name in (name for name in expected if name in entry):
        path = entry[name]["path"]
        try:
            with workspace.open(path) as stream:
                found = pq.read_metadata(stream).num_rows
                stream.seek(0)
                whole = hashlib.file_digest(cast(Any, stream), "sha256").hexdigest() == entry[name]["sha256"]
        except (OSError, ValueError) as error:  # Arrow's errors are of these two kinds
            status.problems.append(f"{status.stage} {key}: cannot read {path}: {error}")
            continue
        files, rows = files + 1, rows + found
        if not whole:
            status.problems.append(
                f"{status.stage} {key}: {path} is not the file that was written (its SHA-256 differs)"
            )
        if found != expected[name]:
            status.problems.append(f"{status.stage} {key}: {path} has {found} rows, {expected[name]} were counted")
    status.verified = (files, rows)


def running(workspace: Workspace) -> dict[str, Any] | None:
    """Where the run at work now stands (the last `progress.json`, with its driver), or None."""
    holder = current_holder(workspace)
    if holder is None:
        return None
    state = workspace.read_json(PROGRESS) or {}
    state["driver"] = {"host": holder["host"], "pid": holder["pid"]}
    if "at" in state:
        state["seconds_ago"] = round(time.time() - state.pop("at"), 1)
    return state


def leftovers(workspace: Workspace, stages: Sequence[str]) -> list[str]:
    """Files that nothing refers to: temporaries of killed workers, outputs of inputs that are gone, files of a larger mix.

    For the holder of the workspace's lock: the temporaries of a run at work would be among them. Those of a workspace of its
    own below this one (a swarm) stay while a driver is at work there. What a stage has done that has not finished stays: its
    next run goes on with it.
    """
    found = _temporaries(workspace)
    for stage in stages:
        manifest = read_manifest(workspace, stage)
        if manifest is None or manifest.get("finished") is False:
            continue
        current = {
            item["path"]
            for entry in manifest["shards"]
            for item in entry.values()
            if isinstance(item, dict) and "path" in item
        }
        keys = {entry["key"] for entry in manifest["shards"]}
        for folder in sorted({path.split("/")[1] for path in current}):
            found += [name for name in workspace.list(f"{stage}/{folder}", ".parquet") if name not in current]
        for folder in ("done", "failed"):
            base = f"{stage}/{folder}/"
            alive = keys if folder == "done" else keys | {item["key"] for item in manifest["failed"]}
            found += [name for name in workspace.list(base.rstrip("/"), ".json") if name[len(base) : -5] not in alive]
        found += _of_earlier_steps(workspace, stage, manifest, keys)
        found += _of_earlier_mix(workspace) if stage == "mix" else []
    return sorted(set(found))


def _temporaries(workspace: Workspace) -> list[str]:
    """Temporary files, but for those below folders that a driver of their own works in."""
    names = workspace.temporaries()
    folders = {name.partition("/")[0] for name in names if "/" in name}
    busy = {name for name in folders if current_holder(Workspace(f"{workspace.url.rstrip('/')}/{name}")) is not None}
    return [name for name in names if name.partition("/")[0] not in busy]


def _of_earlier_mix(workspace: Workspace) -> list[str]:
    """Token files that `mix/tokens.json` does not name, of a larger mix, and exports that `mix/exports.json` does not."""
    tokens, exports = (workspace.read_json(f"mix/{name}.json") for name in ("tokens", "exports"))
    if tokens is None:
        return []
    shards = [shard["name"] for part in (tokens, tokens["validation"]) for shard in part["shards"]]
    named = {f"mix/{name}{suffix}" for name in shards for suffix in (".bin", ".idx.parquet")}
    for parts in (exports or {"formats": {}})["formats"].values():
        for part in ("train", "validation"):
            named |= {file["path"] if "path" in file else f"{file['prefix']}.idx" for file in parts[part]["files"]}
        named |= {f"{parts['folder']}/README.md"} if "folder" in parts else set()
    folders = ("mix/tokens", "mix/validation", "mix/exports")
    ours = (".bin", ".idx", ".parquet", ".jsonl.zst", "README.md")  # what others put there (uploads' caches) is theirs
    return [name for folder in folders for name in workspace.list(folder) if name not in named and name.endswith(ours)]


def _of_earlier_steps(workspace: Workspace, stage: str, manifest: dict[str, Any], keys: set[str]) -> list[str]:
    """What the steps before the last left: folders that no task uses any more, and markers and files of tasks that read
    the documents of a shard that is gone."""
    failed = {item["key"] for item in manifest["failed"]}
    of_shards = all("docs" in entry for entry in manifest["shards"])  # not mix, whose shards are classify's
    steps = manifest.get("steps")
    found = []
    for name in workspace.list(f"{stage}/steps"):
        step, _, rest = name.removeprefix(f"{stage}/steps/").partition("/")
        folder, _, key = rest.removesuffix(".json").partition("/") if rest.endswith(".json") else ("", "", "")
        if (steps is not None and step not in steps) or (folder == "failed" and key not in failed):
            found.append(name)
        elif folder == "done" and of_shards and key not in keys | failed:
            marker = workspace.read_json(name)
            if "docs" in marker.get("read", {}):
                outputs = (item["path"] for item in marker["outputs"].values())
                found += [name, *(path for path in outputs if workspace.exists(path))]
    return found
