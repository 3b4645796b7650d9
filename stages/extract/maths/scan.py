"""A compiled search for many short byte strings at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

_COMMON = b" etaisnrlocdh\"-u/=pm><.g:fbyv;w,kx_0'1()2{}3j"
"""The bytes of web pages, commonest first."""


@dataclass(frozen=True, slots=True)
class Needles:
    """Byte strings to look for, in the order of their anchors: two bytes of each (`anchors`: how far from its start) that are
    rare in web pages. `heads` gives the first needle of every two bytes, or -1; `more` tells that the next one has the same."""

    data: Bytes
    starts: Int64s
    anchors: Int64s
    more: npt.NDArray[np.bool_]
    numbers: Int64s
    heads: npt.NDArray[np.int16]


def needles(words: Sequence[bytes]) -> Needles:
    """The needles of some words of two bytes or more; a hit names a word by its place in the sequence."""
    anchors = [_anchor(word) for word in words]
    pairs = [word[anchor] << 8 | word[anchor + 1] for word, anchor in zip(words, anchors, strict=True)]
    order = sorted(range(len(words)), key=lambda number: pairs[number])
    heads = np.full(1 << 16, -1, dtype=np.int16)
    for place, number in reversed(list(enumerate(order))):
        heads[pairs[number]] = place
    more = [pairs[one] == pairs[two] for one, two in itertools.pairwise(order)] + [False]
    return Needles(
        np.frombuffer(b"".join(words[number] for number in order), dtype=np.uint8),
        np.cumsum([0, *(len(words[number]) for number in order)]).astype(np.int64),
        np.array([anchors[number] for number in order], dtype=np.int64),
        np.array(more, dtype=np.bool_),
        np.array(order, dtype=np.int64),
        heads,
    )


def _anchor(word: bytes) -> int:
    def share(byte: int) -> float:
        rank = _COMMON.find(byte)
        return 1 / (rank + 8) if rank >= 0 else 1 / 100

    return min(range(len(word) - 1), key=lambda i: share(word[i]) * share(word[i + 1]))


def find(source: bytes, sought: Needles, limit: int) -> tuple[Int64s, Int64s]:
    """Where the needles stand in the source (byte positions) and which they are; at most `limit` hits, from the front."""
    data = np.frombuffer(source, dtype=np.uint8)
    positions, found = np.empty(limit, dtype=np.int64), np.empty(limit, dtype=np.int64)
    count = _find(data, sought.data, sought.starts, sought.anchors, sought.more, sought.heads, positions, found)
    return positions[:count], sought.numbers[found[:count]]


@njit(cache=True, nogil=True)
def _find(
    data: Bytes,
    words: Bytes,
    starts: Int64s,
    anchors: Int64s,
    more: npt.NDArray[np.bool_],
    heads: npt.NDArray[np.int16],
    positions: Int64s,
    found: Int64s,
) -> int:
    count, size = 0, data.shape[0]
    if size < 2:
        return 0
    before = np.int64(data[0])
    for i in range(1, size):
        here = np.int64(data[i])
        place = np.int64(heads[before << 8 | here])
        before = here
        while place >= 0:
            begin, length = i - 1 - anchors[place], starts[place + 1] - starts[place]
            same = begin >= 0 and begin + length <= size
            k = np.int64(0)
            while same and k < length:
                same = data[begin + k] == words[starts[place] + k]
                k += 1
            if same:
                if count == positions.shape[0]:
                    return count
                positions[count], found[count] = begin, place
                count += 1
            place = place + 1 if more[place] else np.int64(-1)
    return count
