"""Step `paragraph_cuts`: what goes of each page of a group, for paragraphs that stand elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.edits import CUTS
from curate.stages.dedup.paragraph_steps import CUTS as CUTS_NAME
from curate.stages.dedup.paragraph_steps import OWNERS, PARAGRAPHS
from curate.stages.dedup.paragraphs import OWNED, Pages, new_values, passes, read_pages, read_windows
from curate.stages.partitions import PartWriter, read_part

STAYS, SELF = -2, -1
"""In place of the page that keeps a copy: the paragraph stays; it stands in its own page before."""

Keepers = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def write_cuts(context: Context) -> Counts:
    """What goes of the pages of a group, by CUTS, a part for each shard."""
    pages = read_pages(context)
    owned = _owned(context)
    keepers = np.full(sum(pages.windows), STAYS, np.int32)
    relied = np.zeros(len(keepers), np.bool_)
    for low, high in passes(pages, context.config.memory_mb):
        decide(context, pages, owned, (low, high), keepers, relied)
    names = pa.chunked_array([*pages.identity.column("id").chunks, *owned.column("kept_id").chunks], pa.string())
    counts = Counts()
    base = 0
    with context.create(CUTS_NAME) as output, PartWriter(output, CUTS) as writer:
        for shard, count in enumerate(pages.windows):
            with context.open(context.task.inputs[PARAGRAPHS][shard]) as stream:
                windows = pq.read_table(stream).drop_columns(["high", "low"])
            here = slice(base, base + count)
            span = context.config.paragraphs.span
            for piece in cuts_of(windows, keepers[here], relied[here], pages.starts[shard], names, span):
                writer.write(shard, piece)
            base += count
            context.progress(count)
    counts.records = counts.kept = base
    return counts


def _owned(context: Context) -> pa.Table:
    """The group's paragraphs that other groups have."""
    pieces = [OWNED.empty_table()]
    for file in context.task.inputs[OWNERS]:
        with context.open(file) as stream:
            pieces += read_part(stream, context.task.params["group"])
    return pa.concat_tables(pieces)


def decide(
    context: Context, pages: Pages, owned: pa.Table, limits: tuple[int, int], keepers: Keepers, relied: Flags
) -> None:
    """Sets, for the paragraphs of a range of hashes, the page that keeps the copy of those that go (its number, or that of
    the row of `owned` behind all pages), and which of those that stay are copies for other pages."""
    high, low, page, index = (np.concatenate(found) for found in zip(*_windows(context, pages, limits), strict=True))
    other = owned.column("high").to_numpy()
    places = np.flatnonzero((other >= np.uint64(limits[0])) & (other <= np.uint64(limits[1])))
    # rows of `owned` come before all pages of the same hash, with their own numbers behind those of pages
    high = np.concatenate([other[places], high])
    low = np.concatenate([owned.column("low").to_numpy()[places], low])
    rank = np.concatenate([np.full(len(places), -1, np.int32), pages.rank[page]])
    page = np.concatenate([(places + len(pages.rank)).astype(np.int32), page])
    index = np.concatenate([np.full(len(places), -1, np.int64), index])
    again = np.flatnonzero(_repeated(high))
    order = again[np.lexsort((rank[again], high[again]))]  # what is equal stays by `index`
    if np.any((high[order][1:] == high[order][:-1]) & (low[order][1:] != low[order][:-1])):  # hashes equal by half
        order = again[np.lexsort((rank[again], low[again], high[again]))]
    high, low, page, index = high[order], low[order], page[order], index[order]
    run = np.cumsum(new_values(high) | new_values(low)) - 1
    heads = np.flatnonzero(new_values(run))
    if not len(heads):
        return
    abroad = index[heads] < 0
    own = np.ones(len(heads), np.bool_)
    own[abroad] = owned.column("own").to_numpy()[page[heads[abroad]] - len(pages.rank)]
    # the group's first page of each paragraph; behind a row of `owned` it comes second
    first = page[np.minimum(heads + abroad, len(page) - 1)]
    kept = np.where(own, first, page[heads])
    shared = abroad | (np.maximum.reduceat(page != first[run], heads) & ~abroad)
    inside = index >= 0
    stays = inside & (page == kept[run])
    later = stays.copy()
    later[heads + abroad] = False
    if context.config.paragraphs.within_pages:
        stays &= ~later
    goes = inside & ~stays
    keepers[index[goes]] = np.where(later, SELF, kept[run])[goes]
    relied[index[stays]] = shared[run][stays]


def _windows(context: Context, pages: Pages, limits: tuple[int, int]) -> Iterator[tuple[Any, Any, Any, Any]]:
    yield np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.int64)
    yield from read_windows(context, pages, *limits)


def _repeated(values: Any) -> Flags:
    """Whether each value stands more than once."""
    order = np.argsort(values)
    new = new_values(values[order])
    found = np.empty(len(values), np.bool_)
    found[order] = ~new | ~np.append(new[1:], True)[: len(new)]
    return found


def cuts_of(
    windows: pa.Table, keepers: Keepers, relied: Flags, first_page: int, names: pa.ChunkedArray, span: int
) -> Iterator[pa.Table]:
    """By CUTS, in the order of rows: what goes of a shard's pages, given what becomes of each of its paragraphs.

    All units of the paragraphs that go are taken out, and of the white space around neighbours that go together the half with
    fewer line feeds, so that what is left is as far apart as it was; at the ends of a text all of it. Pieces of which one page
    has copies are one.
    """
    lost = np.flatnonzero(keepers != STAYS)
    if not len(lost):
        return
    rows, units = windows.column("row").to_numpy(), windows.column("unit").to_numpy()
    kept_by = keepers[lost]
    page = first_page + np.cumsum(new_values(rows))[lost] - 1
    taken = windows.take(pa.array(lost))
    row, unit, start, stop, before, after, feeds_before, feeds_after = (
        taken.column(name).to_numpy() for name in
        ("row", "unit", "start", "stop", "before", "after", "breaks_before", "breaks_after")
    )  # fmt: skip
    joined = np.zeros(len(lost), np.bool_)  # to the one before it
    joined[1:] = (row[1:] == row[:-1]) & (unit[1:] <= unit[:-1] + span)
    heads = np.flatnonzero(~joined)
    tails = np.append(heads[1:], len(lost)) - 1
    ends = (feeds_before[heads] < 0) | (feeds_after[tails] < 0)
    fewer_before = feeds_before[heads] < feeds_after[tails]
    begin, end = start.astype(np.int64), np.append(start[1:], 0).astype(np.int64)
    begin[heads] -= np.where(ends | fewer_before, before[heads], 0)
    end[tails] = stop[tails] + np.where(ends | ~fewer_before, after[tails], 0)
    pieces = np.flatnonzero(~joined | new_values(kept_by))
    last = np.append(pieces[1:], len(lost)) - 1
    needed = np.unique(rows[np.flatnonzero(relied)[_anything_left(rows, units, relied, row, unit, span)]])
    alone = kept_by[pieces] == SELF
    yield pa.table(
        {
            "row": row[pieces].astype(np.int64),
            "id": names.take(pa.array(page[pieces])),
            "start": begin[pieces],
            "stop": end[last],
            "kept_id": names.take(pa.array(np.where(alone, 0, kept_by[pieces]), mask=alone)),
            "bridged": np.zeros(len(pieces), np.bool_),
            "relied": np.isin(row[pieces], needed),
        }
    )


def _anything_left(rows: Any, units: Any, relied: Flags, row: Any, unit: Any, span: int) -> Flags:
    """Of the paragraphs that other pages rely upon those of which a unit stays, given `row` and `unit` of those that go."""
    width = int(units.max(initial=0)) + span + 1
    gone = row.astype(np.int64) * width + unit
    firsts = rows[relied].astype(np.int64) * width + units[relied]
    left = np.zeros(len(firsts), np.bool_)
    for place in range(span):
        nearest = np.searchsorted(gone, firsts + place, side="right") - 1
        left |= (nearest < 0) | (gone[nearest] <= firsts + place - span)
    return left
