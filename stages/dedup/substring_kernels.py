"""Compiled loops behind `substring`. Only workers import this module: it loads Numba.

Texts lie one after another in `data`, a byte that is in no text (0xFF) behind each; text d is `data[starts[d]:stops[d]]`.
A window is `least` bytes of one text, named by the position of its first byte.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SAME, NEEDED = np.uint8(1), np.uint8(2)
"""Marks of a position: the suffix before it in order begins with the same window; another text relies on this window."""
BRIDGED = -1
"""In place of the text that keeps the copy: bytes between two repeats."""


@njit(cache=True, nogil=True)
def mark_same(data, suffixes, least, before, marks):  # type: ignore[no-untyped-def]
    """Marks the positions whose window is that of the suffix before in order. Linear (Kärkkäinen et al. 2009).

    `before` is room for a number a position; its content is lost.
    """
    before[suffixes[0]] = -1
    for i in range(1, len(suffixes)):
        before[suffixes[i]] = suffixes[i - 1]
    length = 0
    for position in range(len(data)):
        other = before[position]
        if other < 0:
            length = 0
            continue
        end = len(data) - max(position, other)
        while length < end and data[position + length] == data[other + length]:
            length += 1
        if length >= least:
            marks[position] = SAME
        if length > 0:
            length -= 1


@njit(cache=True, nogil=True)
def find_keepers(suffixes, starts, stops, least, marks, keepers):  # type: ignore[no-untyped-def]
    """For each window that an earlier text has the first text that has it, else -1; marks the windows relied upon."""
    keepers[:] = -1
    first = 0
    while first < len(suffixes):
        last = first + 1
        while last < len(suffixes) and marks[suffixes[last]] & SAME:
            last += 1
        if last - first > 1:
            text = np.searchsorted(starts, suffixes[first], side="right") - 1
            # windows that reach over the end of a text hold the byte that is in none, all at the same place
            if suffixes[first] + least <= stops[text]:
                least_text = text
                most_text = text
                for place in range(first + 1, last):
                    text = np.searchsorted(starts, suffixes[place], side="right") - 1
                    least_text = min(least_text, text)
                    most_text = max(most_text, text)
                if least_text != most_text:
                    for place in range(first, last):
                        if suffixes[place] < stops[least_text] and suffixes[place] >= starts[least_text]:
                            marks[suffixes[place]] |= NEEDED
                        else:
                            keepers[suffixes[place]] = least_text
        first = last


@njit(cache=True, nogil=True)
def pieces_of(data, start, stop, least, bridge, marks, keepers, out, at):  # type: ignore[no-untyped-def]
    """Writes what goes of one text to `out` from row `at` on: start, stop, text that keeps the copy or BRIDGED.

    Ascending; pieces that touch are one span. Gives the row after the last; `out` may have too few rows, then nothing beyond
    them is written.
    """
    position = start
    span, covered, end = -1, 0, -1  # of the span at hand, bridged ones joined
    while position + least <= stop:
        if keepers[position] < 0:
            position += 1
            continue
        # a run of windows that overlap or touch, told as few pieces as there can be
        run = position
        window = position
        limit = position + least
        first = at
        keeper = keepers[window]
        at = _write(out, at, run, limit, keeper)
        while True:
            following = min(limit, stop - least)
            while following > window and keepers[following] < 0:
                following -= 1
            if following <= window:
                break
            window = following
            if keepers[window] != keeper:
                keeper = keepers[window]
                at = _write(out, at, limit, window + least, keeper)
            elif at <= len(out):
                out[at - 1, 1] = window + least
            limit = window + least
        if (
            span >= 0
            and covered + limit - run >= bridge * (limit - span)
            and not _relied_upon(marks, end, run, least, start)
        ):
            at = _insert(out, first, at, end, run)
            covered += limit - run
        else:
            span, covered = run, limit - run
        end = limit
        position = limit + 1
    return at


@njit(cache=True, nogil=True)
def _write(out, at, start, stop, keeper):  # type: ignore[no-untyped-def]
    if at < len(out):
        out[at, 0] = start
        out[at, 1] = stop
        out[at, 2] = keeper
    return at + 1


@njit(cache=True, nogil=True)
def _insert(out, place, at, start, stop):  # type: ignore[no-untyped-def]
    """Puts a bridged piece before the pieces from `place` on."""
    for row in range(min(at, len(out) - 1), place, -1):
        out[row] = out[row - 1]
    if place < len(out):
        out[place, 0] = start
        out[place, 1] = stop
        out[place, 2] = BRIDGED
    return at + 1


@njit(cache=True, nogil=True)
def _relied_upon(marks, start, stop, least, first):  # type: ignore[no-untyped-def]
    """True if a window that another text relies upon has a byte in [start, stop)."""
    for position in range(max(first, start - least + 1), stop):  # noqa: SIM110 - a compiled loop
        if marks[position] & NEEDED:
            return True
    return False


@njit(cache=True, nogil=True)
def all_pieces(data, starts, stops, least, bridge, marks, keepers, out, texts, relied):  # type: ignore[no-untyped-def]
    """Pieces of all texts, ends at characters; `texts` is the text of each. Gives how many there are, of which those beyond
    the room in `out` are not written. `relied[d]` becomes true where another text relies on a window of text d."""
    at = 0
    for text in range(len(starts)):
        first = at
        at = pieces_of(data, starts[text], stops[text], least, bridge, marks, keepers, out, at)
        for row in range(first, min(at, len(out))):
            texts[row] = text
        for position in range(starts[text], stops[text]):
            if marks[position] & NEEDED:
                relied[text] = True
                break
    if at > len(out):
        return at
    behind, settled = -1, -1  # where the piece before stopped, and where it stops now
    for row in range(at):
        # a character goes whole or stays: spans begin at the next one, and end, as pieces within them do, at the one before
        start, stop = out[row, 0], out[row, 1]
        if start == behind:
            start = settled
        else:
            while data[start] & 0xC0 == 0x80:
                start += 1
        behind = stop
        while data[stop] & 0xC0 == 0x80:
            stop -= 1
        settled = max(start, stop)
        out[row, 0], out[row, 1] = start, settled
    return at
