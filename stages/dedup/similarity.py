"""The true Jaccard similarity of texts: what a signature estimates, counted.

sets = shingle_sets(normalised, ngram=3)
jaccard(sets, [0, 0], sets, [1, 2])    # text 0 with texts 1 and 2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numba
import numpy as np

from curate.stages.dedup.minhash import Hashes, NgramOf, Offsets, shingle_hashes
from curate.stages.dedup.normalise import Normalised

Rows: TypeAlias = "Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, eq=False)
class ShingleSets:
    """The distinct shingles of texts as sorted 64-bit hashes: those of text i are `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Distinct shingles of each text."""
        return np.diff(self.offsets)

    def lowest(self, most: int) -> tuple[np.ndarray[Any, np.dtype[np.uint32]], Offsets]:
        """Of each text the `most` lowest hashes at most, their upper 32 bits, and their offsets.

        A sample of the union of any two texts that needs no more of either (Broder 1997).
        """
        offsets = np.concatenate([[0], np.cumsum(np.minimum(self.sizes, most))])
        halves = np.empty(offsets[-1], np.uint32)
        _upper(self.hashes, self.offsets, offsets, halves)
        return halves, offsets


def shingle_sets(texts: Normalised, ngram: int, of: NgramOf = "words") -> ShingleSets:
    """The shingle sets of normalised texts, shingles as `curate.stages.dedup.minhash` defines them."""
    hashes, offsets = shingle_hashes(texts, ngram, of)
    ends = np.zeros_like(offsets)
    _distinct(hashes, offsets, ends)
    return ShingleSets(hashes[: ends[-1]], ends)


def jaccard(
    one: ShingleSets, rows: Rows, other: ShingleSets, other_rows: Rows
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """|A ∩ B| / |A ∪ B| of pairs: A the text of `rows[i]` in `one`, B that of `other_rows[i]` in `other`. Shape (pairs,).

    0 where both are empty: texts without words are not alike. Costs the shingles of both texts. Raises ValueError where the
    rows are not as many, IndexError for a row that is not there.
    """
    left, right = (np.asarray(given, np.int64) for given in (rows, other_rows))
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"pairs need as many rows on both sides, not {left.shape} and {right.shape}")
    for given, sets in ((left, one), (right, other)):
        if len(given) and not 0 <= given.min() <= given.max() < len(sets):
            raise IndexError(f"rows are 0 to {len(sets) - 1}, not {given.min()} to {given.max()}")
    out = np.empty(len(left), np.float64)
    _jaccard(one.hashes, one.offsets, left, other.hashes, other.offsets, right, out)
    return out


def gathered(values: Any, starts: Any, lengths: Any) -> Any:
    """values[starts[0]:starts[0] + lengths[0]], values[starts[1]: … in one array, without a number for each of them."""
    out = np.empty(int(lengths.sum()), values.dtype)
    _gather(values, starts, lengths, out)
    return out


class Growing:
    """Values that come in pieces, in one array: an eighth more memory than they take at most, where the system can move
    pages of it without a copy (Linux), and no list of pieces that are there twice when they are joined."""

    def __init__(self, kind: Any) -> None:
        self._held = np.empty(0, kind)
        self._used = 0

    def extend(self, values: Any) -> None:
        """Adds values after those that there are."""
        end = self._used + len(values)
        if end > len(self._held):
            # no array shares the memory: `whole` is asked for at the end
            self._held.resize(max(end, len(self._held) * 9 // 8), refcheck=False)
        self._held[self._used : end] = values
        self._used = end

    def whole(self) -> Any:
        """All values. Nothing can be added after."""
        held, self._held = self._held, np.empty(0, self._held.dtype)
        return held[: self._used]


@numba.njit(cache=True, nogil=True)
def _upper(hashes, starts, offsets, out):  # type: ignore[no-untyped-def]
    for text in range(len(offsets) - 1):
        for place in range(offsets[text], offsets[text + 1]):
            out[place] = hashes[starts[text] + place - offsets[text]] >> np.uint64(32)


@numba.njit(cache=True, nogil=True)
def _gather(values, starts, lengths, out):  # type: ignore[no-untyped-def]
    at = 0
    for place in range(len(starts)):
        for value in range(starts[place], starts[place] + lengths[place]):
            out[at] = values[value]
            at += 1


@numba.njit(cache=True, nogil=True)
def _distinct(hashes, offsets, ends):  # type: ignore[no-untyped-def]
    """Sorts each text's hashes and moves the distinct ones together, in place."""
    at = 0
    for text in range(len(offsets) - 1):
        ordered = np.sort(hashes[offsets[text] : offsets[text + 1]])
        for place in range(len(ordered)):
            if place == 0 or ordered[place] != ordered[place - 1]:
                hashes[at] = ordered[place]
                at += 1
        ends[text + 1] = at


@numba.njit(cache=True, nogil=True)
def _jaccard(one, one_offsets, rows, other, other_offsets, other_rows, out):  # type: ignore[no-untyped-def]
    for pair in range(len(rows)):
        i, end = one_offsets[rows[pair]], one_offsets[rows[pair] + 1]
        j, stop = other_offsets[other_rows[pair]], other_offsets[other_rows[pair] + 1]
        sizes = (end - i) + (stop - j)
        common = 0
        while i < end and j < stop:
            a, b = one[i], other[j]
            common += a == b
            i += a <= b
            j += b <= a
        out[pair] = common / (sizes - common) if sizes else 0.0
