"""`curate what-if`: what other rules would keep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from curate.pipeline.options import guarded, json_option, say, workspace_option

if TYPE_CHECKING:
    from curate.stages.filter.config import FilterConfig
    from curate.stages.filter.rules import Rule
    from curate.stages.filter.whatif import Answer

LANGUAGES = 12
"""Languages that are shown, those with most documents kept now or then."""
RULES = 40
"""Rules that are shown."""


@click.command("what-if")
@click.argument("changes", nargs=-1, required=True, metavar="RULE=VALUE …")
@workspace_option
@json_option
@guarded
def what_if(changes: tuple[str, ...], workspace: str, as_json: bool) -> None:
    """Show what other rules would keep, without running anything.

    RULE=VALUE is `word_count.min=100`, `stop_word_count=off`, `de.mean_word_length.max=12` for one language,
    `language.threshold=0.5` or `language.languages=en,de`. Answers from what was measured, and writes nothing.
    """
    from curate.pipeline import session
    from curate.pipeline.errors import UsageError
    from curate.pipeline.markers import read_manifest
    from curate.pipeline.status import stale_stages
    from curate.pipeline.workspace import Workspace
    from curate.stages.filter import whatif

    place = Workspace(workspace)
    if not place.exists(session.RECIPE):
        raise UsageError(f"{workspace} is no workspace: nothing has run there")
    config = session.workspace_recipe(place, None).section("filter")
    answer = whatif.what_if(place, config, changes)
    notes = list(own_values(config, answer))
    ran = (read_manifest(place, "filter") or {})["counts"]["kept"]
    if ran != int(answer.total[1]):
        notes.append(f"the filter kept {ran:,} documents: the recipe has changed since, and `now` is by the recipe")
    if "filter" in stale_stages(place, ("extract", "filter")):
        notes.append("extract has run again since the filter: these are the documents of before")
    notes += [
        "texts, signals and languages are as they were measured: line edits, counting and stop words are not simulated",
        "characters are counted after line edits and before masks; dedup is not asked again",
    ]
    elsewhere = [] if read_manifest(place, "extract") else ["--from WORKSPACE"]
    again = " ".join(
        [
            f"curate run filter --workspace {shlex.quote(workspace)}",
            *elsewhere,
            *(f"--set {shlex.quote(item)}" for item in answer.settings),
        ]
    )
    if as_json:
        say(True, {**answer.to_json(), "notes": notes, "next": again})
        return
    tables = [_funnel(answer), _rules(answer)]
    if sys.stdout.isatty():
        _show(tables)
    else:
        click.echo("\n\n".join("\n".join(_lines(*table)) for table in tables))
    click.echo("\n" + "\n".join([*(f"note: {note}" for note in notes), f"next: {again}"]))


def own_values(config: FilterConfig, answer: Answer) -> Iterator[str]:
    """A note for each change of a rule for all pages that languages with a rule of their own do not follow."""
    given = dict(setting.removeprefix("filter.").split("=", 1) for setting in answer.settings)
    ranked = sorted(answer.languages, key=lambda code: (-int(answer.languages[code][0]), code))
    for path, value in given.items():
        section, name, *bound = path.split(".")
        if section != "rules":
            continue
        rule = ".".join((name, *bound))
        own = [
            code
            for code in ranked
            if name in (overlay := config.rules_by_language.get(code, {}))
            and _is_own(overlay[name], bound)
            and not any(f"rules_by_language.{code}.{item}" in given for item in (name, rule))
        ]
        if own:
            names = ", ".join(own[:LANGUAGES]) + (f" and {len(own) - LANGUAGES} others" if own[LANGUAGES:] else "")
            change = f"{own[0]}.{rule}={'off' if value == 'null' else value}"
            yield f"{rule} stays where a language has its own: {names}. `{change}` changes one"


def _is_own(rule: Rule | None, bound: Sequence[str]) -> bool:
    """Whether a language's rule, or this bound of it, holds whatever is said for all pages."""
    if rule is None:
        return bool(bound)
    return not bound or bound[0] in rule.model_dump()


Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads and rows; the first column is text, the others are numbers."""


def _funnel(answer: Answer) -> Table:
    heads = ("language", "records", "kept now", "then", "change", "in", "out", "characters", "change")
    ranked = sorted(answer.languages, key=lambda code: (*(-answer.languages[code][[2, 1, 0]]).tolist(), code))
    rows = [_facts(code, answer.languages[code].tolist()) for code in ranked[:LANGUAGES]]
    if rest := [answer.languages[code] for code in ranked[LANGUAGES:]]:
        rows.append(_facts(f"{len(rest)} others", [sum(column) for column in zip(*map(list, rest), strict=True)]))
    return heads, [*rows, _facts("all", answer.total.tolist())]


def _facts(name: str, facts: Sequence[int]) -> list[str]:
    records, now, then, flip_in, flip_out, characters_now, characters_then = facts
    kept = [f"{records:,}", f"{now:,}", f"{then:,}", _change(now, then), f"{flip_in:,}", f"{flip_out:,}"]
    return [name, *kept, f"{characters_then:,}", _change(characters_now, characters_then)]


def _change(now: int, then: int) -> str:
    if now == then:
        return "="
    return f"{(then - now) / now:+.1%}" if now else "new"


def _rules(answer: Answer) -> Table:
    heads = ("rule", "fail now", "then", "it alone now", "then")
    rows = []
    for rule in answer.rules[:RULES]:
        (now, now_alone), (then, then_alone) = answer.fails["now"], answer.fails["then"]
        rows.append([rule, f"{now[rule]:,}", f"{then[rule]:,}", f"{now_alone[rule]:,}", f"{then_alone[rule]:,}"])
    return heads, rows


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The table in columns: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [
            f"{row[0]:{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        yield "  ".join(cells).rstrip()


def _show(tables: Sequence[Table]) -> None:
    """The tables on a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    for heads, rows in tables:
        shown = RichTable(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        for place, head in enumerate(heads):
            shown.add_column(head, justify="right" if place else "left", no_wrap=True)
        for row in rows:
            style = "bold" if row[0] == "all" else ""
            shown.add_row(*(Text(cell, style=_style(cell) or style) for cell in row))
        # a number that is cut is worse than a line that wraps
        width = console.measure(shown).maximum
        console.print(shown, width=max(width, console.width), crop=False, overflow="ignore")


def _style(cell: str) -> str:
    """Green for what grows, red for what shrinks."""
    return {"+": "green", "-": "red"}.get(cell[:1], "dim" if cell in ("=", "0") else "")
