"""Hashed word n-grams of texts, straight from Arrow's UTF-8 buffers, in compiled kernels.

What a token is, for every model that is built on this module (a change here makes every such model wrong, so it comes
with a new `TOKENS` number and new models):

- ASCII letters and digits, and every character beyond ASCII that is not listed below, stand in words. ASCII letters and
  the capitals U+00C0–U+00DE are lower-cased; each digit counts as `0`.
- A CJK or kana character (U+3040–U+9FFF), a mathematical operator (U+2200–U+22FF) and a character beyond the basic
  plane are tokens of their own.
- Everything else separates: ASCII punctuation and spaces, U+0080–U+00BF, U+2000–U+2FFF, U+3000–U+303F, U+F000–U+FFFF.

No byte sequence, valid UTF-8 or not, makes a kernel fail; the time is linear in the bytes looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

TOKENS = 1
"""Version of the definition above and of the hash; a model keeps the one it was trained with."""

Hashes = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_PAIR = np.uint64(0x9E3779B97F4A7C15)
_FNV_START = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_LOOKAHEAD = 2_000  # bytes that a `$` or `\begin` may look ahead for its end: keeps hostile input linear


def as_strings(texts: pa.Array | pa.ChunkedArray | Iterable[str | None]) -> pa.Array:
    """The texts as one Arrow array of strings, from Arrow in any form, or from a list. TypeError for a single string."""
    if isinstance(texts, str | bytes):
        raise TypeError("texts: one string was given; give an Arrow array or a list of strings")
    if isinstance(texts, pa.ChunkedArray):
        return texts.cast(pa.large_string()).combine_chunks()  # together they may be over 2 GB
    if not isinstance(texts, pa.Array):
        return pa.array(texts, pa.large_string())
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        return texts.cast(pa.large_string())
    return texts


def utf8_views(texts: pa.Array | pa.ChunkedArray) -> tuple[Bytes, Offsets, Offsets]:
    """The bytes of an Arrow string array without a copy: buffer, starts and ends. A null is an empty text."""
    texts = as_strings(texts)
    wide = pa.types.is_large_string(texts.type)
    _, positions, data = texts.buffers()
    count = len(texts)
    if count == 0 or positions is None:
        return np.zeros(0, np.uint8), np.zeros(count, np.int64), np.zeros(count, np.int64)
    edges = np.frombuffer(positions, np.int64 if wide else np.int32)[texts.offset : texts.offset + count + 1]
    wide_edges: Offsets = edges.astype(np.int64)
    starts, ends = wide_edges[:-1], wide_edges[1:].copy()
    if texts.null_count:
        nulls = np.asarray(texts.is_null())
        ends[nulls] = starts[nulls]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), starts, ends


@numba.njit(cache=True, nogil=True, inline="always")
def _mix(value: np.uint64) -> np.uint64:
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


_SPACE, _WORD, _SINGLE = 0, 1, 2


@numba.njit(cache=True, nogil=True, inline="always")
def _character(data: Bytes, at: int, start: int, end: int) -> tuple[np.uint8, int, int]:
    """What stands at `at`: the byte as it counts, the bytes it takes, and what it is (a byte of a word, a token, a space)."""
    byte = data[at]
    if byte < 0x80:
        if 65 <= byte <= 90:
            return np.uint8(byte + 32), 1, _WORD
        if 97 <= byte <= 122:
            return byte, 1, _WORD
        return (np.uint8(48), 1, _WORD) if 48 <= byte <= 57 else (byte, 1, _SPACE)
    if byte == 0xC2:
        return byte, 2, _SPACE
    if byte == 0xE2:
        return byte, 3, _SINGLE if at + 2 < end and 0x88 <= data[at + 1] <= 0x8B else _SPACE
    if byte == 0xEF or (byte == 0xE3 and at + 1 < end and data[at + 1] == 0x80):
        return byte, 3, _SPACE
    if 0xE3 <= byte <= 0xE9:
        return byte, 3, _SINGLE
    if byte >= 0xF0:
        return byte, 4, _SINGLE
    if at > start and data[at - 1] == 0xC3 and 0x80 <= byte <= 0x9E and byte != 0x97:
        return np.uint8(byte + 32), 1, _WORD
    return byte, 1, _WORD


@numba.njit(cache=True, nogil=True)
def token_hashes(data: Bytes, start: int, end: int, out: npt.NDArray[np.uint64]) -> int:
    """Kernel: writes the 64-bit hash of each token of data[start:end] to `out` (end - start long); gives their number."""
    count = 0
    state = _FNV_START
    inside = False
    at = start
    while at < end:
        byte, size, kind = _character(data, at, start, end)
        if kind == _WORD:
            state = (state ^ np.uint64(byte)) * _FNV_PRIME
            inside = True
            at += 1
            continue
        if inside:
            out[count] = _mix(state)
            count += 1
            state = _FNV_START
            inside = False
        stop = min(at + size, end)
        if kind == _SINGLE:
            for place in range(at, stop):
                state = (state ^ np.uint64(data[place])) * _FNV_PRIME
            out[count] = _mix(state)
            count += 1
            state = _FNV_START
        at = stop
    if inside:
        out[count] = _mix(state)
        count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _token_text(data: Bytes, start: int, end: int, out: Bytes) -> int:
    """Writes the tokens of data[start:end] to `out` (twice as long, and one more), a space before each; gives the bytes."""
    size = 0
    inside = False
    at = start
    while at < end:
        byte, width, kind = _character(data, at, start, end)
        stop = min(at + width, end)
        if kind == _SINGLE or (kind == _WORD and not inside):
            out[size] = 32
            size += 1
        if kind == _WORD:
            out[size] = byte
            size += 1
        elif kind == _SINGLE:
            for place in range(at, stop):
                out[size] = data[place]
                size += 1
        inside = kind == _WORD
        at = stop
    return size


@numba.njit(cache=True, nogil=True)
def token_ngrams(tokens: npt.NDArray[np.uint64], count: int, order: int, out: Hashes) -> int:
    """Kernel: writes the 32-bit hashes of all 1…order-grams to `out` (order * count long): all 1-grams, all 2-grams, …"""
    found = 0
    for length in range(1, order + 1):
        for first in range(count - length + 1):
            value = tokens[first]
            for place in range(first + 1, first + length):
                value = _mix(value * _PAIR + tokens[place])
            out[found] = np.uint32(value >> np.uint64(32))
            found += 1
    return found


@numba.njit(cache=True, nogil=True)
def _is_letter(byte: int) -> bool:
    return 65 <= byte <= 90 or 97 <= byte <= 122


@numba.njit(cache=True, nogil=True)
def _find_pair(data: Bytes, start: int, end: int, first: int, second: int) -> int:
    """Where the two bytes stand next to each other within the look-ahead; -1 if they do not."""
    for at in range(start, min(end, start + _LOOKAHEAD) - 1):
        if data[at] == first and data[at + 1] == second:
            return at
    return -1


@numba.njit(cache=True, nogil=True)
def _closing_dollar(data: Bytes, start: int, end: int) -> int:
    """The `$` that ends what a `$` at start - 1 opened, by Pandoc's rule, so that prices are no formulas; -1 if none.

    No space inside the delimiters, no digit after the closing one, no blank line between.
    """
    if start >= end or data[start] <= 32 or data[start] == 36:
        return -1
    for at in range(start, min(end, start + _LOOKAHEAD)):
        byte = data[at]
        if byte == 36:
            digit = at + 1 < end and 48 <= data[at + 1] <= 57
            return -1 if data[at - 1] <= 32 or digit else at
        if byte == 10 and at + 1 < end and data[at + 1] == 10:
            return -1
    return -1


@numba.njit(cache=True, nogil=True)
def _group_end(data: Bytes, at: int, end: int) -> int:
    """The place after the `{…}` or `[…]` group that opens at `at`; `at` itself if none opens or it does not close."""
    if at >= end or (data[at] != 123 and data[at] != 91):
        return at
    opening = data[at]
    closing = opening + 2
    depth = 0
    for place in range(at, min(end, at + _LOOKAHEAD)):
        if data[place] == opening:
            depth += 1
        elif data[place] == closing:
            depth -= 1
            if depth == 0:
                return place + 1
    return at


@numba.njit(cache=True, nogil=True)
def _command(data: Bytes, at: int, end: int, names: Bytes, edges: Offsets) -> int:
    """The number of the listed name that stands at `at` and ends there; -1 if none does."""
    for number in range(len(edges) - 1):
        size = edges[number + 1] - edges[number]
        if at + size > end or (at + size < end and _is_letter(data[at + size])):
            continue
        same = True
        for place in range(size):
            if data[at + place] != names[edges[number] + place]:
                same = False
                break
        if same:
            return number
    return -1


def _packed(words: str) -> tuple[Bytes, Offsets]:
    names = [name.encode() for name in words.split()]
    edges = np.concatenate([[0], np.cumsum([len(name) for name in names])]).astype(np.int64)
    return np.frombuffer(b"".join(names), np.uint8).copy(), edges


# Commands whose arguments are markup, not prose; `begin` stands first.
_DROPPED_NAMES, _DROPPED_EDGES = _packed(
    "begin end ref label cite eqref autoref cref citep citet pageref input include includegraphics usepackage "
    "documentclass bibliography bibliographystyle newcommand renewcommand def href url hspace vspace index"
)
_MATH_NAMES, _MATH_EDGES = _packed(
    "equation align eqnarray gather multline displaymath math alignat array matrix xymatrix"
)


@numba.njit(cache=True, nogil=True)
def _skip_environment(data: Bytes, at: int, end: int) -> int:
    """The place of the `\\end` of a mathematical environment whose `{name}` opens at `at`; -1 for any other environment."""
    if at >= end or data[at] != 123 or _command(data, at + 1, end, _MATH_NAMES, _MATH_EDGES) < 0:
        return -1
    for place in range(at, min(end, at + _LOOKAHEAD) - 3):
        if data[place] == 92 and data[place + 1] == 101 and data[place + 2] == 110 and data[place + 3] == 100:
            return place
    return -1


@numba.njit(cache=True, nogil=True)
def _skip_command(data: Bytes, at: int, end: int) -> int:
    """The place after the LaTeX that a backslash at `at` begins: a formula, or a command without the prose it holds."""
    if at + 1 >= end:
        return end
    after = data[at + 1]
    if after == 40 or after == 91:
        closing = _find_pair(data, at + 2, end, 92, after + (1 if after == 40 else 2))
        return closing + 2 if closing >= 0 else at + 2
    if not _is_letter(after):
        return at + 2
    number = _command(data, at + 1, end, _DROPPED_NAMES, _DROPPED_EDGES)
    place = at + 1
    while place < end and _is_letter(data[place]):
        place += 1
    if place < end and data[place] == 42:
        place += 1
    if number == 0:
        closing = _skip_environment(data, place, end)
        if closing >= 0:
            return closing
    while place < end and data[place] == 91:
        inner = _group_end(data, place, end)
        if inner == place:
            break
        place = inner
    while number >= 0 and place < end:
        inner = _group_end(data, place, end)
        if inner == place:
            break
        place = inner
    return place


@numba.njit(cache=True, nogil=True)
def _strip_latex(data: Bytes, start: int, end: int, out: Bytes) -> int:
    """Copies data[start:end] to `out` with every formula and command replaced by a space; gives the bytes written."""
    at, size = start, 0
    while at < end:
        byte = data[at]
        after = at
        if byte == 92:
            after = _skip_command(data, at, end)
        elif byte == 36:
            if at + 1 < end and data[at + 1] == 36:
                closing = _find_pair(data, at + 2, end, 36, 36)
                after = closing + 2 if closing >= 0 else at + 2
            else:
                closing = _closing_dollar(data, at + 1, end)
                after = closing + 1 if closing >= 0 else at
        if after > at:
            byte = 32
            at = after
        else:
            at += 1
        out[size] = byte
        size += 1
    return size


PREPARATIONS = ("as_is", "words", "words_without_latex")
"""How a text can be put before a model that splits at white space: not at all, as its tokens (above) with a space between
them, and the same after formulas and LaTeX commands were taken out."""


@numba.njit(cache=True, nogil=True)
def prepare(data: Bytes, start: int, end: int, preparation: int, out: Bytes) -> int:
    """Kernel: data[start:end] by the preparation of that number (1 or 2) in `out` (twice as long, and one more); its bytes."""
    if preparation == 1:
        return _token_text(data, start, end, out)
    stripped = np.empty(end - start, np.uint8)
    return _token_text(stripped, 0, _strip_latex(data, start, end, stripped), out)


def prepared(text: str, preparation: str, max_bytes: int) -> bytes:
    """The first bytes of a text, put by a preparation."""
    data = np.frombuffer(text.encode("utf-8", "surrogatepass")[:max_bytes], np.uint8)
    number = PREPARATIONS.index(preparation)
    if number == 0:
        return data.tobytes()
    out = np.empty(2 * len(data) + 1, np.uint8)
    return out[: prepare(data, 0, len(data), number, out)].tobytes()


@numba.njit(cache=True, nogil=True)
def feature_hashes(
    data: Bytes,
    start: int,
    end: int,
    order: int,
    strip: bool,
    buffer: Bytes,
    tokens: npt.NDArray[np.uint64],
    out: Hashes,
) -> int:
    """Kernel: writes the n-grams of data[start:end] to `out` (order * bytes long); gives their number."""
    if strip:
        return token_ngrams(tokens, token_hashes(buffer, 0, _strip_latex(data, start, end, buffer), tokens), order, out)
    return token_ngrams(tokens, token_hashes(data, start, end, tokens), order, out)


@numba.njit(cache=True, nogil=True)
def _all_ngrams(
    data: Bytes, starts: Offsets, ends: Offsets, order: int, max_bytes: int, strip: bool, out: Hashes, edges: Offsets
) -> None:
    longest = 0
    for text in range(len(starts)):
        longest = max(longest, min(ends[text] - starts[text], max_bytes))
    tokens, buffer = np.empty(longest, np.uint64), np.empty(longest, np.uint8)
    for text in range(len(starts)):
        end = min(ends[text], starts[text] + max_bytes)
        room = out[edges[text] :]
        edges[text + 1] = edges[text] + feature_hashes(data, starts[text], end, order, strip, buffer, tokens, room)


def ngrams(texts: pa.Array, *, order: int, max_bytes: int, strip_latex: bool = False) -> tuple[Hashes, Offsets]:
    """The 32-bit hashes of all word 1…order-grams of each text's first `max_bytes` bytes.

    Gives (hashes, edges): text i has hashes[edges[i]:edges[i + 1]], repeats included. With `strip_latex` formulas and
    LaTeX commands are taken out before.
    """
    data, starts, ends = utf8_views(texts)
    room = int(np.minimum(ends - starts, max_bytes).sum()) * order
    hashes = np.empty(room, np.uint32)
    edges = np.zeros(len(starts) + 1, np.int64)
    _all_ngrams(data, starts, ends, order, max_bytes, strip_latex, hashes, edges)
    return hashes[: edges[-1]].copy(), edges


def without_latex(text: str) -> str:
    """The text as a model that strips LaTeX sees it: each formula and each command is one space."""
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    out = np.empty(len(data), np.uint8)
    return out[: _strip_latex(data, 0, len(data), out)].tobytes().decode("utf-8", "replace")


def slots(hashes: Hashes) -> npt.NDArray[np.int32]:
    """An open-addressing table from a hash's top bits to its place in `hashes` (distinct); at most a quarter full."""
    table = np.full(max(1 << int(np.ceil(np.log2(max(len(hashes), 1) * 4))), 16), -1, np.int32)
    _fill_slots(hashes, table)
    return table


@numba.njit(cache=True, nogil=True)
def _fill_slots(hashes: Hashes, table: npt.NDArray[np.int32]) -> None:
    mask = len(table) - 1
    for place in range(len(hashes)):
        slot = (np.int64(hashes[place]) * len(table)) >> 32
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = place


@numba.njit(cache=True, nogil=True)
def find_slot(value: int, hashes: Hashes, table: npt.NDArray[np.int32]) -> int:
    """Kernel: the place of a hash in `hashes` by the table that `slots` made; -1 if it is not there."""
    mask = len(table) - 1
    slot = (np.int64(value) * len(table)) >> 32
    while table[slot] >= 0 and hashes[table[slot]] != value:
        slot = (slot + 1) & mask
    return table[slot]
