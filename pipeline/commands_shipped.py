"""What ships and can be named in a recipe: recipes, signals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.options import guarded, json_option, say, set_option

if TYPE_CHECKING:
    from curate.pipeline.recipe import Recipe


@click.group(invoke_without_command=True)
@json_option
@guarded
def recipes(as_json: bool) -> None:
    """List the shipped recipes, or show one."""
    if click.get_current_context().invoked_subcommand:
        return
    from curate.pipeline.recipe import shipped

    found = shipped()
    width = max(map(len, found))
    say(as_json, {"recipes": found}, *(f"{name:{width}}  {line}" for name, line in found.items()))


@recipes.command("show")
@click.argument("name")
@click.option("--resolved", is_flag=True, help="With every default filled in.")
@set_option
@json_option
@guarded
def recipes_show(name: str, resolved: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Print a recipe as it stands, or with every key resolved."""
    from curate.pipeline import session
    from curate.pipeline.recipe import recipe_text

    if resolved or settings:
        text = "".join(_resolved(session.read_recipe(name, settings)))
    else:
        text = recipe_text(name)
    say(as_json, {"name": name, "yaml": text}, text.rstrip("\n"))


def _resolved(recipe: Recipe) -> Iterator[str]:
    """The recipe as YAML; what each stage would say when it begins is a comment at the end."""
    from curate.pipeline import session

    yield recipe.to_yaml()
    for name in session.ORDER:
        for line in session.stage(name).notes(recipe.section(name)):
            yield f"# {name}: {line}\n"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME …]")
@click.option("--recipe", "-r", metavar="FILE|NAME", help="Also the signals of this recipe's plugins.")
@json_option
@guarded
def signals(names: tuple[str, ...], recipe: str | None, as_json: bool) -> None:
    """List the signals: name, unit, source and definition."""
    from curate.stages.filter.registry import catalogue

    if recipe is not None:
        from curate.pipeline import session

        session.read_recipe(recipe)
    found = catalogue(names or None)
    say(as_json, {"signals": found}, *(line for row in found for line in _described(row)))


def _described(row: Mapping[str, Any]) -> Iterator[str]:
    import textwrap

    from curate.pipeline.tables import width

    yield f"{row['name']}  ({row['unit']}; {row['range']}; {row['text']} text)"
    for paragraph in (row["definition"], row["source"]):
        yield from textwrap.wrap(
            paragraph, width(), initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )
