"""Steps `choices` and `verdicts`: which page of each cluster stays, and what that means for every shard.

A cluster of any size costs its own rows: pass one keeps a row a cluster, the last compares the pages with it in pieces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.clusters import first_of_all, keep_order, order_columns
from curate.stages.dedup.columns import fixed_bytes, lookup
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.ids import STANDINGS, compact, read_shadows
from curate.stages.dedup.members import member_schema, read_members
from curate.stages.dedup.minhash import estimate
from curate.stages.dedup.reporting import Figures, as_json
from curate.stages.partitions import PartWriter, read_part

CHOICES = pa.schema(
    [
        ("document", pa.int64()),
        ("size", pa.int32()),
        ("kept", pa.bool_()),
        ("kept_id", pa.string()),
        ("exact", pa.bool_()),
        ("similarity", pa.float64()),
        ("through", pa.bool_()),
    ]
)
"""The pages of clusters of two or more, those among them that went for their id or URL. `size`: pages that the one kept stands
for, itself among them. `exact`: same normalised text as the page kept; `similarity` to it: estimated from the sketches,
null without MinHash. Of pages that went before: `through` another that did not stay either, the other two null."""
VERDICTS = pa.schema(
    [
        ("row", pa.int64()),
        *(field for field in CHOICES if field.name != "document"),
        ("reason", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
    ]
)
"""The same by row. Of the pages that go for their id or URL the reason, and the place of the page for which they went; null of
all others."""


def write_choices(context: Context) -> Counts:
    """For each page of this part's clusters whether it stays, a part for each group; and the part's figures, which are those of
    texts: pages that went for their id or URL are counted for the page that stays, but not in them."""
    config: DedupConfig = context.config
    counts = Counts()
    started = time.perf_counter()
    columns = ["document", "label", *order_columns(config.keep), *(["sketch"] if config.minhash.enabled else [])]
    order = keep_order(config.keep, config.scope)
    empty = member_schema(config).empty_table().select(columns)
    best = first_of_all((piece for _, piece in _pieces(context, columns)), empty, order)
    labels = best.column("label").to_numpy()
    sizes = np.zeros(len(labels), np.int64)
    standings = Standings(_standings(context))
    for _, piece in _pieces(context, ["document", "label"]):
        clusters = np.searchsorted(labels, piece.column("label").to_numpy())
        sizes += np.bincount(clusters, minlength=len(labels))
        standings.find(piece.column("document").to_numpy(), clusters)
    figures = Figures(sizes)
    stands_for = sizes + standings.clusters(len(labels))
    others = standings.choices(best, stands_for, context.task.params["starts"])
    with context.create("choices") as output, PartWriter(output, CHOICES) as writer:
        for group, pieces in _by_group(context, columns):
            for piece in pieces:
                chosen = compare(piece, best, stands_for, config)
                index = np.searchsorted(labels, piece.column("label").to_numpy())
                figures.add(index, chosen.column("similarity"))
                writer.write(group, chosen.filter(pa.array(stands_for[index] > 1)))
                counts.records += piece.num_rows
            writer.write(group, others(group))
    with context.create("figures") as output:
        output.write(as_json(figures.of_part(best.column("id"))))
    counts.kept = counts.records
    counts.seconds["choose"] += time.perf_counter() - started
    return counts


def _by_group(context: Context, columns: Sequence[str]) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """Each group with the pieces of its members in the part; `label` is that of verification where there was one."""
    verified = context.task.inputs.get("verified")
    with ExitStack() as stack:
        labels = [stack.enter_context(context.open(file)) for file in verified or ()]
        for group, pieces in read_members(context, columns):
            if not verified:
                yield group, pieces
                continue
            found = (piece.column("label") for piece in read_part(labels[0], group))
            place = columns.index("label")
            yield (
                group,
                (piece.set_column(place, "label", label) for piece, label in zip(pieces, found, strict=True)),
            )


def _pieces(context: Context, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """The same, each piece with its group."""
    for group, pieces in _by_group(context, columns):
        yield from ((group, piece) for piece in pieces)


def _standings(context: Context) -> pa.Table:
    """By STANDINGS: what the task's part has of pages that went for their id or URL."""
    found = [compact(STANDINGS.empty_table())]
    for file in context.task.inputs["standings"]:
        with context.open(file) as stream:
            found.extend(map(compact, read_part(stream, context.task.params["part"], STANDINGS.names)))
    return pa.concat_tables(found).unify_dictionaries()


class Standings:
    """The pages that went before texts were compared, and what became of those for which they went."""

    def __init__(self, standings: pa.Table) -> None:
        """By STANDINGS, in any order."""
        self._pages = standings.sort_by("stays")
        self._stays = self._pages.column("stays").to_numpy()
        self._cluster = np.full(len(self._stays), -1, np.int64)

    def find(self, documents: Any, clusters: Any) -> None:
        """Takes in pages (ascending) that are in clusters of texts, with the number of each one's cluster."""
        places, held = lookup(documents, self._stays)
        self._cluster[held] = clusters[places[held]]

    def clusters(self, count: int) -> Any:
        """For each of so many clusters, how many pages went for one of it."""
        return np.bincount(self._cluster[self._cluster >= 0], minlength=count)

    def choices(self, best: pa.Table, stands_for: Any, starts: Sequence[int]) -> Callable[[int], pa.Table]:
        """By CHOICES, for a group: its pages that went, and those for which some went that are in no cluster.

        `best` are the pages that stay of the clusters, `stands_for` how many pages each has; `starts` the first number of
        each group.
        """
        inside = self._cluster >= 0
        cluster = self._cluster[inside]
        alone, which, often = np.unique(self._stays[~inside], return_inverse=True, return_counts=True)
        sizes = np.empty(len(inside), np.int64)
        sizes[inside] = stands_for[cluster]
        sizes[~inside] = (often + 1)[which]
        through = self._pages.column("through").to_numpy().astype(np.bool_)
        through[inside] |= best.column("document").to_numpy()[cluster] != self._stays[inside]
        chosen = best.column("id").take(pa.array(self._cluster, mask=~inside)).combine_chunks()
        given = self._pages.column("kept_id").cast(pa.string()).combine_chunks()
        tables = [
            _without_text(
                self._pages.column("document"), sizes, False, pc.if_else(pa.array(inside), chosen, given), through
            ),
            _without_text(alone, often + 1, True, pa.nulls(len(alone), pa.string()), np.zeros(len(alone), np.bool_)),
        ]
        table = pa.concat_tables(tables).sort_by("document")
        limits = np.searchsorted(table.column("document").to_numpy(), [*starts, np.iinfo(np.int64).max])
        return lambda group: table.slice(limits[group], limits[group + 1] - limits[group])


def _without_text(documents: Any, sizes: Any, kept: bool, kept_ids: Any, through: Any) -> pa.Table:
    count = len(documents)
    unknown = [pa.nulls(count, CHOICES.field(name).type) for name in ("exact", "similarity")]
    return pa.table([documents, sizes, pa.array(np.full(count, kept)), kept_ids, *unknown, through], schema=CHOICES)


def compare(members: pa.Table, best: pa.Table, sizes: Any, config: DedupConfig) -> pa.Table:
    """By CHOICES: each member against the page that stays of its cluster; `best` is sorted by label, `sizes` are
    those of its clusters."""
    index = np.searchsorted(best.column("label").to_numpy(), members.column("label").to_numpy())

    def both(name: str) -> tuple[Any, Any]:
        return members.column(name).to_numpy(), best.column(name).to_numpy()[index]

    equal = np.ones(members.num_rows, np.bool_)
    for name in ("hash_high", "hash_low"):
        one, other = both(name)
        equal &= one == other
    documents, stays = both("document")
    similarity = pa.nulls(members.num_rows, pa.float64())
    if config.minhash.enabled:
        similarity = pa.array(_similarity(members.column("sketch"), best.column("sketch"), index, config))
    return pa.table(
        [
            documents,
            sizes[index],
            documents == stays,
            best.column("id").take(pa.array(index)),
            equal,
            similarity,
            pa.nulls(members.num_rows, pa.bool_()),
        ],
        schema=CHOICES,
    )


_COMPARED_AT_A_TIME = 10_000


def _similarity(members: pa.ChunkedArray, best: pa.ChunkedArray, index: Any, config: DedupConfig) -> Any:
    one, other = (fixed_bytes(column, config.minhash.permutations) for column in (members, best))
    pieces = [np.zeros(0)]
    for start in range(0, len(index), _COMPARED_AT_A_TIME):
        end = start + _COMPARED_AT_A_TIME
        pieces.append(estimate(one[start:end], other[index[start:end]]))
    return np.concatenate(pieces)


def write_verdicts(context: Context) -> Counts:
    """What becomes of the pages of a group that have copies or another's id, a part for each shard, by row."""
    params = context.task.params
    pieces = [CHOICES.empty_table()]
    for file in context.task.inputs["choices"]:
        with context.open(file) as stream:
            pieces.extend(read_part(stream, params["group"]))
    choices = _with_reasons(pa.concat_tables(pieces).sort_by("document"), read_shadows(context))
    ends = params["base"] + np.cumsum([0, *params["rows"]])
    documents = choices.column("document").to_numpy()
    shards = np.searchsorted(ends, documents, side="right") - 1
    rows = pa.array(documents - ends[shards])
    verdicts = choices.set_column(0, "row", rows)
    with context.create("verdicts") as output, PartWriter(output, VERDICTS) as writer:
        writer.scatter(verdicts, shards)
    return Counts(records=choices.num_rows, kept=choices.num_rows)


def _with_reasons(choices: pa.Table, shadows: pa.Table) -> pa.Table:
    """Both by number: the pages that went for their id or URL have their reason and place beside what became of them."""
    places, went = lookup(shadows.column("document").to_numpy(), choices.column("document").to_numpy())
    if np.count_nonzero(went) != shadows.num_rows:
        raise CurateError(
            f"{shadows.num_rows} pages went for their id or URL, {np.count_nonzero(went)} are chosen for: run again"
        )
    index = pa.array(places, mask=~went)
    for name in ("reason", "source", "offset"):
        choices = choices.append_column(name, shadows.column(name).take(index))
    return choices
