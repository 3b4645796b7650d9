"""Gopher's repetition and quality signals, on the text as extracted.

Source of all: Rae et al. 2021 (arXiv 2112.11446), section A1.1; where the paper leaves room, datatrove's code, with words as
`Segmented.words` has them. Empty text gives 0 everywhere.

With counting `datatrove` all of them are what `GopherRepetitionFilter` and `GopherQualityFilter` of datatrove 0.10.1 compute,
given `Segmented.tokens` as their words: punctuation marks are words of their own. What else changes is said at each signal.
Two things stay: n-grams are equal if their tokens are, where datatrove compares these joined to one string; and letters of
scripts without spaces are tokens each, where spaCy leaves a run of them whole. So Japanese, Thai, Lao, Khmer and Burmese texts
repeat n-grams here that datatrove, with its English tokenizer, does not see.
"""

from __future__ import annotations

import numpy as np

from curate.stages.filter.languages import stop_words
from curate.stages.filter.measures.characters import characters
from curate.stages.filter.measures.parts import (
    UInt8Array,
    fraction,
    python_lines,
    ratio,
    raw_lines,
    raw_paragraphs,
    repeated_grams,
)
from curate.stages.filter.registry import signal
from curate.stages.text import unicode
from curate.stages.text.segment import BoolArray, Float32Array, Int32Array, Int64Array, Segmented

REPETITION = "Gopher (Rae et al. 2021), table A1"
QUALITY = "Gopher (Rae et al. 2021), section A1.1, quality filtering"


def _paragraphs(texts: Segmented) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Paragraphs that stood earlier, their characters, all paragraphs."""
    spans = texts.once(raw_paragraphs) if texts.counting == "datatrove" else texts.paragraphs
    return *spans.repeated, spans.count


def _lines(texts: Segmented) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Lines that stood earlier, their characters, all lines."""
    if texts.counting == "paper":
        return *texts.lines.repeated, texts.lines.count
    lines = texts.once(raw_lines)
    spans = lines.spans(texts, lines.chars > 0)
    count, chars = spans.repeated
    # `re.split` gives an empty line before newlines at the text's beginning, and one behind those at its end.
    first, last = _outer_newlines(texts)
    return count + (first & last), chars, spans.count + first + last


def _outer_newlines(texts: Segmented) -> tuple[Int64Array, Int64Array]:
    """1 for each text that begins with a newline, and for each that ends with one."""
    start, stop = texts.documents[:-1], texts.documents[1:]
    full = stop > start
    first, last = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    first[full], last[full] = texts.bytes[start[full]] == 10, texts.bytes[stop[full] - 1] == 10
    return first, last


@signal("duplicate_paragraph_fraction", unit="fraction of paragraphs", source=REPETITION)
def duplicate_paragraph_fraction(texts: Segmented) -> Float32Array:
    """Paragraphs that are equal to an earlier one of the document / all paragraphs.

    datatrove: the text is trimmed, the paragraphs are not; blank ones count.
    """
    count, _, whole = texts.once(_paragraphs)
    return fraction(count, whole)


@signal("duplicate_paragraph_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_paragraph_char_fraction(texts: Segmented) -> Float32Array:
    """Characters in paragraphs that stood earlier in the same document / all characters.

    datatrove: the text is trimmed, the paragraphs are not; blank ones count.
    """
    return fraction(texts.once(_paragraphs)[1], texts.chars)


@signal("duplicate_line_fraction", unit="fraction of lines", source=REPETITION)
def duplicate_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that are equal to an earlier one of the document / all lines.

    datatrove: lines are not trimmed, and blank ones count; an empty one stands before newlines at the text's beginning and
    behind those at its end.
    """
    count, _, whole = texts.once(_lines)
    return fraction(count, whole)


@signal("duplicate_line_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_line_char_fraction(texts: Segmented) -> Float32Array:
    """Characters in lines that stood earlier in the same document / all characters. datatrove: lines are not trimmed."""
    return fraction(texts.once(_lines)[1], texts.chars)


def _top_grams(texts: Segmented) -> Int64Array:
    """Characters of the commonest 2-, 3-, 4-gram, times its occurrences. Shape: documents, 3."""
    if texts.counting == "paper":
        return texts.ngrams[0]
    tokens = texts.tokens
    times, top, _ = repeated_grams(tokens)
    chars = np.concatenate([np.zeros(1, np.int64), np.cumsum(tokens.chars)])
    for n in (2, 3, 4):  # of n-grams that occur once the first is the commonest
        begin = tokens.first[:-1]
        once = (times[:, n - 2] == 0) & (tokens.count >= n)
        top[once, n - 2] = (chars[(begin + n)[once]] - chars[begin[once]]) if once.any() else 0
        top[:, n - 2] += np.where(once, 1, times[:, n - 2]) * (n - 1)
    return top


@signal("top_2_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def top_2_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of the commonest 2-gram of words (with the space between), times its occurrences / all characters.

    datatrove: of tokens, with a space between any two.
    """
    return fraction(texts.once(_top_grams)[:, 0], texts.chars)


@signal("top_3_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def top_3_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of the commonest 3-gram of words (with the spaces between), times its occurrences / all characters.

    datatrove: of tokens, with a space between any two.
    """
    return fraction(texts.once(_top_grams)[:, 1], texts.chars)


@signal("top_4_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def top_4_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of the commonest 4-gram of words (with the spaces between), times its occurrences / all characters.

    datatrove: of tokens, with a space between any two.
    """
    return fraction(texts.once(_top_grams)[:, 2], texts.chars)


@signal("duplicate_5_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_5_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 5-grams / all characters; a character in several of them counts once.

    datatrove: of tokens.
    """
    return fraction(texts.ngrams[1][:, 0], texts.chars)


@signal("duplicate_6_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_6_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 6-grams / all characters; a character in several of them counts once.

    datatrove: of tokens.
    """
    return fraction(texts.ngrams[1][:, 1], texts.chars)


@signal("duplicate_7_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_7_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 7-grams / all characters; a character in several of them counts once.

    datatrove: of tokens.
    """
    return fraction(texts.ngrams[1][:, 2], texts.chars)


@signal("duplicate_8_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_8_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 8-grams / all characters; a character in several of them counts once.

    datatrove: of tokens.
    """
    return fraction(texts.ngrams[1][:, 3], texts.chars)


@signal("duplicate_9_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_9_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 9-grams / all characters; a character in several of them counts once.

    datatrove: of tokens.
    """
    return fraction(texts.ngrams[1][:, 4], texts.chars)


@signal("duplicate_10_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_10_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 10-grams / all characters; a character in several of them counts once.

    datatrove: of tokens.
    """
    return fraction(texts.ngrams[1][:, 5], texts.chars)


def _spoken(texts: Segmented) -> BoolArray:
    """For each word, whether it holds anything but punctuation and symbols."""
    if texts.counting == "datatrove":
        return (texts.once(token_marks) & 1) != 0
    return (texts.words.bits & unicode.PLAIN) != 0


def token_marks(texts: Segmented) -> UInt8Array:
    """For each token the bits of `kernels.token_marks`."""
    from curate.stages.filter.measures import kernels

    out = np.empty(len(texts.tokens.start), np.uint8)
    kernels.token_marks(texts.bytes, texts.tokens.start, texts.tokens.stop, characters(), out)
    return out


def _line_counts(texts: Segmented) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Lines that begin with a bullet, that end in an ellipsis, and all."""
    from curate.stages.filter.measures import line_kernels
    from curate.stages.text.kernels import BULLET, ELLIPSIS

    if texts.counting == "datatrove":
        raw = texts.once(python_lines)
        return raw.marked(line_kernels.DASHED), raw.marked(line_kernels.ELLIPSIS), raw.count
    lines, marks = texts.lines, texts.line_marks
    return lines.total((marks & BULLET) != 0), lines.total((marks & ELLIPSIS) != 0), lines.count


@signal("word_count", unit="words", source=QUALITY, kind="int")
def word_count(texts: Segmented) -> Int32Array:
    """Words that hold anything but punctuation and symbols.

    datatrove: tokens that hold anything but the marks of its own list, on which `€`, say, is missing.
    """
    return texts.counted.total(texts.once(_spoken)).astype(np.int32)


@signal("mean_word_length", unit="characters a word", source=QUALITY)
def mean_word_length(texts: Segmented) -> Float32Array:
    """Mean characters of the words that `word_count` counts, punctuation at their ends included.

    datatrove: of tokens, which have lost it.
    """
    words, spoken = texts.counted, texts.once(_spoken)
    return ratio(words.total(np.where(spoken, words.chars, 0)), words.total(spoken))


@signal("hash_to_word_ratio", unit="hash signs a word", source=QUALITY)
def hash_to_word_ratio(texts: Segmented) -> Float32Array:
    """Occurrences of `#` / all words. datatrove: / all tokens."""
    return ratio(texts.occurrences("#"), texts.counted.count)


@signal("ellipsis_to_word_ratio", unit="ellipses a word", source=QUALITY)
def ellipsis_to_word_ratio(texts: Segmented) -> Float32Array:
    """Occurrences of `...` or `…` / all words. datatrove: / all tokens."""
    return ratio(texts.occurrences("...") + texts.occurrences("…"), texts.counted.count)


@signal("bullet_line_fraction", unit="fraction of lines", source=QUALITY)
def bullet_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that begin with `•` or `-` / all lines. datatrove: lines as `str.splitlines` cuts them, blank ones too."""
    bullets, _, whole = texts.once(_line_counts)
    return fraction(bullets, whole)


@signal("ellipsis_line_fraction", unit="fraction of lines", source=QUALITY)
def ellipsis_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that end in `...` or `…` / all lines. datatrove: lines as `str.splitlines` cuts them, blank ones too."""
    _, ellipses, whole = texts.once(_line_counts)
    return fraction(ellipses, whole)


@signal("alphabetic_word_fraction", unit="fraction of words", source=QUALITY)
def alphabetic_word_fraction(texts: Segmented) -> Float32Array:
    """Words that hold at least one letter, of any script / all words. datatrove: of tokens."""
    words = texts.counted
    return fraction(words.total((words.bits & unicode.LETTER) != 0), words.count)


@signal("stop_word_count", unit="distinct words", source=QUALITY, kind="int")
def stop_word_count(texts: Segmented) -> Int32Array:
    """How many different stop words of the document's language occur, in either case, punctuation at their ends aside.

    English: the, be, to, of, and, that, have, with, also where the language is not known or has no list. Others: derived from
    data as FineWeb2 does (`curate.stages.filter.languages`). datatrove: tokens, in lower case as they stand.
    """
    rows = texts.known.get("stop_words")
    if rows is None:
        return texts.distinct_words([stop_words(None, {})]).astype(np.int32)
    numbers = {words: number for number, words in enumerate(dict.fromkeys(rows))}
    choice = np.array([numbers[words] for words in rows], np.int64)
    return texts.distinct_words(list(numbers) or [()], choice).astype(np.int32)
