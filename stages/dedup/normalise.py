"""Texts made comparable, and their exact hashes: FineWeb's normalisation over UTF-8 bytes in a compiled kernel.

In this order: lower case; canonical decomposition, non-spacing marks (diacritics) and format characters (soft hyphen,
zero-width joiners, byte-order mark) off; every number is `0`: digits of any script and, once, a decimal separator with
digits behind it; punctuation, ASCII symbols, control characters and white space are spaces; runs of spaces are one, none at
either end.

It is what datatrove 0.10's `simplify_text` gives with FineWeb's settings, but for these, where texts of all scripts are meant
to be compared: punctuation is every character of Unicode's category P, and the five of their list that are not (theirs is a
list by hand, of 80 characters besides the ASCII ones: it leaves most scripts' and the single quotes ‘ ‹ ›); format characters
go, where they stay there; both forms of a small sigma are one; runs of spaces are joined once the marks are gone, not before.
Words are those of `minhash`, FineWeb's those of a tokeniser for the language.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa

from curate.stages.folding import EXPANDS, Folding, folded_of, folding
from curate.stages.text.kernels import kernel

NORMALISED_BYTES = 8 << 20
"""Bytes of text normalised at a time, unless one text alone is larger: bounds the kernel's output buffer."""

_SPACE, _DIGIT = 0x20, 0x30
_FULL_STOP, _COMMA = 0x2E, 0x2C
OTHER_PUNCTUATION = "´∶━►～"
"""FineWeb's that Unicode calls symbols."""
_GROWTH = 3
"""UTF-8 bytes out per byte in at most: a Hangul syllable (3 bytes) becomes three letters of 3."""


@dataclass(frozen=True)
class Normalised:
    """Normalised UTF-8 of several texts: text i is `data[offsets[i]:offsets[i + 1]]`; empty for a null."""

    data: np.ndarray[Any, np.dtype[np.uint8]]
    offsets: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()


def normalised_batches(texts: pa.Array | pa.ChunkedArray) -> Iterator[Normalised]:
    """The normalised texts of a string array, in order, a bounded number of bytes at a time."""
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        data, offsets = string_buffers(chunk)
        start = 0
        while start < len(chunk):
            end = int(np.searchsorted(offsets, offsets[start] + NORMALISED_BYTES, side="right")) - 1
            end = min(max(end, start + 1), len(chunk))
            yield normalise(data, offsets[start : end + 1])
            start = end


def normalise(data: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> Normalised:
    """Normalises texts given as Arrow holds them: bytes, and where each text starts and the last one ends."""
    found = _folding()
    room = _GROWTH * int(offsets[-1] - offsets[0]) + 16
    out = np.empty(room, np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    _normalise(data, offsets, found.table, found.starts, found.letters, out, ends)
    return Normalised(out[: ends[-1]], ends)


def text_hashes(texts: Normalised) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """BLAKE2b of each normalised text, 128 bits as (high, low). Shape (texts, 2)."""
    view = memoryview(texts.data)  # type: ignore[arg-type]  # NumPy arrays are buffers
    offsets = texts.offsets.tolist()
    digests = b"".join(
        hashlib.blake2b(view[start:end], digest_size=16).digest() for start, end in itertools.pairwise(offsets)
    )
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def string_buffers(texts: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The UTF-8 bytes and the int64 offsets (one more than texts) of a string or large_string array; null is empty."""
    if texts.null_count:
        texts = texts.fill_null("")
    wide = pa.types.is_large_string(texts.type)
    if not wide and not pa.types.is_string(texts.type):
        raise TypeError(f"texts are strings, not {texts.type}")
    _, offsets, data = texts.buffers()
    kind = np.int64 if wide else np.int32
    count = len(texts)
    if offsets is None or count == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    where = np.frombuffer(offsets, kind, count + 1, texts.offset * np.dtype(kind).itemsize).astype(np.int64)
    return (np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)), where


@functools.cache
def _folding() -> Folding:
    return folding(fold)


def fold(character: str) -> str:
    """What one character becomes before runs of digits and spaces are joined."""
    if 0xD800 <= ord(character) <= 0xDFFF:
        return " "
    # the lower case of a capital sigma depends on its place in the word: one form for both
    lowered = character.lower().replace("ς", "σ")
    out = []
    for letter in unicodedata.normalize("NFD", lowered):
        kind = unicodedata.category(letter)
        if kind in ("Mn", "Cf"):
            continue
        if kind == "Nd":
            out.append("0")
        elif kind[0] in "PZ" or kind == "Cc" or (kind[0] == "S" and letter < "\x7f") or letter in OTHER_PUNCTUATION:
            out.append(" ")
        else:
            out.append(letter)
    return "".join(out)


@kernel
def _normalise(data, offsets, table, starts, letters, out, ends):  # type: ignore[no-untyped-def]
    at = 0
    for text in range(len(offsets) - 1):
        position = offsets[text]
        end = offsets[text + 1]
        first = at
        previous = np.uint32(_SPACE)
        parts = 0  # decimal separators in the number at hand
        while position < end:
            # ASCII almost without a branch a byte: what does not count is written over by what comes next
            while position < end and data[position] < 0x80:
                byte = data[position]
                folded = table[byte]
                position += 1
                if previous == _DIGIT:
                    if (
                        ((byte == _FULL_STOP) | (byte == _COMMA))
                        and not parts
                        and _digit_at(data, position, end, table)
                    ):
                        parts = 1
                        continue
                elif folded == _DIGIT:
                    parts = 0
                # runs of digits and of spaces are one; none leads
                again = (folded == previous) & ((folded == _SPACE) | (folded == _DIGIT))
                out[at] = folded
                at += (folded != 0) & (not again)
                previous = folded if folded else previous
            if position == end:
                break
            code, length = _decode(data, position, end, np.uint32(data[position]))
            position += length
            folded = folded_of(code, table)
            if folded == 0:
                continue
            if previous != _DIGIT:
                parts = 0
            elif not parts and _separates(code) and _digit_at(data, position, end, table):
                parts = 1
                continue
            if folded < 0x80:
                if ((folded == _SPACE) | (folded == _DIGIT)) and folded == previous:
                    continue
                out[at] = folded
                at += 1
                previous = folded
            elif folded & EXPANDS:
                index = folded & np.uint32(0x7FFFFFFF)
                for place in range(starts[index], starts[index + 1]):
                    letter = letters[place]
                    if ((letter == _SPACE) | (letter == _DIGIT)) and letter == previous:
                        continue
                    at = _encode(out, at, letter)
                    previous = letter
            else:
                at = _encode(out, at, folded)
                previous = folded
        if at > first and out[at - 1] == _SPACE:
            at -= 1
        ends[text + 1] = at


@numba.njit(cache=True, nogil=True, inline="always")
def _separates(code):  # type: ignore[no-untyped-def]
    """True for the decimal separators of FineWeb's pattern beyond ASCII: ، ٫ ⎖ ⎗ ⎘."""
    return code == 0x60C or code == 0x66B or 0x2396 <= code <= 0x2398


@kernel
def _digit_at(data, position, end, table):  # type: ignore[no-untyped-def]
    """True if a digit is the first character from here on that stands for anything."""
    while position < end:
        code, length = np.uint32(data[position]), 1
        if code >= 0x80:
            code, length = _decode(data, position, end, code)
        folded = folded_of(code, table)
        if folded:
            return folded == _DIGIT
        position += length
    return False


@numba.njit(cache=True, nogil=True, inline="always")
def _decode(data, position, end, byte):  # type: ignore[no-untyped-def]
    """The character that starts with this byte, and its length; a broken sequence is a space of one byte."""
    space = np.uint32(_SPACE)
    if byte < 0xC2 or byte > 0xF4:
        return space, 1
    length = 2 if byte < 0xE0 else (3 if byte < 0xF0 else 4)
    if position + length > end:
        return space, 1
    code = byte & np.uint32(0xFF >> (length + 1))
    for place in range(1, length):
        following = np.uint32(data[position + place])
        if following & 0xC0 != 0x80:
            return space, 1
        code = (code << np.uint32(6)) | (following & np.uint32(0x3F))
    if code > 0x10FFFF or (length == 3 and code < 0x800) or (length == 4 and code < 0x10000):
        return space, 1
    return code, length


@numba.njit(cache=True, nogil=True, inline="always")
def _encode(out, at, code):  # type: ignore[no-untyped-def]
    """Writes one character as UTF-8; gives the place after it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | (code >> 6)
        out[at + 1] = 0x80 | (code & 0x3F)
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | (code >> 12)
        out[at + 1] = 0x80 | ((code >> 6) & 0x3F)
        out[at + 2] = 0x80 | (code & 0x3F)
        return at + 3
    out[at] = 0xF0 | (code >> 18)
    out[at + 1] = 0x80 | ((code >> 12) & 0x3F)
    out[at + 2] = 0x80 | ((code >> 6) & 0x3F)
    out[at + 3] = 0x80 | (code & 0x3F)
    return at + 4


if sys.byteorder != "little":  # the buffers of Arrow and of Parquet are read as they lie
    raise ImportError("curate needs a little-endian machine")
