"""`curate mix explain`: from the pool's shares to the mix's, and what is predicted to come of it."""

from __future__ import annotations

import click

from curate.pipeline.options import guarded, json_option, say, workspace_option


@click.command()
@workspace_option
@click.option("--swarm", default="swarm", show_default=True, metavar="NAME", help="Folder of the solution below it.")
@json_option
@guarded
def explain(workspace: str, swarm: str, as_json: bool) -> None:
    """Show natural, solved and mixed shares; why.

    By domain: natural share, solved share, share in the mix, repeats, what binds; by task: the predicted gain. Either part
    is left out where there is no mix, or no solution.
    """
    from curate.mixtures.explain import explain_all, part_lines
    from curate.pipeline.workspace import Workspace

    found = explain_all(Workspace(workspace), swarm)
    if found.tokens is None:
        budget = (found.solution or {}).get("budget") or "10B"
        step = f"curate mix --workspace {workspace} --budget {budget} --weights {workspace}/{swarm}/weights.json"
    else:
        step = f"curate pretrain --workspace {workspace}"
    say(as_json, found.to_json(), *part_lines(found), f"next: {step}")
