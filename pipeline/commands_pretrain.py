"""`curate pretrain`: train a transformer on the mix."""

from __future__ import annotations

from typing import Any

import click

from curate.pipeline.errors import CurateError
from curate.pipeline.options import guarded, json_option, print_json, recipe_option, say, set_option, workspace_option


@click.command()
@workspace_option
@recipe_option
@set_option
@click.option("--restart", is_flag=True, help="Throw an earlier training run of this workspace away first.")
@json_option
@guarded
def pretrain(workspace: str, recipe: str | None, settings: tuple[str, ...], restart: bool, as_json: bool) -> None:
    """Train a transformer on the mix."""
    from curate.pipeline import session
    from curate.pipeline.lock import driver_lock
    from curate.pipeline.tables import printable
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    resolved = session.workspace_recipe(place, recipe, settings)
    try:
        from curate.pretrain.train import pretrain as train
    except ImportError as error:
        raise CurateError(f"curate pretrain needs PyTorch: pip install 'curate-web[train]' ({error})") from error

    def show(facts: dict[str, Any]) -> None:
        if as_json:
            print_json({"event": "progress", **facts})
        elif facts.get("line"):
            click.echo("\n".join(printable(line) for line in facts["line"].splitlines()))

    with driver_lock(place):
        result = train(place, resolved.section("pretrain"), progress=show, restart=restart)
    say(
        as_json,
        result,
        f"pretrain: checkpoint in {workspace}/{result['checkpoint']}",
        f"next: curate report --workspace {workspace}",
    )
