"""From equal keys to clusters: links within a partition, union-find over dense ids, which page of a cluster stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]
Ids = np.ndarray[Any, np.dtype[np.int64]]

SortKeys = list[tuple[str, str]]

_FIRST = [("date", "ascending"), ("snapshot", "ascending"), ("id", "ascending")]
# pages without an id (the step `ids` leaves each other id once a snapshot): by content, never by position
_TIES = [("hash_high", "ascending"), ("hash_low", "ascending"), ("tie", "ascending")]
_KEEP = {
    "first": _FIRST,
    "longest": [("length", "descending"), *_FIRST],
    "newest": [("date", "descending"), ("snapshot", "descending"), ("id", "ascending")],
    "quality": [("quality", "descending"), *_FIRST],
}
_SEEN = ("id", "date", "snapshot", "length", "tie", "hash_high", "hash_low")


def keep_order(keep: str, scope: str = "snapshot") -> SortKeys:
    """The columns by which the page that stays comes first in its cluster; nulls come last.

    With the scope `newest-first` a page of a later snapshot always comes before one of an earlier.
    """
    newest = [("snapshot", "descending")] if scope == "newest-first" else []
    return [*newest, *(key for key in _KEEP[keep] if not newest or key[0] != "snapshot"), *_TIES]


def order_columns(keep: str) -> list[str]:
    """The columns of a page that `firsts` needs beside those it is grouped by."""
    return [*_SEEN, *(["quality"] if keep == "quality" else [])]


def links(keys: Array, checks: Array, documents: Array) -> tuple[Array, Array, Array]:
    """Pairs (smallest document, other document) for the documents that share a (key, check), each pair once; and the rows
    of the smallest documents, one for each (key, check), sorted by key.

    One row for each key of each document, any order. Linear after a sort, whatever the size of a bucket.
    """
    order = np.argsort(keys, kind="stable")
    same = _repeats(keys, order)
    mixed = same & ~_repeats(checks, order)
    if mixed.any():  # two texts whose hashes agree in the first 64 bits only
        order = np.lexsort((checks, keys))
        same = _repeats(keys, order) & _repeats(checks, order)
    smallest, others, heads = _link(documents[order], same)
    # copies share many keys: their pair is kept once
    pairs = np.lexsort((smallest, others))
    new = ~(_repeats(smallest, pairs) & _repeats(others, pairs))
    return smallest[pairs][new], others[pairs][new], order[heads]


def _repeats(values: Array, order: Array) -> Array:
    """True where a value, in this order, equals the one before; the first is False."""
    values = values[order]
    same = np.zeros(len(values), np.bool_)
    same[1:] = values[1:] == values[:-1]
    return same


@numba.njit(cache=True, nogil=True)
def _link(documents, same):  # type: ignore[no-untyped-def]
    count = np.count_nonzero(same)
    smallest = np.empty(count, documents.dtype)
    others = np.empty(count, documents.dtype)
    heads = np.empty(len(documents) - count, np.int64)
    start = at = bucket = 0
    while start < len(documents):
        end = start + 1
        least = start
        while end < len(documents) and same[end]:
            if documents[end] < documents[least]:
                least = end
            end += 1
        for place in range(start, end):
            if place != least:
                smallest[at] = documents[least]
                others[at] = documents[place]
                at += 1
        heads[bucket] = least
        bucket += 1
        start = end
    return smallest, others, heads


class Clusters:
    """Union-find over the documents 0 … count - 1: 4 bytes a document (8 beyond 2^31 documents)."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)

    def join(self, one: Array, other: Array) -> None:
        """Puts the documents of each pair in one cluster."""
        _join(self._parent, one.astype(np.int64, copy=False), other.astype(np.int64, copy=False))

    def labels(self) -> Array:
        """For each document the smallest document of its cluster."""
        _flatten(self._parent)
        return self._parent

    def clustered(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each document whether its cluster has another."""
        labels = self.labels()
        several = np.zeros(len(labels), np.bool_)
        _mark(labels, several)
        return several


_AT_ONCE = 512


@numba.njit(cache=True, nogil=True)
def _join(parent, one, other):  # type: ignore[no-untyped-def]
    above = np.empty((_AT_ONCE, 2), parent.dtype)
    for start in range(0, len(one), _AT_ONCE):
        count = min(_AT_ONCE, len(one) - start)
        # loads that do not wait for each other: the array is far larger than any cache
        for pair in range(count):
            above[pair, 0] = parent[one[start + pair]]
            above[pair, 1] = parent[other[start + pair]]
        for pair in range(count):
            above[pair, 0] = parent[above[pair, 0]]
            above[pair, 1] = parent[above[pair, 1]]
        for pair in range(count):
            a = above[pair, 0]
            b = above[pair, 1]
            if a == b:
                continue
            # path halving; a root may have got a parent since it was loaded, which is then the smaller
            parent[one[start + pair]] = min(a, parent[one[start + pair]])
            parent[other[start + pair]] = min(b, parent[other[start + pair]])
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            # the smaller is the root: the labels do not depend on the order of the pairs
            if a < b:
                parent[b] = a
            elif b < a:
                parent[a] = b


@numba.njit(cache=True, nogil=True)
def _flatten(parent):  # type: ignore[no-untyped-def]
    for document in range(len(parent)):
        # a parent is never larger than its child, so its own label is final already
        parent[document] = parent[parent[document]]


@numba.njit(cache=True, nogil=True)
def _mark(labels, several):  # type: ignore[no-untyped-def]
    for document in range(len(labels)):
        if labels[document] != document:
            several[document] = True
            several[labels[document]] = True


def firsts(members: pa.Table, order: SortKeys, by: Sequence[str] = ("label",)) -> pa.Table:
    """The row of each group of equal `by` that comes first by `order` (see `keep_order`), sorted by `by`."""
    rows = pc.sort_indices(members, sort_keys=[*((name, "ascending") for name in by), *order])
    again = np.ones(len(rows), np.bool_)
    for name in by:
        again &= _repeats(members.column(name).to_numpy(), rows.to_numpy())
    return members.take(rows.filter(pa.array(~again)))


_WAITING_ROWS = 100_000


def first_of_all(
    pieces: Iterable[pa.Table], empty: pa.Table, order: SortKeys, by: Sequence[str] = ("label",)
) -> pa.Table:
    """`firsts` of tables that are together too large: holds a row a group and as many that wait. `empty` has no rows."""
    best = empty
    waiting: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        waiting.append(piece)
        rows += piece.num_rows
        if rows > max(_WAITING_ROWS, best.num_rows):  # a sort costs no more than what came since the last
            best, waiting, rows = firsts(pa.concat_tables([best, *waiting]), order, by), [], 0
    return firsts(pa.concat_tables([best, *waiting]), order, by)
