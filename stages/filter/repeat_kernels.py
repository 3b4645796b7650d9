"""Compiled loop that hashes lines made comparable. Only workers import this module: it loads Numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from curate.stages.folding import EXPANDS, folded_of
from curate.stages.text.kernels import Bytes, Hashes, Int32s, Int64s, decode, kernel

_SPACE = np.uint32(0x20)
_INDEX = np.uint32(EXPANDS - 1)
_SEED = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT, _HALF = np.uint64(29), np.uint64(33)


@njit(cache=True, nogil=True, inline="always")
def _step(state, letter):  # type: ignore[no-untyped-def]
    """The hash after one more character."""
    state = (state ^ np.uint64(letter)) * _PRIME
    return state ^ (state >> _SHIFT)


@kernel
def hash_lines(  # type: ignore[no-untyped-def]
    data: Bytes, start: Int64s, stop: Int64s, table, starts, letters, hashes: Hashes, chars: Int32s
) -> None:
    """For each span the 64-bit hash of its folded characters, runs of spaces as one and none at the ends, and their number.

    Every bit of the hash depends on every character: its highest bits cut lines into parts of equal size.
    """
    for k in range(len(start)):
        i, end = start[k], stop[k]
        state = _SEED
        count = 0
        waiting = False
        while i < end:
            code = np.uint32(data[i])
            if code < 0x80:
                i += 1
            else:
                point, size = decode(data, i, end)
                code = np.uint32(point)
                i += size
            folded = folded_of(code, table)
            if folded == _SPACE:
                waiting = count > 0
                continue
            if folded == 0:
                continue
            if waiting:
                state = _step(state, _SPACE)
                count += 1
                waiting = False
            if folded < EXPANDS:
                state = _step(state, folded)
                count += 1
            else:
                for place in range(starts[folded & _INDEX], starts[(folded & _INDEX) + np.uint32(1)]):
                    state = _step(state, letters[place])
                    count += 1
        state ^= np.uint64(count)
        state = (state ^ (state >> _HALF)) * _MIX_1
        state = (state ^ (state >> _HALF)) * _MIX_2
        hashes[k] = state ^ (state >> _HALF)
        chars[k] = count
