"""A batch of texts, cut once into lines, paragraphs, sentences and words: arrays of byte positions over the UTF-8 buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.stages.text import unicode

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Texts: TypeAlias = pa.Array | pa.ChunkedArray | Sequence[str | None]


@dataclass(frozen=True, eq=False)
class Spans:
    """Spans of bytes [start, stop) in a batch, in order; those of document d are number `first[d]` to `first[d + 1]`.

    `chars` are code points, `hashes` 64-bit hashes of the content (equal spans have equal hashes; unequal ones with
    a chance of 2^-64 a pair), `bits` the Unicode classes (`curate.stages.text.unicode`) that occur in a span.
    """

    start: Int64Array
    stop: Int64Array
    first: Int64Array
    chars: Int32Array
    hashes: npt.NDArray[np.uint64]
    bits: npt.NDArray[np.uint16]

    @property
    def count(self) -> Int64Array:
        """Spans of each document."""
        return np.diff(self.first)

    def total(self, values: npt.NDArray[Any]) -> Int64Array:
        """Sum of a value (or a mask) a span over each document."""
        sums = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, out=sums[1:])
        return sums[self.first[1:]] - sums[self.first[:-1]]

    @cached_property
    def repeated(self) -> tuple[Int64Array, Int64Array]:
        """For each document: spans that are equal to an earlier one of the same document, and their characters."""
        kernels = _kernels()
        count, length = np.zeros_like(self.count), np.zeros_like(self.count)
        kernels.repeats(self.first, self.hashes, self.chars, _capacity(self.count), count, length)
        return count, length


class Segmented:
    """A batch of texts and its parts; each is cut when first asked for and then kept.

    Iterating gives the texts as Python strings (bytes that are no UTF-8 become U+FFFD), for signals that need no speed.
    Null counts as empty text. `before` is what the texts were before line edits: the batch itself if there were none.
    """

    def __init__(self, texts: Texts, before: Segmented | None = None) -> None:
        array = _string_array(texts)
        kind = np.int64 if pa.types.is_large_string(array.type) else np.int32
        _, offsets, data = array.buffers()
        size = len(array) + 1
        if offsets is None:
            self.documents = np.zeros(size, np.int64)
        else:
            self.documents = np.frombuffer(offsets, kind)[array.offset : array.offset + size].astype(np.int64)
        """Byte offsets: text d is `bytes[documents[d]:documents[d + 1]]`."""
        self.bytes = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
        """The UTF-8 buffer that all positions refer to, read-only."""
        self.bytes.flags.writeable = False
        self.before = self if before is None else before

    def __len__(self) -> int:
        return len(self.documents) - 1

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.bytes[self.documents[row] : self.documents[row + 1]].tobytes().decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    @cached_property
    def chars(self) -> Int64Array:
        """Code points of each text."""
        out = np.zeros(len(self), np.int64)
        _kernels().count_chars(self.bytes, self.documents, out)
        return out

    @cached_property
    def lines(self) -> Spans:
        """Lines: cut at `\\n`, white space at both ends left out; lines of white space alone are none."""
        return self._blocks(1)

    @cached_property
    def paragraphs(self) -> Spans:
        """Paragraphs: cut at `\\n{2,}` (a line of spaces does not part them), trimmed; empty ones are none."""
        return self._blocks(2)

    @cached_property
    def words(self) -> Spans:
        """Words: runs of anything but white space (as `str.split`), punctuation included.

        In scripts without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) every letter with its marks is a word, and what
        stands between such letters is another: `你好。` is three words.
        """
        kernels, classes = _kernels(), unicode.classes()
        return self._spans(lambda *out: kernels.split_words(self.bytes, self.documents, classes, *out))

    @cached_property
    def sentences(self) -> Spans:
        """Sentences: parts of a line that hold a letter or a digit, the last one with or without a terminal mark.

        A sentence ends at a mark of Unicode's Sentence_Terminal with the closing brackets and quotes behind it. An ASCII
        mark must be followed by white space or the line's end, and a full stop must not be followed by a lower-case letter
        (abbreviations); other marks (`。`, `।`) end it in any case.
        """
        kernels, classes = _kernels(), unicode.classes()
        return self._spans(lambda *out: kernels.split_sentences(self.bytes, self.documents, classes, *out))

    @cached_property
    def line_marks(self) -> npt.NDArray[np.uint8]:
        """For each line the bits `kernels.BULLET`, `ELLIPSIS`, `TERMINAL`."""
        out = np.zeros(len(self.lines.start), np.uint8)
        _kernels().line_marks(self.bytes, self.lines.start, self.lines.stop, unicode.classes(), out)
        return out

    @cached_property
    def ngrams(self) -> tuple[Int64Array, Int64Array]:
        """Characters of the commonest 2-, 3-, 4-gram of words (shape: documents, 3) and of repeated 5- to 10-grams (6).

        The commonest n-gram counts as often as it occurs, with one space for each gap between its words; of equally common
        ones the first. A repeated n-gram is one that occurred earlier; its words are then skipped, so that no character
        counts twice; gaps are not counted.
        """
        words = self.words
        before = np.zeros(len(words.start) + 1, np.int64)
        np.cumsum(words.chars, out=before[1:])
        gap = np.zeros(len(words.start) + 1, np.int64)
        np.cumsum(words.start[1:] > words.stop[:-1], out=gap[1 : max(len(words.start), 1)])
        top, repeated = np.zeros((len(self), 3), np.int64), np.zeros((len(self), 6), np.int64)
        _kernels().ngram_chars(words.first, words.hashes, before, gap, _capacity(words.count), top, repeated)
        return top, repeated

    @cached_property
    def dotted_quads(self) -> Int64Array:
        """Upper bound on the IPv4 addresses of each text: runs of four numbers of one to three digits with dots between."""
        out = np.zeros(len(self), np.int64)
        _kernels().count_quads(self.bytes, self.documents, out)
        return out

    def occurrences(self, needle: str, *, ignore_case: bool = False) -> Int64Array:
        """How often a string stands in each text, without overlaps; `ignore_case` is for ASCII letters alone."""
        if not needle:
            raise ValueError("an empty string occurs everywhere")
        packed, _ = pack([needle], fold=ignore_case)
        out = np.zeros(len(self), np.int64)
        _kernels().count_bytes(self.bytes, self.documents, packed, ignore_case, out)
        return out

    def distinct_words(self, wanted: Sequence[str]) -> Int64Array:
        """How many of the wanted words occur in each text; words lose punctuation at their ends, ASCII case is ignored."""
        packed, offsets = pack(wanted, fold=True)
        out = np.zeros(len(self), np.int64)
        words, longest = self.words, int(np.diff(offsets).max(initial=0))
        _kernels().distinct_words(
            self.bytes,
            self.documents,
            words.start,
            words.stop,
            words.first,
            unicode.classes(),
            packed,
            offsets,
            longest,
            out,
        )
        return out

    def _blocks(self, newlines: int) -> Spans:
        kernels, classes = _kernels(), unicode.classes()
        return self._spans(lambda *out: kernels.split_blocks(self.bytes, self.documents, classes, newlines, *out))

    def _spans(self, split: Any) -> Spans:
        """Spans that a kernel finds: once to count them, once to write them."""
        first, none = np.zeros(len(self) + 1, np.int64), np.zeros(0, np.int64)
        split(False, first, none, none)
        start, stop = np.empty(first[-1], np.int64), np.empty(first[-1], np.int64)
        split(True, first, start, stop)
        chars, hashes = np.empty(len(start), np.int32), np.empty(len(start), np.uint64)
        bits = np.empty(len(start), np.uint16)
        _kernels().describe(self.bytes, start, stop, unicode.classes(), chars, hashes, bits)
        return Spans(start, stop, first, chars, hashes, bits)


def segment(texts: Texts) -> Segmented:
    """A batch of texts (Arrow strings, or a list), ready to be measured. Raises TypeError for anything else."""
    return Segmented(texts)


def pack(words: Sequence[str], *, fold: bool) -> tuple[npt.NDArray[np.uint8], Int64Array]:
    """Strings as one read-only byte array and its offsets, as kernels take them; `fold` lowers ASCII letters."""
    parts = [word.encode() for word in words]
    data = b"".join(parts)
    packed = np.frombuffer(data.lower() if fold else data, np.uint8)
    return packed, np.cumsum([0, *map(len, parts)], dtype=np.int64)


def _string_array(texts: Texts) -> pa.Array:
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if not isinstance(texts, pa.Array):
        texts = pa.array(texts, pa.string())
    if pa.types.is_string_view(texts.type):
        texts = texts.cast(pa.large_string())
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise TypeError(f"texts must be strings, not {texts.type}")
    return texts.fill_null("") if texts.null_count else texts


def _capacity(count: Int64Array) -> int:
    """Slots of a hash table that is at most half full: a power of two."""
    return 1 << max(4, int(2 * count.max(initial=0)).bit_length())


def _kernels() -> ModuleType:
    """The compiled loops, imported on first use: they load Numba, which the command line has no need of."""
    from curate.stages.text import kernels

    return kernels
