"""Compiled loops that cut lines and paragraphs as published code does. Conventions: `curate.stages.text.kernels`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.stages.filter.measures.characters import BREAK, BULLET, END, SPACE, STOP, UPPER
from curate.stages.text.kernels import Bytes, Int32s, Int64s, decode, ends_in_ellipsis, kernel, step_back

Table = npt.NDArray[np.uint16]

BLANK, DASHED, ELLIPSIS, STOPPED, BULLETED, ENDED = 1, 2, 4, 8, 16, 32
"""Marks of a line: white space alone; begins with `•` or `-`; ends in `...` or `…`; its very last character is a STOP; begins
with a BULLET; ends in an END. Beginnings and ends but that of STOPPED are without white space."""


@kernel
def count_breaks(data: Bytes, documents: Int64s, table: Table, universal: bool) -> int:
    """Upper bound on the lines of a batch."""
    count = len(documents) - 1
    i, end = documents[0], documents[-1]
    while i < end:
        b = data[i]
        if b < 128:
            count += b == 10 or (universal and table[b] & BREAK != 0)
        elif universal and (b == 0xC2 or b == 0xE2):
            count += 1
        i += 1
    return count


@kernel
def cut_lines(
    data: Bytes,
    documents: Int64s,
    table: Table,
    universal: bool,
    first: Int64s,
    start: Int64s,
    stop: Int64s,
    chars: Int32s,
    upper: Int32s,
    marks: Bytes,
) -> None:
    """Lines as they stand, neither trimmed nor left out where empty: cut at `\\n`, or (`universal`) as `str.splitlines` does.

    No line follows a break at the text's end. `chars` and `upper` count code points and capitals, without the break.
    """
    n = 0
    first[0] = 0
    for d in range(len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        while i < end:
            broken = find_break(data, i, end, table, universal)
            start[n], stop[n] = i, broken
            chars[n], upper[n] = count_characters(data, i, broken, table)
            after = trimmed_end(data, i, broken, table)
            marks[n] = _line_marks(data, i, after, broken, table)
            n += 1
            i = broken
            if i < end:
                i += decode(data, i, end)[1]
                if universal and data[broken] == 13 and i < end and data[i] == 10:
                    i += 1
        first[d + 1] = n


@kernel
def find_break(data: Bytes, i: int, end: int, table: Table, universal: bool) -> int:
    """Where the line that begins at byte i ends, its break not included."""
    if not universal:
        while i < end and data[i] != 10:
            i += 1
        return i
    while i < end:
        b = data[i]
        if b < 32 or b == 0xC2 or b == 0xE2:  # no other byte begins a break
            point, _ = decode(data, i, end)
            if table[point] & BREAK:
                break
        i += 1
    return i


@kernel
def count_characters(data: Bytes, low: int, high: int, table: Table) -> tuple[int, int]:
    """Code points of a span, and capitals."""
    seen = np.uint8(0)
    capitals = 0
    for k in range(np.uint64(low), np.uint64(high)):  # without a branch, and vectors for the compiler
        b = data[k]
        seen |= b
        capitals += int(np.uint8(b - np.uint8(65)) < np.uint8(26))
    if seen < 0x80:
        return high - low, capitals
    count = capitals = 0
    i = low
    while i < high:
        point, size = decode(data, i, high)
        capitals += table[point] & UPPER != 0
        count += 1
        i += size
    return count, capitals


@kernel
def _line_marks(data: Bytes, low: int, after: int, stop: int, table: Table) -> int:
    """Marks of a line whose last character that is no white space ends at `after`."""
    if after == low:
        return BLANK
    head, size = decode(data, low, after)
    while table[head] & SPACE:
        low += size
        head, size = decode(data, low, after)
    tail, _ = decode(data, last_of(data, low, after), after)
    marks = 0
    if head == 0x2022 or head == 0x2D:
        marks |= DASHED
    if ends_in_ellipsis(data, low, after):
        marks |= ELLIPSIS
    if after == stop and table[tail] & STOP:
        marks |= STOPPED
    if table[head] & BULLET:
        marks |= BULLETED
    if table[tail] & END:
        marks |= ENDED
    return marks


@kernel
def cut_paragraphs(data: Bytes, documents: Int64s, table: Table, first: Int64s, start: Int64s, stop: Int64s) -> None:
    """Parts of each text, trimmed as a whole, between runs of two newlines or more. A blank text is one empty part."""
    n = 0
    first[0] = 0
    for d in range(len(documents) - 1):
        i, end = documents[d], trimmed_end(data, documents[d], documents[d + 1], table)
        while i < end:
            point, size = decode(data, i, end)
            if table[point] & SPACE == 0:
                break
            i += size
        begin = i
        run = 0
        while i <= end:
            if i < end and data[i] == 10:
                run += 1
                i += 1
                continue
            if i == end or run > 1:
                start[n], stop[n] = begin, i - run
                n += 1
                begin = i
            run = 0
            i += 1
            while i < end and data[i] != 10:
                i += 1
        first[d + 1] = n


@kernel
def trimmed_end(data: Bytes, low: int, end: int, table: Table) -> int:
    """Where a text ends without the white space at its end."""
    while end > low:
        back = last_of(data, low, end)
        point, _ = decode(data, back, end)
        if table[point] & SPACE == 0:
            break
        end = back
    return end


@kernel
def last_of(data: Bytes, low: int, end: int) -> int:
    """Where the last code point of a span begins; what is no UTF-8 is one a byte."""
    if data[end - 1] < 0x80:
        return end - 1
    back = step_back(data, low, end)
    return back if back + decode(data, back, end)[1] == end else end - 1
