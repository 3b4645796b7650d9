"""Where a personal address could be: one pass over the UTF-8 bytes of a batch. Only workers import this module (Numba).

Everything here is a necessary condition and says nothing more; the finders decide. The work a byte is bounded, whatever
the bytes are.
"""

from __future__ import annotations

import numpy as np

from curate.stages.text.kernels import Bytes, Int64s, kernel

EMAIL, IP, PHONE, IBAN = 0, 1, 2, 3
"""Positions in `curate.stages.filter.pii.KINDS`."""

_DIGIT, _AT, _COLON = 1, 2, 3
_WORD, _CAPITAL, _HEX, _NUMERAL, _FOREIGN = 1, 2, 4, 8, 16


def _triggers() -> Bytes:
    table = np.zeros(256, np.uint8)
    table[48:58], table[ord("@")], table[ord(":")] = _DIGIT, _AT, _COLON
    return table


def _classes() -> Bytes:
    table = np.zeros(256, np.uint8)
    for byte in range(128):
        one = chr(byte)
        table[byte] |= _WORD * (one.isalnum() or one == "_") | _CAPITAL * ("A" <= one <= "Z")
        table[byte] |= _HEX * (one in "0123456789abcdefABCDEF") | _NUMERAL * one.isdigit()
    table[128:] |= _FOREIGN
    return table


TRIGGERS, CLASSES = _triggers(), _classes()
BLOCK = 16
LABEL, LEAST_PHONE, MOST_DIGITS, GAP = 64, 7, 15, 4
LEAST_IBAN, MOST_IBAN = 15, 34


@kernel
def candidates(
    data: Bytes, documents: Int64s, triggers: Bytes, classes: Bytes
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Document, kind, and the bytes [start, stop) of each place to look at, in order of start.

    An address is at its `@`, an IPv6 address and an IBAN where they begin (start = stop); IPv4 addresses and telephone
    numbers lie within a run of digits and their separators, but for what stands before its first digit.
    """
    out, n = np.empty((256, 4), np.int64), 0
    for d in range(len(documents) - 1):
        low, end = documents[d], documents[d + 1]
        i = low
        while i < end:
            trigger = triggers[data[i]]
            if trigger == 0:
                i += 1
                while i + BLOCK <= end and _silent(data[i : i + BLOCK]):
                    i += BLOCK
                continue
            if n + 3 > len(out):
                larger = np.empty((2 * len(out), 4), np.int64)
                for k in range(n):
                    for column in range(4):
                        larger[k, column] = out[k, column]
                out = larger
            if trigger == _DIGIT:
                if _begins_iban(data, classes, low, i, end):
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = d, IBAN, i - 2, i - 2
                    n += 1
                stop, quad, phone = _number(data, classes, i, end)
                if quad:
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = d, IP, i, stop
                    n += 1
                if phone:
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = d, PHONE, i, stop
                    n += 1
                i = stop
                continue
            if trigger == _AT:
                if _joins_address(data, classes, low, i, end):
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = d, EMAIL, i, i
                    n += 1
            else:
                start = _begins_ipv6(data, classes, low, i, end)
                if start >= 0:
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = d, IP, start, start
                    n += 1
            i += 1
    return out[:n, 0], out[:n, 1], out[:n, 2], out[:n, 3]


@kernel
def _silent(block: Bytes) -> bool:
    """True if no byte of the block triggers anything: a loop without branches, which the compiler makes vectors of."""
    heard = np.uint8(0)
    for k in range(BLOCK):
        b = block[k]
        heard |= np.uint8(np.uint8(b - np.uint8(48)) <= np.uint8(10)) | np.uint8(b == np.uint8(64))
    return heard == 0


@kernel
def _joins_address(data: Bytes, classes: Bytes, low: int, i: int, end: int) -> bool:
    """True if a letter, digit or one of `_+-'` stands before the `@`, and a label and a dot with a letter behind it."""
    if i == low or i + 1 == end:
        return False
    before, word = data[i - 1], _WORD | _FOREIGN
    if not classes[before] & word and before != 43 and before != 45 and before != 39:
        return False
    j = i + 1
    while j < end and j - i <= 4 * LABEL and (classes[data[j]] & word or data[j] == 45):
        j += 1
    return j > i + 1 and j + 1 < end and data[j] == 46 and classes[data[j + 1]] & word != 0


@kernel
def _begins_ipv6(data: Bytes, classes: Bytes, low: int, i: int, end: int) -> int:
    """Where an IPv6 address of 2000::/3 (or ::ffff:0:0/96, if the colon begins it) has its start; -1: nowhere.

    The colon behind the first group is asked: no other address is public, and times, hardware addresses and scopes
    of C++ do not begin with four hexadecimal digits of which the first is 2 or 3.
    """
    if i + 1 == end:
        return -1
    if data[i + 1] == 58 and i + 8 < end and (i == low or not (classes[data[i - 1]] & _WORD or data[i - 1] == 58)):
        for k in range(2, 6):
            if data[i + k] | 32 != 102:
                return -1
        return i if data[i + 6] == 58 else -1
    if i - low < 4 or not (classes[data[i + 1]] & _HEX or data[i + 1] == 58):
        return -1
    if data[i - 4] != 50 and data[i - 4] != 51:
        return -1
    for k in range(1, 4):
        if not classes[data[i - k]] & _HEX:
            return -1
    if i - low > 4 and (classes[data[i - 5]] & _WORD or data[i - 5] == 58):
        return -1
    return i - 4


@kernel
def _begins_iban(data: Bytes, classes: Bytes, low: int, i: int, end: int) -> bool:
    """True at the first of two digits behind two capitals, if capitals, digits and single gaps make up an IBAN's length."""
    if i - low < 2 or not classes[data[i - 1]] & _CAPITAL or not classes[data[i - 2]] & _CAPITAL:
        return False
    if i - low > 2 and classes[data[i - 3]] & _WORD:
        return False
    if i + 1 == end or not classes[data[i + 1]] & _NUMERAL:
        return False
    signs, gap, j = 4, 0, i + 2
    while j < end and signs < LEAST_IBAN and gap < 2:
        if classes[data[j]] & (_CAPITAL | _NUMERAL):
            signs, gap = signs + 1, 0
        elif data[j] == 32 or data[j] == 45 or data[j] == 0xA0:
            gap += 1
        elif data[j] != 0xC2:
            break
        j += 1
    return signs == LEAST_IBAN


@kernel
def _number(data: Bytes, classes: Bytes, i: int, end: int) -> tuple[int, bool, bool]:
    """A run of digits and separators from i on: where its last digit ends, whether IPv4 and telephone fit into it.

    Separators: `-./()`, blanks, and their typographical kin; at most four in a row.
    """
    stop, j, gap, dotted = i, i, 0, False
    digits = groups = size = dots = 0
    quad = False
    first = last = middle = 0
    while j < end and gap <= GAP:
        b = data[j]
        if classes[b] & _NUMERAL:
            if gap or not digits:
                dots = dots + 1 if gap == 1 and dotted and 1 <= size <= 3 else 0
                middle, groups, size, gap = last, groups + 1, 0, 0
            size += 1
            digits += 1
            last = size
            if groups == 1:
                first = size
            quad = quad or dots >= 3
            j += 1
            stop = j
            continue
        width = _separator(data, j, end)
        if width == 0:
            break
        dotted = b == 46
        gap += 1
        j += width
    phone = digits >= LEAST_PHONE and not (groups == 1 and digits > MOST_DIGITS) and not (groups == 4 and quad)
    date = groups == 3 and digits <= 8 and middle <= 2 and (first == 4 or last == 4)
    return stop, quad, phone and not date


@kernel
def _separator(data: Bytes, j: int, end: int) -> int:
    """Bytes of the separator at j; 0: none."""
    b = data[j]
    if b == 32 or b == 45 or b == 46 or b == 47 or b == 40 or b == 41:
        return 1
    if b == 0xC2 and j + 1 < end and data[j + 1] == 0xA0:
        return 2
    if b == 0xE2 and j + 2 < end:
        dash = data[j + 1] == 0x80 and (0x90 <= data[j + 2] <= 0x95 or data[j + 2] == 0xAF)
        if dash or (data[j + 1] == 0x88 and data[j + 2] == 0x92):
            return 3
    return 0
