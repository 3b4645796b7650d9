"""`curate mix`: exactly a budget of tokens; and the commands that find its weights, in the order of the work."""

from __future__ import annotations

import json
from typing import Any

import click

from curate.pipeline.commands_mix_buckets import buckets
from curate.pipeline.commands_mix_explain import explain
from curate.pipeline.commands_mix_solve import solve
from curate.pipeline.commands_mix_swarm import swarm
from curate.pipeline.commands_mix_tasks import tasks
from curate.pipeline.commands_mix_upsample import upsample
from curate.pipeline.options import (
    Commands,
    chosen_engine,
    engine_options,
    guarded,
    json_option,
    recipe_option,
    say,
    set_option,
)


@click.group(cls=Commands, invoke_without_command=True, subcommand_metavar="[COMMAND] [OPTIONS]…")
@click.option(
    "--workspace", "-w", metavar="DIR|URL", help="Folder or URL (s3://…, gs://…) that the run reads and writes."
)
@click.option("--budget", metavar="TOKENS", help="Tokens in the mix: 100k, 10M, 10B, 1.5T [default: the recipe's].")
@click.option("--weights", metavar="FILE", help="Shares of the buckets (JSON, YAML, CSV): short for mix.weights.")
@click.option(
    "--export", "exports", multiple=True, metavar="FORMAT", help="Also write megatron, jsonl, parquet or datasets."
)
@recipe_option
@set_option
@engine_options
@json_option
@click.pass_context
def mix(ctx: click.Context, **options: Any) -> None:
    """Write exactly a budget of tokens; find its weights.

    Without a COMMAND: writes the mix. The commands below find the weights that it takes, in this order.
    """
    if ctx.invoked_subcommand is None:
        if options["workspace"] is None:
            raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0])
        _mix(**options)
        return
    given = [
        param.opts[0]
        for param in ctx.command.params
        if param.name != "workspace"
        and ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{given[0]} goes behind {ctx.invoked_subcommand!r}, not before it")
    if options["workspace"] is not None:  # `curate mix -w W solve` is `curate mix solve -w W`
        ctx.default_map = {ctx.invoked_subcommand: {"workspace": options["workspace"]}}


@guarded
def _mix(
    workspace: str, budget: str | None, weights: str | None, exports: tuple[str, ...], recipe: str | None,
    settings: tuple[str, ...], engine: str, workers: int | None, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    from curate.mixtures.explain import explain_lines
    from curate.pipeline import session
    from curate.pipeline.progress import open_display
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    session.check_settings(settings, "mix")
    overrides = list(settings)
    overrides += [f"mix.budget={budget}"] if budget else []
    overrides += [f"mix.weights={json.dumps(weights)}"] if weights else []
    overrides += [f"mix.export={json.dumps(exports)}"] if exports else []
    resolved = session.workspace_recipe(place, recipe, overrides)
    start = chosen_engine(engine, workers, address, resolved.head.run.tasks_per_worker)
    display = open_display(as_json=as_json)
    try:
        session.run_stages(["mix"], place, resolved, start, display)
    finally:
        display.close()
    facts = place.read_json("mix/tokens.json")
    say(
        as_json,
        facts,
        *explain_lines(place),
        f"mix: {facts['tokens']:,} tokens ({facts['dtype']}) in {workspace}/mix/tokens",
        f"     every document and its repeats in {workspace}/mix/manifest.parquet",
        f"next: curate pretrain --workspace {workspace}",
    )


for _command in (buckets, upsample, swarm, tasks, solve, explain):
    mix.add_command(_command)
