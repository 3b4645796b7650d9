"""RedPajama v2's quality signals that need no model, under their published names, on the text as extracted.

Source of all: Weber et al. 2024 (arXiv 2411.12372) and togethercomputer/RedPajama-Data, `app/src/core/quality_signals`.

Words are either normalised (`Segmented.normal`: lower case, no ASCII punctuation, decomposed, cut at white space) or raw:
runs of letters, digits and `_`, and runs of anything else but white space. Lines are cut at `\\n`, blank ones are lines
too. A signal that has a value a line is one number here: the share of lines where the values are yes or no, else the mean or
the sum, as each says.

Everywhere: values are not rounded to 8 decimals; 0 stands where RedPajama has no value (no words, no lines); the language is
English where it is not known; counting `datatrove` changes nothing. What is not measured: `registry.NOT_MEASURED`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.stages.filter.measures.characters import characters
from curate.stages.filter.measures.parts import fraction, ratio, raw_lines, repeated_grams
from curate.stages.filter.measures.words import normal_bad_words, stop_words
from curate.stages.filter.registry import signal
from curate.stages.text.segment import Float32Array, Int32Array, Int64Array, Segmented

SOURCE = "RedPajama v2 (Weber et al. 2024)"
CCNET = "RedPajama v2 (Weber et al. 2024), from CCNet (Wenzek et al. 2020)"


@signal("ccnet_language_score", unit="fraction of 1", source=CCNET)
def ccnet_language_score(texts: Segmented) -> Float32Array:
    """The language model's score of the document's language, of whichever model the recipe names; 0 if none was asked."""
    scores = texts.known.get("language_score")
    return np.zeros(len(texts), np.float32) if scores is None else np.clip(np.asarray(scores, np.float32), 0, 1)


@signal("ccnet_length", unit="characters", source=CCNET, text="edited", kind="int")
def ccnet_length(texts: Segmented) -> Int32Array:
    """Characters after line edits, of which CCNet has one: lines that stand elsewhere in the snapshot too go."""
    return texts.chars.astype(np.int32)


@signal("ccnet_nlines", unit="lines", source=CCNET, text="edited", kind="int")
def ccnet_nlines(texts: Segmented) -> Int32Array:
    """Lines after line edits."""
    return _line_count(texts)


@signal("ccnet_original_length", unit="characters", source=CCNET, kind="int")
def ccnet_original_length(texts: Segmented) -> Int32Array:
    """Characters before line edits."""
    return texts.chars.astype(np.int32)


@signal("ccnet_original_nlines", unit="lines", source=CCNET, kind="int")
def ccnet_original_nlines(texts: Segmented) -> Int32Array:
    """Lines before line edits."""
    return _line_count(texts)


@signal("rps_doc_curly_bracket", unit="fraction of characters", source=SOURCE)
def rps_doc_curly_bracket(texts: Segmented) -> Float32Array:
    """Occurrences of `{` and `}` / all characters."""
    return fraction(texts.occurrences("{") + texts.occurrences("}"), texts.chars)


@signal("rps_doc_lorem_ipsum", unit="occurrences a character", source=SOURCE)
def rps_doc_lorem_ipsum(texts: Segmented) -> Float32Array:
    """Occurrences of "lorem ipsum" in the normalised text / its characters."""
    words = texts.normal.words
    return ratio(_count(texts.normal, b"lorem ipsum"), texts.once(_normal_chars) + np.maximum(words.count - 1, 0))


@signal("rps_doc_ldnoobw_words", unit="words and phrases", source=SOURCE, kind="int")
def rps_doc_ldnoobw_words(texts: Segmented) -> Int32Array:
    """Occurrences in the normalised words of entries of the language's List of Dirty, Naughty, Obscene and Otherwise Bad Words.

    RedPajama has English, German, French, Spanish and Italian; here all 27 lists count. Entries with accents or capitals never
    match there; here they are decomposed and lower-cased as the text is.
    """
    return normal_bad_words().count(texts.normal, "en", spaced=True).astype(np.int32)


@signal("rps_doc_ut1_blacklist", unit="yes or no", source=SOURCE, kind="bool")
def rps_doc_ut1_blacklist(texts: Segmented) -> Int32Array:
    """1 where a blocklist of the recipe covers the document's URL, 0 without a list.

    RedPajama gives the number of a category of UT1's lists.
    """
    listed = texts.known.get("url_listed")
    return np.zeros(len(texts), np.int32) if listed is None else np.asarray(listed).astype(bool).astype(np.int32)


@signal("rps_doc_stop_word_fraction", unit="fraction of words", source=SOURCE)
def rps_doc_stop_word_fraction(texts: Segmented) -> Float32Array:
    """Raw words that are stop words of the language as they stand / all raw words.

    The lists are those of stopwords-json, which RedPajama copied; a language without one has 0, and text without a normalised
    word too.
    """
    counts = texts.once(_raw_words)
    return fraction(np.where(texts.normal.words.count > 0, counts[:, 3], 0), counts[:, 0])


@signal("rps_doc_word_count", unit="words", source=SOURCE, kind="int")
def rps_doc_word_count(texts: Segmented) -> Int32Array:
    """Normalised words."""
    return texts.normal.words.count.astype(np.int32)


@signal("rps_doc_mean_word_length", unit="characters a word", source=SOURCE)
def rps_doc_mean_word_length(texts: Segmented) -> Float32Array:
    """Characters of all normalised words / normalised words."""
    return ratio(texts.once(_normal_chars), texts.normal.words.count)


@signal("rps_doc_frac_unique_words", unit="fraction of words", source=SOURCE)
def rps_doc_frac_unique_words(texts: Segmented) -> Float32Array:
    """Different normalised words / normalised words."""
    words = texts.normal.words
    return fraction(words.distinct, words.count)


@signal("rps_doc_unigram_entropy", unit="nats", source=SOURCE)
def rps_doc_unigram_entropy(texts: Segmented) -> Float32Array:
    """Entropy of the normalised words: - sum of p ln p, p being a word's share of all words."""
    from curate.stages.filter.measures import kernels

    words, out = texts.normal.words, np.zeros(len(texts))
    kernels.entropies(words.first, words.ids, words.distinct, out)
    return out.astype(np.float32)


@signal("rps_doc_num_sentences", unit="sentences", source=SOURCE, kind="int")
def rps_doc_num_sentences(texts: Segmented) -> Int32Array:
    """Matches of `\\b[^.!?]+[.!?]*`."""
    return texts.once(_raw_words)[:, 4].astype(np.int32)


@signal("rps_doc_symbol_to_word_ratio", unit="symbols a word", source=SOURCE)
def rps_doc_symbol_to_word_ratio(texts: Segmented) -> Float32Array:
    """Occurrences of `#`, `...` and `…` / raw words."""
    symbols = texts.occurrences("#") + texts.occurrences("...") + texts.occurrences("…")
    words = texts.once(_raw_words)[:, 0]
    return ratio(np.where(words > 0, symbols, 0), words)


@signal("rps_doc_frac_no_alph_words", unit="fraction of words", source=SOURCE)
def rps_doc_frac_no_alph_words(texts: Segmented) -> Float32Array:
    """Raw words without a letter a-z or A-Z / raw words: punctuation, and words of other scripts, have none."""
    counts = texts.once(_raw_words)
    return fraction(counts[:, 0] - counts[:, 1], counts[:, 0])


@signal("rps_doc_frac_all_caps_words", unit="fraction of words", source=SOURCE)
def rps_doc_frac_all_caps_words(texts: Segmented) -> Float32Array:
    """Raw words whose letters are all capitals (`str.isupper`) / raw words."""
    counts = texts.once(_raw_words)
    return fraction(counts[:, 2], counts[:, 0])


@signal("rps_doc_frac_lines_end_with_ellipsis", unit="fraction of lines", source=SOURCE)
def rps_doc_frac_lines_end_with_ellipsis(texts: Segmented) -> Float32Array:
    """Lines that end in `...` or `…` / lines."""
    from curate.stages.filter.measures.line_kernels import ELLIPSIS

    return _share_of_lines(texts, ELLIPSIS)


@signal("rps_doc_frac_chars_top_2gram", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_top_2gram(texts: Segmented) -> Float32Array:
    """Characters of the commonest 2-gram of normalised words, times its occurrences / characters of all normalised words.

    0 if it occurs once. At most 1, where overlapping occurrences would make it more.
    """
    return fraction(texts.once(_grams)[1][:, 0], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_top_3gram", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_top_3gram(texts: Segmented) -> Float32Array:
    """Characters of the commonest 3-gram of normalised words, times its occurrences / characters of all normalised words.

    0 if it occurs once. At most 1, where overlapping occurrences would make it more.
    """
    return fraction(texts.once(_grams)[1][:, 1], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_top_4gram", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_top_4gram(texts: Segmented) -> Float32Array:
    """Characters of the commonest 4-gram of normalised words, times its occurrences / characters of all normalised words.

    0 if it occurs once. At most 1, where overlapping occurrences would make it more.
    """
    return fraction(texts.once(_grams)[1][:, 2], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_dupe_5grams", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_dupe_5grams(texts: Segmented) -> Float32Array:
    """Characters of normalised words in a 5-gram that occurs twice / of all; the first occurrence counts too."""
    return fraction(texts.once(_grams)[2][:, 0], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_dupe_6grams", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_dupe_6grams(texts: Segmented) -> Float32Array:
    """Characters of normalised words in a 6-gram that occurs twice / of all; the first occurrence counts too."""
    return fraction(texts.once(_grams)[2][:, 1], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_dupe_7grams", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_dupe_7grams(texts: Segmented) -> Float32Array:
    """Characters of normalised words in a 7-gram that occurs twice / of all; the first occurrence counts too."""
    return fraction(texts.once(_grams)[2][:, 2], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_dupe_8grams", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_dupe_8grams(texts: Segmented) -> Float32Array:
    """Characters of normalised words in a 8-gram that occurs twice / of all; the first occurrence counts too."""
    return fraction(texts.once(_grams)[2][:, 3], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_dupe_9grams", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_dupe_9grams(texts: Segmented) -> Float32Array:
    """Characters of normalised words in a 9-gram that occurs twice / of all; the first occurrence counts too."""
    return fraction(texts.once(_grams)[2][:, 4], texts.once(_normal_chars))


@signal("rps_doc_frac_chars_dupe_10grams", unit="fraction of characters", source=SOURCE)
def rps_doc_frac_chars_dupe_10grams(texts: Segmented) -> Float32Array:
    """Characters of normalised words in a 10-gram that occurs twice / of all; the first occurrence counts too."""
    return fraction(texts.once(_grams)[2][:, 5], texts.once(_normal_chars))


@signal("rps_lines_ending_with_terminal_punctution_mark", unit="fraction of lines", source=SOURCE)
def rps_lines_ending_with_terminal_punctution_mark(texts: Segmented) -> Float32Array:
    """Lines that end in `.`, `!`, `?` or `”` / lines. The name is the published one."""
    from curate.stages.filter.measures.line_kernels import ENDED

    return _share_of_lines(texts, ENDED)


@signal("rps_lines_start_with_bulletpoint", unit="fraction of lines", source=SOURCE)
def rps_lines_start_with_bulletpoint(texts: Segmented) -> Float32Array:
    """Lines that begin with one of ten bullet points (`•`, `▶`, `■` …) or an en dash / lines. A hyphen is none."""
    from curate.stages.filter.measures.line_kernels import BULLETED

    return _share_of_lines(texts, BULLETED)


@signal("rps_lines_javascript_counts", unit="words", source=SOURCE, kind="int")
def rps_lines_javascript_counts(texts: Segmented) -> Int32Array:
    """The normalised word "javascript", sum over lines."""
    return texts.once(_line_words)[1].astype(np.int32)


@signal("rps_lines_num_words", unit="words a line", source=SOURCE)
def rps_lines_num_words(texts: Segmented) -> Float32Array:
    """Normalised words of a line, mean over lines (their sum is `rps_doc_word_count`)."""
    return ratio(texts.normal.words.count, texts.once(raw_lines).count)


@signal("rps_lines_numerical_chars_fraction", unit="fraction of characters", source=SOURCE)
def rps_lines_numerical_chars_fraction(texts: Segmented) -> Float32Array:
    """Numeric characters (`str.isnumeric`) / characters of the normalised line, 0 where it is empty; mean over lines."""
    return fraction(texts.once(_line_words)[0], texts.once(raw_lines).count)


@signal("rps_lines_uppercase_letter_fraction", unit="fraction of characters", source=SOURCE)
def rps_lines_uppercase_letter_fraction(texts: Segmented) -> Float32Array:
    """Capitals (`str.isupper`) / characters of a line, its newline included; mean over lines."""
    lines = texts.once(raw_lines)
    ends = texts.documents[1:][lines.rows]
    return fraction(lines.total(lines.upper / np.maximum(lines.chars + (lines.stop < ends), 1)), lines.count)


def _raw_words(texts: Segmented) -> Int64Array:
    """Columns: raw words, those with a letter a-z, those in capitals, stop words; sentences."""
    from curate.stages.filter.measures import word_kernels

    tables, out = stop_words(), np.zeros((len(texts), 5), np.int64)
    word_kernels.raw_words(
        texts.bytes, texts.documents, characters(), tables.choice(texts, "en"), tables.keys, tables.values,
        tables.bounds, out,
    )  # fmt: skip
    return out


def _line_words(texts: Segmented) -> tuple[npt.NDArray[np.float64], Int64Array]:
    """The sum over lines of the fraction of numeric characters, and how often "javascript" stands there."""
    from curate.stages.filter.measures import kernels

    lines, tokens, words = texts.once(raw_lines), texts.words, texts.normal.words
    numeric, scripts = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    kernels.line_words(
        texts.bytes, lines.first, lines.stop, tokens.first, tokens.start, tokens.stop, texts.normal.bytes,
        words.first, words.start, words.stop, words.chars, characters(), numeric, scripts,
    )  # fmt: skip
    return numeric, scripts


def _grams(texts: Segmented) -> tuple[Int64Array, Int64Array, Int64Array]:
    return repeated_grams(texts.normal.words)


def _normal_chars(texts: Segmented) -> Int64Array:
    """Characters of the normalised words, without the spaces between them."""
    return texts.normal.words.total(texts.normal.words.chars)


def _count(texts: Segmented, needle: bytes) -> Int64Array:
    """Occurrences of a rare string, without a cut of the text that nothing else needs."""
    out = np.zeros(len(texts), np.int64)
    data, ends = texts.bytes.tobytes(), texts.documents
    at = data.find(needle)
    while at >= 0:
        row = int(np.searchsorted(ends, at, "right")) - 1
        out[row] = data.count(needle, ends[row], ends[row + 1])
        at = data.find(needle, ends[row + 1])
    return out


def _line_count(texts: Segmented) -> Int32Array:
    """Lines cut at `\\n`, blank ones too; a newline at the text's end begins none."""
    start, stop = texts.documents[:-1], texts.documents[1:]
    tail = np.zeros(len(texts), np.int64)
    full = stop > start
    tail[full] = texts.bytes[stop[full] - 1] != 10
    return (texts.occurrences("\n") + tail).astype(np.int32)


def _share_of_lines(texts: Segmented, mark: int) -> Float32Array:
    lines = texts.once(raw_lines)
    return fraction(lines.marked(mark), lines.count)
