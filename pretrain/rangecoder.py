"""A range coder on integers: symbols to bytes and back, exactly (Martin 1979; the carry as in LZMA's).

A symbol is an interval [start, start + size) of [0, TOTAL): the coder divides its range in that proportion. Everything is
integer arithmetic, so that only the frequencies have to be the same on both sides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOTAL_BITS = 32
TOTAL = 1 << TOTAL_BITS
"""Sum of a symbol's frequencies. With a range of 56 to 64 bits, rounding costs less than 2**-23 bits a symbol."""

_WIDTH = 64
_FULL = (1 << _WIDTH) - 1
_LEAST = 1 << (_WIDTH - 8)

Frequencies = npt.NDArray[np.int64]


def cumulative(chances: npt.NDArray[np.float64]) -> Frequencies:
    """Where each symbol's interval begins, and TOTAL: (rows, symbols + 1), from chances (rows, symbols) that sum to 1.

    Every symbol has at least 1 of TOTAL, however unlikely; what rounding leaves over goes to the likeliest.
    """
    rows, symbols = chances.shape
    if symbols > TOTAL >> 8:
        raise ValueError(f"{symbols} symbols are too many for frequencies of {TOTAL_BITS} bits")
    sizes = 1 + np.floor(chances * (TOTAL - symbols)).astype(np.int64)
    sizes[np.arange(rows), chances.argmax(axis=1)] += TOTAL - sizes.sum(axis=1)
    found = np.zeros((rows, symbols + 1), dtype=np.int64)
    np.cumsum(sizes, axis=1, out=found[:, 1:])
    return found


class Encoder:
    """Gathers symbols; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._low, self._range = 0, _FULL
        self._bytes = bytearray()

    def encode(self, start: int, end: int) -> None:
        """The symbol that has [start, end) of [0, TOTAL)."""
        part = self._range >> TOTAL_BITS
        self._low += part * start
        self._range = part * (end - start)
        self._carry()
        while self._range < _LEAST:
            self._bytes.append(self._low >> (_WIDTH - 8))
            self._low = (self._low << 8) & _FULL
            self._range <<= 8

    def finish(self) -> bytes:
        """As few bytes as stand for a number within the range: zeros at the end are left out, the decoder supplies them."""
        for kept in range(0, _WIDTH + 8, 8):
            unit = 1 << (_WIDTH - kept)
            value = -(-self._low // unit) * unit
            if value < self._low + self._range:
                break
        self._low = value
        self._carry()
        return bytes(self._bytes + self._low.to_bytes(_WIDTH // 8, "big")).rstrip(b"\0")

    def _carry(self) -> None:
        if self._low <= _FULL:
            return
        self._low &= _FULL
        place = len(self._bytes) - 1
        while self._bytes[place] == 0xFF:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1


class Decoder:
    """Gives back the symbols of an `Encoder`'s bytes, if asked with the same frequencies."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = _WIDTH // 8
        self._code = int.from_bytes(data[: self._place].ljust(self._place, b"\0"), "big")
        """Of the number, what lies above the lower end of the range."""
        self._range = _FULL

    def decode(self, starts: Frequencies) -> int:
        """The next symbol, by its number; `starts` is a row of `cumulative`."""
        part = self._range >> TOTAL_BITS
        value = min(self._code // part, TOTAL - 1)
        symbol = int(np.searchsorted(starts, value, side="right")) - 1
        start, end = int(starts[symbol]), int(starts[symbol + 1])
        self._code -= part * start
        self._range = part * (end - start)
        while self._range < _LEAST:
            byte = self._data[self._place] if self._place < len(self._data) else 0
            self._place += 1
            self._code = (self._code << 8) | byte
            self._range <<= 8
        return symbol
