"""What several modules of signals share: fractions, and texts cut as published code cuts them where `Segmented` does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.stages.filter.measures.characters import characters
from curate.stages.text.segment import BoolArray, Float32Array, Int32Array, Int64Array, Segmented, Spans

UInt8Array = npt.NDArray[np.uint8]


def fraction(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Float32Array:
    """part / whole, 0 where whole is 0, as float32 and at most 1."""
    return np.minimum(part / np.maximum(whole, 1), 1.0).astype(np.float32)


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Float32Array:
    """part / whole, with a whole of at least 1, as float32."""
    return (part / np.maximum(whole, 1)).astype(np.float32)


@dataclass(frozen=True)
class RawLines:
    """Lines as they stand, neither trimmed nor left out where they are empty; a break at the text's end ends the last one.

    `chars` and `upper` are their characters and capitals without the break, `marks` the bits of `line_kernels`.
    """

    start: Int64Array
    stop: Int64Array
    first: Int64Array
    chars: Int32Array
    upper: Int32Array
    marks: UInt8Array

    @property
    def count(self) -> Int64Array:
        """Lines of each document."""
        return np.diff(self.first)

    @property
    def rows(self) -> Int64Array:
        """The document of each line."""
        return np.repeat(np.arange(len(self.first) - 1), self.count)

    def total(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Sum of a value (or a mask) a line over each document."""
        sums: npt.NDArray[np.float64] = np.bincount(self.rows, values, len(self.first) - 1).astype(np.float64)
        return sums

    def marked(self, mark: int) -> Int64Array:
        """Lines of each document with this mark."""
        return self.total((self.marks & mark) != 0).astype(np.int64)

    def spans(self, texts: Segmented, wanted: BoolArray) -> Spans:
        """The lines for which `wanted` holds."""
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(wanted)])[self.first]
        return Spans(texts.bytes, self.start[wanted], self.stop[wanted], first, self.chars[wanted])


def raw_lines(texts: Segmented) -> RawLines:
    """Lines cut at `\\n` alone."""
    return _lines(texts, False)


def python_lines(texts: Segmented) -> RawLines:
    """Lines as `str.splitlines` cuts them."""
    return _lines(texts, True)


def raw_paragraphs(texts: Segmented) -> Spans:
    """What lies between runs of two newlines or more once the text is trimmed; a blank text is one empty paragraph."""
    from curate.stages.filter.measures import line_kernels

    most = int(texts.occurrences("\n").sum()) + len(texts)
    first, start, stop = np.zeros(len(texts) + 1, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    line_kernels.cut_paragraphs(texts.bytes, texts.documents, characters(), first, start, stop)
    return Spans(texts.bytes, start[: first[-1]].copy(), stop[: first[-1]].copy(), first)


def _lines(texts: Segmented, universal: bool) -> RawLines:
    from curate.stages.filter.measures import line_kernels

    data, documents, table = texts.bytes, texts.documents, characters()
    most = line_kernels.count_breaks(data, documents, table, universal)
    first, start, stop = np.zeros(len(texts) + 1, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    chars, upper, marks = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.uint8)
    line_kernels.cut_lines(data, documents, table, universal, first, start, stop, chars, upper, marks)
    size = int(first[-1])
    return RawLines(start[:size], stop[:size], first, chars[:size], upper[:size], marks[:size])


def repeated_grams(words: Spans) -> tuple[Int64Array, Int64Array, Int64Array]:
    """How often the commonest 2-, 3-, 4-gram of each document occurs (0 if once; of equally common ones the first), its
    characters as often without gaps, and the characters of all words in a 5- to 10-gram that occurs twice.

    Shapes: documents, 3; documents, 3; documents, 6.
    """
    from curate.stages.filter.measures import kernels

    size = len(words.first) - 1
    times, top, repeated = np.zeros((size, 3), np.int64), np.zeros((size, 3), np.int64), np.zeros((size, 6), np.int64)
    longest = int(words.count.max(initial=1))
    kernels.repeated_grams(words.first, words.ids, words.distinct, words.chars, longest, times, top, repeated)
    return times, top, repeated
