"""Shingles, MinHash signatures, band keys and the similarity estimated from them, in compiled kernels.

A word is a run of characters between spaces of the normalised text; in scripts written without spaces (Han, kana, Thai,
Lao, Khmer, Burmese, Yi) each character is a word. A shingle is `ngram` words in a row, or `ngram` characters, single spaces
among them. A text of fewer is one shingle; a text without words has none, and a signature of all ones that is never linked.

Value j of a signature is the least (a_j * h + b_j) mod 2^w over the w-bit hashes h of the shingles, a_j odd: k permutations
of the w-bit numbers (Broder 1997), w = 32 or 64. The share of equal values estimates the Jaccard similarity J of the
shingle sets without bias, with variance J(1 - J) / k: over 100,000 pairs at each of 16 points, unions of 5 to 1000 shingles
and J of .2 to .95, the mean is within two standard errors, .0002, of J and the variance .994 to 1.008 of theory, under the
permutations of one seed. h is mixed before, so that a linear permutation is as good as any: datasketch's mod 2^61 - 1, a 64-bit
multiply-shift and a mixer for each value gave the same. Odd multipliers map no two hashes to one, and 32 bits need no wider
arithmetic: eight or sixteen to a vector.

One permutation for all values (Shrivastava 2017; Dahlgaard, Knudsen and Thorup 2017) and circulant ones (Li and Li 2022)
were measured (`bench/dedup_sketches.py`): faster on long texts by what is a tenth of the time from text to signature, but
the variance is 1.4 J(1 - J) / k on short texts, or half of it, and recall leaves the curve by 2 points.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, TypeAlias

import numba
import numpy as np

from curate.stages.dedup.normalise import Normalised

NgramOf: TypeAlias = Literal["words", "characters"]
HashBits: TypeAlias = Literal[32, 64]

EMPTY = np.uint32(0xFFFFFFFF)
"""Every value of the 32-bit signature of a text without words; all ones in 64 bits too."""

WORD_START = 0xCBF29CE484222325
WORD_PRIME = 0x9FB21C651E98DF25
SHINGLE_BASE = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
SKETCH_32 = 0x9E3779B1

_WORD_START, _WORD_PRIME, _BASE = np.uint64(WORD_START), np.uint64(WORD_PRIME), np.uint64(SHINGLE_BASE)
_MIX_1, _MIX_2 = np.uint64(MIX_1), np.uint64(MIX_2)
_U8, _U27, _U29, _U30, _U31, _U32, _U64 = (np.uint64(bits) for bits in (8, 27, 29, 30, 31, 32, 64))
_ZERO, _ONE = np.uint64(0), np.uint64(1)

Signatures = np.ndarray[Any, Any]
"""Shape (texts, permutations), uint32 or uint64."""
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Offsets = np.ndarray[Any, np.dtype[np.int64]]


def shingle_hashes(texts: Normalised, ngram: int, of: NgramOf = "words") -> tuple[Hashes, Offsets]:
    """A 64-bit hash of every shingle, as often as it stands in its text, in the text's order.

    Those of text i are `hashes[offsets[i]:offsets[i + 1]]`.
    """
    characters = of == "characters"
    most = len(texts.data) if characters else (len(texts.data) + len(texts)) // 2
    hashes = np.empty(most, np.uint64)
    offsets = np.zeros(len(texts) + 1, np.int64)
    _shingles(texts.data, texts.offsets, ngram, characters, hashes, offsets)
    return hashes[: offsets[-1]], offsets


@functools.lru_cache(maxsize=16)
def permutations(count: int, seed: int, bits: HashBits = 32) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Odd multipliers and offsets of `bits` bits. A smaller count gives the first of them."""
    drawn = np.random.RandomState(seed).randint(0, 1 << 64, size=(count, 2), dtype=np.uint64)
    a, b = (np.ascontiguousarray(column) for column in drawn.T)
    if bits == 32:
        a, b = ((column >> _U32).astype(np.uint32) for column in (a, b))
    return a | a.dtype.type(1), b


def signature_matrix(
    texts: Normalised, count: int, ngram: int, seed: int, of: NgramOf = "words", bits: HashBits = 32
) -> Signatures:
    """The signatures of normalised texts. Shape (texts, count), uint32 or uint64 by `bits`."""
    return sign_hashes(*shingle_hashes(texts, ngram, of), count, seed, bits)


def sign_hashes(hashes: Hashes, offsets: Offsets, count: int, seed: int, bits: HashBits = 32) -> Signatures:
    """The signatures of sets of shingles, given as `shingle_hashes` gives them."""
    a, b = permutations(count, seed, bits)
    out = np.full((len(offsets) - 1, count), ~a.dtype.type(0))
    if bits == 32:
        _permute_32(hashes, offsets, a, b, out)
    else:
        _permute_64(hashes, offsets, a, b, out)
    return out


def band_keys(signatures: Signatures, bands: int, rows: int) -> Hashes:
    """A 64-bit hash of each band's number and values: equal for two texts where the band's values are. Shape (texts, bands)."""
    if signatures.shape[1] < bands * rows:
        raise ValueError(f"{bands} bands x {rows} rows need {bands * rows} permutations, not {signatures.shape[1]}")
    out = np.empty((len(signatures), bands), np.uint64)
    _band_keys(signatures, rows, out)
    return out


def sketch(signatures: Signatures) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """8 bits of every value: a quarter of the bytes or an eighth, and enough to estimate similarity (Li and König 2010).

    The lowest bits of a linear permutation depend on the lowest of the hash alone: the bits are those of a product.
    """
    if signatures.dtype == np.uint32:
        return ((signatures * np.uint32(SKETCH_32)) >> np.uint32(24)).astype(np.uint8)
    return ((signatures * _BASE) >> np.uint64(56)).astype(np.uint8)


def estimate(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The Jaccard similarity estimated from the sketches of two texts, row by row.

    Two values that differ still have the same 8 bits once in 256: the share of equal ones is corrected for that.
    """
    equal = (one == other).mean(axis=1)
    result: np.ndarray[Any, np.dtype[np.float64]] = np.maximum(0.0, (equal - 1 / 256) / (1 - 1 / 256))
    return result


@numba.njit(cache=True, nogil=True, inline="always")
def mix(value):  # type: ignore[no-untyped-def]
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value."""
    value = (value ^ (value >> _U30)) * _MIX_1
    value = (value ^ (value >> _U27)) * _MIX_2
    return value ^ (value >> _U31)


@numba.njit(cache=True, nogil=True)
def _unspaced(data, position, end):  # type: ignore[no-untyped-def]
    """Bytes of the character here if its script is written without spaces, else 0. The text is valid UTF-8."""
    lead = data[position]
    if lead < 0xE0:
        return 0
    if lead >= 0xF0:
        # planes 2 and 3: ideographs
        return 4 if lead == 0xF0 and position + 3 < end and data[position + 1] >= 0xA0 else 0
    if position + 2 >= end:
        return 0
    code = (
        (np.int64(lead & 0x0F) << 12) | (np.int64(data[position + 1] & 0x3F) << 6) | np.int64(data[position + 2] & 0x3F)
    )
    if (
        0x0E00 <= code < 0x0F00  # Thai, Lao
        or 0x1000 <= code < 0x10A0  # Burmese
        or 0x1780 <= code < 0x1800  # Khmer
        or 0x3005 <= code < 0x3008
        or 0x3041 <= code < 0x3130  # kana, bopomofo
        or 0x31A0 <= code < 0x3200
        or 0x3400 <= code < 0x4DC0  # Han
        or 0x4E00 <= code < 0xA4D0  # Han, Yi
        or 0xF900 <= code < 0xFB00
        or 0xFF66 <= code < 0xFFA0  # kana of half width
    ):
        return 3
    return 0


@numba.njit(cache=True, nogil=True, inline="always")
def _fold(value, chunk):  # type: ignore[no-untyped-def]
    value = (value ^ chunk) * _WORD_PRIME
    return value ^ (value >> _U29)


@numba.njit(cache=True, nogil=True)
def _shingles(data, offsets, ngram, characters, out, ends):  # type: ignore[no-untyped-def]
    window = np.zeros(ngram, np.uint64)
    leaving = _ONE
    for _ in range(ngram):
        leaving *= _BASE
    at = 0
    for text in range(len(offsets) - 1):
        window[:] = _ZERO
        position = offsets[text]
        end = offsets[text + 1]
        words = 0
        oldest = 0
        rolling = _ZERO
        while position < end:
            # a word's bytes, eight at a time; no byte of a normalised text is 0, so lengths are told apart
            word = _WORD_START
            chunk = np.uint64(data[position])
            if characters:
                position += 1
                bits = _U8
                while position < end and data[position] & 0xC0 == 0x80:
                    chunk |= np.uint64(data[position]) << bits
                    bits += _U8
                    position += 1
            else:
                if chunk == 0x20:
                    position += 1
                    continue
                length = _unspaced(data, position, end) if chunk >= 0xE0 else 0
                if length:
                    for place in range(1, length):
                        chunk |= np.uint64(data[position + place]) << np.uint64(8 * place)
                    position += length
                else:
                    position += 1
                    bits = _U8
                    while position < end:
                        byte = np.uint64(data[position])
                        if byte == 0x20 or (byte >= 0xE0 and _unspaced(data, position, end)):
                            break
                        if bits == _U64:
                            word = _fold(word, chunk)
                            chunk = _ZERO
                            bits = _ZERO
                        chunk |= byte << bits
                        bits += _U8
                        position += 1
            word = mix(_fold(word, chunk))
            # polynomial in the words' hashes: the oldest of the window leaves as the new one comes
            rolling = rolling * _BASE + word - window[oldest] * leaving
            window[oldest] = word
            oldest += 1
            if oldest == ngram:
                oldest = 0
            words += 1
            if words >= ngram:
                out[at] = mix(rolling)
                at += 1
        if 0 < words < ngram:
            out[at] = mix(rolling)
            at += 1
        ends[text + 1] = at


@numba.njit(cache=True, nogil=True)
def _permute_32(hashes, offsets, a, b, out):  # type: ignore[no-untyped-def]
    """Four shingles at a time: what is least so far is read and written once for them, and the inner loop is vector code."""
    for text in range(len(offsets) - 1):
        least = out[text]
        at = offsets[text]
        end = offsets[text + 1]
        while at + 4 <= end:
            h0 = np.uint32(hashes[at] >> _U32)
            h1 = np.uint32(hashes[at + 1] >> _U32)
            h2 = np.uint32(hashes[at + 2] >> _U32)
            h3 = np.uint32(hashes[at + 3] >> _U32)
            for j in range(len(a)):
                one = min(np.uint32(h0 * a[j] + b[j]), np.uint32(h1 * a[j] + b[j]))
                two = min(np.uint32(h2 * a[j] + b[j]), np.uint32(h3 * a[j] + b[j]))
                least[j] = min(least[j], min(one, two))
            at += 4
        while at < end:
            h0 = np.uint32(hashes[at] >> _U32)
            for j in range(len(a)):
                least[j] = min(least[j], np.uint32(h0 * a[j] + b[j]))
            at += 1


@numba.njit(cache=True, nogil=True)
def _permute_64(hashes, offsets, a, b, out):  # type: ignore[no-untyped-def]
    for text in range(len(offsets) - 1):
        least = out[text]
        at = offsets[text]
        end = offsets[text + 1]
        while at + 2 <= end:
            h0 = hashes[at]
            h1 = hashes[at + 1]
            for j in range(len(a)):
                least[j] = min(least[j], min(h0 * a[j] + b[j], h1 * a[j] + b[j]))
            at += 2
        if at < end:
            h0 = hashes[at]
            for j in range(len(a)):
                least[j] = min(least[j], h0 * a[j] + b[j])


@numba.njit(cache=True, nogil=True)
def _band_keys(signatures, rows, out):  # type: ignore[no-untyped-def]
    for text in range(out.shape[0]):
        for band in range(out.shape[1]):
            key = np.uint64(band + 1) * _BASE
            for j in range(band * rows, (band + 1) * rows):
                key = mix(key ^ np.uint64(signatures[text, j])) * _BASE
            out[text, band] = mix(key)
