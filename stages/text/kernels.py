"""What the compiled loops of this room share. Only workers import these modules: they load Numba.

Texts lie one after another in `data`; text d is `data[documents[d]:documents[d + 1]]`. Spans are byte positions
[start, stop) in `data`; those of text d are number `first[d]` to `first[d + 1]`. Every kernel accepts any bytes: what is
no UTF-8 counts as one code point U+FFFD a byte: sequences cut short, surrogates, what is written longer than it must be.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.uint16]
Hashes = npt.NDArray[np.uint64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

BULLET, ELLIPSIS, TERMINAL = 1, 2, 4
"""Bits of `Segmented.line_marks`."""

PRIME = np.uint64(0x9E3779B97F4A7C15)
PRIME_2 = np.uint64(0xD6E8FEB86659FD93)
SEED = np.uint64(0xCBF29CE484222325)
HALF = np.uint64(32)
ONE, EIGHT, ALL = np.uint64(1), np.uint64(8), np.uint64(0xFFFFFFFFFFFFFFFF)

Function = TypeVar("Function", bound=Callable[..., Any])


@functools.cache
def stamp(module: str) -> str:
    """A hash of the sources that a module's kernels may be made of: its folder, this room, and where its functions are from."""
    used = {getattr(value, "__module__", None) or "" for value in vars(sys.modules[module]).values()}
    paths = {str(sys.modules[name].__file__) for name in used if name.startswith("curate.")}
    for folder in (Path(str(sys.modules[module].__file__)).parent, Path(__file__).parent):
        paths |= set(map(str, folder.glob("*.py")))
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in sorted(paths))).hexdigest()


def kernel(function: Function) -> Function:
    """Compiles a loop, and keeps the result until a source changes that it may be made of (`stamp`).

    Numba's cache alone asks the function's own file, and would go on with an old version of what that calls elsewhere.
    """
    dispatcher = njit(cache=True, nogil=True)(function)
    kept = dispatcher._cache._cache_file
    kept._source_stamp = (kept._source_stamp, stamp(function.__module__))
    return dispatcher  # type: ignore[no-any-return,unused-ignore]


@kernel
def decode(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """The code point at byte i and its length in bytes."""
    b = int(data[i])
    if b < 0x80:
        return b, 1
    if 0xC2 <= b < 0xE0 and i + 1 < end:
        c = int(data[i + 1]) ^ 0x80
        if c < 0x40:
            return ((b & 0x1F) << 6) | c, 2
    elif 0xE0 <= b < 0xF0 and i + 2 < end:
        c, d = int(data[i + 1]) ^ 0x80, int(data[i + 2]) ^ 0x80
        point = ((b & 0x0F) << 12) | (c << 6) | d
        if c | d < 0x40 and point >= 0x800 and point & 0xF800 != 0xD800:
            return point, 3
    elif 0xF0 <= b < 0xF5 and i + 3 < end:
        c, d, e = int(data[i + 1]) ^ 0x80, int(data[i + 2]) ^ 0x80, int(data[i + 3]) ^ 0x80
        point = ((b & 0x07) << 18) | (c << 12) | (d << 6) | e
        if c | d | e < 0x40 and 0x10000 <= point < 0x110000:
            return point, 4
    return 0xFFFD, 1


@kernel
def step_back(data: Bytes, low: int, i: int) -> int:
    """The first byte of the code point that ends before byte i."""
    i -= 1
    size = 1
    while i > low and size < 4 and 0x80 <= data[i] < 0xC0:
        i -= 1
        size += 1
    return i


@kernel
def ends_in_ellipsis(data: Bytes, low: int, end: int) -> bool:
    """True if a span ends in `...` or `…`."""
    if end - low < 3:
        return False
    a, b, c = data[end - 3], data[end - 2], data[end - 1]
    return (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@kernel
def scramble(state: np.uint64) -> np.uint64:
    """A number whose bits all depend on all bits of the one given; no two give the same."""
    state = (state ^ (state >> HALF)) * PRIME_2
    state = (state ^ (state >> HALF)) * PRIME
    return state ^ (state >> HALF)


@kernel
def hash_span(data: Bytes, start: int, stop: int) -> np.uint64:
    """A 64-bit hash of the bytes, eight at a time."""
    state = (SEED ^ np.uint64(stop - start)) * PRIME_2  # far apart, or a length could make up for a byte
    i = np.uint64(start)  # unsigned positions: the eight bytes become one load
    end = np.uint64(stop)
    while i + EIGHT <= end:
        word = np.uint64(0)
        for k in range(8):
            word |= np.uint64(data[i + np.uint64(k)]) << np.uint64(8 * k)
        state = (state ^ word) * PRIME
        state ^= state >> HALF
        i += EIGHT
    left = end - i
    if left:
        word = np.uint64(0)
        if i + EIGHT <= np.uint64(len(data)):
            for k in range(8):
                word |= np.uint64(data[i + np.uint64(k)]) << np.uint64(8 * k)
            word &= ALL >> (np.uint64(64) - EIGHT * left)
        else:
            for k in range(left):
                word |= np.uint64(data[i + np.uint64(k)]) << np.uint64(8 * k)
        state = (state ^ word) * PRIME
        state ^= state >> HALF
    return scramble(state)


@kernel
def hash_spans(data: Bytes, start: Int64s, stop: Int64s, out: Hashes) -> None:
    """A hash of the content of each span."""
    for k in range(len(start)):
        out[k] = hash_span(data, start[k], stop[k])


@kernel
def describe(data: Bytes, start: Int64s, stop: Int64s, classes: Classes, chars: Int32s, bits: Classes) -> None:
    """For each span its code points and the classes that occur in it."""
    for k in range(len(start)):
        i, end = start[k], stop[k]
        count = 0
        seen = np.uint16(0)
        while i < end:
            point, size = int(data[i]), 1
            if point >= 0x80:
                point, size = decode(data, i, end)
            seen |= classes[point]
            count += 1
            i += size
        chars[k] = count
        bits[k] = seen
