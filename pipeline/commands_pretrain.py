"""`curate pretrain`: train a transformer on the mix."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.options import guarded, json_option, recipe_option, say, set_option, workspace_option


@click.command()
@workspace_option
@recipe_option
@set_option
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Newest checkpoints kept [default: the recipe's].")
@click.option("--restart", is_flag=True, help="Throw an earlier training run of this workspace away first.")
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), help="Where it trains [default: local; ray with --address]."
)
@click.option("--address", metavar="ADDRESS", help="Ray cluster: auto or host:port [default: a private instance].")
@click.option(
    "--workers", type=click.IntRange(1), help="With Ray: processes [default: one a GPU of the cluster, or one a node]."
)
@json_option
@guarded
def pretrain(
    workspace: str, recipe: str | None, settings: tuple[str, ...], keep: int | None, restart: bool, engine: str | None,
    address: str | None, workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Train a transformer on the mix.

    On several GPUs of a machine: torchrun --nproc-per-node N -m curate.pipeline.cli pretrain …
    """
    from curate.pipeline import session
    from curate.pipeline.progress_training import TrainingDisplay
    from curate.pipeline.workspace import Workspace

    engine = engine or ("ray" if address else "local")
    if engine == "local" and (address or workers):
        raise UsageError(
            "--address and --workers go with --engine ray; on one machine: torchrun --nproc-per-node N -m curate.pipeline.cli "
            "pretrain …"
        )
    place = Workspace(workspace)
    resolved = session.workspace_recipe(place, recipe, [*settings, *([f"pretrain.keep={keep}"] if keep else [])])

    config = resolved.section("pretrain")
    result: dict[str, Any] | None
    with TrainingDisplay("pretrain", as_json=as_json) as display:
        arguments: dict[str, Any] = {"progress": display.show, "restart": restart}
        if engine == "ray":
            result = _on_ray(place, config, arguments | {"address": address, "workers": workers})
        else:
            result = _here(place, config, arguments)
    if result is None:
        return
    prompt = "Some [MASK] text" if result["config"]["objective"] == "masked" else "Some text"
    say(
        as_json,
        result,
        display.done,
        f"pretrain: checkpoint in {workspace}/{result['checkpoint']}",
        f"next: curate evaluate --workspace {workspace}",
        f"      curate generate {prompt!r} --workspace {workspace}",
        f"      curate export --workspace {workspace} --output DIR",
        f"      curate report --workspace {workspace}",
    )


def _here(place: Any, config: Any, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Trains in this process, with the others that torchrun started, if any; gives the result to the first, else None."""
    from curate.pipeline.lock import driver_lock

    try:
        from curate.pretrain.parallel import Elsewhere, open_ranks
        from curate.pretrain.train import Stopped
        from curate.pretrain.train import pretrain as train
    except ImportError as error:
        raise _no_pytorch(error) from error
    with open_ranks(config.device) as ranks:
        try:
            with ExitStack() as stack:

                def lock() -> None:
                    stack.enter_context(driver_lock(place))

                ranks.on_first(lock)
                result: dict[str, Any] = train(place, config, ranks=ranks, **arguments)
        except (Elsewhere, Stopped) as error:
            if ranks.first:
                raise
            sys.exit(error.exit_code)  # the first process says it
    return result if ranks.first else None


def _on_ray(place: Any, config: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    from curate.pipeline.lock import driver_lock

    try:
        from curate.pretrain.cluster import pretrain_on_ray
    except ImportError as error:
        raise _no_pytorch(error) from error
    with driver_lock(place):
        result: dict[str, Any] = pretrain_on_ray(place, config, **arguments)
    return result


def _no_pytorch(error: ImportError) -> CurateError:
    return CurateError(f"curate pretrain needs PyTorch: pip install 'curate-web[train]' ({error})")
