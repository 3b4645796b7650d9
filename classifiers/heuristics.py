"""Heuristic signals: fixed formulas, trained on nothing: what models are compared with, and may stand in for them.

Their names begin with `heuristic_`, and a column that one of them filled says so in its Parquet metadata: nobody takes a
formula for a model. Both look at the first 20,000 bytes of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.classifiers.model import Classifier, Floats, Kind, Output
from curate.classifiers.ngrams import (
    Bytes,
    Hashes,
    Offsets,
    find_slot,
    ngrams,
    slots,
    token_hashes,
    token_ngrams,
    utf8_views,
)
from curate.pipeline.errors import CurateError

MAX_BYTES = 20_000

_EXPLAINS = """
because, therefore, for example, for instance, such as, in other words, as a result, this means, which means, is called,
are called, is known as, are known as, known as, refers to, defined as, is defined, consists of, due to, in order to,
note that, recall that, suppose, consider the, in contrast, on the other hand, depends on, causes, caused by, leads to,
the reason, explain, explains, explained, describe
"""
_TEACHES = """
lesson, lessons, learn, learning, exercise, exercises, chapter, textbook, student, students, teacher, teachers, classroom,
curriculum, course, study, science, scientific, scientists, theory, theorem, definition, concept, concepts, example,
examples, solution, equation, formula, experiment, history, century, ancient, grammar, vocabulary, geography, biology,
chemistry, physics, mathematics, algebra, geometry, energy, cells, species, research, evidence, method, diagram, figure,
introduction, summary, understand, understanding, knowledge, question, questions, answer
"""
_SELLS = """
buy, cart, checkout, shipping, price, prices, sale, discount, coupon, order now, add to, free delivery, subscribe,
newsletter, sign up, log in, login, click here, cookies, cookie, privacy policy, terms of, all rights, copyright, reply,
comments, posted by, share this, tweet, casino, bonus, deals, shop, store, warranty, reviews, rating, download now,
contact us, follow us, facebook, instagram, advertisement, sponsored
"""


def _listed(phrases: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in phrases.split(","))


PHRASES: Mapping[str, tuple[str, ...]] = {
    "explains": _listed(_EXPLAINS),
    "teaches": _listed(_TEACHES),
    "sells": _listed(_SELLS),
}
"""English words and phrases that `heuristic_lesson` counts."""


def heuristic_prose(texts: pa.Array) -> Floats:
    """How much a text looks like written prose, in [0, 1], in any language with spaces: the mean of three shares.

    1. bytes in lines of at least 8 words that end in a full stop, an exclamation or question mark (a closing quote or
       bracket may follow), out of all bytes in lines;
    2. letters (and all bytes beyond ASCII) out of all that is no space, from .6 (0) to .85 (1);
    3. the number of words, on a logarithmic scale from 20 (0) to 500 (1).

    Empty text: 0.
    """
    score: Floats = prose_parts(texts).mean(axis=1).astype(np.float32)
    return score


PROSE_PARTS = 3


def prose_parts(texts: pa.Array) -> npt.NDArray[np.float64]:
    """The three shares whose mean is `heuristic_prose`, in its order, shape texts x 3."""
    shape = _shapes(texts)
    sentences = shape[:, 0] / np.maximum(shape[:, 1], 1)
    letters = _ramp(shape[:, 2] / np.maximum(shape[:, 3], 1), 0.6, 0.85)
    length = _ramp(np.log(np.maximum(shape[:, 4], 1)), np.log(20), np.log(500))
    return np.stack([sentences, letters, length], axis=1)


def heuristic_lesson(texts: pa.Array) -> Floats:
    """How much an English text looks like teaching material, on 0–5, built up like FineWeb-Edu's prompt, but by counting.

    The sum of five parts, each 0–1, the last two weighed by the first: `heuristic_prose`; words that explain (`because`,
    `for example`), 0 to 8 in 1,000 words; words of lessons and sciences, 0 to 25 in 1,000; again those words, 15 to 50; and
    how few words of shops, menus and comments there are, 20 (0) to 0 (1) in 1,000. It has learned nothing from
    FineWeb-Edu's labels, and its thresholds mean nothing there: 3 is not FineWeb-Edu's 3.
    """
    prose = heuristic_prose(texts).astype(np.float64)
    counts = _count_phrases(texts)
    rate = (
        1000 * counts[:, :-1] / np.maximum(counts[:, -1:], 50)
    )  # so that one phrase does not make a short text a lesson
    explains, teaches, sells = rate.T
    parts = (
        prose
        + _ramp(explains, 0, 8)
        + _ramp(teaches, 0, 25)
        + prose * (_ramp(teaches, 15, 50) + 1 - _ramp(sells, 0, 20))
    )
    score: Floats = parts.astype(np.float32)
    return score


FUNCTIONS: Mapping[str, Callable[[pa.Array], Floats]] = {
    "heuristic_prose": heuristic_prose,
    "heuristic_lesson": heuristic_lesson,
}


class Heuristic(Classifier):
    """A formula in a classifier's place."""

    kind: Kind = "heuristic"
    output: Output = "score"

    def __init__(self, name: str, version: str, fingerprint: str, scale: tuple[float, float]) -> None:
        self.name, self.version, self.fingerprint, self.scale = name, version, fingerprint, scale
        self._function = FUNCTIONS[name]

    def values(self, texts: pa.Array) -> Floats:
        return self._function(texts)

    def save(self, path: Path | str) -> None:
        raise CurateError(f"{self.name} is a formula, not a model: there is nothing to save")


def _ramp(value: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.float64]:
    """0 below `low`, 1 above `high`, straight between."""
    return ((value - low) / (high - low)).clip(0, 1)


def _shapes(texts: pa.Array) -> npt.NDArray[np.float64]:
    """Columns: bytes in sentence lines, bytes in whole lines, letters, bytes that are no space, words."""
    data, starts, ends = utf8_views(texts)
    out = np.zeros((len(starts), 5))
    bounded = np.minimum(ends, starts + MAX_BYTES)
    _shape_kernel(data, starts, bounded, bounded < ends, out)
    return out


@numba.njit(cache=True, nogil=True)
def _shape_kernel(
    data: Bytes, starts: Offsets, ends: Offsets, cut: npt.NDArray[np.bool_], out: npt.NDArray[np.float64]
) -> None:
    for text in range(len(starts)):
        size, words, last, before = 0, 0, 32, 32
        for at in range(starts[text], ends[text] + 1):
            byte = data[at] if at < ends[text] else 10
            if byte == 10:
                whole = at < ends[text] or not cut[text]
                if whole and words >= 8 and (last == 33 or last == 46 or last == 63):
                    out[text, 0] += size
                if whole:
                    out[text, 1] += size
                out[text, 4] += words
                size, words, last, before = 0, 0, 32, 32
                continue
            size += 1
            if byte > 32:
                out[text, 3] += 1
                letter = byte >= 128 or 65 <= byte <= 90 or 97 <= byte <= 122
                out[text, 2] += letter
                words += before <= 32
                # A closing quote or bracket (also ” and », which end in 0x9D and 0xBB) does not unmake a full stop.
                if not (
                    byte == 34
                    or byte == 39
                    or byte == 41
                    or byte == 0x9D
                    or byte == 0xBB
                    or byte == 0xE2
                    or byte == 0x80
                    or byte == 0xC2
                ):
                    last = byte
            before = byte


def _lexicon() -> tuple[Hashes, npt.NDArray[np.int32]]:
    """The phrases' hashes, each with its group."""
    phrases = [(phrase, group) for group, listed in enumerate(PHRASES.values()) for phrase in listed]
    sizes = [len(phrase.split()) for phrase, _ in phrases]
    grams, edges = ngrams(pa.array([phrase for phrase, _ in phrases]), order=max(sizes), max_bytes=MAX_BYTES)
    # The last n-gram of a phrase of n words is the phrase as a whole.
    return grams[edges[1:] - 1], np.array([group for _, group in phrases], np.int32)


def _count_phrases(texts: pa.Array) -> npt.NDArray[np.float64]:
    """How often each group of PHRASES stands in each text, and in the last column the number of words."""
    data, starts, ends = utf8_views(texts)
    hashes, groups = _lexicon()
    order = max(len(phrase.split()) for listed in PHRASES.values() for phrase in listed)
    out = np.zeros((len(starts), len(PHRASES) + 1))
    _phrase_kernel(data, starts, np.minimum(ends, starts + MAX_BYTES), order, hashes, groups, slots(hashes), out)
    return out


@numba.njit(cache=True, nogil=True)
def _phrase_kernel(
    data: Bytes, starts: Offsets, ends: Offsets, order: int, hashes: Hashes, groups: npt.NDArray[np.int32],
    table: npt.NDArray[np.int32], out: npt.NDArray[np.float64],
) -> None:  # fmt: skip
    longest = 0
    for text in range(len(starts)):
        longest = max(longest, ends[text] - starts[text])
    tokens, grams = np.empty(longest, np.uint64), np.empty(longest * order, np.uint32)
    for text in range(len(starts)):
        words = token_hashes(data, starts[text], ends[text], tokens)
        out[text, out.shape[1] - 1] = words
        for gram in range(token_ngrams(tokens, words, order, grams)):
            place = find_slot(grams[gram], hashes, table)
            if place >= 0:
                out[text, groups[place]] += 1
