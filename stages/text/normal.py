"""RedPajama v2's normalised text: tables and the loop that writes it. Conventions: `kernels`."""

from __future__ import annotations

import functools
import string
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.stages.text.kernels import Bytes, Int32s, Int64s, decode, kernel
from curate.stages.text.segment import Segmented
from curate.stages.text.spans import Spans, larger

TABLE = 0x2FA20
"""Code points from here on stand for themselves."""
SEVERAL = 1 << 30
"""What a code point becomes: another; `DROPPED`; or, with this bit, the index of a sequence."""
DROPPED = 0
CASED, IGNORED, MARKED = 1, 2, 4
"""Bits of `traits`: has a case; is skipped where a letter's neighbours are asked for one (Unicode's Cased and Case_Ignorable);
has a canonical combining class."""
GROWTH = 3
"""Bytes written for a byte read, at most: a Hangul syllable becomes three letters."""
SIGMA, SMALL_SIGMA, FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2


class Normalised(Segmented):
    """A normalised text, whose words are runs of anything but white space in every script."""

    def __init__(self, texts: pa.Array, words: Sequence[npt.NDArray[Any]], before: Segmented) -> None:
        super().__init__(texts, known=before.known, counting="paper")
        self._words = Spans(self.bytes, *words)

    @property
    def words(self) -> Spans:
        """White-space words: no rule for scripts without spaces."""
        return self._words


def normalise(texts: Segmented) -> Normalised:
    """See `Segmented.normal`."""
    table, starts, points, traits, ranks = _tables()
    size = len(texts)
    length, longest = int(texts.documents[-1] - texts.documents[0]), int(np.diff(texts.documents).max(initial=0))
    out, documents = np.empty(length + length // 8 + GROWTH * (longest + 1), np.uint8), np.zeros(size + 1, np.int64)
    room = len(texts.words.start)  # cut at white space there are fewer
    start, stop, chars = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32)
    first = np.zeros(size + 1, np.int64)
    done = 0
    while True:
        done = write(
            done, texts.bytes, texts.documents, table, starts, points, traits, ranks, out, documents, start, stop, chars, first
        )  # fmt: skip
        if done == size:
            break
        out = larger(out, documents[done], 2 * len(out) + GROWTH * longest)
    buffers = [None, pa.py_buffer(documents), pa.py_buffer(out[: documents[-1]])]
    array = pa.Array.from_buffers(pa.large_string(), size, buffers)
    count = first[-1]
    return Normalised(array, (start[:count], stop[:count], first, chars[:count]), texts)


@functools.cache
def _tables() -> tuple[Any, ...]:
    """What each code point becomes, the sequences, and of each code point its traits and its combining class."""
    table = np.arange(TABLE, dtype=np.int32)
    traits, ranks = np.zeros(TABLE, np.uint8), np.zeros(TABLE, np.uint8)
    starts: list[int] = [0]
    points: list[int] = []
    for point in range(TABLE):
        if 0x3400 <= point < 0xA000 or 0xD800 <= point < 0xF900 or 0x20000 <= point < 0x2F800:
            continue  # ideographs, surrogates and private use stand for themselves
        char = chr(point)
        done = unicodedata.normalize("NFD", char.lower())
        if len(done) == 1:
            table[point] = ord(done)
        else:
            table[point] = SEVERAL | len(starts) - 1
            points += map(ord, done)
            starts.append(len(points))
        ranks[point] = unicodedata.combining(char)
        if (char + "Σ").lower().endswith("ς"):  # a capital sigma behind what has a case is a final one
            traits[point] = CASED
        elif ("A" + char + "Σ").lower().endswith("ς"):
            traits[point] = IGNORED
    traits[ranks > 0] |= MARKED
    table[[ord(mark) for mark in string.punctuation]] = DROPPED
    table[[point for point in range(0x3001) if chr(point).isspace()]] = ord(" ")
    arrays = table, np.array(starts, np.int32), np.array(points, np.int32), traits, ranks
    for array in arrays:
        array.flags.writeable = False
    return arrays


@kernel
def encode(out: Bytes, n: int, point: int) -> int:
    """Writes a code point as UTF-8; gives the place behind it."""
    if point < 0x80:
        out[n] = point
        return n + 1
    if point < 0x800:
        out[n] = 0xC0 | (point >> 6)
        out[n + 1] = 0x80 | (point & 0x3F)
        return n + 2
    if point < 0x10000:
        out[n] = 0xE0 | (point >> 12)
        out[n + 1] = 0x80 | ((point >> 6) & 0x3F)
        out[n + 2] = 0x80 | (point & 0x3F)
        return n + 3
    out[n] = 0xF0 | (point >> 18)
    out[n + 1] = 0x80 | ((point >> 12) & 0x3F)
    out[n + 2] = 0x80 | ((point >> 6) & 0x3F)
    out[n + 3] = 0x80 | (point & 0x3F)
    return n + 4


@kernel
def is_final(data: Bytes, i: int, end: int, table: Int32s, traits: Bytes) -> bool:
    """True if no letter with a case comes next, as Python's `str.lower` asks at a capital sigma."""
    while i < end:
        point, size = decode(data, i, end)
        if point >= TABLE:
            return True
        if table[point] != DROPPED or point == 0:
            if traits[point] & CASED:
                return False
            if not traits[point] & IGNORED:
                return True
        i += size
    return True


@kernel
def flush(marks: Int32s, count: int, ranks: Bytes, out: Bytes, n: int) -> int:
    """Writes a run of combining marks in canonical order: by class, equal ones as they came."""
    ordered = marks
    if count <= 16:
        for k in range(1, count):
            mark, j = marks[k], k
            while j > 0 and ranks[marks[j - 1]] > ranks[mark]:
                marks[j] = marks[j - 1]
                j -= 1
            marks[j] = mark
    else:  # a counting sort: linear whatever the run
        places = np.zeros(257, np.int64)
        for k in range(count):
            places[ranks[marks[k]] + 1] += 1
        for rank in range(256):
            places[rank + 1] += places[rank]
        ordered = np.empty(count, np.int32)
        for k in range(count):
            rank = ranks[marks[k]]
            ordered[places[rank]] = marks[k]
            places[rank] += 1
    for k in range(count):
        n = encode(out, n, int(np.int64(ordered[k])))
    return n


@kernel
def write(
    resume: int,
    data: Bytes,
    documents: Int64s,
    table: Int32s,
    starts: Int32s,
    points: Int32s,
    traits: Bytes,
    ranks: Bytes,
    out: Bytes,
    ends: Int64s,
    word_start: Int64s,
    word_stop: Int64s,
    word_chars: Int32s,
    first: Int64s,
) -> int:
    """Writes the normalised texts from document `resume` on, one after another, and where their words are.

    Gives the document that there is no room for.
    """
    marks = np.empty(64, np.int32)
    n, words = int(ends[resume]), int(first[resume])
    for d in range(resume, len(documents) - 1):
        i, end = documents[d], documents[d + 1]
        if n + GROWTH * (end - i + 1) > len(out):
            return d
        begin = -1
        count = 0  # code points of the word at hand
        waiting = int(np.int64(0))  # combining marks not written yet
        cased = False  # the last code point that is not ignored has a case
        opened = n
        while i <= end:
            done, point, size = 32, 32, 1
            if i < end:
                point = int(data[i])
                if point >= 0x80:
                    point, size = decode(data, i, end)
                done = int(table[point]) if point < TABLE else point
            if done == DROPPED and point != 0:
                i += size
                continue
            if done < 0x80:
                if waiting:
                    n = flush(marks, waiting, ranks, out, n)
                    waiting = 0
                if done == 32:
                    if begin >= 0:
                        word_start[words] = begin
                        word_stop[words] = n
                        word_chars[words] = count
                        words += 1
                        begin = -1
                        out[n] = 32  # the one behind a text's last word is taken back
                        n += 1
                    cased = False
                else:
                    if begin < 0:
                        begin = n
                        count = 0
                    out[n] = done
                    n += 1
                    count += 1
                    if 97 <= done <= 122:
                        cased = True
                    elif not traits[done] & IGNORED:
                        cased = False
                i += size
                continue
            if begin < 0:
                begin = n
                count = 0
            if point == SIGMA:
                done = FINAL_SIGMA if cased and is_final(data, i + size, end, table, traits) else SMALL_SIGMA
            if point < TABLE:
                if traits[point] & CASED:
                    cased = True
                elif not traits[point] & IGNORED:
                    cased = False
            else:
                cased = False
            low, high = 0, 1
            if done & SEVERAL:
                low, high = int(starts[done & ~SEVERAL]), int(starts[(done & ~SEVERAL) + 1])
            for k in range(low, high):
                if done & SEVERAL:
                    point = int(np.int64(points[k]))
                else:
                    point = done
                count += 1
                if point < TABLE and traits[point] & MARKED:
                    if waiting == len(marks):
                        more = np.empty(2 * waiting, np.int32)
                        for j in range(waiting):
                            more[j] = marks[j]
                        marks = more
                    marks[waiting] = point
                    waiting += 1
                    continue
                if waiting:
                    n = flush(marks, waiting, ranks, out, n)
                    waiting = 0
                n = encode(out, n, point)
            i += size
        if n > opened:
            n -= 1
        ends[d + 1] = n
        first[d + 1] = words
    return len(documents) - 1
