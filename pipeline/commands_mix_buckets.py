"""`curate mix buckets`: what the mixture can draw from, exactly; the first thing that the commands after it read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from curate.pipeline.options import (
    chosen_engine,
    engine_options,
    guarded,
    json_option,
    recipe_option,
    repeated,
    say,
    set_option,
    workspace_option,
)

if TYPE_CHECKING:
    from curate.mixtures.domains import Size

SHOWN = 60
"""Buckets in the table: the largest; `mix/buckets.json` has them all."""


@click.command()
@workspace_option
@click.option(
    "--by", "columns", metavar="COLUMNS", help="Columns that make buckets, as topic,language: short for mix.by."
)
@recipe_option
@set_option
@engine_options
@json_option
@guarded
def buckets(
    workspace: str, columns: str | None, recipe: str | None, settings: tuple[str, ...], engine: str, workers: int | None,
    address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Count tokens by bucket, exactly.

    Runs the steps of `curate mix` up to counting: the documents are tokenised here, once, for all that follows. Other
    columns (--by) count again without tokenising.
    """
    import json

    from curate.mixtures.domains import BUCKETS, counted
    from curate.pipeline import session
    from curate.pipeline.errors import CurateError
    from curate.pipeline.progress import open_display
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    session.check_settings(settings, "mix")
    by = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    overrides = [*settings, *([] if by is None else [f"mix.by={json.dumps(by)}"])]
    resolved = session.workspace_recipe(place, recipe, overrides)
    start = chosen_engine(engine, workers, address, resolved.head.run.tasks_per_worker)
    display = open_display(as_json=as_json)
    try:
        session.run_stages(["mix"], place, resolved, start, display, until="count")
    finally:
        display.close()
    table = counted(place)
    if table is None:
        raise CurateError(f"the buckets were not counted: {workspace}/{BUCKETS} is not there")
    keep = repeated("recipe", "settings") + (f" --set mix.by='{json.dumps(by)}'" if by is not None else "")
    say(
        as_json,
        place.read_json(BUCKETS),
        *bucket_lines(table.buckets),
        f"buckets: {workspace}/{BUCKETS}, by {', '.join(table.by) or 'nothing'}",
        f"next: curate mix swarm --workspace {workspace}{keep}",
        f"also: curate mix --workspace {workspace} --budget 10M{keep}   (shares as in the pool)",
    )


def bucket_lines(table: Mapping[str, Size]) -> list[str]:
    """The table of buckets, the largest first, and their sum."""
    from curate.pipeline.progress import number_of
    from curate.pipeline.tables import grid

    total = sum(size.tokens for size in table.values())
    ranked = sorted(table, key=lambda name: (-table[name].tokens, name))
    rows = [_row(name, table[name], total) for name in ranked[:SHOWN]]
    everything = [
        sum(values)
        for values in zip(*((s.documents, s.tokens, s.bytes, s.held_out) for s in table.values()), strict=True)
    ]
    if everything:
        documents, tokens, size, held = everything
        rows.append(_row("all", type(next(iter(table.values())))(documents, tokens, size, held), total))
    lines = grid(("bucket", "documents", "tokens", "share", "bytes a token", "held out"), rows)
    if len(ranked) > SHOWN:
        lines.insert(-1, f"and {number_of(len(ranked) - SHOWN, 'more bucket')}")
    return lines


def _row(name: str, size: Size, total: int) -> list[str]:
    share = f"{size.tokens / total:.2%}" if total else "-"
    width = f"{size.bytes / size.tokens:.2f}" if size.tokens else "-"
    return [name, f"{size.documents:,}", f"{size.tokens:,}", share, width, f"{size.held_out:,}"]
