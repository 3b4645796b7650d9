"""Steps `join` and `spread` in turn: the links of a scope that no task can hold become stars around the smallest page.

The pages are cut into blocks of consecutive numbers, a task each; links lie in parts by block. A round is two steps: the
small star and the large star of Kiveris et al. 2014, "Connected components in MapReduce and beyond", the small one made
stronger, for it joins whatever a block joins by itself.

    join     in its block each page of a cluster is linked to the smallest page that the block knows of
    spread   a page that has a smaller neighbour hands it to its larger ones

Neither parts what is linked nor links what is not. Where `join` links no pages before a block each page has one smaller
neighbour; where then `spread` has nothing to hand on that one has none, and is the smallest of the cluster: `write_stars`
reads the clusters off. A task holds 12 bytes a page of its block (16 beyond 2^31 pages),
whatever the number of links; these pass through files of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numba
import numpy as np
import pyarrow as pa

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.linking import COMPONENTS, EDGES, write_groups
from curate.stages.partitions import PartWriter, read_part

Array = np.ndarray[Any, Any]

_AT_A_TIME = 1 << 20
"""Links that are taken from a file of their part at a time."""


def write_joined(context: Context) -> Counts:
    """The links whose larger end lies in a block, made smaller: `by_larger` in parts by that end's block, `by_smaller` by
    the other's. `kept` is less than `records` where a cluster of the block has several pages before the block: these are
    linked too."""
    params = context.task.params
    counts = Counts()
    started = time.perf_counter()
    block = Block(params["start"], params["end"])
    for smallest, documents in _links(context, "edges"):
        block.add(smallest, documents)
    block.settle()
    with ExitStack() as stack:
        outputs = [(stack.enter_context(Scattered(params["blocks"])), name) for name in ("by_larger", "by_smaller")]
        (larger, _), (smaller, _) = outputs
        for smallest, documents in _links(context, "edges"):
            counts.records += len(documents)
            stars, pages = block.outside(smallest, documents)
            counts.kept += len(documents) - len(pages)
            larger.add(stars, pages, pages)
            smaller.add(stars, pages, stars)
        for stars, pages in block.inside():
            larger.add(stars, pages, pages)
            smaller.add(stars, pages, stars)
        for scattered, name in outputs:
            scattered.write(context, name)
    counts.seconds["join"] += time.perf_counter() - started
    return counts


def write_spread(context: Context) -> Counts:
    """The links whose smaller end lies in a block, with the smallest neighbour of that end in its place where it has one;
    in parts by the larger end's block. `kept` counts those that stay as they are."""
    params = context.task.params
    counts = Counts()
    started = time.perf_counter()
    least = np.arange(params["start"], params["end"], dtype=np.int64)
    for smallest, documents in _links(context, "by_larger"):
        np.minimum.at(least, documents - params["start"], smallest)
    with Scattered(params["blocks"]) as scattered:
        for smallest, documents in _links(context, "by_smaller"):
            stars = least[smallest - params["start"]]
            counts.records += len(documents)
            counts.kept += int(np.count_nonzero(stars == smallest))
            scattered.add(stars, documents, documents)
        scattered.write(context, "edges")
    counts.seconds["spread"] += time.perf_counter() - started
    return counts


def write_stars(context: Context) -> Counts:
    """The clusters of a block's pages, from the links of the last round."""
    params = context.task.params
    labels = np.arange(params["start"], params["end"], dtype=np.int64)
    clustered = np.zeros(len(labels), np.bool_)
    for smallest, documents in _links(context, "by_larger"):
        labels[documents - params["start"]] = smallest
        clustered[documents - params["start"]] = True
    for smallest, _ in _links(context, "by_smaller"):
        clustered[smallest - params["start"]] = True
    with context.create("components") as output, PartWriter(output, COMPONENTS) as writer:
        write_groups(writer, labels, clustered, params)
    return Counts(records=len(labels), kept=len(labels))


def _links(context: Context, name: str) -> Iterator[tuple[Array, Array]]:
    """The task's part of the links in the files of an input: smaller ends, larger ends."""
    for file in context.task.inputs[name]:
        with context.open(file) as stream:
            for piece in read_part(stream, context.task.params["block"]):
                yield piece.column("smallest").to_numpy(), piece.column("document").to_numpy()


class Block:
    """The pages start … end - 1, what joins them, and the smallest page linked to each cluster of them."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._parent = np.arange(end - start, dtype=np.int32 if end - start < 2**31 else np.int64)
        self._labels = np.arange(start, end, dtype=np.int64)

    def add(self, smallest: Array, documents: Array) -> None:
        """Takes in links whose larger end lies in the block."""
        _add(self._parent, self._labels, self._start, smallest, documents)

    def settle(self) -> None:
        """Ends the taking in."""
        _settle(self._parent, self._labels)

    def inside(self) -> Iterator[tuple[Array, Array]]:
        """Links of the block's own pages to the smallest page, one each."""
        for start in range(0, len(self._labels), _AT_A_TIME):
            labels = self._labels[start : start + _AT_A_TIME]
            pages = np.arange(len(labels)) + (self._start + start)
            linked = labels != pages
            yield labels[linked], pages[linked]

    def outside(self, smallest: Array, documents: Array) -> tuple[Array, Array]:
        """Links of the pages before the block, at the other end of these, to the smallest page."""
        labels = self._labels[documents - self._start]
        linked = (smallest < self._start) & (smallest != labels)
        return labels[linked], smallest[linked]


@numba.njit(cache=True, nogil=True)
def _add(parent, labels, start, smallest, documents):  # type: ignore[no-untyped-def]
    for pair in range(len(documents)):
        b = documents[pair] - start
        if smallest[pair] < start:
            labels[b] = min(labels[b], smallest[pair])
            continue
        a = smallest[pair] - start
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b


@numba.njit(cache=True, nogil=True)
def _settle(parent, labels):  # type: ignore[no-untyped-def]
    for page in range(len(parent)):
        root = parent[parent[page]]
        parent[page] = root
        labels[root] = min(labels[root], labels[page])
    for page in range(len(parent)):
        labels[page] = labels[parent[page]]


class Scattered:
    """Links in any order, written in the order of their parts: until then they lie in a local file a part."""

    def __init__(self, starts: list[int]) -> None:
        """`starts` are the numbers of each block's first page."""
        self._starts = starts
        self._files: dict[int, Any] = {}

    def add(self, smallest: Array, documents: Array, by: Array) -> None:
        """Links to be written, each to the part of the block in which `by` lies."""
        blocks = np.searchsorted(self._starts, by, side="right") - 1
        for block in np.unique(blocks).tolist():
            pairs = np.column_stack([smallest[blocks == block], documents[blocks == block]])
            if block not in self._files:
                self._files[block] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the rest
            self._files[block].write(np.ascontiguousarray(pairs, np.int64))

    def write(self, context: Context, name: str) -> None:
        """Writes an output of EDGES, a part a block."""
        with context.create(name) as output, PartWriter(output, EDGES, use_dictionary=False) as writer:
            for block in sorted(self._files):
                file = self._files[block]
                file.seek(0)
                while data := file.read(16 * _AT_A_TIME):
                    smallest, documents = np.frombuffer(data, np.int64).reshape(-1, 2).T
                    writer.write(block, pa.table([smallest, documents], schema=EDGES))

    def __enter__(self) -> Scattered:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
