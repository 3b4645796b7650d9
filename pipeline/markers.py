"""Markers, manifests and failures: the small JSON files that say what is done, written last and never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from curate.pipeline.config import digest
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Done, File, Stage, Step, Task
from curate.pipeline.workspace import Workspace

SCHEMA_VERSION = 1


def marker_path(stage: Stage, step: Step, key: str) -> str:
    """`<stage>/done/<key>.json` for the stage's last step, `<stage>/steps/<step>/done/<key>.json` for those before it."""
    return f"{_folder(stage, step)}/done/{key}.json"


def failure_path(stage: Stage, step: Step, key: str) -> str:
    """Where a task that was given up after its last attempt is named, with its error."""
    return f"{_folder(stage, step)}/failed/{key}.json"


def _folder(stage: Stage, step: Step) -> str:
    return stage.name if step is stage.steps[-1] else f"{stage.name}/steps/{step.name}"


def identity(stage: Stage, step: Step, task: Task, config: str, seed: int, code: str) -> str:
    """SHA-256 (hex) of everything that the task's output depends on.

    `config` is the fingerprint of what the step reads of the configuration, `code` that of the user's plugins; our own code is
    named by the stage's version.
    """
    return digest(
        [
            SCHEMA_VERSION,
            stage.name,
            stage.version,
            step.name,
            task.key,
            config,
            seed if stage.seeded else 0,
            code,
            {name: [file.fingerprint for file in files] for name, files in task.inputs.items()},
            dict(task.params),
            dict(task.outputs),
        ]
    )


def write_marker(
    workspace: Workspace, path: str, task: Task, identity: str, written: Mapping[str, File], counts: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes a task's marker, after all its outputs are there; gives its content."""
    marker = {
        "schema_version": SCHEMA_VERSION,
        "stage": task.stage,
        "step": task.step,
        "key": task.key,
        "identity": identity,
        "read": {name: files[0].fingerprint for name, files in task.inputs.items() if len(files) == 1},
        "outputs": {
            name: {"path": file.path, "sha256": file.fingerprint, "bytes": file.size}
            for name, file in sorted(written.items())
        },
        "counts": dict(counts),
        "params": dict(task.params),
    }
    workspace.write_json(path, marker)
    return marker


def read_markers(workspace: Workspace, stage: Stage, step: Step) -> dict[str, dict[str, Any]]:
    """The markers of a step by task key. One that is damaged or of another schema version counts as absent, and so does
    one whose outputs are not all there in their size: a marker vouches for files.
    """
    folder = f"{_folder(stage, step)}/done"
    names = workspace.list(folder, ".json")
    with ThreadPoolExecutor(1 if workspace.is_local else 32) as pool:
        found = list(pool.map(lambda name: _read(workspace, name), names))
    markers = [item for item in found if isinstance(item, dict) and item.get("schema_version") == SCHEMA_VERSION]
    outputs = [item for marker in markers for item in marker["outputs"].values()]
    sizes: dict[str, int] = {}
    for parts in sorted({tuple(item["path"].split("/")[:3]) for item in outputs}, key=len):
        place = "/".join(
            parts[:2]
        )  # `extract/docs`, listed once for all shards; or a file of its own, `mix/tokenizer.json`
        if place not in sizes:
            sizes |= {place: -1} | (workspace.sizes(place) if len(parts) > 2 else {place: _size(workspace, place)})
    return {
        marker["key"]: marker
        for marker in markers
        if all(sizes.get(item["path"]) == item["bytes"] for item in marker["outputs"].values())
    }


def _read(workspace: Workspace, name: str) -> Any:
    try:
        return workspace.read_json(name)
    except CurateError:  # it was damaged: the task runs again and writes another
        return None


def _size(workspace: Workspace, name: str) -> int:
    return workspace.size(name) if workspace.exists(name) else -1


def to_done(marker: Mapping[str, Any]) -> Done:
    """The finished task that a marker describes."""
    outputs = {name: File(item["path"], item["sha256"], item["bytes"]) for name, item in marker["outputs"].items()}
    return Done(marker["key"], outputs, marker["counts"], marker["params"])


def shard_results(stage: Stage, before: Mapping[str, Sequence[Done]]) -> list[Done]:
    """What a stage left of each key of its last step, sorted: the files and counts of all its tasks of that key together.

    Files below `<stage>/steps` are the stage's own and left out. Records are counted by the record-bearing step where it has
    a task of that key, else by the last; edits and seconds of the others are added.
    """
    tasks = {step.name: {done.key: done for done in before[step.name]} for step in stage.steps}
    bearing = next(step.name for step in stage.steps if step.record_bearing)
    results = []
    for last in sorted(before[stage.steps[-1].name], key=lambda done: done.key):
        found = {name: done[last.key] for name, done in tasks.items() if last.key in done}
        counted = found.get(bearing, last)
        counts = Counts.from_json(dict(counted.counts))
        for other in found.values():
            if other is not counted:
                counts = counts.with_work_of(Counts.from_json(dict(other.counts)))
        outputs = {
            name: file
            for done in found.values()
            for name, file in done.outputs.items()
            if not file.path.startswith(f"{stage.name}/steps/")
        }
        results.append(Done(last.key, outputs, counts.to_json(), last.params))
    return results


def manifest_path(stage: str) -> str:
    return f"{stage}/manifest.json"


def read_manifest(workspace: Workspace, stage: str) -> dict[str, Any] | None:
    """The list of a stage's current shards, or None if it never ran here."""
    manifest: dict[str, Any] | None = workspace.read_json(manifest_path(stage))
    return manifest


def measured_path(stage: str, entry: Mapping[str, Any]) -> str | None:
    """The table of what a stage measured of all records of a shard, kept or not, by the shard's entry in the manifest.

    That of filter holds signals, that of classify scores; None for other stages. The file may be gone.
    """
    if "measures" in entry:
        return str(entry["measures"]["path"])
    return f"classify/scores/{entry['key']}.parquet" if stage == "classify" else None
