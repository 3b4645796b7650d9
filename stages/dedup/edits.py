"""Step `substrings`; and the texts of pages that stay without what other pages have, be it that or `paragraphs`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.pipeline.documents import with_column
from curate.pipeline.ledger import Counts, FailedRule, ShardWriter, record_keys
from curate.pipeline.stage import Context
from curate.stages.dedup.edit_config import SubstringConfig
from curate.stages.dedup.edit_steps import EDITS, SUBSTRINGS
from curate.stages.dedup.staying import staying
from curate.stages.dedup.substring import cut, find_repeats
from curate.stages.partitions import PartWriter, read_part

CUTS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("kept_id", pa.string()),
        ("bridged", pa.bool_()),
        ("relied", pa.bool_()),
    ]
)
"""What goes of each page, a part for each shard, by row of its documents: bytes `start` to before `stop` of its text in
UTF-8. `kept_id` is the page that has a copy; none where it is `bridged`, or the page has it itself. `relied`: this page keeps
copies for others."""

_COLUMNS = ("id", "date", "snapshot", "text")


def write_substrings(context: Context) -> Counts:
    """The repeats across the pages that stay of some shards, a partition of their texts at a time."""
    config: SubstringConfig = context.config.substring
    counts = Counts()
    with context.create(SUBSTRINGS) as output, PartWriter(output, CUTS) as writer:
        for pages in _partitions(_texts(context), config.partition_mb << 20):
            started = time.perf_counter()
            cuts = repeats_across(pages, config)
            writer.scatter(cuts, cuts.column("shard").to_numpy())
            counts.seconds["substrings"] += time.perf_counter() - started
            counts.records += pages.num_rows
            context.progress(pages.num_rows)
    counts.kept = counts.records
    return counts


def _partitions(pieces: Iterator[tuple[int, pa.Table]], most: int) -> Iterator[pa.Table]:
    """The pages in their order, with `shard`, so many bytes of text at a time, unless one text alone has more."""
    waiting: list[pa.Table] = []
    held = 0
    for shard, pages in pieces:
        pages = pages.append_column("shard", pa.array(np.full(pages.num_rows, shard, np.int64)))
        start = 0
        for place, size in enumerate(pc.binary_length(pages.column("text")).to_pylist()):
            if held and held + size > most:
                yield pa.concat_tables([*waiting, pages.slice(start, place - start)])
                waiting, held, start = [], 0, place
            held += size
        waiting.append(pages.slice(start))
    if waiting:
        yield pa.concat_tables(waiting)


def repeats_across(pages: pa.Table, config: SubstringConfig) -> pa.Table:
    """By CUTS and with `shard`: what goes of pages (`row`, `shard`, `id`, `date`, `snapshot`, `text`), in their order."""
    ties = [xxhash.xxh3_64_intdigest(text.as_buffer() if text.is_valid else b"") for text in pages.column("text")]
    ranked = pages.append_column("tie", pa.array(ties, pa.uint64()))
    order = pc.sort_indices(ranked, sort_keys=[(name, "ascending") for name in ("date", "snapshot", "id", "tie")])
    texts = pages.column("text").cast(pa.large_string()).take(order).combine_chunks()
    found = find_repeats(texts, least_bytes=config.least_bytes, bridge=config.bridge)
    places = order.to_numpy()
    rows = places[found.text]
    bridged = found.keeper < 0
    keepers = pa.array(places[np.where(bridged, 0, found.keeper)], pa.int64(), mask=bridged)
    table = pages.select(["row", "shard", "id"]).take(pa.array(rows))
    columns: dict[str, Any] = {
        "start": pa.array(found.start),
        "stop": pa.array(found.stop),
        "kept_id": pages.column("id").take(keepers),
        "bridged": pa.array(bridged),
        "relied": pa.array(found.relied[found.text]),
    }
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table.take(pa.array(np.lexsort((found.start, rows))))


def _texts(context: Context) -> Iterator[tuple[int, pa.Table]]:
    """Number of the shard and some of its pages that stay, with the number of each one's row. Shorter ones than a repeat
    neither have one nor keep one."""
    inputs = context.task.inputs
    least = pa.scalar(context.config.substring.least_bytes, pa.int32())
    for shard, (docs, (file, position)) in enumerate(zip(inputs["docs"], context.task.params["verdicts"], strict=True)):
        for batch, rows in staying(context, docs, inputs["verdicts"][file], position, _COLUMNS):
            pages = pa.Table.from_batches([batch]).append_column("row", pa.array(rows))
            yield shard, pages.filter(pc.greater_equal(pc.binary_length(pages.column("text")), least))


@dataclass(frozen=True)
class Named:
    """What the ledger and the counts call an edit: pages that go for it, characters that go of pages that stay, the rule."""

    reason: str
    edit: str
    rule: str


SUBSTRING = Named("substring_duplicate", "repeated_substrings", "substring.least_chars")
PARAGRAPH = Named("paragraph_duplicate", "repeated_paragraphs", "paragraphs.least_chars")


class Edits:
    """What the pages of a shard lose, and which of them are then too short. Writes the pages, drops the others."""

    def __init__(self, cuts: pa.Table, least_chars: int, named: Named) -> None:
        """`cuts` by CUTS, the rows of one shard in their order."""
        self._cuts = cuts
        self._rows, self._starts, self._stops, self._relied = (
            cuts.column(name).to_numpy() for name in ("row", "start", "stop", "relied")
        )
        self._least_chars = least_chars
        self._named = named

    def settle(self, writer: ShardWriter, batch: pa.RecordBatch, rows: Any) -> None:
        """Keeps pages without what goes of them, or drops them; `rows` are the numbers of their rows, ascending."""
        texts = batch.column("text")
        changed: dict[int, str] = {}
        gone = []
        firsts = np.searchsorted(self._rows, rows, side="left")
        ends = np.searchsorted(self._rows, rows, side="right")
        for place in np.flatnonzero(firsts < ends).tolist():
            cuts = slice(firsts[place], ends[place])
            text = texts[place].as_py()
            left = cut(text.encode(), self._starts[cuts], self._stops[cuts]).decode()
            if len(left.strip()) < self._least_chars and not self._relied[cuts.start]:
                gone.append((place, len(left.strip()), self._cuts[cuts]))
            else:
                changed[place] = left
                writer.counts.edits[self._named.edit] += len(text) - len(left)
        if changed:
            batch = with_column(batch, "text", _replaced(texts, changed))
        stays = np.ones(batch.num_rows, np.bool_)
        stays[[place for place, _, _ in gone]] = False
        writer.keep(batch.filter(pa.array(stays)))
        keys = record_keys(batch, (place for place, _, _ in gone))
        for record, (_, left_chars, lost) in zip(keys, gone, strict=True):
            rule = FailedRule(self._named.rule, left_chars, "min", self._least_chars)
            writer.drop(record, self._named.reason, failed=[rule], kept_id=_longest(lost), detail=_told(lost))


def read_edits(context: Context) -> Edits | None:
    """The edits of a task's shard, from its input and param `edits`; None where nothing is edited."""
    substring, paragraphs = context.config.substring, context.config.paragraphs
    if substring is None and paragraphs is None:
        return None
    with context.open(context.input(EDITS)) as stream:
        cuts = pa.concat_tables([CUTS.empty_table(), *read_part(stream, context.task.params[EDITS])])
    if substring is not None:
        return Edits(cuts, substring.least_chars, SUBSTRING)
    return Edits(cuts, paragraphs.least_chars, PARAGRAPH)


def _replaced(texts: pa.Array, changed: dict[int, str]) -> pa.Array:
    mask = np.zeros(len(texts), np.bool_)
    mask[list(changed)] = True
    values = pa.array([changed[place] for place in sorted(changed)], texts.type)
    return pc.replace_with_mask(texts, pa.array(mask), values)


def _longest(cuts: pa.Table) -> str | None:
    """The page that keeps most of what goes; of several the smallest id."""
    bytes_of: dict[str, int] = {}
    for piece in cuts.select(["start", "stop", "kept_id"]).to_pylist():
        if piece["kept_id"] is not None:
            bytes_of[piece["kept_id"]] = bytes_of.get(piece["kept_id"], 0) + piece["stop"] - piece["start"]
    return min(bytes_of, key=lambda id: (-bytes_of[id], id), default=None)


def _told(cuts: pa.Table) -> str:
    lost = int((cuts.column("stop").to_numpy() - cuts.column("start").to_numpy()).sum())
    return f"{lost} bytes stand elsewhere"
