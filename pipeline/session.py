"""What the commands do: the catalogue of stages, the recipe of a workspace, a run from one stage to another.

Stages are named by import path, so that nothing heavy is loaded before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from curate.pipeline.config import Strict
from curate.pipeline.engines import Engine
from curate.pipeline.errors import UsageError
from curate.pipeline.inputs import find_inputs
from curate.pipeline.markers import read_manifest
from curate.pipeline.progress import Display
from curate.pipeline.recipe import Recipe, input_of, load_recipe
from curate.pipeline.runner import StageResult, open_runner, raise_if_incomplete, upstream_shards
from curate.pipeline.stage import File, Shard, Stage, load
from curate.pipeline.status import stage_statuses, stale_stages
from curate.pipeline.workspace import Workspace, redact, redact_text

STAGES = {
    "extract": "curate.stages.extract.stage:STAGE",
    "filter": "curate.stages.filter.stage:STAGE",
    "dedup": "curate.stages.dedup.stage:STAGE",
    "classify": "curate.stages.classify:STAGE",
}
"""The stages of `curate run`, in order."""
MIX = "curate.mixtures.stage:STAGE"
ORDER = (*STAGES, "mix")
"""Every stage that the runner runs, each reading what the one before left."""
PRETRAIN_CONFIG = "curate.pretrain.config:PretrainConfig"
SWARM_CONFIG = "curate.mixtures.swarm_config:SwarmConfig"
DEFAULT_RECIPE = "standard"
RECIPE = "recipe.yaml"


def stage(name: str) -> Stage:
    """A stage by name."""
    found: Stage = load(MIX if name == "mix" else STAGES[name])
    return found


def sections() -> dict[str, type[Strict]]:
    """The recipe's sections: a typed configuration for each stage, for mix, for its swarm and for pretrain."""
    models = {name: stage(name).config for name in ORDER}
    return models | {"swarm": load(SWARM_CONFIG), "pretrain": load(PRETRAIN_CONFIG)}


def read_recipe(source: str, settings: Sequence[str] = ()) -> Recipe:
    """A recipe by file or shipped name, checked against every section."""
    return load_recipe(source, sections(), settings)


def check_settings(settings: Sequence[str], first: str) -> None:
    """UsageError if a setting changes a stage before the first one that the command runs: it would change nothing."""
    for setting in settings:
        section = setting.split("=", 1)[0].split(".", 1)[0].strip()
        if section in ORDER[: ORDER.index(first)]:
            raise UsageError(
                f"--set {setting}: {section} is not run by this command: `curate run {section}`, or all, reads it"
            )


def workspace_recipe(
    workspace: Workspace,
    source: str | None,
    settings: Sequence[str] = (),
    inputs: Sequence[str] = (),
    snapshot: str | None = None,
) -> Recipe:
    """The recipe for a command on this workspace: the one given, else the workspace's own, else the default.

    `inputs` and `snapshot` replace those of the recipe; a recipe that names no input reads what the workspace was made from.
    """
    settings = list(settings)
    if inputs:
        settings.append("input.paths=" + json.dumps(list(inputs)))
    if snapshot is not None:
        settings.append("input.snapshot=" + json.dumps(snapshot))
    own = _own_recipe(workspace)
    if source is None and own is not None:
        return load_recipe(f"{workspace.url}/{RECIPE}", sections(), settings, text=own)
    recipe = read_recipe(source or DEFAULT_RECIPE, settings)
    if not recipe.head.input.paths and own is not None:
        given = input_of(f"{workspace.url}/{RECIPE}", own)  # without its plugins, which would register their signals
        config = recipe.head.input.model_copy(update={"paths": given.paths, "snapshot": snapshot or given.snapshot})
        recipe = Recipe(recipe.head.model_copy(update={"input": config}), recipe.sections)
    return recipe


def _own_recipe(workspace: Workspace) -> str | None:
    """The YAML that earlier commands left in the workspace."""
    try:
        with workspace.open(RECIPE) as stream:
            return stream.read().decode()
    except FileNotFoundError:
        return None


def run_stages(
    names: Sequence[str],
    workspace: Workspace,
    recipe: Recipe,
    engine: Callable[[], Engine],
    display: Display,
    source: Workspace | None = None,
    until: str | None = None,
) -> list[StageResult]:
    """Runs stages one after another. `source` is another workspace from which the first one's documents come; `until` is the
    step after which the last stage stops, publishing nothing (`Runner.run`).

    Raises UsageError before the first one for what the machine lacks; Incomplete at the end if shards failed or the sums do
    not match.
    """
    results = []
    for name in names:
        stage(name).refuse(recipe.section(name))
    with open_runner(workspace, recipe, engine, display) as runner:
        inputs = _input_shards(workspace, recipe) if stage(names[0]).after is None else None
        for position, name in enumerate(names):
            current = stage(name)
            if current.after is None:
                shards = inputs or []
            elif position == 0 and source is not None:
                shards = upstream_shards(source, current.after, external=True)
            else:
                if position == 0:
                    _refuse_stale(workspace, current)
                shards = upstream_shards(workspace, current.after)
            result = runner.run(current, shards, until if name == names[-1] else None)
            results.append(result)
            if result.published:
                _keep_recipe(workspace, recipe, names[0])
            if not result.published or (result.failed and len(result.failed) == result.shards):
                break  # there is nothing for the next stage to go on with
    missing = [
        f"{name} {item['key']}: {item['error']}"
        for name in ORDER[: ORDER.index(names[0])]
        for item in (read_manifest(source or workspace, name) or {"failed": []})["failed"]
    ]
    problems = [problem for status in stage_statuses(workspace, list(STAGES)) for problem in status.problems]
    raise_if_incomplete(results, problems, missing)
    return results


def _refuse_stale(workspace: Workspace, first: Stage) -> None:
    """UsageError where the stages before the first one are of different runs: its documents would be of the older."""
    stale = stale_stages(workspace, ORDER[: ORDER.index(first.name)])
    if stale:
        again = " and ".join(f"`curate run {name}`" for name in stale)
        raise UsageError(f"{' and '.join(stale)} out of date, for a stage before ran again since: {again} first")


def _input_shards(workspace: Workspace, recipe: Recipe) -> list[Shard]:
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


def _keep_recipe(workspace: Workspace, recipe: Recipe, first: str) -> None:
    """Writes `recipe.yaml`: what the stages were run with. Those before `first` keep what they were run with.

    Credentials and query strings are taken out of the input's paths.
    """
    own = _own_recipe(workspace)
    kept = dict(recipe.sections)
    config = recipe.head.input
    if own is not None and first != "extract":
        old = load_recipe(f"{workspace.url}/{RECIPE}", sections(), text=own)
        kept |= {name: old.sections[name] for name in ORDER[: ORDER.index(first)]}
        config = old.head.input
    paths = [redact(path) for path in config.paths]
    head = recipe.head.model_copy(update={"input": config.model_copy(update={"paths": paths})})
    workspace.write_bytes(RECIPE, redact_text(Recipe(head, kept).to_yaml()).encode())
