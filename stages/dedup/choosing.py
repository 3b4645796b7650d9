"""Steps `choices` and `verdicts`: which page of each cluster stays, and what that means for every shard.

A cluster of any size costs its own rows: pass one keeps a row a cluster, the last compares the pages with it in pieces.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.clusters import first_of_all, keep_order, order_columns
from curate.stages.dedup.columns import fixed_bytes
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.ids import read_shadows
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
    ]
)
"""The pages of clusters of two or more. `exact`: same normalised text as the page kept; `similarity` to it: estimated from
the sketches, null without MinHash."""
VERDICTS = pa.schema(
    [
        ("row", pa.int64()),
        *(field for field in CHOICES if field.name != "document"),
        ("shadowed", pa.bool_()),
        ("reason", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
    ]
)
"""The same by row, and with them the pages that go for their id or URL: `shadowed`, with the reason and the place of the page
that stays."""


def write_choices(context: Context) -> Counts:
    """For each page of this part's clusters whether it stays, a part for each group; and the part's figures."""
    config: DedupConfig = context.config
    counts = Counts()
    started = time.perf_counter()
    columns = ["document", "label", *order_columns(config.keep), *(["sketch"] if config.minhash.enabled else [])]
    order = keep_order(config.keep, config.scope)
    empty = member_schema(config).empty_table().select(columns)
    best = first_of_all((piece for _, piece in _pieces(context, columns)), empty, order)
    labels = best.column("label").to_numpy()
    sizes = np.zeros(len(labels), np.int64)
    for _, piece in _pieces(context, ["label"]):
        sizes += np.bincount(np.searchsorted(labels, piece.column("label").to_numpy()), minlength=len(labels))
    figures = Figures(sizes)
    with context.create("choices") as output, PartWriter(output, CHOICES) as writer:
        for group, piece in _pieces(context, columns):
            chosen = compare(piece, best, sizes, config)
            index = np.searchsorted(labels, piece.column("label").to_numpy())
            figures.add(index, chosen.column("similarity"))
            writer.write(group, chosen.filter(pa.array(sizes[index] > 1)))
            counts.records += piece.num_rows
    with context.create("figures") as output:
        output.write(as_json(figures.of_part(best.column("id"))))
    counts.kept = counts.records
    counts.seconds["choose"] += time.perf_counter() - started
    return counts


def _pieces(context: Context, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """The part's members with their group; `label` is that of verification where there was one."""
    verified = context.task.inputs.get("verified")
    with ExitStack() as stack:
        labels = [stack.enter_context(context.open(file)) for file in verified or ()]
        for group, pieces in read_members(context, columns):
            if not verified:
                yield from ((group, piece) for piece in pieces)
                continue
            for piece, label in zip(pieces, read_part(labels[0], group), strict=True):
                yield group, piece.set_column(columns.index("label"), "label", label.column("label"))


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
    choices = _with_shadows(pa.concat_tables(pieces), read_shadows(context)).sort_by("document")
    ends = params["base"] + np.cumsum([0, *params["rows"]])
    documents = choices.column("document").to_numpy()
    shards = np.searchsorted(ends, documents, side="right") - 1
    rows = pa.array(documents - ends[shards])
    verdicts = choices.set_column(0, "row", rows)
    with context.create("verdicts") as output, PartWriter(output, VERDICTS) as writer:
        writer.scatter(verdicts, shards)
    return Counts(records=choices.num_rows, kept=choices.num_rows)


def _with_shadows(choices: pa.Table, shadows: pa.Table) -> pa.Table:
    """Both in one: no page is in both, for those that go for their id are in no cluster."""

    def all_of(rows: int, value: bool) -> pa.Array:
        return pa.array(np.full(rows, value))

    choices = choices.append_column("shadowed", all_of(choices.num_rows, False))
    shadows = shadows.append_column("shadowed", all_of(shadows.num_rows, True))
    shadows = shadows.append_column("kept", all_of(shadows.num_rows, False))
    return pa.concat_tables([choices, shadows], promote_options="default")
