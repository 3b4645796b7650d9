"""What a stage is: a list of steps; a step is a set of tasks; a task has named inputs and outputs.

The engine knows stages only through these types and by import path: a worker imports what it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from curate.pipeline.config import Strict
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Output, Workspace


@dataclass(frozen=True)
class File:
    """A finished file that a task reads.

    `path` is a name in the workspace, or a path or URL of its own where `external`. `fingerprint` is the content's SHA-256
    for files that we wrote, and size with modification time (or entity tag) for input from outside.
    """

    path: str
    fingerprint: str
    size: int = 0
    external: bool = False


@dataclass(frozen=True)
class Shard:
    """The unit of work: one input file for extract, one `docs` file of the stage before for the rest.

    `key` is `<snapshot>/<name>` and stays the same through all stages. `rows` is -1 where not known yet.
    """

    key: str
    file: File
    rows: int = -1
    params: Mapping[str, Any] = field(default_factory=dict)
    """For input from outside: its `format`, `snapshot`, `source` (path without secrets) and `columns`."""

    @property
    def snapshot(self) -> str:
        return self.key.split("/", 1)[0]


@dataclass(frozen=True)
class Task:
    """One unit that runs, fails and is done as a whole.

    `params` are small JSON-able values that the function needs beside its inputs; they are part of the task's identity.
    `outputs` maps an output's name to its path in the workspace; every one must be written.
    `memory` is the bytes it needs at most, for the engine's scheduling. `gpus` are those that its worker holds, 0.5 for a half:
    Ray gives them out; the local engine's workers share what the machine has.
    """

    stage: str
    step: str
    key: str
    inputs: Mapping[str, tuple[File, ...]]
    outputs: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    memory: int = 1 << 30
    gpus: float = 0


@dataclass(frozen=True)
class Done:
    """A finished task: its marker's content, of which the outputs are the inputs of what follows."""

    key: str
    outputs: Mapping[str, File]
    counts: Mapping[str, Any]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Planning:
    """What a step's plan may look at: the stage's configuration, the shards that came in, the steps before."""

    stage: str
    step: str
    config: Any
    seed: int
    shards: tuple[Shard, ...]
    before: Mapping[str, tuple[Done, ...]]
    """Finished tasks of this stage's earlier steps, by step name, sorted by key."""


@dataclass(frozen=True)
class Step:
    """Tasks that may run in any order and side by side, after the step before is done.

    `run` is the import path `module:function` of `(Context) -> Counts`. A step with `record_bearing` decides on records:
    its counts must balance, and are the stage's. There is one such step a stage. Mostly it is the last, which writes `docs`
    and `ledger`; tasks of other steps with the same key may write other files of the shard (`shard_results`).
    """

    name: str
    run: str
    plan: Callable[[Planning], list[Task]]
    record_bearing: bool = False
    reads: tuple[str, ...] = ()
    """Fields of the stage's configuration that change this step's output, those of a section with a dot
    (`language.model`); empty: all of them. Changing another field does not run the step again."""


@dataclass(frozen=True)
class Stage:
    """A part of the run with a name, a section of the recipe, and folders of its own in the workspace.

    `version` is bumped when the code's output for the same input changes. `after` is the stage whose documents it reads
    (None: it reads the run's input). `disk` is its output per byte of input, for the estimate printed before it starts, or a
    function (config, bytes of input) that gives its output in bytes.
    """

    name: str
    version: int
    config: type[Strict]
    steps: tuple[Step, ...]
    after: str | None
    disk: float | Callable[[Any, int], float] = 1.0
    seeded: bool = False
    """Whether the recipe's seed changes the output; where not, tasks see seed 0 and another seed runs nothing again."""
    check: str = ""
    """Import path of a function (config) that raises UsageError for what is missing here; asked before a run's first stage."""
    opening: str = ""
    """Import path of a function (config) that gives what a run is told before the stage begins: lines for a person."""
    closing: str = ""
    """Import path of a function (workspace, config) that gives what a run is warned of when the stage is done."""

    def refuse(self, config: Any) -> None:
        """Raises what `check` finds."""
        if self.check:
            load(self.check)(config)

    def notes(self, config: Any) -> Iterable[str]:
        """What `opening` says."""
        return load(self.opening)(config) if self.opening else ()

    def warnings(self, workspace: Workspace, config: Any) -> Iterable[str]:
        """What `closing` says."""
        return load(self.closing)(workspace, config) if self.closing else ()


class Context:
    """What a running task has: its description, the configuration, its files.

    Files are read with `open` and written with `create`, so that every output is whole, hashed and named in the marker.
    """

    def __init__(
        self,
        task: Task,
        config: Any,
        seed: int,
        workspace: Workspace,
        report: Callable[[int], None] = lambda records: None,
        fence: Callable[[], None] = lambda: None,
    ) -> None:
        self.task = task
        self.config = config
        self.seed = seed
        self.workspace = workspace
        self.written: dict[str, File] = {}
        self._report = report
        self._fence = fence

    def open(self, file: File) -> IO[bytes]:
        """An input, opened for reading, local or remote."""
        return open_file(self.workspace, file)

    def read(self, file: File, start: int, size: int) -> bytes:
        """So many bytes of an input from a place on; of an object store, one request. CurateError where it is shorter."""
        data = read_range(self.workspace, file, start, size)
        if len(data) != size:
            raise CurateError(f"{file.path} ends within bytes {start} to {start + size}: remove it and run again")
        return data

    def input(self, name: str) -> File:
        """The only input of that name."""
        (file,) = self.task.inputs[name]
        return file

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Output]:
        """The output of that name, which appears when the block ends without an error."""
        path = self.task.outputs[name]
        with self.workspace.create(path) as output:
            yield output
            self._fence()
        self.written[name] = File(path, output.sha256, output.size)

    def progress(self, records: int) -> None:
        """Tells the display that so many more records are through."""
        self._report(records)


def open_file(workspace: Workspace, file: File) -> IO[bytes]:
    """A workspace file, or a path or URL of its own, opened for reading.

    What lies behind http(s) is fetched whole first, resumed where the connection breaks and checked for its length: a
    crawl file is read once from end to end, and no server of one keeps every connection for so long.
    """
    if not file.external:
        return workspace.open(file.path)
    if "://" not in file.path:
        return Path(file.path).open("rb")
    if file.path.startswith(("http://", "https://")):
        return _fetched(file.path)
    import fsspec

    stream: IO[bytes] = fsspec.open(file.path, "rb").open()
    return stream


def read_range(workspace: Workspace, file: File, start: int, size: int) -> bytes:
    """Bytes `start` to `start + size` of a workspace file, or of a path or URL of its own; fewer where it ends before."""
    if not file.external and not workspace.is_local:
        return workspace.read_range(file.path, start, size)
    with open_file(workspace, file) as stream:
        stream.seek(start)
        return stream.read(size)


def _fetched(url: str) -> IO[bytes]:
    """The file behind a URL, opened; it is gone from the disk as soon as it is closed."""
    from curate.pipeline.download import download

    with tempfile.TemporaryDirectory(prefix="curate-input-") as folder:
        return download(url, Path(folder) / "input").open("rb")


def one_task_a_shard(planning: Planning) -> list[Task]:
    """A task a shard with input `docs` and outputs `docs` and `ledger`: what most stages' only step needs."""
    return [
        Task(
            planning.stage,
            planning.step,
            shard.key,
            inputs={"docs": (shard.file,)},
            outputs={name: f"{planning.stage}/{name}/{shard.key}.parquet" for name in ("docs", "ledger")},
        )
        for shard in planning.shards
    ]


def import_module(name: str) -> ModuleType:
    """A module, our own or the user's: from where Python finds it, or else from the current folder."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return importlib.import_module(name)


def load(path: str) -> Any:
    """What an import path `module:name` names; UsageError if it is not there."""
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot load {path}: {error}") from error
