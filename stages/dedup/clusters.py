"""From equal keys to clusters: links within a partition, union-find over dense ids, which page of a cluster stays."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]
Ids = np.ndarray[Any, np.dtype[np.int64]]

_FIRST = [("date", "ascending"), ("snapshot", "ascending"), ("id", "ascending")]
# pages without an id (the step `ids` leaves each other id once a snapshot): by content, never by position
_TIES = [("hash_high", "ascending"), ("hash_low", "ascending"), ("tie", "ascending")]
ORDER = {
    "first": [*_FIRST, *_TIES],
    "longest": [("length", "descending"), *_FIRST, *_TIES],
    "newest": [("date", "descending"), ("snapshot", "descending"), ("id", "ascending"), *_TIES],
}
"""By `keep`: the columns by which the page that stays comes first in its cluster; nulls come last."""
ORDER_COLUMNS = ("id", "date", "snapshot", "length", "tie", "hash_high", "hash_low")
"""The columns that `firsts` needs beside `label`."""


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
    """Union-find over the documents 0 … count - 1: 4 bytes a document (8 beyond 2^31 documents), and as many for sizes."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)

    def join(self, one: Array, other: Array) -> None:
        """Puts the documents of each pair in one cluster."""
        _join(self._parent, one.astype(np.int64, copy=False), other.astype(np.int64, copy=False))

    def labels(self) -> Array:
        """For each document the smallest document of its cluster."""
        _flatten(self._parent)
        return self._parent

    def sizes(self) -> Array:
        """For each document that is the smallest of its cluster the cluster's size, else 0."""
        sizes = np.zeros_like(self._parent)
        _count(self.labels(), sizes)
        return sizes


@numba.njit(cache=True, nogil=True)
def _join(parent, one, other):  # type: ignore[no-untyped-def]
    for pair in range(len(one)):
        a = one[pair]
        b = other[pair]
        while parent[a] != a:
            parent[a] = parent[parent[a]]  # path halving
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
def _count(labels, sizes):  # type: ignore[no-untyped-def]
    for document in range(len(labels)):
        sizes[labels[document]] += 1


def firsts(members: pa.Table, keep: str) -> pa.Table:
    """The row of each `label` that stays, by the rule `keep` (see ORDER), sorted by label."""
    order = pc.sort_indices(members, sort_keys=[("label", "ascending"), *ORDER[keep]])
    labels = members.column("label").take(order).to_numpy()
    return members.take(order.filter(pa.array(~_repeats(labels, np.arange(len(labels))))))
