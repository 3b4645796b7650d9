"""What the commands share: options, errors as one clear line, results as lines or as JSON."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from functools import wraps
from typing import Any

import click

from curate.pipeline.errors import CurateError, UsageError


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Errors that a user can mend become one clear line and an exit status; a bug keeps its traceback."""

    @wraps(command)
    def wrapper(**options: Any) -> None:
        import signal

        def stop(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        as_json = options.get("as_json", False)
        try:
            # with --json only our objects go to standard output, whatever a plugin or a library prints
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                command(**options)
        except (CurateError, FileNotFoundError, NotADirectoryError, PermissionError, ConnectionError) as error:
            from curate.pipeline.tables import printable_lines
            from curate.pipeline.workspace import redact_text

            code = error.exit_code if isinstance(error, CurateError) else 1
            message = printable_lines(redact_text(str(error)))  # it may quote what stands in a file
            if as_json:
                print_json({"event": "error", "message": message, "exit_status": code})
            else:
                click.echo(f"error: {message}", err=True)
            sys.exit(code)
        except KeyboardInterrupt:
            click.echo("stopped: the same command again goes on from here", err=True)
            sys.exit(130)

    return wrapper


class Real(click.FloatRange):
    """A number within bounds, which nan and infinity are not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number", param, ctx)
        return found


json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output: one JSON object a line.")
workspace_option = click.option(
    "--workspace",
    "-w",
    required=True,
    metavar="DIR|URL",
    help="Folder or URL (s3://…, gs://…) that the run reads and writes.",
)
recipe_option = click.option(
    "--recipe",
    "-r",
    metavar="FILE|NAME",
    help="Recipe file or shipped name [default: the workspace's own, else standard].",
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Overrides a key of the recipe; repeatable."
)


def print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, default=str), file=sys.__stdout__)


def say(as_json: bool, facts: dict[str, Any], *lines: str) -> None:
    """The result: JSON for machines, or lines for a person."""
    if as_json:
        print_json({"event": "result", **facts})
    else:
        click.echo("\n".join(lines))


def repeated(*names: str) -> str:
    """The options of these names as the command at work was given them, for a command line that it advises."""
    ctx = click.get_current_context()
    sources = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.DEFAULT_MAP)
    words: list[str] = []
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name) in sources:
            value = ctx.params[param.name]
            for each in value if param.multiple else (value,):
                words += [param.opts[0], str(each)]
    return "".join(f" {shlex.quote(word)}" for word in words)


class Commands(click.Group):
    """Commands in the order of the work; an unknown one is answered with the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from curate.pipeline.errors import nearest

            raise click.UsageError(f"no command {args[0]!r}{nearest(args[0], tuple(self.commands))}")
        return super().resolve_command(ctx, args)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--address",
            metavar="ADDRESS",
            help="Ray cluster: auto, host:port or ray://… [default: a private instance].",
        ),
        click.option(
            "--workers", type=click.IntRange(1), help="Tasks at a time [default: one a core; the cluster's cores]."
        ),
        click.option(
            "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where tasks run."
        ),
    ):
        command = option(command)
    return command


def chosen_engine(engine: str, workers: int | None, address: str | None, tasks_per_worker: int) -> Callable[[], Any]:
    from curate.pipeline.engines import open_engine

    if address and engine == "local":
        raise UsageError("--address goes with --engine ray")
    return lambda: open_engine(engine, workers=workers, address=address, tasks_per_worker=tasks_per_worker)
