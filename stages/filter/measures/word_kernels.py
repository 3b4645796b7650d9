"""Compiled loops that look words up in lists. Conventions: `curate.stages.text.kernels`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.stages.filter.measures.characters import LATIN, SPACE, UNCAPPED, UPPER, WORD
from curate.stages.text.kernels import PRIME, SEED, Bytes, Hashes, Int64s, decode, kernel

Table = npt.NDArray[np.uint16]
Lower = npt.NDArray[np.uint32]

HEADS = 1 << 15
"""Places of a table of heads."""

PREFIX, WHOLE = 1, 2
"""Values of a word table: an entry begins so; this is an entry."""

DOTTED = 0x130
"""A capital I with a dot, whose lower case is two code points: i and U+0307, which is no WORD."""

NONE = np.uint64(0)


@kernel
def step(state: np.uint64, value: int) -> np.uint64:
    """One step of a 64-bit hash over code points."""
    return (state ^ np.uint64(value)) * PRIME


@kernel
def slot_of(keys: Hashes, low: int, high: int, key: np.uint64) -> int:
    """Where `key` lies, or would, in the open hash table `keys[low:high]`; 0 is an empty slot, the size a power of two."""
    mask = high - low - 1
    slot = int(key >> np.uint64(20)) & mask
    while keys[low + slot] != NONE and keys[low + slot] != key:
        slot = (slot + 1) & mask
    return low + slot


@kernel
def head(b: int, c: int, d: int) -> int:
    """Where three ASCII bytes are in a table of heads, in either case; others may share the place."""
    b += 32 if 65 <= b <= 90 else 0
    c += 32 if 65 <= c <= 90 else 0
    d += 32 if 65 <= d <= 90 else 0
    return (b << 10 ^ c << 5 ^ d) & (HEADS - 1)


@kernel
def enter_words(points: Lower, offsets: Int64s, keys: Hashes, low: int, high: int, values: Bytes, heads: Bytes) -> None:
    """Puts entries (code points, packed) and all their beginnings into a word table; `heads` marks the three ASCII bytes
    that one may begin with, at `head`."""
    for w in range(len(offsets) - 1):
        state = SEED
        for i in range(offsets[w], offsets[w + 1]):
            state = step(state, points[i])
            slot = slot_of(keys, low, high, state)
            keys[slot] = state
            values[slot] |= WHOLE if i + 1 == offsets[w + 1] else PREFIX
        i, size = offsets[w], offsets[w + 1] - offsets[w]
        if points[i] < 128:
            for c in range(128):
                if size == 1 or c == points[i + 1]:
                    for d in range(128):
                        if size <= 2 or d == points[i + 2]:
                            heads[head(int(points[i]), c, d)] = 1


@kernel
def raw_words(
    data: Bytes,
    documents: Int64s,
    table: Table,
    choice: Int64s,
    keys: Hashes,
    values: Bytes,
    bounds: Int64s,
    out: Int64s,
) -> None:
    """Of each text (columns of `out`): runs of WORD and runs of neither WORD nor SPACE; those with a LATIN letter; those in
    capitals; those that are an entry of word table `choice[d]` (-1: none); sentences as `\\b[^.!?]+[.!?]*`."""
    for d in range(len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        low = high = 0
        if choice[d] >= 0:
            low, high = bounds[choice[d]], bounds[choice[d] + 1]
        state = SEED
        seen = behind = 0  # kinds of characters in the run, and what sort of run it is: 0 none, 1 WORD, 2 other
        sentence = closing = False
        while i <= end:
            point, size = int(data[i]) if i < end else 32, 1
            if point >= 0x80:
                point, size = decode(data, i, end)
            kind = int(table[point])
            sort = 1 if kind & WORD else (0 if kind & SPACE else 2)
            if sort != behind:
                if behind:
                    out[d, 0] += 1
                    out[d, 1] += seen & LATIN != 0
                    out[d, 2] += seen & UPPER != 0 and seen & UNCAPPED == 0
                    if high > low:
                        slot = slot_of(keys, low, high, state)
                        out[d, 3] += keys[slot] != NONE and values[slot] & WHOLE != 0
                state = SEED
                seen = 0
                behind = sort
            state = step(state, point)
            seen |= kind
            mark = point == 46 or point == 33 or point == 63
            if sentence:
                if mark:
                    closing = True
                elif closing:
                    sentence = closing = False
            if not sentence and sort == 1:
                sentence = True
                out[d, 4] += 1
            i += size


@kernel
def find_entries(
    data: Bytes,
    documents: Int64s,
    table: Table,
    lower: Lower,
    choice: Int64s,
    keys: Hashes,
    values: Bytes,
    bounds: Int64s,
    heads: Bytes,
    edge: Bytes,
    spaced: bool,
    once: bool,
    out: Int64s,
) -> None:
    """How often entries of word table `choice[d]` (-1: none) stand in each text in lower case; with `once` no further than the
    first place.

    A find begins and ends anywhere where `edge` of the list is 0; else where no WORD lies beyond, or with `spaced` where
    white space or nothing does.
    """
    outer, beyond = (
        (SPACE, SPACE) if spaced else (WORD, 0)
    )  # a character lies outside of words if so many bits of these are set
    for d in range(len(documents) - 1):
        if choice[d] < 0:
            continue
        low, high, edged = bounds[choice[d]], bounds[choice[d] + 1], edge[choice[d]] != 0
        begins = heads[choice[d]]
        i, end = documents[d], documents[d + 1]
        outside = True
        while i < end and not (once and out[d]):
            point, size = int(data[i]), 1
            if point >= 0x80:
                point, size = decode(data, i, end)
            if outside or not edged:
                c = int(data[i + 1]) if i + 1 < end else 0
                e = int(data[i + 2]) if i + 2 < end else 0
                if point >= 128 or c >= 128 or e >= 128 or begins[head(point, c, e)]:
                    out[d] += entries_here(data, i, end, table, lower, keys, values, low, high, edged, spaced)
            outside = table[point] & outer == beyond or point == DOTTED
            i += size


@kernel
def entries_here(
    data: Bytes,
    i: int,
    end: int,
    table: Table,
    lower: Lower,
    keys: Hashes,
    values: Bytes,
    low: int,
    high: int,
    edged: bool,
    spaced: bool,
) -> int:
    """Entries that begin at byte i."""
    state = SEED
    found = 0
    while i < end:
        point, size = decode(data, i, end)
        i += size
        state = step(state, lower[point] if point < len(lower) else point)
        if point == DOTTED:
            slot = slot_of(keys, low, high, state)
            if keys[slot] == NONE:
                break
            found += values[slot] & WHOLE != 0
            state = step(state, 0x307)
        slot = slot_of(keys, low, high, state)
        if keys[slot] == NONE:
            break
        if values[slot] & WHOLE:
            closed = not edged or i >= end
            if not closed:
                point, _ = decode(data, i, end)
                closed = table[point] & (SPACE if spaced else WORD) == (SPACE if spaced else 0)
            found += closed
    return found
