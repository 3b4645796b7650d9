"""MinHash signatures, band keys and the similarity estimated from them, in compiled kernels.

A word is a run of characters between spaces of the normalised text; in scripts written without spaces (Han, kana, Thai,
Lao, Khmer, Burmese, Yi) each character is a word. A shingle is `ngram` words in a row; a text of fewer words is one
shingle; a text without words has none, and a signature of all ones (2^32 - 1) that is never linked.

Value j of a signature is the least (a_j * h + b_j) mod (2^61 - 1), cut to 32 bits, over the 32-bit hashes h of the
shingles (Broder 1997; a and b as datasketch draws them, but the product is exact: datasketch's and datatrove's wraps at 2^64).
The share of equal values estimates the Jaccard similarity J of the shingle sets without bias, with variance J(1 - J) / k.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from curate.stages.dedup.normalise import Normalised

PRIME = (1 << 61) - 1
EMPTY = np.uint32(0xFFFFFFFF)
"""Every value of the signature of a text without words."""

WORD_START = 0xCBF29CE484222325
WORD_PRIME = 0x100000001B3
SHINGLE_BASE = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB

_P = np.uint64(PRIME)
_WORD_START, _WORD_PRIME, _BASE = np.uint64(WORD_START), np.uint64(WORD_PRIME), np.uint64(SHINGLE_BASE)
_MIX_1, _MIX_2 = np.uint64(MIX_1), np.uint64(MIX_2)
_LOW_29, _LOW_32 = np.uint64((1 << 29) - 1), np.uint64((1 << 32) - 1)
_U27, _U29, _U30, _U31, _U32, _U61 = (np.uint64(bits) for bits in (27, 29, 30, 31, 32, 61))
_BLOCK = 512
"""Shingles hashed before the permutations run over them: they stay in the first-level cache, whatever the text's size."""

Signatures = np.ndarray[Any, np.dtype[np.uint32]]
"""Shape (texts, permutations)."""


def permutations(
    count: int, seed: int
) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], np.ndarray[Any, np.dtype[np.uint64]]]:
    """Multipliers in [1, 2^61 - 1) and offsets in [0, 2^61 - 1), drawn in pairs."""
    generator = np.random.RandomState(seed)
    pairs = [
        (generator.randint(1, PRIME, dtype=np.uint64), generator.randint(0, PRIME, dtype=np.uint64))
        for _ in range(count)
    ]
    a, b = np.array(pairs, dtype=np.uint64).reshape(-1, 2).T
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


def signature_matrix(texts: Normalised, count: int, ngram: int, seed: int) -> Signatures:
    """The signatures of normalised texts. Shape (texts, count)."""
    a, b = permutations(count, seed)
    out = np.empty((len(texts), count), np.uint32)
    _signatures(texts.data, texts.offsets, ngram, a >> _U32, a & _LOW_32, b, out)
    return out


def band_keys(signatures: Signatures, bands: int, rows: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A 64-bit hash of each band's number and values: equal for two texts where the band's values are. Shape (texts, bands)."""
    if signatures.shape[1] < bands * rows:
        raise ValueError(f"{bands} bands x {rows} rows need {bands * rows} permutations, not {signatures.shape[1]}")
    out = np.empty((len(signatures), bands), np.uint64)
    _band_keys(signatures, rows, out)
    return out


def sketch(signatures: Signatures) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The lowest 8 bits of every value: a quarter of the bytes, and enough to estimate similarity (Li and König 2010)."""
    return (signatures & np.uint32(0xFF)).astype(np.uint8)


def estimate(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The Jaccard similarity estimated from the sketches of two texts, row by row.

    Two values that differ still have the same 8 bits once in 256: the share of equal ones is corrected for that.
    """
    equal = (one == other).mean(axis=1)
    result: np.ndarray[Any, np.dtype[np.float64]] = np.maximum(0.0, (equal - 1 / 256) / (1 - 1 / 256))
    return result


@numba.njit(cache=True, nogil=True, inline="always")
def _mix(value):  # type: ignore[no-untyped-def]
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value."""
    value = (value ^ (value >> _U30)) * _MIX_1
    value = (value ^ (value >> _U27)) * _MIX_2
    return value ^ (value >> _U31)


@numba.njit(cache=True, nogil=True, inline="always")
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


@numba.njit(cache=True, nogil=True)
def _signatures(data, offsets, ngram, a_high, a_low, b, out):  # type: ignore[no-untyped-def]
    block = np.empty(_BLOCK, np.uint64)
    window = np.zeros(ngram, np.uint64)
    least = np.empty(len(b), np.int64)
    leaving = np.uint64(1)
    for _ in range(ngram):
        leaving *= _BASE
    for text in range(len(offsets) - 1):
        least[:] = _LOW_32
        window[:] = 0
        position = offsets[text]
        end = offsets[text + 1]
        words = 0
        filled = 0
        rolling = np.uint64(0)
        while position < end:
            if data[position] == 0x20:
                position += 1
                continue
            word = _WORD_START
            length = _unspaced(data, position, end)
            if length:
                for place in range(length):
                    word = (word ^ np.uint64(data[position + place])) * _WORD_PRIME
                position += length
            else:
                while position < end and data[position] != 0x20:
                    if data[position] >= 0xE0 and _unspaced(data, position, end):
                        break
                    word = (word ^ np.uint64(data[position])) * _WORD_PRIME
                    position += 1
            word = _mix(word)
            # polynomial in the words' hashes: the oldest of the window leaves as the new one comes
            rolling = rolling * _BASE + word - window[words % ngram] * leaving
            window[words % ngram] = word
            words += 1
            if words >= ngram:
                block[filled] = _mix(rolling) >> _U32
                filled += 1
                if filled == _BLOCK:
                    _permute(block, filled, a_high, a_low, b, least)
                    filled = 0
        if 0 < words < ngram:
            block[0] = _mix(rolling) >> _U32
            filled = 1
        _permute(block, filled, a_high, a_low, b, least)
        for j in range(len(least)):
            out[text, j] = np.uint32(least[j])


@numba.njit(cache=True, nogil=True)
def _permute(block, filled, a_high, a_low, b, least):  # type: ignore[no-untyped-def]
    """Lowers `least` by the permuted hashes.

    The product of 61 and 32 bits is taken in halves, each folded by 2^61 = 1 (mod p): no 128-bit arithmetic, and the
    compiler makes vector code of the inner loop.
    """
    for i in range(filled):
        h = block[i]
        for j in range(len(b)):
            low = h * a_low[j]
            high = h * a_high[j]
            value = (low & _P) + (low >> _U61) + ((high & _LOW_29) << _U32) + (high >> _U29) + b[j]
            value = (value & _P) + (value >> _U61)
            if value >= _P:
                value -= _P
            least[j] = min(least[j], np.int64(value & _LOW_32))


@numba.njit(cache=True, nogil=True)
def _band_keys(signatures, rows, out):  # type: ignore[no-untyped-def]
    for text in range(out.shape[0]):
        for band in range(out.shape[1]):
            key = np.uint64(band + 1) * _BASE
            for j in range(band * rows, (band + 1) * rows):
                key = _mix(key ^ np.uint64(signatures[text, j])) * _BASE
            out[text, band] = _mix(key)
