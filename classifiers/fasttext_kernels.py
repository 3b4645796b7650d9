"""fastText's prediction, compiled, straight from Arrow's UTF-8 buffers: the same hashes, sums and roundings as the library's.

Definitions: fastText 0.9.2, `Dictionary::getLine` (tokens, character and word n-grams), `Matrix::averageRowsToVector`,
`Loss::computeOutput`. A token is what stands between spaces, tabs, line ends, form feeds and zeros; every text ends in the
token `</s>`, and one inside a text ends it. Any bytes will do; the time is linear in them.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from curate.classifiers.ngrams import Bytes, Offsets, prepare

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int32]
Table = npt.NDArray[np.uint32]

_START = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
_NGRAM = np.uint64(116049371)
_SIGN = np.uint32(0xFFFFFF00)
_END = np.frombuffer(b"</s>", np.uint8)
_LABEL = np.frombuffer(b"__label__", np.uint8)


@numba.njit(cache=True, nogil=True, inline="always")
def _hashed(state: np.uint32, byte: np.uint8) -> np.uint32:
    """One step of FNV-1a over signed bytes."""
    value = np.uint32(byte)
    if byte >= 128:
        value |= _SIGN
    return np.uint32((state ^ value) * _PRIME)


@numba.njit(cache=True, nogil=True)
def hash_of(data: Bytes, start: int, end: int) -> np.uint32:
    """Kernel: fastText's hash of data[start:end]."""
    state = _START
    for at in range(start, end):
        state = _hashed(state, data[at])
    return state


@numba.njit(cache=True, nogil=True)
def fill_table(words: Bytes, edges: Offsets, table: Table) -> None:
    """Kernel: an open-addressing table (a power of two long) of pairs: hash, entry + 1; a word twice stands once."""
    mask = len(table) - 1
    for entry in range(len(edges) - 1):
        value = hash_of(words, edges[entry], edges[entry + 1])
        slot = np.int64(value) & mask
        while table[slot, 1] != 0:
            if table[slot, 0] == value and _same(
                words, edges[table[slot, 1] - 1], edges[table[slot, 1]], words, edges[entry], edges[entry + 1]
            ):
                break
            slot = (slot + 1) & mask
        table[slot, 0] = value
        table[slot, 1] = entry + 1


@numba.njit(cache=True, nogil=True)
def _same(left: Bytes, start: int, end: int, right: Bytes, first: int, last: int) -> bool:
    if end - start != last - first:
        return False
    for place in range(end - start):
        if left[start + place] != right[first + place]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _find(
    value: np.uint32, data: Bytes, start: int, end: int, words: Bytes, edges: Offsets, table: Table
) -> int:
    """The entry of a token with that hash; -1 if the dictionary has none."""
    mask = len(table) - 1
    slot = np.int64(value) & mask
    while table[slot, 1] != 0:
        if table[slot, 0] == value:
            entry = np.int64(table[slot, 1]) - 1
            if _same(words, edges[entry], edges[entry + 1], data, start, end):
                return entry
        slot = (slot + 1) & mask
    return -1


@numba.njit(cache=True, nogil=True)
def _left(bucket: int, pruned: Places) -> int:
    """The row of a bucket after pruning (pairs sorted by bucket); -1 if it was pruned."""
    low, high = 0, len(pruned)
    while low < high:
        middle = (low + high) // 2
        if pruned[middle, 0] < bucket:
            low = middle + 1
        else:
            high = middle
    return pruned[low, 1] if low < len(pruned) and pruned[low, 0] == bucket else -1


@numba.njit(cache=True, nogil=True)
def _add_row(
    hidden: Floats, row: int, dense: Floats, codes: Bytes, centroids: Floats, part: int, norms: Floats
) -> None:
    """Adds a row of the input matrix, plain or by its codes."""
    if len(dense):
        for place in range(len(hidden)):
            hidden[place] += dense[row, place]
        return
    norm = norms[row] if len(norms) else np.float32(1)
    width = len(hidden)
    for number in range(codes.shape[1]):
        first = number * part
        size = min(part, width - first)
        at = first * 256 + codes[row, number] * size
        for place in range(size):
            hidden[first + place] += norm * centroids[at + place]


@numba.njit(cache=True, nogil=True)
def _add_characters(
    hidden: Floats, data: Bytes, start: int, end: int, count: int, shortest: int, longest: int, buckets: int, pruned: Places,
    is_pruned: bool, dense: Floats, codes: Bytes, centroids: Floats, part: int, norms: Floats,
) -> int:  # fmt: skip
    """Adds the rows of the character n-grams of `<` + data[start:end] + `>`; gives their number."""
    size = end - start + 2
    rows = 0
    for first in range(size):
        if 0 < first < size - 1 and data[start + first - 1] & 0xC0 == 0x80:
            continue
        state, at, length = _START, first, 1
        while at < size and length <= longest:
            more = True
            while more:  # a character with its further bytes
                step = np.uint8(60) if at == 0 else np.uint8(62) if at == size - 1 else data[start + at - 1]
                state = _hashed(state, step)
                at += 1
                more = at < size - 1 and data[start + at - 1] & 0xC0 == 0x80
            if length >= shortest and not (length == 1 and (first == 0 or at == size)):
                row = np.int64(state) % buckets
                if is_pruned:
                    row = _left(row, pruned)
                if row >= 0:
                    _add_row(hidden, count + row, dense, codes, centroids, part, norms)
                    rows += 1
            length += 1
    return rows


@numba.njit(cache=True, nogil=True)
def hidden_layers(
    data: Bytes, starts: Offsets, ends: Offsets, preparation: int, max_bytes: int, words: Bytes, edges: Offsets, count: int,
    table: Table, grams: int, shortest: int, longest: int, buckets: int, pruned: Places, is_pruned: bool, dense: Floats,
    codes: Bytes, centroids: Floats, part: int, norms: Floats, out: Floats, known: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    """Kernel: the mean of the rows of each text's words and n-grams, and how many these are."""
    longest_text = 0
    for text in range(len(starts)):
        longest_text = max(longest_text, min(ends[text] - starts[text], max_bytes))
    tokens = np.empty(longest_text + 2, np.int64)
    buffer = np.empty(2 * longest_text + 1 if preparation > 0 else 0, np.uint8)
    end_hash = hash_of(_END, 0, len(_END))
    for text in range(len(starts)):
        source, at, end = data, starts[text], min(ends[text], starts[text] + max_bytes)
        if preparation > 0:
            size = prepare(data, at, end, preparation, buffer)
            source, at, end = buffer, 0, size
        hidden = out[text]
        seen, rows, done = 0, 0, False
        while not done:
            while at < end and (source[at] == 32 or 9 <= source[at] <= 13 or source[at] == 0):
                at += 1
            first, value = at, _START
            while at < end and not (source[at] == 32 or 9 <= source[at] <= 13 or source[at] == 0):
                value = _hashed(value, source[at])
                at += 1
            if first == at or (value == end_hash and _same(source, first, at, _END, 0, len(_END))):
                done = True
                value = end_hash
                entry = _find(value, _END, 0, len(_END), words, edges, table)
            else:
                entry = _find(value, source, first, at, words, edges, table)
                label = at - first >= len(_LABEL) and _same(source, first, first + len(_LABEL), _LABEL, 0, len(_LABEL))
                if entry >= count or (entry < 0 and label):
                    continue
            tokens[seen] = np.int64(np.int32(value))
            seen += 1
            if 0 <= entry < count:
                _add_row(hidden, entry, dense, codes, centroids, part, norms)
                rows += 1
            if longest > 0 and not done:
                rows += _add_characters(
                    hidden, source, first, at, count, shortest, longest, buckets, pruned, is_pruned, dense, codes, centroids,
                    part, norms,
                )  # fmt: skip
        for first in range(seen if grams > 1 else 0):
            mixed = np.uint64(tokens[first])
            for place in range(first + 1, min(first + grams, seen)):
                mixed = mixed * _NGRAM + np.uint64(tokens[place])
                bucket = np.int64(mixed % np.uint64(buckets))
                row = _left(bucket, pruned) if is_pruned else bucket
                if row >= 0:
                    _add_row(hidden, count + row, dense, codes, centroids, part, norms)
                    rows += 1
        known[text] = rows
        scale = np.float32(1.0 / max(rows, 1))
        for place in range(len(hidden)):
            hidden[place] *= scale


@numba.njit(cache=True, nogil=True)
def products(hidden: Floats, columns: Floats, out: Floats) -> None:
    """Kernel: hidden (texts x width) times columns (width x labels), each sum in the order of the width."""
    for text in range(len(hidden)):
        for place in range(hidden.shape[1]):
            value = hidden[text, place]
            for label in range(out.shape[1]):
                out[text, label] += value * columns[place, label]


@numba.njit(cache=True, nogil=True)
def descend(nodes: Floats, left: Places, right: Places, out: Floats) -> None:
    """Kernel: hierarchical softmax: the logarithm of each label's probability from the inner nodes' answers."""
    labels = out.shape[1]
    scores = np.zeros(2 * labels - 1, np.float32)
    for text in range(len(nodes)):
        scores[2 * labels - 2] = 0
        for inner in range(labels - 2, -1, -1):
            node = labels + inner
            share = np.float32(1.0 / np.float64(np.float32(1) + np.exp(-nodes[text, inner])))
            scores[left[inner]] = scores[node] + np.float32(np.log(np.float64(np.float32(1.0 - np.float64(share))) + 1e-5))
            scores[right[inner]] = scores[node] + np.float32(np.log(np.float64(share) + 1e-5))
        for label in range(labels):
            out[text, label] = scores[label]
