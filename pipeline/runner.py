"""The one runner that runs every stage, on either engine: plans tasks, skips what is done, retries, accounts."""

from __future__ import annotations

import contextlib
import heapq
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.pipeline.config import digest, source_digest
from curate.pipeline.engines import Engine, Progress
from curate.pipeline.errors import DiskFull, Incomplete, UsageError, WorkspaceLocked
from curate.pipeline.ledger import Counts
from curate.pipeline.lock import driver_lock, holds
from curate.pipeline.markers import (
    SCHEMA_VERSION,
    failure_path,
    identity,
    manifest_path,
    marker_path,
    read_manifest,
    read_markers,
    shard_results,
    to_done,
)
from curate.pipeline.progress import Display, Recorder, StepState
from curate.pipeline.recipe import Recipe
from curate.pipeline.stage import Done, File, Planning, Shard, Stage, Step, Task
from curate.pipeline.work import Call, Outcome
from curate.pipeline.workspace import Workspace, redact

WAIT_SECONDS = 0.2
LOCK_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 60.0


@dataclass
class StageResult:
    """What a stage's run came to. `failed` maps a task's key to its last error.

    `published` is false where a task over many shards failed: then the stage left no new manifest.
    """

    stage: str
    shards: int
    tasks: int = 0
    reused: int = 0
    counts: Counts = field(default_factory=Counts)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    published: bool = False


class Runner:
    """Runs stages of one recipe in one workspace; made by `open_runner`, which holds the workspace's lock."""

    def __init__(
        self, workspace: Workspace, recipe: Recipe, engine: Callable[[], Engine], display: Display, token: str
    ) -> None:
        self.workspace = workspace
        self.recipe = recipe
        self.display = display
        self._make_engine = engine
        self._engine: Engine | None = None
        self._token = token
        self._recorder = Recorder(workspace, display)
        self._code = _plugin_fingerprint(recipe.head.plugins)

    def run(self, stage: Stage, shards: Sequence[Shard], until: str | None = None) -> StageResult:
        """Runs a stage over these shards; finished tasks with the same identity are not run again.

        `until` names a step after which it stops: what that left is there for others to read and for the next whole run to
        go on with; nothing is published, and a mix (say) that was published before stays so.

        Raises DiskFull, UsageError and WorkspaceLocked at once. Tasks that keep failing are in the result, and in `failed/`.
        """
        started = time.monotonic()
        result = StageResult(stage.name, len(shards))
        config = self.recipe.section(stage.name)
        self._announce(stage, shards, config)
        left = tuple(sorted(shards, key=lambda shard: shard.key))
        before: dict[str, tuple[Done, ...]] = {}
        markers: dict[str, dict[str, Any]] = {}
        for step in _upto(stage, until):
            planning = Planning(stage.name, step.name, config, self._seed(stage), left, before)
            tasks = step.plan(planning)
            markers, failed = self._run_step(stage, step, tasks, result, begin=until is None)
            before[step.name] = tuple(to_done(markers[key]) for key in sorted(markers))
            result.failed |= failed
            if failed and step is not stage.steps[-1]:
                if not set(failed) <= {shard.key for shard in left}:
                    break  # a task over many shards: what follows would be built on a part, silently
                left = tuple(shard for shard in left if shard.key not in failed)
        if until is None and len(before) == len(stage.steps):
            entries = shard_results(stage, before)
            result.counts = _stage_counts(stage, shards, before, entries)
            if (
                markers or not result.failed
            ):  # where everything failed, what there was before is worth more than nothing
                self._publish(stage, entries, markers, _step_folders(stage, before), result)
                result.published = True
        result.seconds = time.monotonic() - started
        self.display.event(
            "stage_finished", stage=stage.name, counts=result.counts.to_json(), seconds=round(result.seconds, 2),
            tasks=result.tasks, reused=result.reused, failed=len(result.failed),
        )  # fmt: skip
        if result.published:
            for line in stage.warnings(self.workspace, config):
                self.display.event("warning", stage=stage.name, message=f"warning: {line}")
        return result

    def _seed(self, stage: Stage) -> int:
        return self.recipe.head.seed if stage.seeded else 0

    def _announce(self, stage: Stage, shards: Sequence[Shard], config: Any) -> None:
        size = sum(shard.file.size for shard in shards)
        estimate = int(stage.disk(config, size) if callable(stage.disk) else size * stage.disk)
        free = None
        if self.workspace.is_local:
            Path(self.workspace.root).mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.workspace.root).free
        self.display.event(
            "stage_started", stage=stage.name, shards=len(shards), disk_estimate=estimate, disk_free=free
        )
        for line in stage.notes(config):
            self.display.event("note", stage=stage.name, message=f"{stage.name}: {line}")
        if free is not None and estimate > free:
            self.display.event("warning", message=f"warning: {stage.name} may need more disk than is free")

    def _run_step(
        self, stage: Stage, step: Step, tasks: list[Task], result: StageResult, *, begin: bool
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Markers of the tasks that are done, and the errors of those that failed, by key."""
        # once a step: of a configuration that names files it asks for each
        fingerprint = self.recipe.section(stage.name).fingerprint(step.reads) if tasks else ""
        calls = {task.key: self._call(stage, step, task, fingerprint) for task in tasks}
        if len(calls) != len(tasks):
            raise RuntimeError(f"{stage.name}/{step.name}: two tasks have the same key")
        old = read_markers(self.workspace, stage, step)
        done = {key: old[key] for key, call in calls.items() if key in old and old[key]["identity"] == call.identity}
        result.tasks += len(calls)
        result.reused += len(done)
        if begin and len(done) < len(calls):
            self._begin(stage)
        state = StepState(stage.name, step.name, len(calls), len(done))
        todo = [calls[key] for key in sorted(calls) if key not in done]
        failed = _Loop(self, stage, step, state).run(todo, done) if todo else {}
        return done, failed

    def _begin(self, stage: Stage) -> None:
        """Says in the manifest that the stage is at work: until it has finished, nothing may be built on its files."""
        manifest = read_manifest(self.workspace, stage.name) or {"stage": stage.name, "shards": [], "failed": []}
        empty = {"schema_version": SCHEMA_VERSION, "counts": Counts().to_json()}
        self.check_lock()
        self.workspace.write_json(manifest_path(stage.name), empty | manifest | {"complete": False, "finished": False})

    def check_lock(self) -> None:
        """WorkspaceLocked if another driver took the workspace over: from then on it is not ours to write in."""
        if not holds(self.workspace, self._token):
            raise WorkspaceLocked(f"another driver has taken {redact(self.workspace.url)} over: this one stops")

    def _call(self, stage: Stage, step: Step, task: Task, fingerprint: str) -> Call:
        return Call(
            task=task,
            run=step.run,
            record_bearing=step.record_bearing,
            config=self.recipe.section(stage.name),
            seed=self._seed(stage),
            plugins=tuple(self.recipe.head.plugins),
            workspace=self.workspace.url,
            token=self._token,
            identity=identity(stage, step, task, fingerprint, self.recipe.head.seed, self._code),
            marker=marker_path(stage, step, task.key),
        )

    def _publish(
        self,
        stage: Stage,
        shards: Sequence[Done],
        markers: Mapping[str, dict[str, Any]],
        steps: Sequence[str],
        result: StageResult,
    ) -> None:
        """Writes the manifest: the shards that are this stage's output now, and the folders of its steps that are in use.

        `markers` are those of the last step.
        """
        entries = [
            {
                "key": shard.key,
                "rows": shard.counts["kept"],
                "counts": shard.counts,
                "read": markers[shard.key]["read"],
                **{
                    name: {"path": file.path, "sha256": file.fingerprint, "bytes": file.size}
                    for name, file in sorted(shard.outputs.items())
                },
            }
            for shard in shards
        ]
        self.check_lock()
        self.workspace.write_json(
            manifest_path(stage.name),
            {
                "schema_version": SCHEMA_VERSION,
                "stage": stage.name,
                "recipe": self.recipe.head.name,
                "finished": True,
                "complete": not result.failed,
                "shards": entries,
                "steps": list(steps),
                "failed": [{"key": key, "error": error} for key, error in sorted(result.failed.items())],
                "counts": result.counts.to_json(),
            },
        )

    @property
    def engine(self) -> Engine:
        """Started when the first task needs it: a run with nothing to do starts no workers."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    def recorded(self, state: StepState, *, force: bool = False) -> None:
        self._recorder.update(state, force=force)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


class _Loop:
    """The scheduling of one step: a bounded window of calls, retries with backoff, failures set aside."""

    def __init__(self, runner: Runner, stage: Stage, step: Step, state: StepState) -> None:
        self._runner = runner
        self._stage = stage
        self._step = step
        self._state = state
        self._failed: dict[str, str] = {}
        self._delayed: list[tuple[float, str, Call]] = []

    def run(self, todo: Iterable[Call], done: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Runs the calls, adds their markers to `done`, gives the errors of those that were given up."""
        engine, state = self._runner.engine, self._state
        waiting = list(reversed(list(todo)))
        looked = time.monotonic()
        while waiting or self._delayed or state.running:
            if time.monotonic() - looked > LOCK_SECONDS:
                looked = time.monotonic()
                self._runner.check_lock()
            while self._delayed and self._delayed[0][0] <= time.monotonic():
                waiting.append(heapq.heappop(self._delayed)[2])
            while waiting and state.running < engine.capacity:
                engine.submit(waiting.pop())
                state.running += 1
            for event in engine.wait(WAIT_SECONDS):
                if isinstance(event, Progress):
                    state.progressed(event.key, event.records)
                else:
                    state.running -= 1
                    self._settle(event, done)
            self._runner.recorded(state)
        self._runner.recorded(state, force=True)
        return self._failed

    def _settle(self, outcome: Outcome, done: dict[str, dict[str, Any]]) -> None:
        call, run = outcome.call, self._runner.recipe.head.run
        key = call.task.key
        self._state.ended(key)
        if outcome.marker is not None:
            done[key] = outcome.marker
            self._state.finished(key, Counts.from_json(outcome.marker["counts"]))
            self._runner.workspace.remove(failure_path(self._stage, self._step, key))
            return
        if outcome.kind == "disk_full":
            raise DiskFull(outcome.error)
        if outcome.kind == "lost":
            raise WorkspaceLocked(outcome.error)
        if outcome.kind == "usage":
            raise UsageError(outcome.error)
        facts = {
            "stage": self._stage.name,
            "step": self._step.name,
            "key": key,
            "attempt": call.attempt,
            "error": outcome.error,
        }
        if call.attempt < run.attempts:
            delay = min(run.backoff_seconds * 2 ** (call.attempt - 1), LONGEST_BACKOFF_SECONDS)
            again = Call(**{**vars(call), "attempt": call.attempt + 1})
            heapq.heappush(self._delayed, (time.monotonic() + delay, key, again))
            self._runner.display.event("retry", **facts)
            return
        self._state.failed += 1
        self._failed[key] = outcome.error
        self._runner.workspace.write_json(
            failure_path(self._stage, self._step, key),
            {"schema_version": SCHEMA_VERSION, **facts, "trace": outcome.trace},
        )
        self._runner.display.event("failed", **facts)


@contextlib.contextmanager
def open_runner(
    workspace: Workspace, recipe: Recipe, engine: Callable[[], Engine], display: Display
) -> Iterator[Runner]:
    """A runner that holds the workspace's lock; the lock and the workers are let go at the end, however it comes."""
    with driver_lock(workspace) as token:
        runner = Runner(workspace, recipe, engine, display, token)
        try:
            yield runner
        finally:
            runner.close()


def upstream_shards(workspace: Workspace, stage: str, *, external: bool = False) -> list[Shard]:
    """The shards that a finished stage left, from its manifest; of another workspace as external files."""
    manifest = read_manifest(workspace, stage)
    if manifest is None:
        elsewhere = "" if external else ", or give the workspace that has one with --from"
        raise UsageError(f"{workspace.url} has no finished {stage} stage: run `curate run {stage}` first{elsewhere}")
    if manifest.get("finished") is False:
        raise UsageError(f"the {stage} stage in {workspace.url} has not finished: run `curate run {stage}` again first")
    prefix = "" if not external else (f"{workspace.root}/" if workspace.is_local else f"{workspace.url}/")
    return [
        Shard(
            entry["key"],
            File(prefix + entry["docs"]["path"], entry["docs"]["sha256"], entry["docs"]["bytes"], external),
            entry["rows"],
        )
        for entry in manifest["shards"]
        if "docs" in entry
    ]


def raise_if_incomplete(results: Sequence[StageResult], problems: Sequence[str], missing: Sequence[str] = ()) -> None:
    """Incomplete, with the list of shards that failed and sums that do not match; nothing where all is well.

    `missing` are the shards that had failed in stages before, and whose documents are therefore not in the results.
    """
    lines = [f"{result.stage} {key}: {error}" for result in results for key, error in sorted(result.failed.items())]
    lines += missing
    if lines or problems:
        counted = [f"{len(lines)} failed"] * bool(lines) + [f"{len(problems)} sums do not match"] * bool(problems)
        raise Incomplete(
            "\n".join(
                [
                    f"not complete: {', '.join(counted)}",
                    *lines,
                    *problems,
                    "run the same command again to try the failed ones once more",
                ]
            )
        )


def _upto(stage: Stage, until: str | None) -> Sequence[Step]:
    """The stage's steps up to this one; all of them where it is None. ValueError where there is none of that name."""
    names = [step.name for step in stage.steps]
    return stage.steps if until is None else stage.steps[: names.index(until) + 1]


def _stage_counts(
    stage: Stage, shards: Sequence[Shard], before: Mapping[str, Sequence[Done]], entries: Sequence[Done]
) -> Counts:
    """The sums of what is published; of the tasks that decide on records where these are not tasks of a shard (`mix`)."""
    bearing = before[next(step.name for step in stage.steps if step.record_bearing)]
    counted = entries if {done.key for done in bearing} <= {shard.key for shard in shards} else bearing
    return sum((Counts.from_json(dict(done.counts)) for done in counted), Counts())


def _step_folders(stage: Stage, before: Mapping[str, Sequence[Done]]) -> list[str]:
    """The folders below `<stage>/steps` that hold what finished tasks wrote, or their markers."""
    base = f"{stage.name}/steps/"
    outputs = (file.path for tasks in before.values() for done in tasks for file in done.outputs.values())
    folders = {path.removeprefix(base).partition("/")[0] for path in outputs if path.startswith(base)}
    return sorted(folders | {name for name, tasks in before.items() if tasks})


def _plugin_fingerprint(modules: Sequence[str]) -> str:
    """SHA-256 (hex) of the plugins' source files, so that a changed plugin runs again."""
    return digest([[name, source_digest(name)] for name in modules]) if modules else ""
