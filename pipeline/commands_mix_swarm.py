"""`curate mix swarm`: small models on many mixtures of the domains, to one table of results."""

from __future__ import annotations

import re
from typing import Any

import click

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.options import (
    chosen_engine,
    engine_options,
    guarded,
    json_option,
    print_json,
    recipe_option,
    repeated,
    say,
    set_option,
    workspace_option,
)

SWARM = "swarm"
PEAK = 989.4e12
USED = 0.4
"""An H100's peak in bfloat16, and the part of it that the estimate takes for used."""
_AGAIN = ("workspace", "runs", "replicates", "freeze", "name", "recipe", "settings", "engine", "workers", "address")
"""What another call takes over."""


@click.command()
@workspace_option
@click.option("--runs", type=click.IntRange(2), help="Mixtures to try [default: 3 (m + 1) for m domains].")
@click.option("--replicates", type=click.IntRange(0), help="Runs of the natural mixture, for the noise [default: 3].")
@click.option("--freeze", metavar="FILE", help="An earlier weights.json: it becomes one domain, its proportions kept.")
@click.option("--swarm", "name", default=SWARM, show_default=True, metavar="NAME", help="Folder in the workspace.")
@click.option("--dry-run", is_flag=True, help="Count and print the design; pack and train nothing.")
@recipe_option
@set_option
@engine_options
@json_option
@guarded
def swarm(
    workspace: str, runs: int | None, replicates: int | None, freeze: str | None, name: str, dry_run: bool,
    recipe: str | None, settings: tuple[str, ...], engine: str, workers: int | None, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Train small models on many mixtures.

    What they score is the table from which `curate mix solve` finds the weights. The same command again goes on where it
    stopped; with more --runs it adds to them. On Ray each GPU trains runs of its own.
    """
    from curate.pipeline import session
    from curate.pipeline.progress import open_display
    from curate.pipeline.workspace import Workspace

    place, own = Workspace(workspace), _folder(workspace, name)
    overrides = list(settings)
    overrides += [f"swarm.runs={runs}"] if runs is not None else []
    overrides += [f"swarm.replicates={replicates}"] if replicates is not None else []
    session.check_settings(settings, "mix")
    resolved = session.workspace_recipe(place, recipe, overrides)
    config, frozen = resolved.section("swarm"), _frozen(freeze)
    if not dry_run:
        _refuse_without_torch()
    from curate.mixtures import swarm as work

    start = chosen_engine(engine, workers, address, resolved.head.run.tasks_per_worker)
    display = open_display(as_json=as_json)
    try:
        session.run_stages(["mix"], place, resolved, start, display, until="count")
        design = work.plan_swarm(place, own, resolved, start, display, frozen)
        if not dry_run:
            work.pack_pool(place, own, resolved, design, start, display)
    finally:
        display.close()
    if dry_run:
        lines, facts = _estimate(own, resolved, len(design.names))
        say(
            as_json,
            design.to_json() | facts,
            *work.plan_lines(config, design),
            *lines,
            f"next: curate mix swarm{repeated(*_AGAIN)}",
        )
        return
    if not as_json:
        click.echo("\n".join(work.plan_lines(config, design)))

    def show(event: dict[str, Any]) -> None:
        if as_json:
            print_json({**event, "event": "progress", "kind": event["event"]})
        else:
            click.echo(event["line"])

    cluster = work.Cluster(address, workers, resolved.head.run.attempts) if engine == "ray" else None
    found = work.train_swarm(own, config, design, progress=show, cluster=cluster)
    path = f"{workspace}/{name}/{work.RESULTS}"
    flag = "" if name == SWARM else f" --swarm {name}"
    say(
        as_json,
        {"results": path, "runs": len(found.names), "domains": list(found.domains), "tasks": list(found.tasks)},
        f"swarm: {len(found.names)} runs in {path}",
        f"next: curate mix tasks --workspace {workspace}{flag}   (which tasks carry signal)",
        f"      curate mix solve --workspace {workspace}{flag} --budget 10B",
    )


def _folder(workspace: str, name: str) -> Any:
    """The swarm's own workspace."""
    from curate.pipeline.session import ORDER
    from curate.pipeline.workspace import Workspace

    taken = {*ORDER, "pretrain", "report", "scaling"}
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in taken:
        raise UsageError(f"--swarm {name}: give a folder's name (letters, digits, . _ -) that is not one of a stage")
    return Workspace(f"{workspace.rstrip('/')}/{name}")


def _frozen(path: str | None) -> dict[str, float] | None:
    from curate.mixtures.config import read_weights

    if path is None:
        return None
    try:
        return read_weights(path)
    except ValueError as error:
        raise UsageError(f"--freeze: {error}") from None


def _refuse_without_torch() -> None:
    """Said before hours of tokenising."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise CurateError(f"curate mix swarm needs PyTorch: pip install 'curate-web[train]' ({error})") from error


def _estimate(own: Any, recipe: Any, runs: int) -> tuple[list[str], dict[str, Any]]:
    """What the runs will take: measured where some have run, else floating-point operations."""
    from curate.mixtures.swarm import flops_a_run, seconds_a_run
    from curate.pipeline.progress import duration

    lines: list[str] = []
    facts: dict[str, Any] = {}
    try:
        parameters, flops = flops_a_run(own, recipe.section("swarm"), recipe.section("mix").tokenizer.eos)
    except ImportError:
        lines.append("(how much work that is can be said where PyTorch is installed)")
    else:
        facts = {"parameters": parameters, "flops": flops * runs}
        lines.append(
            f"{parameters:,} parameters; {flops * runs:.3g} floating-point operations in all: "
            f"{duration(flops * runs / PEAK / USED)} of an H100 at {USED:.0%} of its peak"
        )
    seconds = seconds_a_run(own)
    if seconds is not None:
        facts["seconds_a_run"] = round(seconds, 3)
        lines.append(f"runs that have finished took {duration(seconds)} each: {duration(seconds * runs)} for all")
    return lines, facts
