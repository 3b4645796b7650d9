"""Compiled loops: words of texts made comparable, hashes of their n-grams, and which of them an index holds.

Conventions: `curate.stages.text.kernels`. Only workers import this module: it loads Numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from curate.stages.folding import EXPANDS, folded_of
from curate.stages.text.kernels import Bytes, Classes, Hashes, Int32s, Int64s, decode, kernel, scramble
from curate.stages.text.unicode import UNSPACED

_SPACE, _NINE = np.uint32(0x20), np.uint32(0x39)
_INDEX = np.uint32(EXPANDS - 1)
_SEED = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(29)
_ONE, _ZERO, _SIX, _LOW = np.uint64(1), np.uint64(0), np.uint64(6), np.uint64(63)


def most_words(size: int) -> int:
    """Words of so many bytes at most: a word is followed by a byte that parts, unless it is a letter of three bytes alone."""
    return size // 2 + 1


@njit(cache=True, nogil=True, inline="always")
def _step(state, letter):  # type: ignore[no-untyped-def]
    """A word's hash after one more letter."""
    state = (state ^ np.uint64(letter)) * _PRIME
    return state ^ (state >> _SHIFT)


@njit(cache=True, nogil=True, inline="always")
def word_hash(state, lettered):  # type: ignore[no-untyped-def]
    """A word's hash, by its state after the last letter."""
    return scramble(state) & ~_ONE | np.uint64(lettered)


@kernel
def cut_words(  # type: ignore[no-untyped-def]
    data: Bytes,
    low: int,
    high: int,
    classes: Classes,
    table,
    starts,
    letters,
    hashes: Hashes,
    begin: Int64s,
    end: Int64s,
) -> int:
    """Hash and bytes of each word of a text; how many there are. Rooms as `most_words` has them are enough.

    The lowest bit of a hash says whether the word has anything but digits.
    """
    count = 0
    state = _SEED
    inside = lettered = False
    i = low
    while i < high:
        at = i
        code = np.uint32(data[i])
        alone = False
        if code < 0x80:
            i += 1
            folded = table[code]
        else:
            point, size = decode(data, i, high)
            i += size
            alone = classes[point] & UNSPACED != 0
            folded = folded_of(np.uint32(point), table)
        if folded == _SPACE or alone:
            if inside:
                hashes[count] = word_hash(state, lettered)
                count += 1
                inside = False
            if folded == _SPACE:
                continue
        if folded == 0:
            if inside:
                end[count] = i  # a mark goes with its letter
            continue
        if not inside:
            inside = True
            lettered = False
            state = _SEED
            begin[count] = at
        end[count] = i
        if folded < EXPANDS:
            state = _step(state, folded)
            lettered |= folded > _NINE
        else:
            for place in range(starts[folded & _INDEX], starts[(folded & _INDEX) + np.uint32(1)]):
                if letters[place] == _SPACE:  # what becomes letters and a space is one word: no word has a space
                    continue
                state = _step(state, letters[place])
                lettered = True
        if alone:
            hashes[count] = word_hash(state, lettered)
            count += 1
            inside = False
    if inside:
        hashes[count] = word_hash(state, lettered)
        count += 1
    return count


@kernel
def power(size: int) -> np.uint64:
    """What the oldest word of so many counts with."""
    found = _ONE
    for _ in range(size - 1):
        found *= _BASE
    return found


@kernel
def gram(hashes: Hashes, first: int, size: int) -> np.uint64:
    """The hash of so many words in a row."""
    value = _ZERO
    for k in range(first, first + size):
        value = value * _BASE + hashes[k]
    return scramble(value ^ np.uint64(size))


@kernel
def mark(keys: Hashes, bits: Hashes) -> None:
    """Sets the bit of each key."""
    mask = np.uint64(64 * len(bits) - 1)
    for key in keys:
        bit = key & mask
        bits[bit >> _SIX] |= _ONE << (bit & _LOW)


@kernel
def bucket_starts(keys: Hashes, shift: int, starts: Int64s) -> None:
    """Where the keys, ascending, begin that have at least each value in their highest bits."""
    at = 0
    for b in range(len(starts)):
        while at < len(keys) and (keys[at] >> np.uint64(shift)) < np.uint64(b):
            at += 1
        starts[b] = at


@njit(cache=True, nogil=True, inline="always")
def _marked(bits, key):  # type: ignore[no-untyped-def]
    bit = key & np.uint64(64 * len(bits) - 1)
    return (bits[bit >> _SIX] >> (bit & _LOW)) & _ONE != _ZERO


@kernel
def place_of(keys: Hashes, shift: int, starts: Int64s, key: np.uint64) -> int:
    """The first row of a key, or -1."""
    bucket = np.int64(key >> np.uint64(shift))
    for row in range(starts[bucket], starts[bucket + 1]):
        if keys[row] == key:
            return int(row)
        if keys[row] > key:
            break
    return -1


@kernel
def rolling_grams(hashes: Hashes, count: int, size: int, out: Hashes) -> None:
    """`gram` of every so many words in a row, by the first word's number."""
    leaving = power(size)
    value = _ZERO
    for k in range(count):
        if k >= size:
            value -= hashes[k - size] * leaving
        value = value * _BASE + hashes[k]
        if k >= size - 1:
            out[k - size + 1] = scramble(value ^ np.uint64(size))


@kernel
def find(  # type: ignore[no-untyped-def]
    data: Bytes, documents: Int64s, first: int, classes: Classes, table, starts, letters, ngram: int, shortest: int,
    keys: Hashes, shift: int, buckets: Int64s, bits: Hashes, heads: Hashes, words: Hashes, begin: Int64s, end: Int64s,
    grams: Hashes, hit_text: Int64s, hit_start: Int64s, hit_stop: Int64s, hit_row: Int64s,
) -> tuple[int, int]:  # fmt: skip
    """Every n-gram of texts that an index holds: its text, bytes and row; from text `first` on until there is no room.

    `heads` marks the first `shortest` words of entries shorter than `ngram`. `words`, `begin`, `end`, `grams`: room for the
    longest text. Gives the text it stopped before and the number of hits.
    """
    hits = 0
    for d in range(first, len(documents) - 1):
        count = cut_words(data, documents[d], documents[d + 1], classes, table, starts, letters, words, begin, end)
        before = hits
        # hashes first: the loop that looks them up then waits for the memory of many at a time
        rolling_grams(words, count, ngram, grams)
        for k in range(count - ngram + 1):
            if _marked(bits, grams[k]):
                row = place_of(keys, shift, buckets, grams[k])
                if row >= 0:
                    if hits == len(hit_row):
                        return d, before
                    hit_text[hits], hit_row[hits] = d, row
                    hit_start[hits], hit_stop[hits] = begin[k], end[k + ngram - 1]
                    hits += 1
        if shortest == ngram:
            continue
        rolling_grams(words, count, shortest, grams)
        for k in range(count - shortest + 1):
            if _marked(heads, grams[k]):
                for size in range(shortest, min(ngram, count - k + 1)):
                    row = place_of(keys, shift, buckets, gram(words, k, size))
                    if row >= 0:
                        if hits == len(hit_row):
                            return d, before
                        hit_text[hits], hit_row[hits] = d, row
                        hit_start[hits], hit_stop[hits] = begin[k], end[k + size - 1]
                        hits += 1
    return len(documents) - 1, hits


@kernel
def telling(hashes: Hashes, first: int, size: int, different: int) -> bool:
    """True if at least so many different words of these are not digits alone."""
    count = 0
    for k in range(first, first + size):
        fresh = hashes[k] & _ONE != _ZERO
        for j in range(first, k):
            fresh &= hashes[j] != hashes[k]
        count += fresh
    return count >= different


@kernel
def list_grams(  # type: ignore[no-untyped-def]
    data: Bytes, documents: Int64s, classes: Classes, table, starts, letters, ngram: int, shortest: int,
    different: int, words: Hashes, begin: Int64s, end: Int64s, keys: Hashes, owners: Int32s, heads: Hashes,
) -> tuple[int, int]:  # fmt: skip
    """The n-grams of each text: keys and the text's number, and the first words of the texts that are shorter than one.

    A text of `shortest` to less than `ngram` words is one entry; one of fewer is none. Left out is what is not `telling`. Gives
    how many there are of both.
    """
    found = short = 0
    for d in range(len(documents) - 1):
        count = cut_words(data, documents[d], documents[d + 1], classes, table, starts, letters, words, begin, end)
        if shortest <= count < ngram and telling(words, 0, count, different):
            keys[found], owners[found] = gram(words, 0, count), d
            found += 1
            heads[short] = gram(words, 0, shortest)
            short += 1
        for k in range(count - ngram + 1):
            if telling(words, k, ngram, different):
                keys[found], owners[found] = gram(words, k, ngram), d
                found += 1
    return found, short


@kernel
def count_points(data: Bytes, low: int, places: Int64s, out: Int64s) -> None:
    """Characters from byte `low` to each of these places, ascending."""
    i = low
    points = 0
    for k in range(len(places)):
        while i < places[k]:
            points += (data[i] & 0xC0) != 0x80
            i += 1
        out[k] = points
