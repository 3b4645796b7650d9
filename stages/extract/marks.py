"""Does a page hold any of a few strings? One pass that skips most bytes, where `in` reads all of them once a string."""

from __future__ import annotations

import numpy as np
from numba import njit

_HASHES = 1 << 12


class Marks:
    """Strings to look for, each of at least two bytes."""

    def __init__(self, *strings: bytes) -> None:
        self._shortest = min(map(len, strings))
        self._bytes = np.frombuffer(b"".join(strings), dtype=np.uint8)
        self._ends = np.cumsum([len(string) for string in strings])
        # Of two bytes, by their hash: how far they stand at least from where the first bytes of any string end.
        self._shifts = np.full(_HASHES, self._shortest - 1, dtype=np.uint8)
        for string in strings:
            for at in range(self._shortest - 1):
                pair = (string[at] << 5 ^ string[at + 1]) & (_HASHES - 1)
                self._shifts[pair] = min(self._shifts[pair], self._shortest - 2 - at)

    def within(self, data: bytes) -> bool:
        """True if any of the strings is there."""
        view = np.frombuffer(data, dtype=np.uint8)
        return bool(_search(view, self._shifts, self._bytes, self._ends, self._shortest))


@njit(cache=True)
def _search(data: np.ndarray, shifts: np.ndarray, strings: np.ndarray, ends: np.ndarray, shortest: int) -> bool:
    """Wu and Manber's search (1994) with blocks of two bytes."""
    at = shortest - 1
    while at < len(data):
        shift = shifts[(np.int64(data[at - 1]) << 5 ^ np.int64(data[at])) & (_HASHES - 1)]
        if shift:
            at += shift
            continue
        place = at - shortest + 1
        begin = 0
        for end in ends:
            length = end - begin
            if place + length <= len(data):
                same = 0
                while same < length and data[place + same] == strings[begin + same]:
                    same += 1
                if same == length:
                    return True
            begin = end
        at += 1
    return False
