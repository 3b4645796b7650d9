"""Numbers that describe each block of a page: what the model sees."""

from __future__ import annotations

import numpy as np
from numba import njit

from curate.stages.extract.content.stopwords import WORDS
from curate.stages.extract.dom import build, tags

_I, _B = tags.ID, tags.BITS
_BLOCK, _HEADING, _LIST, _PRE = _B["BLOCK"], _B["HEADING"], _B["LIST"], _B["PRE"]
_FNV, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)

CONTEXTS = (
    "article main nav header footer aside form table list figure section details dialog blockquote noscript button label "
    "address template hidden aria_hidden link pre inline_link"
).split()
"""Of what an element stands in; `hidden` and `aria_hidden` by attributes. `inline_link` is not used for elements."""
_BIT = {name: 1 << place for place, name in enumerate(CONTEXTS)}
TAG_BITS = np.zeros(256, np.int64)
for _name in (
    "article main nav header footer aside form table figure section details dialog blockquote noscript button label address "
    "template"
).split():
    TAG_BITS[_I[_name]] |= _BIT[_name]
for _name in ("ul", "ol", "dl", "menu", "dir"):
    TAG_BITS[_I[_name]] |= _BIT["list"]
for _name in ("pre", "listing", "xmp", "plaintext"):
    TAG_BITS[_I[_name]] |= _BIT["pre"]
TAG_BITS[_I["search"]] |= _BIT["form"]
_HIDDEN_BIT, _ARIA_BIT, _LINK_BIT = _BIT["hidden"], _BIT["aria_hidden"], _BIT["link"]
_SECTIONS = 0
for _name in "article main nav header footer aside section dialog".split():
    _SECTIONS |= _BIT[_name]
_ARTICLE_BIT, _MAIN_BIT = _BIT["article"], _BIT["main"]

_ROLES = {
    "main": "main", "navigation": "nav", "banner": "header", "contentinfo": "footer", "complementary": "aside",
    "article": "article", "dialog": "dialog", "alertdialog": "dialog", "search": "form", "form": "form", "button": "button",
    "menu": "nav", "menubar": "nav", "tablist": "nav",
}  # fmt: skip
ROLE_KEYS = np.array([tags.pack(role) for role in _ROLES], np.uint64)
ROLE_BITS = np.array([_BIT[name] for name in _ROLES.values()], np.int64)


def hash_word(word: str) -> int:
    """A word as the kernels hash it: FNV-1a, 64 bits, over its UTF-8 bytes with A–Z in lower case."""
    value = 0xCBF29CE484222325
    for byte in word.encode():
        value = ((value ^ (byte | 32 if 65 <= byte <= 90 else byte)) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


_STOP_BITS = 12


def _stop_table() -> np.ndarray:
    table = np.zeros(1 << _STOP_BITS, np.uint64)
    for value in sorted({hash_word(word) for word in WORDS}):
        slot = value % len(table)
        while table[slot]:
            slot = (slot + 1) % len(table)
        table[slot] = value
    return table


STOPS = _stop_table()

# Columns of the counts of a block.
COUNTS = (
    "chars words link_words commas sentences stopwords digits capitals letters bold_words newlines symbols code_marks prices "
    "years terminal upper_start anchors longest_word wide"
).split()
(_CHARS, _WORDS, _LINKS, _COMMAS, _SENTENCES, _STOPS_, _DIGITS, _CAPITALS, _LETTERS, _BOLD, _NEWLINES, _SYMBOLS, _CODE, _PRICES,
 _YEARS, _TERMINAL, _UPPER, _ANCHORS, _LONGEST, _WIDE) = range(len(COUNTS))  # fmt: skip
_STRONG, _BTAG = _I["strong"], _I["b"]


@njit(cache=True)
def scan_words(text: np.ndarray, start: int, stop: int, hashes: np.ndarray, used: int) -> int:
    """Appends the hashes of the words in `text[start:stop]` to `hashes` from `used` on; returns the new end.

    A word is a run of ASCII letters and digits and of letters beyond ASCII; a Chinese, Japanese or Korean character is one, and
    of scripts that put no spaces between words (Thai, Lao, Tibetan, Burmese, Khmer) every four characters are.
    """
    at = start
    inside = False
    unspaced = 0
    value = _FNV
    while at < stop and used < len(hashes):
        byte = text[at]
        if byte < 128:
            lower = byte | 32
            letter = 97 <= lower <= 122 or 48 <= byte <= 57
            if inside and (unspaced or not letter):
                hashes[used] = value
                used += 1
                value = _FNV
                inside = False
                unspaced = 0
            if letter:
                if 65 <= byte <= 90:
                    byte = lower
                value = (value ^ np.uint64(byte)) * _PRIME
                inside = True
            at += 1
            continue
        width = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        second = text[at + 1] if at + 1 < stop else 0
        mark = (
            (byte == 0xE2 and (second == 0x80 or 0x84 < second < 0xB0))
            or (byte == 0xC2)
            or (byte == 0xE3 and second == 0x80)
            or byte == 0xEF
        )
        wide = (byte == 0xE3 and second > 0x80) or 0xE4 <= byte <= 0xED
        run = (byte == 0xE0 and second >= 0xB8) or (byte == 0xE1 and second in (0x80, 0x81, 0x9E, 0x9F))
        if inside and (mark or wide or unspaced == 4 or run != (unspaced > 0)):
            hashes[used] = value
            used += 1
            value = _FNV
            inside = False
            unspaced = 0
        if mark or wide:
            if wide and used < len(hashes):
                for index in range(at, min(at + width, stop)):
                    value = (value ^ np.uint64(text[index])) * _PRIME
                hashes[used] = value
                used += 1
                value = _FNV
        else:
            for index in range(at, min(at + width, stop)):
                value = (value ^ np.uint64(text[index])) * _PRIME
            inside = used < len(hashes)
            unspaced += run
        at += width
    if inside and used < len(hashes):
        hashes[used] = value
        used += 1
    return used


_PLAIN_MARK, _PRICE_MARK, _COMMA_MARK, _SENTENCE_MARK, _SYMBOL_MARK = 1, 2, 3, 4, 5


@njit(cache=True)
def _is_century(first: int, second: int) -> bool:
    """True for the first two digits of the years 1900 to 2099."""
    return (first == 49 and second == 57) or (first == 50 and second == 48)


@njit(cache=True)
def _mark(first: int, second: int, third: int) -> int:
    """What the character beyond ASCII that these bytes begin with is, 0 for a letter."""
    if first == 0xC2:
        return _PRICE_MARK if second == 0xA3 or second == 0xA5 else _SYMBOL_MARK
    if first == 0xE2:
        if second == 0x82 and third == 0xAC:
            return _PRICE_MARK
        if second == 0x80:
            return _SYMBOL_MARK if third == 0xA2 or third == 0xB9 or third == 0xBA else _PLAIN_MARK
        return _SYMBOL_MARK if 0x85 < second < 0xB0 else 0
    if first == 0xE3 and second == 0x80:
        return _SENTENCE_MARK if third == 0x82 else _COMMA_MARK if third == 0x81 else _PLAIN_MARK
    if first == 0xEF and second == 0xBC:
        if third == 0x8C or third == 0x9B:
            return _COMMA_MARK
        return _SENTENCE_MARK if third == 0x81 or third == 0x9F or third == 0x8E else 0
    if first == 0xD8:
        return _COMMA_MARK if second == 0x8C or second == 0x9B else _SENTENCE_MARK if second == 0x9F else 0
    if first == 0xE0 and second == 0xA5 and (third == 0xA4 or third == 0xA5):
        return _SENTENCE_MARK
    return 0


@njit(cache=True)
def count(text: np.ndarray, pieces: np.ndarray, blocks: np.ndarray, anchor: np.ndarray, parent: np.ndarray, tag: np.ndarray,
          stops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """For each block its counts (blocks, COUNTS), and the hashes of its words with where they start (blocks + 1)."""
    n = len(blocks)
    counts = np.zeros((n, 20), np.float32)
    words = np.empty(len(text) + 1, np.uint64)
    word_at = np.zeros(n + 1, np.int64)
    used = 0
    mask = np.uint64(len(stops) - 1)
    for block in range(n):
        row = counts[block]
        start, stop = blocks[block, 1], blocks[block, 2]
        begin = used
        used = scan_words(text, start, stop, words, used)
        word_at[block + 1] = used
        row[_WORDS] = used - begin
        for index in range(begin, used):
            slot = words[index] & mask
            while stops[slot] != 0:
                if stops[slot] == words[index]:
                    row[_STOPS_] += 1
                    break
                slot = (slot + np.uint64(1)) & mask
        last_anchor = -1
        for piece in range(blocks[block, 3], blocks[block, 4]):
            node = pieces[piece, 0]
            link = anchor[node]
            if link >= 0:
                # Words are not known by piece: a character's share of them will do.
                row[_LINKS] += pieces[piece, 2] - pieces[piece, 1]
                if link != last_anchor:
                    row[_ANCHORS] += 1
                    last_anchor = link
            above = tag[parent[node]]
            if above in (_STRONG, _BTAG):
                row[_BOLD] += pieces[piece, 2] - pieces[piece, 1]
        size = max(1, stop - start)
        row[_LINKS] = min(row[_LINKS] / size, 1.0) * row[_WORDS]
        row[_BOLD] = min(row[_BOLD] / size, 1.0)
        digits_run = 0
        length = 0
        first = True
        for at in range(start, stop):
            byte = text[at]
            if byte & 0xC0 != 0x80:
                row[_CHARS] += 1
            if 48 <= byte <= 57:
                row[_DIGITS] += 1
                digits_run += 1
                length += 1
                continue
            if digits_run == 4 and _is_century(text[at - 4], text[at - 3]):
                row[_YEARS] += 1
            digits_run = 0
            if 65 <= byte <= 90:
                row[_LETTERS] += 1
                if length == 0:
                    row[_CAPITALS] += 1
                    if first:
                        row[_UPPER] = 1
                length += 1
                first = False
                continue
            if 97 <= byte <= 122 or byte >= 128:
                if byte & 0xC0 == 0xC0:
                    second = text[at + 1] if at + 1 < stop else 0
                    mark = _mark(byte, second, text[at + 2] if at + 2 < stop else 0)
                    if mark == _PRICE_MARK:
                        row[_PRICES] += 1
                    elif mark == _COMMA_MARK:
                        row[_COMMAS] += 1
                    elif mark == _SENTENCE_MARK:
                        row[_SENTENCES] += 1
                    elif mark == _SYMBOL_MARK:
                        row[_SYMBOLS] += 1
                    if mark:
                        row[_LONGEST] = max(row[_LONGEST], length)
                        length = 0
                        continue
                    row[_WIDE] += 0xE3 <= byte <= 0xED
                elif byte >= 128 and length == 0:
                    # What follows the first byte of a mark.
                    continue
                row[_LETTERS] += byte & 0xC0 != 0x80
                length += 1
                first = False
                continue
            row[_LONGEST] = max(row[_LONGEST], length)
            length = 0
            if byte == 44 or byte == 59:
                row[_COMMAS] += 1
            elif byte == 46 or byte == 33 or byte == 63:
                if at + 1 >= stop or text[at + 1] <= 32 or text[at + 1] == 34:
                    row[_SENTENCES] += 1
            elif byte == 10:
                row[_NEWLINES] += 1
            elif byte == 124:
                row[_SYMBOLS] += 1
            elif byte == 36:
                row[_PRICES] += 1
            elif byte == 123 or byte == 125 or byte == 61 or byte == 60 or byte == 62 or byte == 95 or byte == 92:
                row[_CODE] += 1
        row[_LONGEST] = max(row[_LONGEST], length)
        if digits_run == 4 and _is_century(text[stop - 4], text[stop - 3]):
            row[_YEARS] += 1
        end = stop - 1
        if end > start and (text[end] == 34 or text[end] == 41):
            end -= 1
        elif end - 3 >= start and text[end - 2] == 0xE2 and text[end - 1] == 0x80 and text[end] == 0x9D:
            end -= 3
        row[_TERMINAL] = text[end] == 46 or text[end] == 33 or text[end] == 63
        if end - 2 >= start and _mark(text[end - 2], text[end - 1], text[end]) == _SENTENCE_MARK:
            row[_TERMINAL] = 1
        if end - 1 >= start and _mark(text[end - 1], text[end], 0) == _SENTENCE_MARK:
            row[_TERMINAL] = 1
        if text[end] == 58:
            row[_TERMINAL] = 0.5
    return counts, words[:used], word_at


@njit(cache=True)
def elements(data: np.ndarray, tag: np.ndarray, parent: np.ndarray, marks: np.ndarray, spans: np.ndarray, tag_bits: np.ndarray,
             role_keys: np.ndarray, role_bits: np.ndarray) -> tuple[np.ndarray, ...]:  # fmt: skip
    """For each element what it stands in (bits of `CONTEXTS`), its depth, a hash of its name and classes without digits, the
    nearest sectioning element, how many elements stand right below it, and how many before it below the same one."""
    n = len(tag)
    context = np.zeros(n, np.int64)
    depth = np.zeros(n, np.int32)
    looks = np.zeros(n, np.uint64)
    section = np.zeros(n, np.int32)
    children = np.zeros(n, np.int32)
    order = np.zeros(n, np.int32)
    for node in range(1, n):
        above = parent[node]
        number = tag[node]
        if number == tags.TEXT:
            continue
        order[node] = children[above]
        children[above] += 1
        bits = tag_bits[number]
        if marks[node] & build.HIDDEN:
            bits |= _HIDDEN_BIT
        if marks[node] & build.ARIA_HIDDEN:
            bits |= _ARIA_BIT
        if marks[node] & build.HREF:
            bits |= _LINK_BIT
        if spans[node, 5] > 0:
            role, _ = _read_word(data, spans[node, 4], spans[node, 5])
            for index in range(len(role_keys)):
                if role_keys[index] == role:
                    bits |= role_bits[index]
        context[node] = context[above] | bits
        depth[node] = depth[above] + 1
        section[node] = node if bits & _SECTIONS else section[above]
        value = _FNV * np.uint64(number + 1)
        for at in range(spans[node, 0], spans[node, 1]):
            byte = data[at]
            if not 48 <= byte <= 57:
                value = (value ^ np.uint64(byte)) * _PRIME
        looks[node] = value
    return context, depth, looks, section, children, order


@njit(cache=True)
def _read_word(data: np.ndarray, start: int, stop: int) -> tuple[np.uint64, int]:
    value = np.uint64(0)
    at = start
    while at < stop and data[at] > 32:
        byte = data[at]
        if 65 <= byte <= 90:
            byte += 32
        value = build.fold(value, np.uint64(byte))
        at += 1
    return value, at


BUCKETS = ("own", "parent", "grandparent", "above", "words", "phrase", "heading")
"""The parts of the linear model: classes and names on the path by level, words of the block, its first words as a phrase, words
of the heading before it."""
SLOTS = 1 << 16


@njit(cache=True)
def _slot(value: np.uint64, salt: int) -> np.int64:
    mixed = (value ^ (np.uint64(salt + 1) * _MIX)) * _PRIME
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX
    return np.int64(mixed >> np.uint64(48))


@njit(cache=True)
def _element_slots(data: np.ndarray, number: int, span: np.ndarray, salt: int, rows: np.ndarray, used: int) -> int:
    """The slots of an element: its name, and of each value of class, id and role its words, whole and in parts."""
    rows[used] = _slot(np.uint64(number), salt)
    used += 1
    budget = used + 15
    for pair in range(3):
        at, stop = span[2 * pair], span[2 * pair + 1]
        whole = _FNV * np.uint64(pair + 7)
        part = _FNV
        parts = 0
        letters = 0
        lower_before = False
        while at <= stop and used < budget and span[2 * pair + 1] > 0:
            byte = data[at] if at < stop else 32
            upper = 65 <= byte <= 90
            letter = upper or 97 <= byte <= 122
            if (not letter or (upper and lower_before)) and letters > 0:
                if 2 <= letters <= 24:
                    rows[used] = _slot(part, salt)
                    used += 1
                    parts += 1
                part = _FNV
                letters = 0
            if byte <= 32:
                if parts > 1 and used < budget:
                    rows[used] = _slot(whole, salt)
                    used += 1
                whole = _FNV * np.uint64(pair + 7)
                parts = 0
            elif not 48 <= byte <= 57:
                if upper:
                    byte += 32
                whole = (whole ^ np.uint64(byte)) * _PRIME
                if letter:
                    part = (part ^ np.uint64(byte)) * _PRIME
                    letters += 1
            lower_before = letter and not upper
            at += 1
    return used


@njit(cache=True)
def linear_rows(data: np.ndarray, tag: np.ndarray, parent: np.ndarray, spans: np.ndarray, pieces: np.ndarray,
                blocks: np.ndarray, words: np.ndarray, word_at: np.ndarray,
                heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """For each block and bucket the slots of the linear model that are 1: their starts (blocks * buckets + 1) and the slots."""
    n = len(blocks)
    room = 1024 + n * 400
    rows = np.empty(room, np.int32)
    ends = np.zeros(n * 7 + 1, np.int32)
    used = 0
    for block in range(n):
        if used + 1200 > len(rows):
            more = np.empty(len(rows) * 2, np.int32)
            more[:used] = rows[:used]
            rows = more
        node = blocks[block, 0]
        inner = parent[pieces[blocks[block, 3], 0]]
        if inner != node:
            used = _element_slots(data, tag[inner], spans[inner], 0, rows, used)
        used = _element_slots(data, tag[node], spans[node], 0, rows, used)
        ends[block * 7 + 1] = used
        above = parent[node]
        for level in range(1, 14):
            if above > 0:
                used = _element_slots(data, tag[above], spans[above], min(level, 3), rows, used)
                above = parent[above]
            if level < 3:
                ends[block * 7 + 1 + level] = used
        ends[block * 7 + 4] = used
        first, stop = word_at[block], word_at[block + 1]
        for index in range(first, min(stop, first + 24)):
            rows[used] = _slot(words[index], 4)
            used += 1
        for index in range(max(first + 24, stop - 6), stop):
            rows[used] = _slot(words[index], 4)
            used += 1
        ends[block * 7 + 5] = used
        value = _FNV
        for index in range(first, min(stop, first + 3)):
            value = (value ^ words[index]) * _PRIME
            rows[used] = _slot(value, 5)
            used += 1
        if 3 < stop - first <= 8:
            for index in range(first + 3, stop):
                value = (value ^ words[index]) * _PRIME
            rows[used] = _slot(value, 5)
            used += 1
        ends[block * 7 + 6] = used
        title = heading[block]
        if title >= 0:
            for index in range(word_at[title], min(word_at[title + 1], word_at[title] + 8)):
                rows[used] = _slot(words[index], 6)
                used += 1
        ends[block * 7 + 7] = used
    return ends, rows[:used]


@njit(cache=True)
def linear_scores(data: np.ndarray, tag: np.ndarray, parent: np.ndarray, spans: np.ndarray, pieces: np.ndarray,
                  blocks: np.ndarray, words: np.ndarray, word_at: np.ndarray, heading: np.ndarray,
                  weights: np.ndarray) -> np.ndarray:  # fmt: skip
    """The sums of the weights of `linear_rows` for each block and bucket, float32 (blocks, buckets); each element's once."""
    n = len(blocks)
    scores = np.zeros((n, 7), np.float32)
    known = np.zeros((4, len(tag)), np.bool_)
    sums = np.empty((4, len(tag)), np.float32)
    rows = np.empty(32, np.int32)
    for block in range(n):
        node = blocks[block, 0]
        inner = parent[pieces[blocks[block, 3], 0]]
        for level in range(-1, 14):
            element = inner if level == -1 else node
            if level == -1:
                if inner == node:
                    continue
            elif level > 0 and node <= 0:
                break
            salt = min(max(level, 0), 3)
            if not known[salt, element]:
                used = _element_slots(data, tag[element], spans[element], salt, rows, 0)
                total = np.float32(0)
                for index in range(used):
                    total += weights[rows[index]]
                sums[salt, element] = total
                known[salt, element] = True
            scores[block, salt] += sums[salt, element]
            if level >= 0:
                node = parent[node]
        first, stop = word_at[block], word_at[block + 1]
        for index in range(first, min(stop, first + 24)):
            scores[block, 4] += weights[_slot(words[index], 4)]
        for index in range(max(first + 24, stop - 6), stop):
            scores[block, 4] += weights[_slot(words[index], 4)]
        value = _FNV
        for index in range(first, min(stop, first + 3)):
            value = (value ^ words[index]) * _PRIME
            scores[block, 5] += weights[_slot(value, 5)]
        if 3 < stop - first <= 8:
            for index in range(first + 3, stop):
                value = (value ^ words[index]) * _PRIME
            scores[block, 5] += weights[_slot(value, 5)]
        title = heading[block]
        if title >= 0:
            for index in range(word_at[title], min(word_at[title + 1], word_at[title] + 8)):
                scores[block, 6] += weights[_slot(words[index], 6)]
    return scores


@njit(cache=True)
def headings_before(tag: np.ndarray, blocks: np.ndarray, counts: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """For each block the nearest heading before it (a heading element, or a short block in bold), -1 without."""
    n = len(blocks)
    found = np.full(n, -1, np.int32)
    last = -1
    for block in range(n):
        found[block] = last
        if flags[tag[blocks[block, 0]]] & _HEADING or (counts[block, _BOLD] > 0.9 and counts[block, _WORDS] <= 8):
            last = block
    return found


@njit(cache=True)
def group(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each value the number of its group, in order of first appearance, and the groups' first places."""
    n = len(values)
    size = 16
    while size < 2 * n:
        size *= 2
    table = np.full(size, -1, np.int32)
    number = np.empty(n, np.int32)
    firsts = np.empty(n, np.int32)
    groups = 0
    for place in range(n):
        slot = (values[place] * _MIX) >> np.uint64(32) & np.uint64(size - 1)
        while table[slot] >= 0 and values[firsts[table[slot]]] != values[place]:
            slot = (slot + np.uint64(1)) & np.uint64(size - 1)
        if table[slot] < 0:
            table[slot] = groups
            firsts[groups] = place
            groups += 1
        number[place] = table[slot]
    return number, firsts[:groups]


@njit(cache=True)
def coverage(words: np.ndarray, word_at: np.ndarray, other: np.ndarray, size: int) -> np.ndarray:
    """For each block the fraction of its word n-grams (`size`; fewer words make one) that stand in the words of `other`."""
    n = len(word_at) - 1
    result = np.zeros(n, np.float32)
    if len(other) < size:
        return result
    bits = 15
    while (1 << bits) < 8 * size * len(other):
        bits += 1
    table = np.zeros(1 << bits, np.bool_)
    shift = np.uint64(64 - bits)
    for width in range(1, size + 1):
        for index in range(len(other) - width + 1):
            value = _FNV * np.uint64(width)
            for offset in range(width):
                value = (value ^ other[index + offset]) * _PRIME
            table[(value * _MIX) >> shift] = True
    for block in range(n):
        first, stop = word_at[block], word_at[block + 1]
        width = min(size, stop - first)
        if width == 0:
            continue
        hits = 0
        for index in range(first, stop - width + 1):
            value = _FNV * np.uint64(width)
            for offset in range(width):
                value = (value ^ words[index + offset]) * _PRIME
            hits += table[(value * _MIX) >> shift]
        result[block] = hits / (stop - first - width + 1)
    return result
