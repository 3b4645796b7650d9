"""Words cut further as spaCy's tokenizer does; the rule is that of `Segmented.tokens`. Conventions: `kernels`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from curate.stages.text import token_rules, unicode
from curate.stages.text.find import slot_of
from curate.stages.text.kernels import (
    HALF,
    PRIME,
    SEED,
    Bytes,
    Classes,
    Hashes,
    Int32s,
    Int64s,
    decode,
    kernel,
)
from curate.stages.text.segment import Segmented
from curate.stages.text.spans import Spans, larger
from curate.stages.text.token_rules import (
    ALPHA,
    BEFORE_STOP,
    CAPITAL,
    HOST,
    ICON,
    PREFIX,
    QUOTE,
    SCHEME,
    SMALL,
    SUFFIX,
)
from curate.stages.text.unicode import DIGIT, SYMBOL

LONGEST = 12
"""Code points of the longest exception."""
BEGINNINGS = 4096
"""Places of the table of lengths by the first two code points."""
KNOWN, UNIT = 1 << 14, 1 << 15
"""Bits of an exception's entry, beside those of the places where it is cut."""


def cut_words(texts: Segmented) -> Spans:
    """See `Segmented.tokens`."""
    words, size = texts.words, len(texts)
    longest = int(np.diff(texts.documents).max(initial=0))
    room = len(words.start) // 2 * 3 + longest
    arrays: list[Any] = [np.empty(room, kind) for kind in (np.int64, np.int64, np.int32, np.uint16)]
    first = np.zeros(size + 1, np.int64)
    done = 0
    cut: Any = cut_all
    while True:
        done = cut(
            done, texts.bytes, texts.documents, words.start, words.stop, words.chars, words.bits, words.first,
            unicode.classes(), int(words.chars.max(initial=0)), *arrays, first, token_rules.classes(), *_tables(),
        )  # fmt: skip
        if done == size:
            break
        arrays = [larger(array, first[done], 2 * len(array) + longest) for array in arrays]
    start, stop, chars, bits = (array[: first[-1]] for array in arrays)
    return Spans(texts.bytes, start, stop, first, chars, bits)


@functools.cache
def _tables() -> tuple[Any, ...]:
    """The exceptions and units as a hash table, and a filter in front of it: lengths of entries by how they begin, as bits."""
    entries: dict[str, int] = {}
    for word, tokens in token_rules.exceptions().items():
        ends = np.cumsum([len(token) for token in tokens])[:-1]
        entries[word] = KNOWN | sum(1 << int(end) for end in ends)
    for unit in token_rules.units():
        entries[unit] = entries.get(unit, 0) | UNIT
    keys, values = np.zeros(4096, np.uint64), np.zeros(4096, np.uint16)
    lengths = np.zeros(BEGINNINGS, np.uint16)
    for word, value in entries.items():
        points = np.array([ord(char) for char in word], np.int32)
        enter(points, value, keys, values, lengths)
    return keys, values, lengths


@kernel
def beginning(one: int, two: int) -> int:
    """The place of a string's first two code points in the table of lengths; 0 stands for no second one."""
    return (int(one) * 37 + int(two)) & (BEGINNINGS - 1)


@kernel
def key_of(points: Int32s, low: int, high: int) -> np.uint64:
    """A hash of the code points, never 0."""
    state = SEED
    for k in range(low, high):
        state = (state ^ np.uint64(points[k])) * PRIME
        state ^= state >> HALF
    return state | np.uint64(1)


@kernel
def enter(points: Int32s, value: int, keys: Hashes, values: Classes, lengths: Classes) -> None:
    """Adds a string to the table."""
    key = key_of(points, int(np.int64(0)), len(points))
    slot = slot_of(keys, key)
    keys[slot] = key
    values[slot] = value
    lengths[beginning(points[0], points[1] if len(points) > 1 else 0)] |= 1 << len(points)


@kernel
def look_up(points: Int32s, low: int, high: int, keys: Hashes, values: Classes, lengths: Classes) -> int:
    """The entry of a string, or 0."""
    size = high - low
    if size <= 0 or size > LONGEST:
        return 0
    if not lengths[beginning(points[low], points[low + 1] if size > 1 else 0)] >> size & 1:
        return 0
    slot = slot_of(keys, key_of(points, low, high))
    return int(values[slot]) if keys[slot] != 0 else 0


@kernel
def prefix(points: Int32s, kinds: Classes, low: int, high: int) -> int:
    """How many code points are cut off in front."""
    point = points[low]
    if kinds[low] & PREFIX:
        return 1
    if point == 46:  # .
        k = low
        while k < high and points[k] == 46:
            k += 1
        return k - low if k - low > 1 else 0
    if point == 43:  # +
        return 0 if low + 1 < high and 48 <= points[low + 1] <= 57 else 1
    if point in (65, 67) and low + 1 < high and points[low + 1] == 36:  # A$ C$
        return 2
    if point == 85 and low + 2 < high and points[low + 1] == 83 and points[low + 2] == 36:  # US$
        return 3
    return 0


@kernel
def suffix(points: Int32s, kinds: Classes, low: int, high: int, keys: Hashes, values: Classes, lengths: Classes) -> int:
    """How many code points are cut off behind."""
    if high <= low:
        return 0
    k = high  # a unit or a currency behind a digit
    while k > low and high - k < LONGEST and not 48 <= points[k - 1] <= 57:
        k -= 1
    if low < k < high and 48 <= points[k - 1] <= 57 and look_up(points, k, high, keys, values, lengths) & UNIT:
        return high - k
    point = points[high - 1]
    if point == 46:
        k = high - 1
        while k > low and points[k - 1] == 46:
            k -= 1
        if high - k > 1:
            return high - k
        if k > low and kinds[k - 1] & BEFORE_STOP:
            return 1
        if k > low + 1 and kinds[k - 1] & CAPITAL and kinds[k - 2] & CAPITAL:
            return 1
        return 1 if k > low + 1 and points[k - 2] == 0xB0 and points[k - 1] in (67, 70, 75) else 0  # °C °F °K
    if point in (115, 83) and high - low > 1 and points[high - 2] in (39, 0x2019):  # 's
        return 2
    if point == 0x2026 and high - low > 1 and points[high - 2] == 0x2026:
        return 2
    return 1 if kinds[high - 1] & SUFFIX else 0


@kernel
def infix(points: Int32s, kinds: Classes, low: int, i: int, high: int) -> int:
    """How many code points at place i are cut out between others."""
    point, kind = points[i], kinds[i]
    if kind & ICON or point == 0x2026:
        return 1
    if point == 46:
        k = i
        while k < high and points[k] == 46:
            k += 1
        if k - i > 1:
            return k - i
    if i == low or i + 1 >= high:
        return 0
    before, after = kinds[i - 1], kinds[i + 1]
    digit = 48 <= points[i - 1] <= 57
    if digit and point in (42, 43, 45, 94) and (48 <= points[i + 1] <= 57 or points[i + 1] == 45):  # * + - ^
        return 1
    if point == 46:
        return 1 if before & (SMALL | QUOTE) and after & (CAPITAL | QUOTE) else 0
    if point == 44:
        return 1 if before & ALPHA and after & ALPHA else 0
    if before & ALPHA == 0 and not digit:
        return 0
    if point in (58, 60, 62, 61, 47, 126):  # : < > = / ~
        return 1 if after & ALPHA else 0
    if point in (45, 0x2013, 0x2014):
        most = 3 if point == 45 else 2 if point == 0x2014 else 1
        k = i
        while k < high and points[k] == point and k - i < most:
            k += 1
        return k - i if k < high and kinds[k] & ALPHA else 0
    return 0


@kernel
def is_host(points: Int32s, kinds: Classes, low: int, high: int) -> bool:
    """True if a host name, with at least one dot, stands here, and at most a port and a path behind it."""
    label = low
    i = low
    labels = 0
    small = True
    while i < high and points[i] not in (58, 47, 63, 35):  # : / ? #
        if points[i] == 46:
            if i == label or i - label > 64 or not (kinds[label] & HOST and kinds[i - 1] & HOST):
                return False
            labels += 1
            label = i + 1
            small = True
        elif not (kinds[i] & HOST or points[i] in (45, 95)):
            return False
        else:
            small = small and kinds[i] & SMALL != 0
        i += 1
    if labels == 0 or not small or not 2 <= i - label <= 63:
        return False
    if i < high and points[i] == 58:
        k = i + 1
        while k < high and 48 <= points[k] <= 57:
            k += 1
        if not 2 <= k - i - 1 <= 5 or (k < high and points[k] not in (47, 63, 35)):
            return False
    return True


@kernel
def is_address(points: Int32s, kinds: Classes, low: int, high: int) -> bool:
    """True for a URL, with or without a scheme, or an e-mail address."""
    i = low
    while i < high and kinds[i] & SCHEME:
        i += 1
    if i - low >= 2 and i + 2 < high and points[i] == 58 and points[i + 1] == 47 and points[i + 2] == 47:
        low = i + 3
    if is_host(points, kinds, low, high):
        return True
    for k in range(high - 1, low, -1):
        if points[k] == 64:
            return is_host(points, kinds, k + 1, high)
    return False


@kernel
def cut_word(
    points: Int32s, kinds: Classes, size: int, keys: Hashes, values: Classes, lengths: Classes, edges: Bytes
) -> None:
    """Marks in `edges` where a token begins."""
    low, high = int(np.int64(0)), int(np.int64(size))  # as other callers have it: each type is a compilation of its own
    known = 0
    while high > low:
        known = look_up(points, low, high, keys, values, lengths)
        if known & KNOWN:
            break
        front = prefix(points, kinds, low, high)
        if front and look_up(points, low + front, high, keys, values, lengths) & KNOWN:
            low += front
            edges[low] = 1
            continue
        back = suffix(points, kinds, low + front, high, keys, values, lengths)
        if back and look_up(points, low, high - back, keys, values, lengths) & KNOWN:
            high -= back
            edges[high] = 1
            continue
        if front + back == 0:
            break
        low += front
        edges[low] = 1
        high -= back
        edges[high] = 1
    if high == low:
        return
    if known & KNOWN:
        for k in range(1, high - low):
            if known >> k & 1:
                edges[low + k] = 1
        return
    i = low
    address = False
    while i < high:
        wide = 0 if kinds[i] & ALPHA else infix(points, kinds, low, i, high)
        if wide and i > low:
            if not address and is_address(points, kinds, low, high):
                return
            address = True  # asked once, and it is none
            edges[i] = 1
            edges[i + wide] = 1
        i += max(wide, 1)


@kernel
def join(points: Int32s, size: int, keys: Hashes, values: Classes, lengths: Classes, edges: Bytes) -> None:
    """Joins neighbouring tokens that are an exception together, such as `:)` behind a word."""
    i = int(np.int64(0))
    while i < size:
        best = entry = inner = 0
        if i + 1 < size and lengths[beginning(points[i], points[i + 1])]:
            for k in range(i + 1, min(size, i + LONGEST) + 1):
                if edges[k] or k == size:
                    known = look_up(points, i, k, keys, values, lengths) if inner else 0
                    if known & KNOWN:
                        best, entry = k, known
                    inner += 1
        for k in range(i + 1, best):
            edges[k] = entry >> (k - i) & 1
        i = max(best, i + 1)
        while i < size and not edges[i]:
            i += 1


@kernel
def cut_all(
    resume: int,
    data: Bytes,
    documents: Int64s,
    start: Int64s,
    stop: Int64s,
    chars: Int32s,
    bits: Classes,
    first: Int64s,
    classes: Classes,
    longest: int,
    out_start: Int64s,
    out_stop: Int64s,
    out_chars: Int32s,
    out_bits: Classes,
    out_first: Int64s,
    rules: Classes,
    keys: Hashes,
    values: Classes,
    lengths: Classes,
) -> int:
    """Cuts every word from document `resume` on; gives the document that there is no room for."""
    points, kinds = np.empty(longest + 1, np.int32), np.empty(longest + 1, np.uint16)
    places, edges = np.empty(longest + 1, np.int64), np.zeros(longest + 2, np.uint8)
    n = int(out_first[resume])
    for d in range(resume, len(first) - 1):
        if n + documents[d + 1] - documents[d] > len(out_start):
            return d
        for w in range(first[d], first[d + 1]):
            size, i, end = int(np.int64(chars[w])), start[w], stop[w]
            plain = (
                bits[w] & (SYMBOL | DIGIT) == 0
            )  # only exceptions are cut, and those without a mark are of ASCII letters
            if plain:
                known = 2 <= size <= LONGEST and end - i == size
                if not known or not lengths[beginning(data[i], data[i + 1])] >> size & 1:
                    out_start[n], out_stop[n], out_chars[n], out_bits[n] = i, end, size, bits[w]
                    n += 1
                    continue
            for k in range(size):
                point, wide = int(data[i]), 1
                if point >= 0x80:
                    point, wide = decode(data, i, end)
                points[k] = point
                places[k] = i
                i += wide
            places[size] = end
            if plain and look_up(points, int(np.int64(0)), size, keys, values, lengths) == 0:
                out_start[n], out_stop[n], out_chars[n], out_bits[n] = start[w], end, size, bits[w]
                n += 1
                continue
            for k in range(size):
                kinds[k] = rules[points[k]]
                edges[k] = 0
            edges[size] = 0
            cut_word(points, kinds, size, keys, values, lengths, edges)
            edges[0] = 0
            join(points, size, keys, values, lengths, edges)
            edges[size] = 1
            k = 0
            for j in range(1, size + 1):
                if edges[j]:
                    seen = np.uint16(0)
                    for m in range(k, j):
                        seen |= classes[points[m]]
                    out_start[n], out_stop[n], out_chars[n], out_bits[n] = places[k], places[j], j - k, seen
                    n += 1
                    k = j
        out_first[d + 1] = n
    return len(first) - 1
