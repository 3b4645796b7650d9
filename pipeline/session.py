"""What the commands do: the catalogue of stages, the recipe of a workspace, a run from one stage to another.

Stages are named by import path, so that nothing heavy is loaded before it is used.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from curate.pipeline.config import Strict
from curate.pipeline.engines import Engine
from curate.pipeline.errors import UsageError
from curate.pipeline.inputs import find_inputs
from curate.pipeline.progress import Display
from curate.pipeline.recipe import InputConfig, Recipe, load_recipe
from curate.pipeline.runner import StageResult, open_runner, raise_if_incomplete, upstream_shards
from curate.pipeline.stage import File, Shard, Stage, load
from curate.pipeline.status import stage_statuses
from curate.pipeline.workspace import Workspace, redact

STAGES = {
    "extract": "curate.stages.extract.stage:STAGE",
    "filter": "curate.stages.filter.stage:STAGE",
    "dedup": "curate.stages.dedup.stage:STAGE",
    "classify": "curate.stages.classify:STAGE",
}
"""The stages of `curate run`, in order."""
MIX = "curate.mixtures.stage:STAGE"
PRETRAIN_CONFIG = "curate.pretrain.config:PretrainConfig"
DEFAULT_RECIPE = "fineweb"
RECIPE = "recipe.yaml"


def stage(name: str) -> Stage:
    """A stage by name."""
    found: Stage = load(MIX if name == "mix" else STAGES[name])
    return found


def sections() -> dict[str, type[Strict]]:
    """The recipe's sections: a typed configuration for each stage, for mix and for pretrain."""
    models = {name: stage(name).config for name in (*STAGES, "mix")}
    return models | {"pretrain": load(PRETRAIN_CONFIG)}


def read_recipe(source: str, settings: Sequence[str] = ()) -> Recipe:
    """A recipe by file or shipped name, checked against every section."""
    return load_recipe(source, sections(), settings)


def workspace_recipe(
    workspace: Workspace,
    source: str | None,
    settings: Sequence[str] = (),
    inputs: Sequence[str] = (),
    snapshot: str | None = None,
) -> Recipe:
    """The recipe for a command on this workspace: the one given, else the workspace's own, else the default.

    `inputs` and `snapshot` replace those of the recipe.
    """
    import yaml

    settings = list(settings)
    if inputs:
        settings.append("input.paths=" + yaml.safe_dump(list(inputs), default_flow_style=True, width=1 << 20).strip())
    if snapshot is not None:
        settings.append(f"input.snapshot={yaml.safe_dump(snapshot).splitlines()[0]}")
    if source is None and workspace.exists(RECIPE):
        with _local_copy(workspace) as path:
            return read_recipe(path, settings)
    return read_recipe(source or DEFAULT_RECIPE, settings)


@contextlib.contextmanager
def _local_copy(workspace: Workspace) -> Iterator[str]:
    """The workspace's recipe as a local file, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / RECIPE
        with workspace.open(RECIPE) as stream:
            path.write_bytes(stream.read())
        yield str(path)


def run_stages(
    names: Sequence[str],
    workspace: Workspace,
    recipe: Recipe,
    engine: Callable[[], Engine],
    display: Display,
    source: Workspace | None = None,
) -> list[StageResult]:
    """Runs stages one after another. `source` is another workspace from which the first one's documents come.

    Raises Incomplete at the end if shards failed or the sums do not match.
    """
    results = []
    with open_runner(workspace, recipe, engine, display) as runner:
        inputs = _input_shards(workspace, recipe, display) if stage(names[0]).after is None else None
        workspace.write_bytes(RECIPE, _without_secrets(recipe).encode())
        for position, name in enumerate(names):
            current = stage(name)
            if current.after is None:
                shards = inputs or []
            elif position == 0 and source is not None:
                shards = upstream_shards(source, current.after, external=True)
            else:
                shards = upstream_shards(workspace, current.after)
            result = runner.run(current, shards)
            results.append(result)
            if not result.published or (result.failed and len(result.failed) == result.shards):
                break  # there is nothing for the next stage to go on with
    problems = [problem for status in stage_statuses(workspace, list(STAGES)) for problem in status.problems]
    raise_if_incomplete(results, problems)
    return results


def _input_shards(workspace: Workspace, recipe: Recipe, display: Display) -> list[Shard]:
    config = recipe.head.input
    if not config.paths:
        raise UsageError(
            "no input: give --input FILE …, or input.paths in the recipe (`curate sample` makes some to try)"
        )
    known = workspace.read_json("extract/inputs.json") or {}
    found = find_inputs(config.paths, config, known)
    if config.snapshot is None:  # what was read out of the files is worth keeping; what the user said is not theirs
        workspace.write_json("extract/inputs.json", {item.fingerprint: item.snapshot for item in found})
    columns = {name: getattr(config, name) for name in ("text", "html", "id", "url", "date")}
    return [
        Shard(
            item.key,
            File(item.path, item.fingerprint, item.size, external=True),
            params={"format": item.format, "snapshot": item.snapshot, "source": item.source}
            | ({} if item.format == "warc" else {"columns": columns}),
        )
        for item in found
    ]


def _without_secrets(recipe: Recipe) -> str:
    """The resolved recipe with credentials and query strings taken out of its input paths."""
    paths = [redact(path) for path in recipe.head.input.paths]
    config = InputConfig(**{**recipe.head.input.model_dump(), "paths": paths})
    head = recipe.head.model_copy(update={"input": config})
    return Recipe(head, recipe.sections).to_yaml()
