"""`curate dedup query`: which pages of a finished run are like given texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.pipeline.options import guarded, json_option, say, workspace_option

if TYPE_CHECKING:
    from curate.pipeline.recipe import InputConfig
    from curate.stages.dedup.query import Answer, Match

LONGEST = 16 << 20
"""Bytes of a text that are looked at."""


@click.group()
def dedup() -> None:
    """Ask a finished run for copies of given texts."""


@dedup.command("query")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=False), metavar="FILE")
@workspace_option
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Pages named for a text.")
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Name pages from this estimated similarity on.",
)
@json_option
@guarded
def query(file: str, workspace: str, top: int, similarity: float, as_json: bool) -> None:
    """Find the near-duplicates of the texts in FILE in a finished run.

    FILE is JSONL or Parquet, with columns named as in the recipe's `input`, or plain text, which is one text. Shows what is
    alike, how much, and whether it was kept. Writes nothing.
    """
    from curate.pipeline import session
    from curate.pipeline.errors import UsageError
    from curate.pipeline.workspace import Workspace
    from curate.stages.dedup.query import near_copies

    place = Workspace(workspace)
    if not place.exists(session.RECIPE):
        raise UsageError(f"{workspace} is no workspace: nothing has run there")
    recipe = session.workspace_recipe(place, None)
    skipped: list[str] = []
    texts = _texts(Path(file), recipe.head.input, skipped)
    answers = near_copies(place, recipe.section("dedup"), texts, top=top, least=similarity)
    if not answers and not skipped:
        raise UsageError(f"{file} holds no text")
    facts = {"queries": [asdict(answer) for answer in answers], "skipped": skipped}
    say(as_json, facts, *_lines(answers), *(f"skipped: {reason}" for reason in skipped))


def _texts(path: Path, columns: InputConfig, skipped: list[str]) -> Iterator[tuple[str | None, str]]:
    """Id and text of each record; what cannot be read is named in `skipped`."""
    from curate.pipeline.errors import UsageError
    from curate.pipeline.peek import HEAD_BYTES, sniff_format
    from curate.stages.extract.records import Rejected
    from curate.stages.extract.tables import read_jsonl, read_parquet

    mapping = {"text": columns.text, "html": None, "id": columns.id, "url": columns.url, "date": columns.date}
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        kind = sniff_format(head)
        stream.seek(0)
        if kind == "warc" or (kind is None and b"\0" in head):
            raise UsageError(f"{path.name} is {kind or 'binary'}: give JSONL, Parquet or plain text")
        if kind not in ("jsonl", "parquet"):
            yield None, stream.read(LONGEST).decode("utf-8", "replace")
            return
        records = (
            read_parquet(stream, LONGEST, mapping)
            if kind == "parquet"
            else read_jsonl(stream, path.name, LONGEST, mapping)
        )
        for record in records:
            if isinstance(record, Rejected):
                skipped.append(f"record {record.number}: {record.reason}: {record.detail}")
            else:
                yield record.id, record.body.decode("utf-8", "replace")


def _lines(answers: list[Answer]) -> Iterator[str]:
    from curate.pipeline.progress import number_of
    from curate.pipeline.tables import printable

    for answer in answers:
        name = f" {printable(answer.id)}" if answer.id else ""
        more = f", the first {len(answer.matches)}" if answer.found > len(answer.matches) else ""
        found = number_of(answer.found, "near copy", "near copies") if answer.found else "nothing alike"
        yield f"text {answer.number}{name}: {found}{more}"
        for match in answer.matches:
            shown = f"{_share(match.exact, match.similarity):6} {_fate(match):44}"
            yield f"  {shown} {printable(match.id)}  {printable(match.url or '')}"


def _share(exact: bool, similarity: float) -> str:
    return "exact" if exact else f"{similarity:.2f}"


def _fate(match: Match) -> str:
    from curate.pipeline.tables import printable

    if match.kept:
        return "kept"
    kept = f", kept: {printable(match.kept_id)}" if match.kept_id else ""
    return f"{printable(match.reason or 'not in this run any more')}{kept}"
