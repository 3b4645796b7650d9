"""Step `verify`: pages that share a key are linked only where they are alike enough, clusters that are too large taken
apart, and with the scope `newest-first` those that older pages alone hold together.

The pages that may belong together lie together already, in the parts of `members`. Their buckets are formed once more, from
one page of each text, and within a bucket a page is compared with the first by the order in which pages are kept, and with
the next that nothing before was like: REPRESENTATIVES at most. A page like none of these is compared with the RECENT pages
right before it in that order that are not among them, the nearest first, until it is like one. So a bucket costs no more
than its size times both numbers. Position decides nothing, so the result depends neither on shards nor on how the work is cut.

Verified are links, not clusters: a page that goes was like some page of its cluster, which may be another than the one kept.

With `newest-first` a page goes for pages of its own snapshot and of later ones, as if snapshots were taken from the newest on,
each compared within itself and with what was there before: links of two pages of a snapshot make clusters of these, and such a
cluster with a link to a page of a later snapshot joins that page's cluster, where there are several that of the first by
the order in which pages are kept. So two pages of a snapshot that resemble the same older page both stay.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa

from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.clusters import first_of_all, keep_order, order_columns
from curate.stages.dedup.columns import fixed_bytes, key_matrix, lookup
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.members import SHINGLES, TEXT, member_schema, read_members
from curate.stages.dedup.minhash import estimate
from curate.stages.dedup.similarity import Growing, gathered
from curate.stages.partitions import PartWriter

Array = np.ndarray[Any, Any]

VERIFIED = pa.schema([("label", pa.int64())])
"""The cluster of each page of a part after verification, in the order of the part's rows in `members`; a part a group.
`label` is the number of the page that comes first in it."""

REPRESENTATIVES = 8
RECENT = 8
"""Pages of a bucket with which the others are compared. See `bench/dedup_clusters.py` for what fewer lose; of a bucket of 40
pages alike by .73 to .87 the first 8 alone lose 17 % at .8, with the last 8 it is 2 % for 12 % more comparisons."""
_SHINGLES_A_CLUSTER = 1 << 28
_FEWEST_SHINGLES = 256
"""A cluster of more than 65,536 texts is compared by fewer shingles each, so that it fits in 1 GiB up to a million."""


@dataclass(frozen=True)
class Pages:
    """Different texts, in the order in which they would be kept.

    `keys`: (pages, bands). `sketches`: (pages, permutations), or `shingles`: sorted hashes without repeats, those of page i
    `shingles[spans[i, 0]:spans[i, 1]]`, the lowest `limits[i]` of them at most. `snapshots`: a number for each, where pages
    of one do not go for those of an earlier: among pages that share a key, those of a later come first.
    """

    keys: Array
    sketches: Array | None = None
    shingles: Array | None = None
    spans: Array | None = None
    limits: Array | None = None
    snapshots: Array | None = None

    def take(self, rows: Array) -> Pages:
        """Some of the pages, with the same array of shingles."""
        each = (self.keys, self.sketches, self.spans, self.limits, self.snapshots)
        keys, sketches, spans, limits, snapshots = (None if its is None else its[rows] for its in each)
        assert keys is not None
        return Pages(keys, sketches, self.shingles, spans, limits, snapshots)


_NO_SKETCHES = np.empty((0, 0), np.uint8)
_NO_SHINGLES = (np.empty(0, np.uint32), np.empty((0, 2), np.int64), np.empty(0, np.int64))


def linked(pages: Pages, threshold: float, representatives: int = REPRESENTATIVES, recent: int = RECENT) -> Array:
    """For each page the first page of its cluster: pages that share a key are linked where their similarity is at least
    `threshold`. Shape (pages,)."""
    parent = np.arange(len(pages.keys))
    later = np.full(len(parent), -1)
    snapshots = np.zeros(len(parent), np.int32) if pages.snapshots is None else pages.snapshots
    if pages.shingles is not None:
        compared = (_NO_SKETCHES, 0, pages.shingles, pages.spans, pages.limits, threshold)
    else:
        assert pages.sketches is not None
        fewest = _fewest(pages.sketches, threshold)
        compared = (pages.sketches, fewest, *_NO_SHINGLES, threshold)
    for band in range(pages.keys.shape[1]):
        keys = pages.keys[:, band]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        same = np.zeros(len(keys), np.bool_)
        same[1:] = keys[1:] == keys[:-1]
        _link(parent, later, snapshots, order, same, representatives, recent, *compared)
    _roots(parent, later)
    return parent


def _fewest(sketches: Array, threshold: float) -> int:
    """How many values of two sketches must be equal for an estimate of at least the threshold."""
    width = sketches.shape[1]
    equal = np.arange(width) < np.arange(width + 1)[:, None]
    estimates = estimate(np.zeros((width + 1, width), np.uint8), np.where(equal, 0, 1).astype(np.uint8))
    return int(np.searchsorted(estimates, threshold - 1e-9))


@dataclass
class Compared:
    """What the report says of verification: `texts` are different texts in clusters before it."""

    texts: int = 0
    clusters: int = 0
    largest: int = 0
    """Texts in the largest cluster before."""
    too_large: int = 0
    too_large_texts: int = 0
    left_alone: int = 0
    """Clusters that were too large still after the stricter threshold: no link of theirs is taken."""
    left_alone_texts: int = 0


def verified(pages: Pages, clusters: Array, config: DedupConfig) -> tuple[Array, Compared]:
    """For each page the first page of its cluster, from the clusters that the links alone would make (ascending)."""
    figures = Compared(len(clusters))
    starts = np.flatnonzero(np.diff(clusters, prepend=-1))
    sizes = np.diff(np.append(starts, len(clusters)))
    figures.clusters, figures.largest = len(starts), int(sizes.max(initial=0))
    if config.verify or pages.snapshots is not None:
        labels = linked(pages, config.verified_from if config.verify else 0.0)
    else:
        labels = np.repeat(starts, sizes)
    if config.max_cluster:
        large = _larger(labels, config.max_cluster)
        figures.too_large, figures.too_large_texts = len(np.unique(labels[large])), len(large)
        if len(large):
            labels[large] = large[linked(pages.take(large), config.strict_from)]
        large = _larger(labels, config.max_cluster)
        figures.left_alone, figures.left_alone_texts = len(np.unique(labels[large])), len(large)
        labels[large] = large
    return labels, figures


def _larger(labels: Array, most: int) -> Array:
    """The pages of clusters with more than `most` of them."""
    return np.flatnonzero(np.bincount(labels, minlength=len(labels))[labels] > most)


def write_verified(context: Context) -> Counts:
    """The clusters of a part's pages, and the figures of its verification."""
    config: DedupConfig = context.config
    counts = Counts()
    started = time.perf_counter()
    order = keep_order(config.keep, config.scope)
    columns = ["document", "label", "bands", *order_columns(config.keep)]
    if config.verify != "jaccard":
        columns.append("sketch")
    empty = member_schema(config).empty_table().select(columns)
    texts = first_of_all((piece for _, piece in _pieces(context, columns)), empty, order, TEXT)
    texts = texts.sort_by([("label", "ascending"), *order])
    documents = texts.column("document").to_numpy()
    clusters = texts.column("label").to_numpy()
    labels, figures = verified(_pages(context, texts, config), clusters, config)
    counts.seconds["compare"] += time.perf_counter() - started
    found = documents[labels]
    classes = _classes(texts)
    del texts
    by_class = np.argsort(classes)
    classes = classes[by_class]
    with context.create("verify") as output, PartWriter(output, VERIFIED) as writer:
        for group, piece in _pieces(context, list(TEXT)):
            its = found[by_class[np.searchsorted(classes, _classes(piece))]]
            writer.write(group, pa.table([its], schema=VERIFIED))
            counts.records += piece.num_rows
    with context.create("figures") as output:
        output.write(json.dumps(vars(figures)).encode())
    counts.kept = counts.records
    return counts


def _pieces(context: Context, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """The part's members with their group."""
    for group, pieces in read_members(context, columns):
        yield from ((group, piece) for piece in pieces)


def _classes(table: pa.Table) -> Array:
    """The exact hash of each row as 16 bytes that sort."""
    halves = np.column_stack([table.column(name).to_numpy() for name in TEXT]).astype(">u8")
    return np.ascontiguousarray(halves).view("S16").reshape(-1)


def _pages(context: Context, texts: pa.Table, config: DedupConfig) -> Pages:
    keys = key_matrix(texts.column("bands"), config.minhash.bands)
    snapshots = None
    if config.scope == "newest-first":
        snapshots = texts.column("snapshot").combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    if config.verify != "jaccard":
        return Pages(keys, fixed_bytes(texts.column("sketch"), config.minhash.permutations), snapshots=snapshots)
    clusters = texts.column("label").to_numpy()
    _, cluster, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    limits = np.clip(_SHINGLES_A_CLUSTER // np.maximum(sizes, 1), _FEWEST_SHINGLES, SHINGLES)[cluster]
    documents = texts.column("document").to_numpy()
    by_number = np.argsort(documents)
    sought = documents[by_number]
    shingles, spans = Growing(np.uint32), np.zeros((len(documents), 2), np.int64)
    end = 0
    for _, piece in _pieces(context, ["document", "shingles"]):
        places, held = lookup(sought, piece.column("document").to_numpy())
        its = by_number[places[held]]
        lists = piece.column("shingles").combine_chunks()
        offsets = lists.offsets.to_numpy()
        sizes = np.minimum(np.diff(offsets)[held], limits[its])
        shingles.extend(gathered(lists.values.to_numpy(), offsets[:-1][held], sizes))
        ends = end + np.cumsum(sizes)
        spans[its] = np.column_stack([ends - sizes, ends])
        end += int(sizes.sum())
    return Pages(keys, None, shingles.whole(), spans, limits, snapshots)


@numba.njit(cache=True, nogil=True)
def _root(parent, page):  # type: ignore[no-untyped-def]
    while parent[page] != page:
        parent[page] = parent[parent[page]]
        page = parent[page]
    return page


@numba.njit(cache=True, nogil=True)
def _unite(parent, one, other):  # type: ignore[no-untyped-def]
    if one < other:
        parent[other] = one
        return one
    parent[one] = other
    return other


@numba.njit(cache=True, nogil=True)
def _roots(parent, later):  # type: ignore[no-untyped-def]
    """The first page of each one's cluster, in `parent`; `later`: a page of a later snapshot that each is linked to, or -1."""
    for page in range(len(parent)):
        parent[page] = parent[parent[page]]
        root = parent[page]
        if later[page] >= 0 and (later[root] < 0 or later[page] < later[root]):
            later[root] = later[page]
    # pages of later snapshots come before: what they belong to is settled
    for page in range(len(parent)):
        if parent[page] != page:
            parent[page] = parent[parent[page]]
        elif later[page] >= 0:
            parent[page] = parent[later[page]]


@numba.njit(cache=True, nogil=True)
def _link(parent, later, snapshots, order, same, most, recent, sketches, fewest, shingles, spans, limits, threshold):  # type: ignore[no-untyped-def]
    slots = np.empty(most + recent, np.int64)
    held = passed = 0
    for place in range(len(order)):
        page = order[place]
        if not same[place]:
            held = passed = 0
        root = _root(parent, page)
        alike = False
        for index in range(held + min(passed, recent)):
            if index >= held and alike:
                break
            other = slots[index] if index < held else slots[most + (passed - 1 - (index - held)) % recent]
            within = snapshots[other] == snapshots[page]
            its = _root(parent, other)
            if (its != root) if within else (later[page] != other):
                if not _alike(page, other, sketches, fewest, shingles, spans, limits, threshold):
                    continue
                if within:
                    root = _unite(parent, root, its)
                elif later[page] < 0 or other < later[page]:
                    later[page] = other
            alike = True
        if not alike and held < most:
            slots[held] = page
            held += 1
        elif recent:
            slots[most + passed % recent] = page
            passed += 1


@numba.njit(cache=True, nogil=True)
def _alike(page, other, sketches, fewest, shingles, spans, limits, threshold):  # type: ignore[no-untyped-def]
    """By the sketches, where there are any, else by the shingles."""
    if len(sketches) > 0:
        equal = 0
        for value in range(sketches.shape[1]):
            equal += sketches[page, value] == sketches[other, value]
        return equal >= fewest
    one = shingles[spans[page, 0] : spans[page, 1]]
    two = shingles[spans[other, 0] : spans[other, 1]]
    return _jaccard(one, two, limits[page], threshold) >= threshold


@numba.njit(cache=True, nogil=True)
def _jaccard(one, two, limit, threshold):  # type: ignore[no-untyped-def]
    """Of sorted sets, whole ones or the lowest `limit` of each (then among the lowest `limit` of both together, which are
    a random sample: Broder 1997); 0 where it cannot reach the threshold."""
    most = len(one) + len(two)
    # J = (S - D) / (S + D) of sizes S and D that differ: more of these and it is below the threshold
    apart = most * (1 - threshold) / (1 + threshold) + 1
    if len(one) >= limit or len(two) >= limit:
        most = limit
        apart = limit * (1 - threshold) + 1
    elif min(len(one), len(two)) / max(len(one), len(two), 1) < threshold:
        return 0.0
    i = j = union = shared = 0
    while union < most and i < len(one) and j < len(two):
        a, b = one[i], two[j]
        union += 1
        shared += a == b
        i += a <= b
        j += b <= a
        if union - shared > apart:
            return 0.0
    union = min(most, union + len(one) - i + len(two) - j)
    return shared / union if union else 0.0
