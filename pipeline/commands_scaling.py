"""`curate scaling`: fit loss against size and tokens over a few runs, and predict a larger one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.options import guarded, json_option, print_json, recipe_option, say, set_option, workspace_option

if TYPE_CHECKING:
    from curate.pipeline.workspace import Workspace
    from curate.pretrain.scaling import Fit, Point

POINTS = "scaling/points.jsonl"
RESULT = "scaling/fit.json"
CHART = "scaling/fit.svg"


@click.command()
@click.argument("sources", nargs=-1, metavar="[RUNS]...")
@workspace_option
@click.option(
    "--run", "launch", is_flag=True, help="Train small models on the workspace's mix first (--sizes, --tokens)."
)
@click.option("--sizes", default="", metavar="NAMES", help="Sizes to train, as in tiny,10M,30M.")
@click.option("--tokens", default="", metavar="TOKENS", help="Tokens to train each size on, as in 10M,30M,100M.")
@click.option("--predict", multiple=True, metavar="PARAMETERS:TOKENS", help="A larger run, as in 1.3B:26B; repeatable.")
@click.option("--flops", multiple=True, type=float, help="A budget 6ND: its best parameters and tokens; repeatable.")
@click.option(
    "--count", "counted", type=click.Choice(["all", "without-embeddings"]), default="all", show_default=True,
    help="Parameters that count.",
)  # fmt: skip
@recipe_option
@set_option
@json_option
@guarded
def scaling(
    sources: tuple[str, ...], workspace: str, launch: bool, sizes: str, tokens: str, predict: tuple[str, ...],
    flops: tuple[float, ...], counted: str, recipe: str | None, settings: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Fit loss against size and tokens; predict a larger run.

    RUNS are workspaces with a finished `curate pretrain`, or files of JSON lines {"parameters": N, "tokens": D, "loss": L}.
    Without them, the points of the workspace's last `--run` are fitted again.
    """
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    wanted = [_larger(text) for text in predict]
    if (sizes or tokens) and not launch:
        raise UsageError("--sizes and --tokens go with --run")
    from curate.pretrain import scaling as law

    points = [point for source in sources for point in law.read_points(source, counted)]
    if launch:
        points += _launch(place, sizes, tokens, recipe, settings, counted, as_json)
    elif not sources:
        points = _stored(place)
    fitted = law.fit(points)
    facts = fitted.to_json() | {
        "predictions": [fitted.predict(*item) for item in wanted],
        "optima": [fitted.optimum(budget) for budget in flops],
    }
    _write(place, points, facts)
    say(
        as_json,
        facts,
        *_lines(fitted, facts),
        f"scaling: {workspace}/{RESULT}; chart: {workspace}/{CHART}",
        f"next: curate scaling --workspace {workspace} --predict 124M:2.5B",
    )


def _launch(
    place: Workspace, sizes: str, tokens: str, recipe: str | None, settings: tuple[str, ...], counted: str, as_json: bool
) -> list[Point]:  # fmt: skip
    """Trains every size on every amount of tokens; finished ones are taken as they are."""
    from curate.mixtures.config import parse_budget
    from curate.pipeline import session
    from curate.pipeline.lock import driver_lock
    from curate.pretrain.config import PretrainConfig
    from curate.pretrain.scaling import point_of

    try:
        from curate.pretrain.swarm import run_many
    except ImportError as error:
        raise CurateError(f"curate scaling --run needs PyTorch: pip install 'curate-web[train]' ({error})") from error
    names, amounts = ([item.strip() for item in text.split(",") if item.strip()] for text in (sizes, tokens))
    if not names or not amounts:
        raise UsageError("--run trains every size on every amount: give --sizes tiny,10M,30M and --tokens 3M,10M,30M")
    base = session.workspace_recipe(place, recipe, settings).section("pretrain")
    fixed = [name for name in ("layers", "width", "heads", "kv_heads", "ffn") if getattr(base, name) is not None]
    if fixed:
        raise UsageError(f"--sizes decide the models' shapes, but pretrain.{fixed[0]} is set: leave it out")
    try:
        given = base.model_dump() | {"steps": None, "epochs": None, "eval_tasks": []}
        configs = [
            PretrainConfig.model_validate(given | {"size": name, "tokens": amount})
            for name in dict.fromkeys(names)
            for amount in dict.fromkeys(map(parse_budget, amounts))
        ]
    except ValueError as error:
        raise UsageError(f"--sizes {sizes} --tokens {tokens}: {_first_line(error)}") from None

    def show(event: dict[str, Any]) -> None:
        if as_json:
            print_json({"event": "progress", **{key: value for key, value in event.items() if key != "losses"}})
        else:
            click.echo(event["line"])

    with driver_lock(place):
        rows = run_many(place, configs, progress=show)
    wild = [row for row in rows if row["diverged"] is not None]
    for row in wild:
        click.echo(f"left out, as it diverged: {row['config']['size']} on {row['tokens']:,} tokens", err=True)
    return [point_of(row, row["config"]["size"], counted) for row in rows if row["diverged"] is None]


def _first_line(error: ValueError) -> str:
    """What a pydantic error says, without its location and its advertisement."""
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"]) if errors is not None else str(error)


def _larger(text: str) -> tuple[float, float]:
    from curate.mixtures.config import parse_budget

    parameters, colon, tokens = text.partition(":")
    try:
        if not colon:
            raise ValueError("there is no colon")
        return float(parse_budget(parameters)), float(parse_budget(tokens))
    except ValueError as error:
        raise UsageError(f"--predict {text}: give parameters and tokens, as in 1.3B:26B ({error})") from None


def _stored(place: Workspace) -> list[Point]:
    from curate.pipeline.workspace import redact
    from curate.pretrain.scaling import Point

    try:
        with place.open(POINTS) as stream:
            return [Point(**json.loads(line)) for line in stream]
    except FileNotFoundError:
        raise UsageError(
            f"{redact(place.url)} has no {POINTS}: name workspaces with finished runs, or files of points, or train small "
            "models with --run --sizes tiny,10M,30M --tokens 3M,10M,30M"
        ) from None


def _write(place: Workspace, points: Sequence[Point], facts: dict[str, Any]) -> None:
    from dataclasses import asdict

    from curate.report.scaling import scaling_svg

    place.write_bytes(POINTS, "".join(json.dumps(asdict(point)) + "\n" for point in points).encode())
    place.write_json(RESULT, facts)
    place.write_bytes(CHART, scaling_svg(facts).encode())


def _lines(fitted: Fit, facts: dict[str, Any]) -> list[str]:
    law, bounds = fitted.law, facts["intervals"]
    lines = [
        f"L(N, D) = {law.E:.4g} + {law.A:.4g} / N^{law.alpha:.4f} + {law.B:.4g} / D^{law.beta:.4f}, "
        f"over {len(fitted.points)} runs",
        "90 % intervals: " + ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in bounds.items()),
    ]
    errors = facts["leave_one_out"]
    if errors["mean_error"] is not None:
        mean, most = errors["mean_error"], errors["largest_error"]
        line = f"a run predicted from the others: off by {mean:.2%} on average, {most:.2%} at most"
        if errors["largest_run"] is not None:
            line += f"; the largest run by {errors['largest_run']:+.2%}"
        lines.append(line)
    lines += [
        f"predicted: {item['parameters']:,.0f} parameters on {item['tokens']:,.0f} tokens: loss {item['loss']:.4f} "
        f"({item['low']:.4f} to {item['high']:.4f}), {item['times_the_largest_run']:,.1f} times the largest run"
        for item in facts["predictions"]
    ]
    lines += [
        f"best for {item['flops']:.3g} FLOPs: {item['parameters']:,.0f} parameters on {item['tokens']:,.0f} tokens, "
        f"loss {item['loss']:.4f}"
        for item in facts["optima"]
    ]
    return lines + [f"note: {warning}" for warning in fitted.warnings]
