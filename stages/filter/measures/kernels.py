"""Compiled loops of the published signals. Conventions: `curate.stages.text.kernels`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.stages.filter.measures.characters import ASCII_PUNCTUATION, NUMERIC, PUNCTUATION, SENTENCE_STOP, SYMBOL
from curate.stages.text.grams import find, room
from curate.stages.text.kernels import HALF, Bytes, Int32s, Int64s, decode, kernel

Table = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float64]

SCRIPT = np.frombuffer(b"javascript", np.uint8)


@kernel
def entropies(first: Int64s, ids: Int32s, kinds: Int64s, out: Floats) -> None:
    """For each text the Shannon entropy of its numbered spans, in nats; `kinds`: how many numbers it uses."""
    times = np.empty(max(kinds.max(), 1) if len(kinds) else 1, np.int64)
    for d in range(len(first) - 1):
        size = first[d + 1] - first[d]
        times[: kinds[d]] = 0
        for k in range(first[d], first[d + 1]):
            times[ids[k]] += 1
        for k in range(kinds[d]):
            share = times[k] / size
            out[d] -= share * np.log(share)
        out[d] = max(out[d], 0.0)


@kernel
def repeated_grams(
    first: Int64s,
    ids: Int32s,
    kinds: Int64s,
    chars: Int32s,
    longest: int,
    times_top: Int64s,
    top: Int64s,
    repeated: Int64s,
) -> None:
    """Of each text: how often the commonest 2- to 4-gram occurs (0 if once) and its characters as often (of equally common
    ones the first), and the characters of all words that lie in a 5- to 10-gram which occurs twice.

    Only where the n-1-grams at a place and at the next one both repeat can the n-gram repeat: each n looks at fewer places.
    """
    slots, keys = np.empty(room(longest), np.int32), np.empty(longest, np.uint64)
    times, grams, places = np.empty(longest, np.int32), np.empty(longest, np.int32), np.empty(longest, np.int32)
    for d in range(len(first) - 1):
        low, words = first[d], first[d + 1] - first[d]
        times[: kinds[d]] = 0
        for k in range(words):
            times[ids[low + k]] += 1
        left = 0
        for k in range(words):
            if times[ids[low + k]] > 1:
                grams[left] = ids[low + k]
                places[left] = k
                left += 1
        for n in range(2, 11):
            mask = room(left) - 1
            slots[: mask + 1] = -1
            found, still = 0, 0
            for p in range(left - 1):
                if places[p + 1] != places[p] + 1:
                    continue
                key = np.uint64(grams[p]) << HALF | np.uint64(grams[p + 1])
                slot = find(slots, mask, keys, key)
                if slots[slot] < 0:
                    slots[slot] = found
                    keys[found] = key
                    times[found] = 0
                    found += 1
                times[slots[slot]] += 1
                grams[still] = slots[slot]
                places[still] = places[p]
                still += 1
            left, best, chosen, behind = 0, 1, -1, 0
            for p in range(still):
                k = places[p]
                if times[grams[p]] < 2:
                    continue
                if times[grams[p]] > best:
                    best, chosen = times[grams[p]], k
                if n >= 5:
                    for w in range(max(k, behind), k + n):
                        repeated[d, n - 5] += chars[low + w]
                    behind = k + n
                grams[left] = grams[p]
                places[left] = k
                left += 1
            if n <= 4 and chosen >= 0:
                times_top[d, n - 2] = best
                for w in range(chosen, chosen + n):
                    top[d, n - 2] += best * chars[low + w]
            if left == 0:
                break


@kernel
def line_words(
    data: Bytes,
    first: Int64s,
    stop: Int64s,
    token_first: Int64s,
    token_start: Int64s,
    token_stop: Int64s,
    normal: Bytes,
    word_first: Int64s,
    word_start: Int64s,
    word_stop: Int64s,
    word_chars: Int32s,
    table: Table,
    numeric: Floats,
    scripts: Int64s,
) -> None:
    """Of each text: the sum over its lines of numeric characters / all characters of the normalised line, and how often
    the normalised word `javascript` stands in it.

    What becomes a word of the normalised text is a run of anything but white space (tokens, which may touch) that holds more
    than ASCII punctuation.
    """
    for d in range(len(first) - 1):
        word, token = word_first[d], token_first[d]
        for k in range(first[d], first[d + 1]):
            chars = digits = 0
            while token < token_first[d + 1] and token_start[token] < stop[k]:
                spoken = False
                going = True
                while going:
                    i = token_start[token]
                    while not spoken and i < token_stop[token]:
                        spoken = data[i] >= 128 or table[data[i]] & ASCII_PUNCTUATION == 0
                        i += 1
                    token += 1
                    going = token < token_first[d + 1] and token_start[token] == token_stop[token - 1]
                if not spoken or word == word_first[d + 1]:
                    continue
                i, last = word_start[word], word_stop[word]
                if last - i == len(SCRIPT) and normal[i] == SCRIPT[0]:
                    same = True
                    for j in range(len(SCRIPT)):
                        same = same and normal[i + j] == SCRIPT[j]
                    scripts[d] += same
                chars += word_chars[word] + (chars > 0)
                while i < last:
                    point, size = int(normal[i]), 1
                    if point >= 0x80:
                        point, size = decode(normal, i, last)
                    digits += table[point] & NUMERIC != 0
                    i += size
                word += 1
            if chars:
                numeric[d] += digits / chars


@kernel
def token_marks(data: Bytes, start: Int64s, stop: Int64s, table: Table, out: Bytes) -> None:
    """Of each token, as bits: 1 it holds a character that is no SYMBOL; 2 it is one SENTENCE_STOP; 4 all of it is
    PUNCTUATION."""
    for k in range(len(start)):
        i, end = start[k], stop[k]
        point, size = decode(data, i, end)
        bits = 2 if i + size == end and table[point] & SENTENCE_STOP else 0
        spoken, marks = False, True
        while i < end and (marks or not spoken):
            point, size = int(data[i]), 1
            if point >= 0x80:
                point, size = decode(data, i, end)
            spoken = spoken or table[point] & SYMBOL == 0
            marks = marks and table[point] & PUNCTUATION != 0
            i += size
        out[k] = bits | (1 if spoken else 0) | (4 if marks else 0)


@kernel
def count_sentences(
    line_first: Int64s, line_stop: Int64s, token_first: Int64s, token_start: Int64s, marks: Bytes, out: Int64s
) -> None:
    """Sentences of each text, cut line by line: one begins at a line's first token, and at each that follows a stop and
    is neither a stop nor punctuation."""
    for d in range(len(out)):
        token = token_first[d]
        for k in range(line_first[d], line_first[d + 1]):
            stopped, begins = False, True
            while token < token_first[d + 1] and token_start[token] < line_stop[k]:
                if begins or (stopped and marks[token] & 6 == 0):
                    out[d] += 1
                    stopped = begins = False
                if marks[token] & 2:
                    stopped = True
                token += 1
