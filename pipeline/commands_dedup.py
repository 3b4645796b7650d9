"""`curate dedup query`: which pages of a finished run are like given texts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from curate.pipeline.options import guarded, json_option, say, workspace_option

if TYPE_CHECKING:
    from curate.pipeline.recipe import InputConfig
    from curate.stages.dedup.query import Answer, Match

LONGEST = 16 << 20
"""Bytes of a text that are looked at."""
SKIPPED = 20
"""Records that could not be read that are named."""
PREVIEW = 48
"""Characters of a text that are shown to tell it from others."""
WIDEST = 40
"""Characters that a column is made wide for: a longer value pushes its own line."""


@click.group()
def dedup() -> None:
    """Ask a finished run for copies of given texts."""


@dedup.command("query")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE|-")
@workspace_option
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Pages named for a text.")
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Name pages from this estimated similarity on.",
)
@click.option("--column", metavar="NAME", help="Column with the text [default: the recipe's input.text, or text].")
@json_option
@guarded
def query(file: str, workspace: str, top: int, similarity: float, column: str | None, as_json: bool) -> None:
    """Find the near-duplicates of the texts in FILE in a finished run.

    FILE is JSONL or Parquet, with columns named as in the recipe's `input`, or plain text, which is one text; packed with
    gzip or zstd or not; - is standard input. Shows what is alike, how much, and whether it was kept. Writes nothing.
    """
    from curate.pipeline import session
    from curate.pipeline.errors import UsageError
    from curate.pipeline.status import stale_stages
    from curate.pipeline.workspace import Workspace
    from curate.stages.dedup.findings import opening
    from curate.stages.dedup.query import near_copies

    place = Workspace(workspace)
    if not place.exists(session.RECIPE):
        raise UsageError(f"{workspace} is no workspace: nothing has run there")
    recipe = session.workspace_recipe(place, None)
    config = recipe.section("dedup")
    columns = recipe.head.input if column is None else recipe.head.input.model_copy(update={"text": column})
    asked = Asked("standard input" if file == "-" else Path(file).name)
    with click.open_file(file, "rb") as stream:
        answers = near_copies(place, config, _texts(stream, columns, asked), top=top, least=similarity)
    if not answers:
        reason = f": {asked.skipped[0]}" if asked.skipped else ""
        raise UsageError(f"{asked.name} holds no text{reason}")
    notes = [f"found as the run links pages: {line}" for line in opening(config)][:1]
    if "dedup" in stale_stages(place, ("extract", "filter", "dedup")):
        notes.append("a stage before dedup has run again since: these are the pages of before")
    notes += asked.cut
    facts = {"queries": [asdict(answer) for answer in answers], "skipped": asked.skipped, "notes": notes}
    say(
        as_json, facts | {"skipped_records": asked.skips}, *_lines(answers, asked), *(f"note: {note}" for note in notes)
    )


@dataclass
class Asked:
    """What is known of the texts once they have been read: how each begins, what could not be read, what was cut."""

    name: str
    previews: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """The first ones' number and reason."""
    skips: int = 0
    cut: list[str] = field(default_factory=list)

    def takes(self, text: str, *, cut: bool) -> str:
        """A text that is asked for."""
        if cut:
            self.cut.append(f"text {len(self.previews)}: its first {LONGEST >> 20} MiB are looked at")
        self.previews.append(_preview(text))
        return text

    def skips_record(self, reason: str) -> None:
        self.skips += 1
        if len(self.skipped) < SKIPPED:
            self.skipped.append(reason)


def _preview(text: str) -> str:
    from curate.pipeline.tables import printable

    words = " ".join(text[: 8 * PREVIEW].split())
    return printable(words if len(words) <= PREVIEW else words[: PREVIEW - 1] + "…")


def _texts(stream: IO[bytes], columns: InputConfig, asked: Asked) -> Iterator[tuple[str | None, str]]:
    """Id and text of each record; what cannot be read is named in `asked`."""
    from curate.pipeline.errors import UsageError
    from curate.pipeline.peek import HEAD_BYTES, sniff_format
    from curate.stages.extract.records import CUT, Rejected
    from curate.stages.extract.tables import read_jsonl, read_parquet

    mapping = {"text": columns.text, "html": None, "id": columns.id, "url": columns.url, "date": columns.date}
    with tempfile.SpooledTemporaryFile(LONGEST) as spool:
        if not stream.seekable():  # a pipe: formats are told by the first bytes, Parquet begins at the end
            shutil.copyfileobj(stream, spool)
            spool.seek(0)
            stream = spool
        kind = sniff_format(stream.read(HEAD_BYTES))
        stream.seek(0)
        if kind == "warc":
            raise UsageError(f"{asked.name} is {kind}: give JSONL, Parquet or plain text")
        if kind is None or (kind == "jsonl" and asked.name.endswith((".txt", ".md"))):
            text, more = _plain(stream, asked.name)
            if text.strip():
                yield None, asked.takes(text, cut=more)
            return
        records = (
            read_parquet(stream, LONGEST, mapping)
            if kind == "parquet"
            else read_jsonl(stream, asked.name, LONGEST, mapping)
        )
        for record in records:
            if isinstance(record, Rejected):
                asked.skips_record(f"record {record.number}: {record.reason}: {record.detail}")
            else:
                yield record.id, asked.takes(record.body.decode("utf-8", "replace"), cut=record.truncated == CUT)


def _plain(stream: IO[bytes], name: str) -> tuple[str, bool]:
    """The whole file as one text, unpacked, and whether it was longer than LONGEST. UsageError where it is no text."""
    from curate.pipeline.errors import UsageError
    from curate.stages.extract.decode import Broken, Raw, compression_of, events

    data = bytearray()
    raw = Raw(stream)
    for event in events(raw, compression_of(raw, ""), resync=False):
        if isinstance(event, Broken):
            raise UsageError(f"{name} cannot be unpacked: {event.detail}")
        if isinstance(event, bytes):
            data += event
        if len(data) > LONGEST:
            break
    text = data[:LONGEST].decode("utf-8-sig", "replace")
    if "\0" in text or text.count("\ufffd") > len(text) // 10:
        raise UsageError(f"{name} is binary, or not UTF-8: give JSONL, Parquet or plain text")
    if text.lstrip().startswith("[") and name.endswith(".json"):
        raise UsageError(f"{name} is one JSON array: give a JSON object a line")
    return text, len(data) > LONGEST


def _lines(answers: Sequence[Answer], asked: Asked) -> Iterator[str]:
    from curate.pipeline.progress import number_of
    from curate.pipeline.tables import printable

    for answer, preview in zip(answers, asked.previews, strict=True):
        name = f"  {printable(answer.id)}" if answer.id else ""
        if answer.empty:
            found = "no words: never a copy"
        elif not answer.found:
            found = "nothing alike"
        else:
            found = number_of(answer.found, "page alike", "pages alike")
            found += f", the first {len(answer.matches)}" if answer.found > len(answer.matches) else ""
        yield f"text {answer.number}{name}  “{preview}”: {found}"
        yield from _table([_row(match) for match in answer.matches])
    if len(answers) > 1:
        alike = sum(answer.found > 0 for answer in answers)
        yield f"{alike:,} of {number_of(len(answers), 'text')} with pages alike"
    yield from (f"skipped: {printable(reason)}" for reason in asked.skipped)
    if asked.skips > len(asked.skipped):
        yield f"skipped: {asked.skips - len(asked.skipped):,} more"


def _row(match: Match) -> list[str]:
    from curate.pipeline.tables import printable

    similarity = "exact" if match.exact else f"{match.similarity:.2f}"
    date = (match.date or "-")[:10]
    shown = (similarity, _fate(match), match.id or "(no id)", date, match.snapshot or "-", match.url or "")
    return [printable(cell) for cell in shown]


def _fate(match: Match) -> str:
    if match.kept:
        return "kept"
    kept = f" of {match.kept_id}" if match.kept_id and match.kept_id != match.id else ""
    return f"{match.reason or 'not in this run any more'}{kept}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows in columns, below their heads."""
    if not rows:
        return
    heads = ("alike", "became", "id", "date", "snapshot", "url")
    widths = [min(WIDEST, max(map(len, column))) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        yield "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
