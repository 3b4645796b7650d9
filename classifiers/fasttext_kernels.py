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
_END = np.frombuffer(b"</s>", np.uint8)
_LABEL = np.frombuffer(b"__label__", np.uint8)


@numba.njit(cache=True, nogil=True, inline="always")
def _hashed(state: np.uint32, byte: np.uint8) -> np.uint32:
    """One step of FNV-1a over signed bytes."""
    return np.uint32((state ^ np.uint32(np.int32(np.int8(byte)))) * _PRIME)


@numba.njit(cache=True, nogil=True, inline="always")
def _is_space(byte: np.uint8) -> bool:
    return bool(byte <= 32 and (byte == 32 or 9 <= byte <= 13 or byte == 0))


@numba.njit(cache=True, nogil=True)
def _hash_of(data: Bytes, start: int, end: int) -> np.uint32:
    state = _START
    for at in range(start, end):
        state = _hashed(state, data[at])
    return state


@numba.njit(cache=True, nogil=True)
def fill_words(words: Bytes, edges: Offsets, table: Table) -> None:
    """Kernel: an open-addressing table (a power of two long) of pairs: hash, entry + 1; a word twice stands once."""
    mask = len(table) - 1
    for entry in range(len(edges) - 1):
        value = _hash_of(words, edges[entry], edges[entry + 1])
        slot = np.int64(value) & mask
        while table[slot, 1] != 0:
            other = np.int64(table[slot, 1])
            if table[slot, 0] == value and _same(
                words, edges[other - 1], edges[other], words, edges[entry], edges[entry + 1]
            ):
                break
            slot = (slot + 1) & mask
        table[slot, 0] = value
        table[slot, 1] = entry + 1


@numba.njit(cache=True, nogil=True)
def fill_buckets(pairs: Places, table: Table) -> None:
    """Kernel: the same for what pruning left: pairs of bucket and row become pairs of bucket and row + 1."""
    mask = len(table) - 1
    for place in range(len(pairs)):
        slot = np.int64(pairs[place, 0]) & mask
        while table[slot, 1] != 0:
            slot = (slot + 1) & mask
        table[slot, 0] = np.uint32(pairs[place, 0])
        table[slot, 1] = pairs[place, 1] + 1


@numba.njit(cache=True, nogil=True)
def _same(left: Bytes, start: int, end: int, right: Bytes, first: int, last: int) -> bool:
    if end - start != last - first:
        return False
    place = 0
    while place < end - start and left[start + place] == right[first + place]:
        place += 1
    return place == end - start


@numba.njit(cache=True, nogil=True)
def _find(value: np.uint32, data: Bytes, start: int, end: int, words: Bytes, edges: Offsets, table: Table) -> int:
    """The entry of a token with that hash; -1 if the dictionary has none."""
    mask = len(table) - 1
    slot = np.int64(value) & mask
    while table[slot, 1] != 0:
        if table[slot, 0] == value:
            entry = np.int64(table[slot, 1]) - 1
            if _same(words, edges[entry], edges[entry + 1], data, start, end):
                return int(entry)
        slot = (slot + 1) & mask
    return -1


@numba.njit(cache=True, nogil=True)
def _row_of(bucket: int, kept: Table) -> int:
    """The row of a bucket; -1 if it was pruned. An empty table prunes nothing."""
    if len(kept) == 0:
        return bucket
    mask = len(kept) - 1
    slot = bucket & mask
    while kept[slot, 1] != 0:
        if kept[slot, 0] == bucket:
            return int(kept[slot, 1]) - 1
        slot = (slot + 1) & mask
    return -1


@numba.njit(cache=True, nogil=True)
def _character_rows(
    data: Bytes, start: int, end: int, words: int, shortest: int, longest: int, buckets: int, kept: Table, rows: Places,
    count: int,
) -> int:  # fmt: skip
    """Writes the rows of the character n-grams of `<` + data[start:end] + `>` from rows[count] on; gives the new count."""
    size = end - start + 2
    divisor = np.uint32(buckets)
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
                row = _row_of(np.int64(np.uint32(state % divisor)), kept)
                if row >= 0:
                    rows[count] = words + row
                    count += 1
            length += 1
    return count


@numba.njit(cache=True, nogil=True)
def _word_rows(
    data: Bytes, at: int, end: int, words: Bytes, edges: Offsets, count: int, table: Table, grams: int, shortest: int,
    longest: int, buckets: int, kept: Table, tokens: npt.NDArray[np.int64], rows: Places,
) -> int:  # fmt: skip
    """Writes the rows of the words and n-grams of data[at:end] to `rows`; gives their number.

    A word that the dictionary has stands for its character n-grams, too (`add_characters`).
    """
    seen, found, done = 0, 0, False
    while not done:
        while at < end and _is_space(data[at]):
            at += 1
        first, value = at, _START
        while at < end and not _is_space(data[at]):
            value = _hashed(value, data[at])
            at += 1
        if first == at or (at - first == 4 and _same(data, first, at, _END, 0, 4)):
            done = True
            value = _hash_of(_END, 0, 4)
            entry = _find(value, _END, 0, 4, words, edges, table)
        else:
            entry = _find(value, data, first, at, words, edges, table)
            if entry >= count or (
                entry < 0 and at - first >= 9 and data[first] == 95 and _same(data, first, first + 9, _LABEL, 0, 9)
            ):
                continue  # a label is no word
        tokens[seen] = np.int64(np.int32(value))
        seen += 1
        if 0 <= entry < count:
            rows[found] = entry
            found += 1
        elif longest > 0 and not done:
            found = _character_rows(data, first, at, count, shortest, longest, buckets, kept, rows, found)
    divisor = np.uint64(max(buckets, 1))
    for first in range(seen if grams > 1 else 0):
        mixed = np.uint64(tokens[first])
        for place in range(first + 1, min(first + grams, seen)):
            mixed = mixed * _NGRAM + np.uint64(tokens[place])
            row = _row_of(np.int64(mixed % divisor), kept)
            if row >= 0:
                rows[found] = count + row
                found += 1
    return found


@numba.njit(cache=True, nogil=True)
def _add_rows(hidden: Floats, rows: Places, count: int, dense: Floats) -> None:
    for place in range(count):
        row = dense[np.uint32(rows[place])]
        for column in range(len(hidden)):
            hidden[column] += row[column]


@numba.njit(cache=True, nogil=True)
def _add_codes(
    hidden: Floats, rows: Places, count: int, codes: Bytes, centroids: Floats, part: int, norms: Floats
) -> None:
    width = len(hidden)
    for place in range(count):
        row = rows[place]
        norm = norms[row] if len(norms) else np.float32(1)
        for number in range(codes.shape[1]):
            first = number * part
            size = min(part, width - first)
            at = first * 256 + codes[row, number] * size
            for column in range(size):
                hidden[first + column] += norm * centroids[at + column]


@numba.njit(cache=True, nogil=True)
def add_characters(
    words: Bytes, edges: Offsets, last: int, shortest: int, longest: int, buckets: int, kept: Table, dense: Floats,
    sizes: npt.NDArray[np.int32], rows: Places,
) -> None:  # fmt: skip
    """Kernel: adds to each word's row those of its character n-grams, and says in `sizes` how many rows it then stands for.

    `last` is the entry of `</s>`, which has none.
    """
    for entry in range(len(sizes)):
        found = 0
        if entry != last:
            found = _character_rows(
                words, edges[entry], edges[entry + 1], len(sizes), shortest, longest, buckets, kept, rows, 0
            )
        _add_rows(dense[entry], rows, found, dense)
        sizes[entry] = 1 + found


@numba.njit(cache=True, nogil=True)
def hidden_layers(
    data: Bytes, starts: Offsets, ends: Offsets, preparation: int, max_bytes: int, words: Bytes, edges: Offsets, table: Table,
    grams: int, shortest: int, longest: int, buckets: int, kept: Table, sizes: npt.NDArray[np.int32], dense: Floats,
    codes: Bytes, centroids: Floats, part: int, norms: Floats, out: Floats, known: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    """Kernel: the mean of the rows of each text's words and n-grams, and how many these are."""
    most = 0
    for text in range(len(starts)):
        most = max(most, min(ends[text] - starts[text], max_bytes))
    tokens = np.empty(most + 2, np.int64)
    lengths = max(longest - max(shortest, 1) + 1, 0) if longest > 0 else 0
    # A token of n bytes and what encloses it have at most n + 2 n-grams of a length; n tokens hold n bytes or more.
    rows = np.empty((most + 2) * grams + 3 * (most + 2) * lengths, np.int32)
    buffer = np.empty(2 * most + 1 if preparation > 0 else 0, np.uint8)
    for text in range(len(starts)):
        at, end = starts[text], min(ends[text], starts[text] + max_bytes)
        if preparation > 0:
            end = prepare(data, at, end, preparation, buffer)
            found = _word_rows(
                buffer, 0, end, words, edges, len(sizes), table, grams, shortest, longest, buckets, kept, tokens, rows
            )
        else:
            found = _word_rows(
                data, at, end, words, edges, len(sizes), table, grams, shortest, longest, buckets, kept, tokens, rows
            )
        if len(dense):
            _add_rows(out[text], rows, found, dense)
        else:
            _add_codes(out[text], rows, found, codes, centroids, part, norms)
        number = 0
        for place in range(found):
            number += sizes[rows[place]] if rows[place] < len(sizes) else 1
        known[text] = number
        scale = np.float32(1.0 / max(number, 1))
        for column in range(out.shape[1]):
            out[text, column] *= scale


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
            scores[left[inner]] = scores[node] + np.float32(
                np.log(np.float64(np.float32(1.0 - np.float64(share))) + 1e-5)
            )
            scores[right[inner]] = scores[node] + np.float32(np.log(np.float64(share) + 1e-5))
        for label in range(labels):
            out[text, label] = scores[label]
