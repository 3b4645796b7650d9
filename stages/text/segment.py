"""A batch of texts, cut once into lines, paragraphs, sentences and words: arrays of byte positions over the UTF-8 buffer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.stages.text import unicode
from curate.stages.text.spans import (
    BoolArray,
    Float32Array,
    Int32Array,
    Int64Array,
    Spans,
    compiled,
    larger,
)

__all__ = [
    "STEPS", "BoolArray", "Counting", "Float32Array", "Int32Array", "Int64Array", "Segmented", "Spans", "Texts", "pack",
    "search_tables", "segment",
]  # fmt: skip

Counting = Literal["paper", "datatrove"]
Result = TypeVar("Result")

STEPS = ("citations", "long_word", "few_words", "phrases", "unfinished", "repeated")
"""The line edits, by which `Segmented.removed` counts characters."""

Texts: TypeAlias = pa.Array | pa.ChunkedArray | Sequence[str | None]


class Segmented:
    """A batch of texts and its parts; each is cut when first asked for and then kept.

    Iterating gives the texts as Python strings (bytes that are no UTF-8 become U+FFFD), for signals that need no speed.
    Null counts as empty text. `before` is what the texts were before line edits: the batch itself if there were none.
    """

    def __init__(
        self,
        texts: Texts,
        before: Segmented | None = None,
        *,
        known: Mapping[str, Any] | None = None,
        counting: Counting = "paper",
    ) -> None:
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
        self._before = before
        self.counting = counting
        """How words are counted: as `words` ("paper") or as `tokens` ("datatrove")."""
        self.known: Mapping[str, Any] = {} if known is None else known
        """What else is known of the documents, a value a row: "language" (list of canonical codes or None), "language_score"
        (float32), "url" (list of strings or None). A missing key is not known."""
        self.removed: dict[str, Int64Array] = {step: np.zeros(len(self), np.int64) for step in STEPS}
        """Characters that line edits took away, by step (`STEPS`)."""
        self._kept: dict[Any, Any] = {}

    def once(self, function: Callable[[Segmented], Result]) -> Result:
        """What the function gives for this batch; computed once and kept, for what several signals share."""
        if function not in self._kept:
            self._kept[function] = function(self)
        result: Result = self._kept[function]
        return result

    @property
    def before(self) -> Segmented:
        """The batch before line edits, or this one; it holds no reference to itself, or it would outlive its use."""
        return self if self._before is None else self._before

    def __len__(self) -> int:
        return len(self.documents) - 1

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.bytes[self.documents[row] : self.documents[row + 1]].tobytes().decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    @property
    def chars(self) -> Int64Array:
        """Code points of each text."""
        return self._cut.chars

    @property
    def lines(self) -> Spans:
        """Lines: cut at `\\n`, white space at both ends left out; lines of white space alone are none."""
        return self._cut.lines

    @property
    def paragraphs(self) -> Spans:
        """Paragraphs: cut at `\\n{2,}` (a line of spaces does not part them), trimmed; empty ones are none."""
        return self._cut.paragraphs

    @property
    def words(self) -> Spans:
        """Words: runs of anything but white space (as `str.split`), punctuation included.

        In scripts without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) every letter with its marks is a word, and what
        stands between such letters is another: `你好。` is three words.
        """
        return self._cut.words

    @cached_property
    def tokens(self) -> Spans:
        """Words cut further, punctuation apart, as spaCy's rule-based tokenizer for English does, in every language.

        Each word, as `words` has it, is cut so:

        1. From its ends, again and again: punctuation, quotation marks, brackets, symbols such as `™`, runs of full stops; in
           front also currency signs, `§`, `%`, `=`, `+` before no digit; behind also `'s`, a full stop behind a small letter,
           a digit, a mark or two capitals (not in `U.S.`), and behind a digit a unit (`5 km` written `5km`), `%`, `+` or a
           currency sign. It stops at an exception (4).
        2. What is left is one token if it is a URL (with or without a scheme) or an e-mail address.
        3. Else it is cut out of the middle: runs of full stops, `…`, symbols; between digits `+ - * ^`; a full stop between a
           small letter and a capital; a comma between letters; `- – — -- --- ~ : < > = /` between a letter or digit and a
           letter. So `1,000.5` and `a_b` are whole.
        4. Exceptions (`token_rules.exceptions`) are cut as listed or stay whole: clitics (`I|'m`, `do|n't`, `can|not`, also
           without apostrophe), abbreviations (`e.g.`, `Mr.`, `a.`), emoticons; also where neighbouring tokens make one up.

        Letters of scripts without spaces are tokens of their own, as in `words`. Source: spaCy 3, `spacy.blank("en")`, which
        datatrove uses for English.
        """
        from curate.stages.text.tokens import cut_words

        return cut_words(self)

    @property
    def counted(self) -> Spans:
        """`words`, or `tokens` where `counting` is "datatrove"."""
        return self.tokens if self.counting == "datatrove" else self.words

    @cached_property
    def normal(self) -> Segmented:
        """The texts as RedPajama v2 normalises them, a batch of its own whose `words` are cut at white space alone.

        In this order: ASCII punctuation (`string.punctuation`) removed; lower case (as `str.lower`); white space trimmed, and
        runs of it one space; canonical decomposition (NFD). Source: togethercomputer/RedPajama-Data, `normalize`.
        """
        from curate.stages.text.normal import normalise

        return normalise(self)

    @property
    def sentences(self) -> Spans:
        """Sentences: parts of a line that hold a letter or a digit, the last one with or without a terminal mark.

        A sentence ends at a mark of Unicode's Sentence_Terminal with the closing brackets and quotes behind it. An ASCII
        mark must be followed by white space or the line's end, and a full stop must not be followed by a lower-case letter
        (abbreviations); other marks (`。`, `।`) end it in any case.
        """
        return self._cut.sentences

    @property
    def line_marks(self) -> npt.NDArray[np.uint8]:
        """For each line the bits `kernels.BULLET` (begins with `•` or `-`), `ELLIPSIS` (ends in `...` or `…`) and `TERMINAL`
        (ends in a terminal mark of any script, or a closing quotation mark)."""
        return self._cut.line_marks

    @property
    def ngrams(self) -> tuple[Int64Array, Int64Array]:
        """`Spans.ngrams` of what `counting` counts as words."""
        return self.counted.ngrams

    @cached_property
    def dotted_quads(self) -> Int64Array:
        """Upper bound on the IPv4 addresses of each text: runs of four numbers of one to three digits with dots between."""
        out = np.zeros(len(self), np.int64)
        compiled("find").count_quads(self.bytes, self.documents, out)
        return out

    def occurrences(self, needle: str, *, ignore_case: bool = False) -> Int64Array:
        """How often a string stands in each text, without overlaps; `ignore_case` is for ASCII letters alone.

        Strings of `cut.NEEDLES` are counted while the text is cut and cost nothing.
        """
        if not needle:
            raise ValueError("an empty string occurs everywhere")
        if needle in self._cut.counts:
            return self._cut.counts[needle]
        out = np.zeros(len(self), np.int64)
        compiled("find").count(self.bytes, self.documents, out, *search_tables((needle,), fold=ignore_case))
        return out

    def distinct_words(self, lists: Sequence[Sequence[str]], choice: npt.NDArray[Any] | None = None) -> Int64Array:
        """How many words of list `choice[d]` occur in document d.

        Words lose punctuation at their ends, and case is ignored (Unicode's lower case, a code point at a time). With
        counting "datatrove" it is tokens, as they are, case and all.
        """
        strip = self.counting == "paper"
        chosen = np.zeros(len(self), np.int64) if choice is None else np.asarray(choice, np.int64)
        if chosen.shape != (len(self),) or not 0 <= chosen.min(initial=0) <= chosen.max(initial=0) < max(len(lists), 1):
            raise ValueError(f"choice must be the number of a list for each of {len(self)} documents")
        spans, out = self.counted, np.zeros(len(self), np.int64)
        compiled("find").distinct_words(
            self.bytes, spans.start, spans.stop, spans.chars, spans.bits, spans.first, chosen, unicode.classes(), strip, out,
            *_word_tables(tuple(map(tuple, lists)), fold=strip),
        )  # fmt: skip
        return out

    @cached_property
    def _cut(self) -> _Cut:
        return _cut(self.bytes, self.documents)


def segment(texts: Texts, *, known: Mapping[str, Any] | None = None, counting: Counting = "paper") -> Segmented:
    """A batch of texts (Arrow strings, or a list), ready to be measured. Raises TypeError for anything else."""
    return Segmented(texts, known=known, counting=counting)


@dataclass(frozen=True)
class _Cut:
    """What one pass over the bytes gives."""

    chars: Int64Array
    counts: Mapping[str, Int64Array]
    words: Spans
    lines: Spans
    line_marks: npt.NDArray[np.uint8]
    paragraphs: Spans
    sentences: Spans


_USUAL = (5, 24, 48, 48)
"""Bytes a word, line, paragraph and sentence, or fewer than there usually are: room for so many is made at first."""


def _cut(data: npt.NDArray[np.uint8], documents: Int64Array) -> _Cut:
    kernel = compiled("cut")
    size = len(documents) - 1
    first = np.zeros((size + 1, 4), np.int64)
    chars, counts = np.empty(size, np.int64), np.zeros((size, len(kernel.NEEDLES)), np.int64)
    length, longest = int(documents[-1] - documents[0]), int(np.diff(documents).max(initial=0))
    kinds: list[list[npt.NDArray[Any]]] = []
    for share, extra in zip(_USUAL, (np.uint16, np.uint8, None, None), strict=True):
        room = length // share + longest // 2 + 1
        arrays: list[npt.NDArray[Any]] = [np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32)]
        kinds.append(arrays if extra is None else [*arrays, np.empty(room, extra)])
    done = 0
    while True:
        parts = [array for arrays in kinds for array in arrays]
        done = kernel.cut(done, data, documents, unicode.classes(), first, chars, counts, *parts)
        if done == size:
            break
        kinds = [
            [larger(array, used, 2 * len(array) + longest) for array in arrays]
            for used, arrays in zip(first[done].tolist(), kinds, strict=True)
        ]
    words, lines, paragraphs, sentences = (
        _spans(data, np.ascontiguousarray(first[:, kind]), kinds[kind]) for kind in range(4)
    )
    counted = {needle: counts[:, column] for column, needle in enumerate(kernel.NEEDLES)}
    return _Cut(chars, counted, words, lines, kinds[1][3][: len(lines.start)], paragraphs, sentences)


def _spans(data: npt.NDArray[np.uint8], first: Int64Array, arrays: Sequence[npt.NDArray[Any]]) -> Spans:
    """Spans from start, stop, length and, of words, classes, which may be longer than they are filled."""
    start, stop, length, *classes = (array[: first[-1]] for array in arrays)
    bits = classes[0] if classes and classes[0].dtype == np.uint16 else None
    return Spans(data, start, stop, first, length, bits)


def pack(words: Sequence[str], *, fold: bool) -> tuple[npt.NDArray[np.uint8], Int64Array]:
    """Strings as one read-only byte array and its offsets, as kernels take them; `fold` lowers ASCII letters."""
    parts = [word.encode() for word in words]
    data = b"".join(parts)
    packed = np.frombuffer(data.lower() if fold else data, np.uint8)
    return packed, np.cumsum([0, *map(len, parts)], dtype=np.int64)


@functools.lru_cache(maxsize=64)
def search_tables(needles: tuple[str, ...], *, fold: bool) -> tuple[Any, ...]:
    """What `find.find` takes to look for any of the strings, none of them empty; `fold`: ASCII letters in either case."""
    kernel = compiled("find")
    lower = np.arange(256, dtype=np.uint8)
    if fold:
        lower[ord("A") : ord("Z") + 1] += 32
    packed, offsets = pack(needles, fold=fold)
    width = int(np.diff(offsets).min(initial=1 << 30))
    shift, head = np.empty(kernel.BLOCKS, np.int32), np.empty(kernel.BLOCKS, np.int32)
    after = np.empty(len(needles), np.int32)
    kernel.prepare(lower, packed, offsets, width, shift, head, after)
    return lower, packed, offsets, width, shift, head, after


@functools.lru_cache(maxsize=16)
def _word_tables(lists: tuple[tuple[str, ...], ...], *, fold: bool) -> tuple[Any, ...]:
    """What `find.distinct_words` takes to look words up."""
    kernel = compiled("find")
    lower = unicode.lower() if fold else np.arange(128, dtype=np.int32)
    lower.flags.writeable = False  # one type for the compiler
    packed, offsets = pack([word for words in lists for word in words if word], fold=False)
    numbers = np.array([number for number, words in enumerate(lists) for word in words if word], np.int64)
    keys = np.zeros(1 << max(4, (2 * len(numbers)).bit_length()), np.uint64)
    sizes, heads = np.zeros(max(len(lists), 1), np.int64), np.zeros(256, np.uint8)
    kernel.list_words(packed, offsets, numbers, lower, keys, sizes, heads)
    longest = max((len(word) for words in lists for word in words), default=0)
    return lower, keys, sizes, heads, longest


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
