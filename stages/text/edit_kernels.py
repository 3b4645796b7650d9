"""Compiled loops of the line edits; conventions as in `kernels`. Only workers import this module.

Numba's cache does not see a change in a function called from another file: after one in `kernels`, touch this file too.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from curate.stages.text.kernels import (
    Bools,
    Bytes,
    Classes,
    Int32s,
    Int64s,
    decode,
    ends_in_ellipsis,
    matches,
    step_back,
)
from curate.stages.text.unicode import LINE_END

KEPT, LONG_WORD, FEW_WORDS, PHRASE, UNFINISHED = 0, 1, 2, 3, 4
"""Verdicts of `judge_lines`."""


@njit(cache=True, nogil=True)
def judge_lines(
    data: Bytes,
    start: Int64s,
    stop: Int64s,
    first: Int64s,
    classes: Classes,
    word_start: Int64s,
    word_chars: Int32s,
    word_first: Int64s,
    limits: Int64s,
    needles: Bytes,
    offsets: Int64s,
    out: Bytes,
) -> None:
    """C4's verdict on every line, the first that applies; `limits`: longest word (0: any), fewest words, whether a
    line must end in a terminal mark, and whether citation marks behind it do not count.

    `needles` are the phrases, packed, lower case.
    """
    heads = np.zeros(256, np.bool_)
    for w in range(len(offsets) - 1):
        heads[needles[offsets[w]]] = True
    for d in range(len(first) - 1):
        word = word_first[d]
        for k in range(first[d], first[d + 1]):
            low, end = start[k], stop[k]
            words = 0
            verdict = KEPT
            while word < word_first[d + 1] and word_start[word] < end:
                if limits[0] > 0 and word_chars[word] > limits[0]:
                    verdict = LONG_WORD
                words += 1
                word += 1
            if verdict == KEPT and limits[2]:
                last = before_citations(data, low, end) if limits[3] else end
                point, _ = decode(data, step_back(data, low, last), last)
                if last == low or classes[point] & LINE_END == 0 or ends_in_ellipsis(data, low, last):
                    verdict = UNFINISHED
            if verdict == KEPT and words < limits[1]:
                verdict = FEW_WORDS
            if verdict == KEPT and has_phrase(data, low, end, heads, needles, offsets):
                verdict = PHRASE
            out[k] = verdict


@njit(cache=True, nogil=True)
def has_phrase(data: Bytes, low: int, end: int, heads: Bools, needles: Bytes, offsets: Int64s) -> bool:
    """True if any of the phrases stands in the span."""
    for i in range(low, end):
        b = data[i]
        if 65 <= b <= 90:
            b += np.uint8(32)
        if heads[b]:
            for w in range(len(offsets) - 1):
                fits = i + offsets[w + 1] - offsets[w] <= end
                if fits and matches(data, i, needles, offsets[w], offsets[w + 1], True):
                    return True
    return False


@njit(cache=True, nogil=True)
def citation(data: Bytes, i: int, end: int) -> int:
    """Length of the citation mark at byte i, or 0: `[`, digits, `]`; `[edit]`; `[citation needed]`."""
    k = i + 1
    while k < end and 48 <= data[k] <= 57:
        k += 1
    if k < end and data[k] == 93:
        return k + 1 - i
    for text in (b"[edit]", b"[citation needed]"):
        if i + len(text) <= end:
            same = True
            for k in range(len(text)):
                if data[i + k] != text[k]:
                    same = False
                    break
            if same:
                return len(text)
    return 0


@njit(cache=True, nogil=True)
def before_citations(data: Bytes, low: int, end: int) -> int:
    """Where a span ends without the citation marks and spaces at its end."""
    i = end - 1
    while i >= low and end - i <= 64:
        if data[i] == 91 and citation(data, i, end) == end - i:
            end = i
            while end > low and data[end - 1] == 32:
                end -= 1
            i = end
        i -= 1
    return end


@njit(cache=True, nogil=True)
def rewrite(
    data: Bytes,
    start: Int64s,
    stop: Int64s,
    first: Int64s,
    verdicts: Bytes,
    citations: bool,
    out: Bytes,
    documents: Int64s,
) -> None:
    """Writes the lines kept, without citation marks if so asked, and a paragraph break where one lay between them."""
    n = 0
    documents[0] = 0
    for d in range(len(first) - 1):
        behind = np.int64(-1)  # where the last line that was written ended
        for k in range(first[d], first[d + 1]):
            if verdicts[k] != KEPT:
                continue
            mark = n
            if behind >= 0:
                run = broken = 0
                for i in range(behind, start[k]):
                    run = run + 1 if data[i] == 10 else 0
                    broken = max(broken, run)
                for _ in range(min(broken, 2)):
                    out[n] = 10
                    n += 1
            i, end, text = start[k], stop[k], n
            while i < end:
                skip = citation(data, i, end) if citations and data[i] == 91 else 0
                if skip == 0:
                    if n > text or data[i] != 32:
                        out[n] = data[i]
                        n += 1
                    skip = 1
                i += skip
            while n > text and out[n - 1] == 32:
                n -= 1
            if n == text:
                n = mark
            else:
                behind = end
        documents[d + 1] = n
