"""Gopher's repetition and quality signals, on the text as extracted.

Source of all: Rae et al. 2021 (arXiv 2112.11446), section A1.1; where the paper leaves room, datatrove's code, with words as
`Segmented.words` has them. Empty text gives 0 everywhere.
"""

from __future__ import annotations

import numpy as np

from curate.stages.filter.registry import signal
from curate.stages.text import unicode
from curate.stages.text.segment import BoolArray, Float32Array, Int32Array, Int64Array, Segmented

REPETITION = "Gopher (Rae et al. 2021), table A1"
QUALITY = "Gopher (Rae et al. 2021), section A1.1, quality filtering"

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


def fraction(part: Int64Array, whole: Int64Array) -> Float32Array:
    """part / whole, 0 where whole is 0, as float32 and at most 1."""
    return np.minimum(part / np.maximum(whole, 1), 1.0).astype(np.float32)


def ratio(part: Int64Array, whole: Int64Array) -> Float32Array:
    """part / whole, with a whole of at least 1, as float32."""
    return (part / np.maximum(whole, 1)).astype(np.float32)


@signal("duplicate_paragraph_fraction", unit="fraction of paragraphs", source=REPETITION)
def duplicate_paragraph_fraction(texts: Segmented) -> Float32Array:
    """Paragraphs that are equal to an earlier one of the document / all paragraphs."""
    return fraction(texts.paragraphs.repeated[0], texts.paragraphs.count)


@signal("duplicate_paragraph_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_paragraph_char_fraction(texts: Segmented) -> Float32Array:
    """Characters in paragraphs that stood earlier in the same document / all characters."""
    return fraction(texts.paragraphs.repeated[1], texts.chars)


@signal("duplicate_line_fraction", unit="fraction of lines", source=REPETITION)
def duplicate_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that are equal to an earlier one of the document / all lines."""
    return fraction(texts.lines.repeated[0], texts.lines.count)


@signal("duplicate_line_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_line_char_fraction(texts: Segmented) -> Float32Array:
    """Characters in lines that stood earlier in the same document / all characters."""
    return fraction(texts.lines.repeated[1], texts.chars)


@signal("top_2_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def top_2_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of the commonest 2-gram of words (with the space between), times its occurrences / all characters."""
    return fraction(texts.ngrams[0][:, 0], texts.chars)


@signal("top_3_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def top_3_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of the commonest 3-gram of words (with the spaces between), times its occurrences / all characters."""
    return fraction(texts.ngrams[0][:, 1], texts.chars)


@signal("top_4_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def top_4_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of the commonest 4-gram of words (with the spaces between), times its occurrences / all characters."""
    return fraction(texts.ngrams[0][:, 2], texts.chars)


@signal("duplicate_5_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_5_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 5-grams / all characters; a character in several of them counts once."""
    return fraction(texts.ngrams[1][:, 0], texts.chars)


@signal("duplicate_6_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_6_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 6-grams / all characters; a character in several of them counts once."""
    return fraction(texts.ngrams[1][:, 1], texts.chars)


@signal("duplicate_7_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_7_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 7-grams / all characters; a character in several of them counts once."""
    return fraction(texts.ngrams[1][:, 2], texts.chars)


@signal("duplicate_8_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_8_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 8-grams / all characters; a character in several of them counts once."""
    return fraction(texts.ngrams[1][:, 3], texts.chars)


@signal("duplicate_9_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_9_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 9-grams / all characters; a character in several of them counts once."""
    return fraction(texts.ngrams[1][:, 4], texts.chars)


@signal("duplicate_10_gram_char_fraction", unit="fraction of characters", source=REPETITION)
def duplicate_10_gram_char_fraction(texts: Segmented) -> Float32Array:
    """Characters of words in repeated 10-grams / all characters; a character in several of them counts once."""
    return fraction(texts.ngrams[1][:, 5], texts.chars)


def _spoken(texts: Segmented) -> BoolArray:
    """For each word, whether it holds anything but punctuation and symbols."""
    return (texts.words.bits & unicode.PLAIN) != 0


@signal("word_count", unit="words", source=QUALITY, kind="int")
def word_count(texts: Segmented) -> Int32Array:
    """Words that hold anything but punctuation and symbols."""
    return texts.words.total(_spoken(texts)).astype(np.int32)


@signal("mean_word_length", unit="characters a word", source=QUALITY)
def mean_word_length(texts: Segmented) -> Float32Array:
    """Mean characters of the words that `word_count` counts, punctuation at their ends included."""
    spoken = _spoken(texts)
    return ratio(texts.words.total(np.where(spoken, texts.words.chars, 0)), texts.words.total(spoken))


@signal("hash_to_word_ratio", unit="hash signs a word", source=QUALITY)
def hash_to_word_ratio(texts: Segmented) -> Float32Array:
    """Occurrences of `#` / all words."""
    return ratio(texts.occurrences("#"), texts.words.count)


@signal("ellipsis_to_word_ratio", unit="ellipses a word", source=QUALITY)
def ellipsis_to_word_ratio(texts: Segmented) -> Float32Array:
    """Occurrences of `...` or `…` / all words."""
    return ratio(texts.occurrences("...") + texts.occurrences("…"), texts.words.count)


@signal("bullet_line_fraction", unit="fraction of lines", source=QUALITY)
def bullet_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that begin with `•` or `-` / all lines."""
    from curate.stages.text.kernels import BULLET

    return fraction(texts.lines.total((texts.line_marks & BULLET) != 0), texts.lines.count)


@signal("ellipsis_line_fraction", unit="fraction of lines", source=QUALITY)
def ellipsis_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that end in `...` or `…` / all lines."""
    from curate.stages.text.kernels import ELLIPSIS

    return fraction(texts.lines.total((texts.line_marks & ELLIPSIS) != 0), texts.lines.count)


@signal("alphabetic_word_fraction", unit="fraction of words", source=QUALITY)
def alphabetic_word_fraction(texts: Segmented) -> Float32Array:
    """Words that hold at least one letter, of any script / all words."""
    return fraction(texts.words.total((texts.words.bits & unicode.LETTER) != 0), texts.words.count)


@signal("stop_word_count", unit="distinct words", source=QUALITY, kind="int", high=len(STOP_WORDS))
def stop_word_count(texts: Segmented) -> Int32Array:
    """How many of the, be, to, of, and, that, have, with occur, in either case, punctuation at their ends aside. English."""
    return texts.distinct_words(STOP_WORDS).astype(np.int32)
