"""Compiled loops over the UTF-8 bytes of a batch of texts. Only workers import this module: it loads Numba.

Texts lie one after another in `data`; text d is `data[documents[d]:documents[d + 1]]`. Spans are byte positions
[start, stop) in `data`; those of text d are number `first[d]` to `first[d + 1]`. Every kernel accepts any bytes: what is
no UTF-8 counts as one code point U+FFFD a byte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.stages.text.unicode import (
    CLOSER,
    DIGIT,
    LETTER,
    LINE_END,
    LOWER,
    MARK,
    SENTENCE_END,
    SPACE,
    SYMBOL,
    UNSPACED,
)

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.uint16]
Hashes = npt.NDArray[np.uint64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

BULLET, ELLIPSIS, TERMINAL = 1, 2, 4
"""Bits of `line_marks`."""

PRIME = np.uint64(0x9E3779B97F4A7C15)
SEED = np.uint64(0xCBF29CE484222325)
SHIFT = np.uint64(29)
ZERO = np.uint64(0)


@njit(cache=True, nogil=True)
def decode(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """The code point at byte i and its length in bytes."""
    b = int(data[i])
    if b < 0x80:
        return b, 1
    if 0xC2 <= b < 0xE0 and i + 1 < end:
        return ((b & 0x1F) << 6) | (int(data[i + 1]) & 0x3F), 2
    if 0xE0 <= b < 0xF0 and i + 2 < end:
        return ((b & 0x0F) << 12) | ((int(data[i + 1]) & 0x3F) << 6) | (int(data[i + 2]) & 0x3F), 3
    if 0xF0 <= b < 0xF5 and i + 3 < end:
        high = ((b & 0x07) << 18) | ((int(data[i + 1]) & 0x3F) << 12)
        point = high | ((int(data[i + 2]) & 0x3F) << 6) | (int(data[i + 3]) & 0x3F)
        if point < 0x110000:
            return point, 4
    return 0xFFFD, 1


@njit(cache=True, nogil=True)
def mix(state: np.uint64, value: np.uint64) -> np.uint64:
    """One step of a 64-bit hash."""
    state = (state ^ value) * PRIME
    return state ^ (state >> SHIFT)


@njit(cache=True, nogil=True)
def split_blocks(
    data: Bytes,
    documents: Int64s,
    classes: Classes,
    newlines: int,
    fill: bool,
    first: Int64s,
    start: Int64s,
    stop: Int64s,
) -> None:
    """Lines (`newlines` = 1) or paragraphs (2): texts cut at runs of so many newlines, trimmed; empty ones left out.

    Called twice: without `fill` it only counts into `first`.
    """
    n = 0
    first[0] = 0
    for d in range(len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        begin = np.int64(-1)
        last = i
        run = 0
        while i < end:
            point, size = decode(data, i, end)
            if point == 10:
                run += 1
                if run == newlines and begin >= 0:
                    if fill:
                        start[n] = begin
                        stop[n] = last
                    n += 1
                    begin = np.int64(-1)
            else:
                run = 0
                if not classes[point] & SPACE:
                    if begin < 0:
                        begin = i
                    last = i + size
            i += size
        if begin >= 0:
            if fill:
                start[n] = begin
                stop[n] = last
            n += 1
        first[d + 1] = n


@njit(cache=True, nogil=True)
def split_words(
    data: Bytes, documents: Int64s, classes: Classes, fill: bool, first: Int64s, start: Int64s, stop: Int64s
) -> None:
    """Runs of anything but white space, cut further at each letter of an unspaced script (marks stay with it)."""
    n = 0
    first[0] = 0
    for d in range(len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        begin = np.int64(-1)
        alone = False
        while i < end:
            point, size = decode(data, i, end)
            kind = classes[point]
            space = kind & SPACE != 0
            single = kind & UNSPACED != 0
            if begin >= 0 and (space or single or (alone and kind & MARK == 0)):
                if fill:
                    start[n] = begin
                    stop[n] = i
                n += 1
                begin = np.int64(-1)
            if begin < 0 and not space:
                begin = i
                alone = single
            i += size
        if begin >= 0:
            if fill:
                start[n] = begin
                stop[n] = end
            n += 1
        first[d + 1] = n


@njit(cache=True, nogil=True)
def split_sentences(
    data: Bytes, documents: Int64s, classes: Classes, fill: bool, first: Int64s, start: Int64s, stop: Int64s
) -> None:
    """Sentences by the rule that `Segmented.sentences` states."""
    n = 0
    first[0] = 0
    for d in range(len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        begin = np.int64(-1)  # where the sentence at hand began, or -1 outside of one
        last = i  # behind its last code point that is not white space
        spoken = False  # it holds a letter or a digit
        mark = np.int64(0)  # its last terminal mark, if only closers and white space have followed
        spaced = False  # white space has followed that mark
        while i <= end:
            point, size = decode(data, i, end) if i < end else (np.int64(10), 1)
            kind = classes[point]
            closes = point == 10
            if not closes and begin >= 0 and mark and kind & SPACE == 0:
                if spaced:
                    closes = not (mark == 46 and kind & LOWER)
                else:
                    closes = mark >= 128 and kind & (SENTENCE_END | CLOSER) == 0
            if closes and begin >= 0:
                if spoken:
                    if fill:
                        start[n] = begin
                        stop[n] = last
                    n += 1
                begin = np.int64(-1)
            if kind & SPACE:
                spaced = spaced or mark != 0
            else:
                if begin < 0:
                    begin = i
                    spoken = False
                    mark = np.int64(0)
                if kind & SENTENCE_END:
                    mark = point
                elif not (mark and not spaced and kind & CLOSER):
                    mark = np.int64(0)
                spaced = False
                spoken = spoken or kind & (LETTER | DIGIT) != 0
                last = i + size
            i += size
        first[d + 1] = n


@njit(cache=True, nogil=True)
def describe(
    data: Bytes, start: Int64s, stop: Int64s, classes: Classes, chars: Int32s, hashes: Hashes, bits: Classes
) -> None:
    """For each span its code points, a 64-bit hash of its bytes, and the classes that occur in it."""
    for k in range(len(start)):
        i, end = start[k], stop[k]
        state = SEED
        count = 0
        seen = np.uint16(0)
        while i < end:
            point, size = decode(data, i, end)
            state = mix(state, np.uint64(point))
            seen |= classes[point]
            count += 1
            i += size
        chars[k] = count
        hashes[k] = state
        bits[k] = seen


@njit(cache=True, nogil=True)
def count_chars(data: Bytes, documents: Int64s, out: Int64s) -> None:
    """Code points of each text."""
    for d in range(len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        count = 0
        while i < end:
            _, size = decode(data, i, end)
            i += size
            count += 1
        out[d] = count


@njit(cache=True, nogil=True)
def count_bytes(data: Bytes, documents: Int64s, needle: Bytes, fold: bool, out: Int64s) -> None:
    """How often `needle` stands in each text, without overlaps; with `fold` ASCII letters match in either case."""
    head = needle[0]
    size = len(needle)
    for d in range(len(documents) - 1):
        i, last = documents[d], documents[d + 1] - size
        count = 0
        while i <= last:
            b = data[i]
            if fold and 65 <= b <= 90:
                b += np.uint8(32)
            if b == head and matches(data, i, needle, 0, size, fold):
                count += 1
                i += size
            else:
                i += 1
        out[d] = count


@njit(cache=True, nogil=True)
def count_quads(data: Bytes, documents: Int64s, out: Int64s) -> None:
    """Third dots in a row that have digits on both sides and at most three digits between them, a text."""
    for d in range(len(documents) - 1):
        end = documents[d + 1]
        digits = dots = count = 0
        for i in range(documents[d], end):
            b = data[i]
            if 48 <= b <= 57:
                digits += 1
                if digits == 1 and dots == 3:
                    count += 1
            elif b == 46 and 1 <= digits <= 3:
                dots += 1
                digits = 0
            else:
                digits = dots = 0
        out[d] = count


@njit(cache=True, nogil=True)
def matches(data: Bytes, i: int, needles: Bytes, low: int, high: int, fold: bool) -> bool:
    """True if the bytes from i on are `needles[low:high]`."""
    for k in range(high - low):
        b = data[i + k]
        if fold and 65 <= b <= 90:
            b += np.uint8(32)
        if b != needles[low + k]:
            return False
    return True


@njit(cache=True, nogil=True)
def find_slot(keys: Hashes, stamps: Int64s, stamp: int, key: np.uint64) -> int:
    """Where `key` lies, or would, in an open hash table whose entries count only if they carry the stamp."""
    mask = len(keys) - 1
    slot = int(key >> np.uint64(17)) & mask
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def repeats(first: Int64s, hashes: Hashes, chars: Int32s, capacity: int, count: Int64s, length: Int64s) -> None:
    """For each text, how many spans are equal to an earlier one of it, and how many characters these have."""
    keys = np.empty(capacity, np.uint64)
    stamps = np.full(capacity, -1, np.int64)
    for d in range(len(first) - 1):
        for k in range(first[d], first[d + 1]):
            slot = find_slot(keys, stamps, d, hashes[k])
            if stamps[slot] == d:
                count[d] += 1
                length[d] += chars[k]
            else:
                stamps[slot] = d
                keys[slot] = hashes[k]


@njit(cache=True, nogil=True)
def ngram_chars(
    first: Int64s, hashes: Hashes, before: Int64s, spaced: Int64s, capacity: int, top: Int64s, repeated: Int64s
) -> None:
    """Characters of the commonest 2- to 4-gram (`top`, column n - 2) and of repeated 5- to 10-grams (`repeated`, n - 5).

    `before[k]` is the number of characters of all words before word k; `spaced[k]` the number of white space runs before
    it, so that a gram's length with one space for each gap is a difference of both.
    """
    keys = np.empty(capacity, np.uint64)
    stamps = np.full(capacity, -1, np.int64)
    counts = np.empty(capacity, np.int64)
    places = np.empty(capacity, np.int64)
    grams = np.empty(capacity, np.uint64)
    stamp = 0
    for d in range(len(first) - 1):
        low = first[d]
        words = first[d + 1] - low
        for k in range(words):
            grams[k] = mix(SEED, hashes[low + k])  # or `a b` and `b a` would be one
        for n in range(2, 11):
            stamp += 1
            last = words - n + 1
            for k in range(last):
                grams[k] = mix(grams[k], hashes[low + k + n - 1])
            if n <= 4:
                best, place = 0, 0
                for k in range(last):
                    slot = find_slot(keys, stamps, stamp, grams[k])
                    if stamps[slot] != stamp:
                        stamps[slot] = stamp
                        keys[slot] = grams[k]
                        counts[slot] = 0
                        places[slot] = k
                    counts[slot] += 1
                    if counts[slot] > best or (counts[slot] == best and places[slot] < place):
                        best, place = counts[slot], places[slot]
                k = low + place
                if best:
                    top[d, n - 2] = best * (before[k + n] - before[k] + spaced[k + n - 1] - spaced[k])
            else:
                k = 0
                while k < last:
                    slot = find_slot(keys, stamps, stamp, grams[k])
                    if stamps[slot] == stamp:
                        repeated[d, n - 5] += before[low + k + n] - before[low + k]
                        k += n
                    else:
                        stamps[slot] = stamp
                        keys[slot] = grams[k]
                        k += 1


@njit(cache=True, nogil=True)
def step_back(data: Bytes, low: int, i: int) -> int:
    """The first byte of the code point that ends before byte i."""
    i -= 1
    size = 1
    while i > low and size < 4 and 0x80 <= data[i] < 0xC0:
        i -= 1
        size += 1
    return i


@njit(cache=True, nogil=True)
def ends_in_ellipsis(data: Bytes, low: int, end: int) -> bool:
    """True if a span ends in `...` or `…`."""
    if end - low < 3:
        return False
    a, b, c = data[end - 3], data[end - 2], data[end - 1]
    return (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@njit(cache=True, nogil=True)
def line_marks(data: Bytes, start: Int64s, stop: Int64s, classes: Classes, out: Bytes) -> None:
    """Bits BULLET (begins with `•` or `-`), ELLIPSIS (ends in `...` or `…`), TERMINAL (ends in LINE_END)."""
    for k in range(len(start)):
        low, end = start[k], stop[k]
        marks = 0
        point, _ = decode(data, low, end)
        if point in (0x2022, 0x2D):
            marks |= BULLET
        if ends_in_ellipsis(data, low, end):
            marks |= ELLIPSIS
        point, _ = decode(data, step_back(data, low, end), end)
        if classes[point] & LINE_END:
            marks |= TERMINAL
        out[k] = marks


@njit(cache=True, nogil=True)
def distinct_words(
    data: Bytes,
    documents: Int64s,
    start: Int64s,
    stop: Int64s,
    first: Int64s,
    classes: Classes,
    needles: Bytes,
    offsets: Int64s,
    longest: int,
    out: Int64s,
) -> None:
    """How many of the needles (packed, lower case) occur as a word, stripped of punctuation, ASCII in either case."""
    seen = np.full(len(offsets) - 1, -1, np.int64)
    for d in range(len(first) - 1):
        count = 0
        for k in range(first[d], first[d + 1]):
            low, high = start[k], stop[k]
            while low < high:
                point, size = decode(data, low, high)
                if classes[point] & SYMBOL == 0:
                    break
                low += size
            while high > low:
                back = step_back(data, low, high)
                point, _ = decode(data, back, high)
                if classes[point] & SYMBOL == 0:
                    break
                high = back
            if high - low > longest:
                continue
            for w in range(len(seen)):
                wide = offsets[w + 1] - offsets[w]
                if (
                    seen[w] != d
                    and wide == high - low
                    and matches(data, low, needles, offsets[w], offsets[w + 1], True)
                ):
                    seen[w] = d
                    count += 1
        out[d] = count
