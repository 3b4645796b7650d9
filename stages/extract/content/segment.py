"""Cuts a tree into blocks of text: what a browser would draw as one paragraph, cell row, heading, list item or listing.

Character references are decoded and white space is joined here, once, into one buffer that features and renderer share.
"""

from __future__ import annotations

import html
import html.entities
from dataclasses import dataclass

import numpy as np
from numba import njit

from curate.stages.extract.content import listing
from curate.stages.extract.dom import Tree, build, tags

MAX_BLOCKS = 50_000
"""A page's first so many blocks are read."""

_B, _I = tags.BITS, tags.ID
_BLOCK, _SKIP, _PRE = _B["BLOCK"], _B["SKIP"], _B["PRE"]
_LISTING = listing.VERBATIM | listing.SOFT
_FORMATTING = _B["FORMATTING"]
_BR, _TEMPLATE, _TR, _TD, _TH, _A, _SUP, _SUB = (_I[n] for n in "br template tr td th a sup sub".split())
_TEXT = tags.TEXT
SEPARATOR = b" | "
"""What stands in the buffer between two blocks, so that cells merged into a row are a row."""

KEEP, REMOVE = -1, -2


def _entities() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An open hash table of HTML's named character references: keys (packed names, without `&` and `;`), two code points each,
    and whether the `;` may be missing."""
    size = 1 << 13
    keys = np.zeros(size, np.uint64)
    points = np.zeros((size, 2), np.int32)
    bare = np.zeros(size, np.bool_)
    for name, text in sorted(html.entities.html5.items()):
        if not name.endswith(";"):
            continue
        key = tags.pack(name[:-1])
        slot = (key * tags.SLOT_MULTIPLIER & 0xFFFFFFFFFFFFFFFF) >> (64 - 13)
        while keys[slot]:
            slot = (slot + 1) % size
        keys[slot] = key
        points[slot, : len(text)] = [ord(letter) for letter in text]
        bare[slot] = name[:-1] in html.entities.html5
    return keys, points, bare


_KEYS, _POINTS, _BARE = _entities()
_WINDOWS = np.array([ord(html.unescape(f"&#{number};") or chr(number)) for number in range(0x80, 0xA0)], np.int32)
_MULTIPLIER, _SHIFT = np.uint64(tags.SLOT_MULTIPLIER), np.uint64(64 - 13)


@njit(cache=True)
def _slot(key: np.uint64, keys: np.ndarray) -> int:
    slot = (key * _MULTIPLIER) >> _SHIFT
    while keys[slot] != 0:
        if keys[slot] == key:
            return int(np.int64(slot))
        slot = (slot + np.uint64(1)) & np.uint64(len(keys) - 1)
    return -1


@njit(cache=True)
def _put(out: np.ndarray, at: int, point: int) -> int:
    """Writes a code point as UTF-8."""
    if point < 0x80:
        out[at] = point
        return at + 1
    if point < 0x800:
        out[at], out[at + 1] = 0xC0 | point >> 6, 0x80 | point & 63
        return at + 2
    if point < 0x10000:
        out[at], out[at + 1], out[at + 2] = 0xE0 | point >> 12, 0x80 | point >> 6 & 63, 0x80 | point & 63
        return at + 3
    out[at], out[at + 1] = 0xF0 | point >> 18, 0x80 | point >> 12 & 63
    out[at + 2], out[at + 3] = 0x80 | point >> 6 & 63, 0x80 | point & 63
    return at + 4


@njit(cache=True)
def _reference(data: np.ndarray, at: int, stop: int, keys: np.ndarray, points: np.ndarray, bare: np.ndarray,
               windows: np.ndarray) -> tuple[int, int, int]:  # fmt: skip
    """The character reference at `&`: its one or two code points (0: none) and where it ends; -1 if it is none."""
    begin = at + 1
    if begin < stop and data[begin] == 35:
        at = begin + 1
        value = 0
        digits = 0
        if at < stop and data[at] | 32 == 120:
            at += 1
            while at < stop:
                byte = data[at] | 32
                digit = byte - 48 if 48 <= data[at] <= 57 else byte - 87 if 97 <= byte <= 102 else -1
                if digit < 0:
                    break
                value = min(value * 16 + digit, 0x200000)
                digits += 1
                at += 1
        else:
            while at < stop and 48 <= data[at] <= 57:
                value = min(value * 10 + int(np.int64(data[at])) - 48, 0x200000)
                digits += 1
                at += 1
        if digits == 0:
            return -1, 0, 0
        if at < stop and data[at] == 59:
            at += 1
        if 0x80 <= value < 0xA0:
            value = int(np.int64(windows[value - 0x80]))
        if value == 0 or value > 0x10FFFF or 0xD800 <= value < 0xE000:
            value = 0xFFFD
        return value, 0, at
    at = begin
    value64 = np.uint64(0)
    while at < stop and at - begin < 32:
        byte = data[at]
        if not (48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122):
            break
        value64 = build.fold(value64, np.uint64(byte))
        at += 1
    if at == begin:
        return -1, 0, 0
    if at < stop and data[at] == 59:
        found = _slot(value64, keys)
        if found >= 0:
            return points[found, 0], points[found, 1], at + 1
    # The few old names that need no semicolon: the longest that fits.
    value64 = np.uint64(0)
    best = -1
    best_end = 0
    for index in range(begin, min(at, begin + 6)):
        value64 = build.fold(value64, np.uint64(data[index]))
        found = _slot(value64, keys)
        if found >= 0 and bare[found]:
            best, best_end = found, index + 1
    if best >= 0:
        return points[best, 0], points[best, 1], best_end
    return -1, 0, 0


@njit(cache=True)
def _cut(data: np.ndarray, tag: np.ndarray, parent: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray,
         marks: np.ndarray, listings: np.ndarray, swap: np.ndarray, swaps: np.ndarray, swap_at: np.ndarray, flags: np.ndarray,
         keys: np.ndarray, points: np.ndarray, bare: np.ndarray, windows: np.ndarray,
         max_blocks: int) -> tuple[np.ndarray, ...]:  # fmt: skip
    count = len(tag)
    texts = 0
    # Room for what is written: a reference of five bytes may be six as text (`&nGt;`), around each piece separators.
    room = len(swaps) + 8 * len(swap_at) + 64
    for node in range(count):
        if tag[node] == _TEXT:
            texts += 1
            room += stop[node] - start[node] + 8
        elif tag[node] == _BR:
            room += 2
    out = np.empty(room * 6 // 5 + 64, np.uint8)
    home = np.full(count, -1, np.int32)
    pre = np.empty(count, np.int32)
    pieces = np.empty((texts + len(swap_at), 4), np.int32)
    n_pieces = 0
    limit = min(texts + len(swap_at), max_blocks)
    blocks = np.empty((limit + 1, 5), np.int32)
    before = np.empty(count + 1, np.int32)
    n_blocks = 0
    length = 0
    current = -1
    last_element = -1
    last_text = -1
    breaks = 0
    space = False
    home[0], pre[0] = 0, -1
    node = 0
    filled = 0
    while node < count:
        # `before[node]`: blocks that began before the node.
        while filled <= node:
            before[filled] = n_blocks
            filled += 1
        above = parent[node]
        number = tag[node]
        replaced = swap[node] if len(swap) else KEEP
        if replaced == REMOVE or (listings[node] & listing.REMOVED and number != _TEXT):
            node = last[node]
            continue
        if number != _TEXT and replaced == KEEP:
            if node > 0:
                bits = flags[number]
                if bits & _SKIP or (number == _TEMPLATE and not marks[node] & build.SHADOW):
                    if bits & _BLOCK:
                        last_element = node
                    node = last[node]
                    continue
                if number == _BR:
                    if pre[above] >= 0 and current >= 0 and blocks[current, 0] == pre[above]:
                        if last_element > last_text and out[length - 1] != 10:
                            out[length] = 10
                            length += 1
                        out[length] = 10
                        length += 1
                    breaks += 1
                boxed = bits & _BLOCK or listings[node]
                home[node] = node if boxed else home[above]
                pre[node] = pre[above] if pre[above] >= 0 else node if bits & _PRE or listings[node] & _LISTING else -1
                if boxed:
                    last_element = node
            node += 1
            continue
        first, end = start[node], stop[node]
        verbatim = pre[above]
        house = home[above] if verbatim < 0 else verbatim
        soft = verbatim < 0 or listings[verbatim] & listing.SOFT != 0
        if replaced == KEEP and soft:
            # White space at the front, to know whether anything stands here.
            while first < end and (data[first] <= 32):
                first += 1
                space = True
            if first == end:
                node += 1
                continue
        same = current >= 0 and house == blocks[current, 0]
        if same and verbatim < 0 and (last_element > last_text or breaks > 1):
            same = False
        if not same:
            if n_blocks >= limit:
                break
            if current >= 0:
                out[length], out[length + 1], out[length + 2] = 32, 124, 32
                length += 3
            current = n_blocks
            blocks[current, 0], blocks[current, 1], blocks[current, 2] = house, length, length
            blocks[current, 3] = n_pieces
            blocks[current, 4] = n_pieces
            n_blocks += 1
            space = False
            if verbatim >= 0 and replaced == KEEP and start[node] == stop[verbatim]:
                # HTML drops the newline right after `<pre>`.
                if first < end and data[first] == 13:
                    first += 1
                if first < end and data[first] == 10:
                    first += 1
        elif verbatim >= 0:
            if (last_element > last_text or home[above] != home[parent[last_text]]) and out[length - 1] != 10:
                out[length] = 10
                length += 1
        elif breaks == 1:
            out[length] = 10
            length += 1
            space = False
        elif not space and same and replaced == KEEP and last_text >= 0:
            # Neighbouring elements that are drawn as boxes of their own (`<a>One</a><a>Two</a>`) are words apart.
            left, right = parent[last_text], above
            if last[left] <= node and right > last_text:
                plain = flags[tag[left]] | flags[tag[right]]
                if tag[left] == _A or tag[right] == _A or not plain & _FORMATTING:
                    space = tag[left] != _SUP and tag[right] != _SUP and tag[left] != _SUB and tag[right] != _SUB
        breaks = 0
        begin = blocks[current, 1]
        if space and soft and length > begin and out[length - 1] != 10 and out[length - 1] != 32:
            out[length] = 32
            length += 1
        space = False
        piece = length
        if replaced >= 0:
            for index in range(swap_at[replaced, 0], swap_at[replaced, 1]):
                out[length] = swaps[index]
                length += 1
        at = first
        literal = marks[node] & build.LITERAL
        while replaced == KEEP and at < end:
            byte = data[at]
            if byte == 38 and not literal:
                point, second, after = _reference(data, at, end, keys, points, bare, windows)
                if point >= 0:
                    at = after
                    if point == 0xA0 or point == 32 or point == 10 or point == 9 or point == 13:
                        if verbatim >= 0 and (point == 0xA0 or not soft):
                            if space and length > begin and out[length - 1] != 10:
                                out[length] = 32
                                length += 1
                            space = False
                            out[length] = 10 if point == 10 else 9 if point == 9 else 32
                            length += 1
                        else:
                            space = True
                        continue
                    if (
                        point == 0xAD
                        or point == 0x200B
                        or point == 0xFEFF
                        or point == 0x2060
                        or point < 32
                        or 127 <= point < 160
                    ):
                        continue
                    if 0xFDD0 <= point < 0xFDF0:
                        continue
                    if space:
                        if length > begin and out[length - 1] != 10 and out[length - 1] != 32:
                            out[length] = 32
                            length += 1
                        space = False
                    length = _put(out, length, point)
                    if second:
                        length = _put(out, length, second)
                    continue
            if byte <= 32:
                at += 1
                if not soft:
                    if byte == 13:
                        if at < end and data[at] == 10:
                            continue
                        byte = 10
                    out[length] = byte if byte == 10 or byte == 9 else 32
                    length += 1
                else:
                    space = True
                continue
            if byte == 0xC2 and at + 1 < end and (data[at + 1] == 0xA0 or data[at + 1] == 0xAD or data[at + 1] < 0xA0):
                at += 2
                if data[at - 1] == 0xA0:
                    if verbatim >= 0:
                        if space and length > begin and out[length - 1] != 10:
                            out[length] = 32
                            length += 1
                        space = False
                        out[length] = 32
                        length += 1
                    else:
                        space = True
                continue
            if byte == 0xE2 and at + 2 < end and data[at + 1] == 0x80 and data[at + 2] == 0x8B:
                at += 3
                continue
            if byte == 0xE2 and at + 2 < end and data[at + 1] == 0x81 and data[at + 2] == 0xA0:
                at += 3
                continue
            if byte == 0xEF and at + 2 < end and data[at + 1] == 0xBB and data[at + 2] == 0xBF:
                at += 3
                continue
            if byte == 0xEF and at + 2 < end and data[at + 1] == 0xB7 and 0x90 <= data[at + 2] < 0xB0:
                # Noncharacters mark formulas in the text; from a page they are not let through.
                at += 3
                continue
            if byte == 127:
                at += 1
                continue
            if space:
                if length > begin and out[length - 1] != 10 and out[length - 1] != 32:
                    out[length] = 32
                    length += 1
                space = False
            out[length] = byte
            length += 1
            at += 1
        pieces[n_pieces, 0], pieces[n_pieces, 1], pieces[n_pieces, 2] = node, piece, length
        pieces[n_pieces, 3] = current
        n_pieces += 1
        blocks[current, 2] = length
        blocks[current, 4] = n_pieces
        last_text = node
        node = last[node]
    while filled <= count:
        before[filled] = n_blocks
        filled += 1
    return out[:length], pieces[:n_pieces], blocks[:n_blocks], before, home


@njit(cache=True)
def _tidy(out: np.ndarray, pieces: np.ndarray, blocks: np.ndarray, before: np.ndarray, tag: np.ndarray, parent: np.ndarray,
          last: np.ndarray, listings: np.ndarray, flags: np.ndarray) -> np.ndarray:  # fmt: skip
    """Drops blocks without a visible character, and joins the cells of a table's row where each holds at most one block."""
    count = len(blocks)
    target = np.full(count, -1, np.int32)
    row_of = np.full(count, -1, np.int32)
    node = 0
    # Rows whose cells are plain: not more blocks than cells, no table inside.
    for node in range(len(tag)):
        if tag[node] != _TR:
            continue
        low, high = before[node], before[last[node]]
        if high - low < 2:
            continue
        cells = 0
        child = node + 1
        plain = True
        while child < last[node]:
            if tag[child] == _TD or tag[child] == _TH:
                cells += 1
                if before[last[child]] - before[child] > 1:
                    plain = False
                    break
            child = last[child]
        if not plain or high - low > cells or blocks[high - 1, 2] - blocks[low, 1] > 4000:
            continue
        for block in range(low, high):
            house = blocks[block, 0]
            if flags[tag[house]] & _PRE or listings[house] & _LISTING:
                for at in range(blocks[block, 1], blocks[block, 2] - 1):
                    plain = plain and out[at] != 10
        if not plain:
            continue
        for block in range(low, high):
            row_of[block] = node
    kept = 0
    for block in range(count):
        first, end = blocks[block, 1], blocks[block, 2]
        visible = False
        for at in range(first, end):
            if out[at] > 32:
                visible = True
                break
        if not visible:
            continue
        while end > first and out[end - 1] <= 32:
            end -= 1
        if kept and row_of[block] >= 0 and blocks[kept - 1, 0] == row_of[block]:
            blocks[kept - 1, 2], blocks[kept - 1, 4] = end, blocks[block, 4]
            target[block] = kept - 1
            continue
        target[block] = kept
        blocks[kept, 0] = row_of[block] if row_of[block] >= 0 else blocks[block, 0]
        blocks[kept, 1], blocks[kept, 2] = first, end
        blocks[kept, 3], blocks[kept, 4] = blocks[block, 3], blocks[block, 4]
        kept += 1
    # What was dropped or joined no longer counts.
    seen = np.empty(count + 1, np.int32)
    total = 0
    for block in range(count):
        seen[block] = total
        if target[block] == total:
            total += 1
    seen[count] = total
    for node in range(len(before)):
        before[node] = seen[before[node]]
    return blocks[:kept]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of a page in document order.

    `text`: uint8, the decoded text of all blocks, UTF-8. `blocks` (n, 5): the block-level element that a block stands in (a
    table's row: `tr`), where its text starts and stops in `text`, and its first piece and one past its last. `pieces` (m, 4):
    node (a text node or what a formula replaced), start and stop in `text`, and the block before rows were joined.
    `before` (nodes + 1): how many blocks began before a node: an element's blocks are `before[i] … before[last[i]] - 1`.
    `home`: for each element the nearest block-level element from itself upward. `code`: whether a block is a listing, its line
    breaks and spaces kept.
    """

    text: np.ndarray
    pieces: np.ndarray
    blocks: np.ndarray
    before: np.ndarray
    home: np.ndarray
    code: np.ndarray

    def __len__(self) -> int:
        return len(self.blocks)

    def string(self, block: int) -> str:
        """The text of one block."""
        return self.text[self.blocks[block, 1] : self.blocks[block, 2]].tobytes().decode("utf-8", "replace")


_NO_SWAP = np.empty(0, np.int32)
_NO_SPANS = np.empty((0, 2), np.int32)
_NO_BYTES = np.empty(0, np.uint8)


def cut(tree: Tree, formulas: dict[int, bytes] | None = None, removed: list[int] | None = None) -> Blocks:
    """The blocks of a tree. `formulas`: text to put in place of whole nodes; `removed`: nodes to leave out."""
    swap, swaps, spans = _NO_SWAP, _NO_BYTES, _NO_SPANS
    if formulas or removed:
        swap = np.full(len(tree), KEEP, np.int32)
        swap[removed or []] = REMOVE
        texts = list((formulas or {}).values())
        swap[list(formulas or {})] = np.arange(len(texts), dtype=np.int32)
        swaps = np.frombuffer(b"".join(texts), np.uint8)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int32)
        spans = np.stack([ends - np.array([len(text) for text in texts], np.int32), ends], axis=1).astype(np.int32)
    listings = listing.find(tree)
    out, pieces, blocks, before, home = _cut(
        tree.data, tree.tag, tree.parent, tree.last, tree.start, tree.stop, tree.marks, listings, swap, swaps,
        spans.reshape(-1, 2), tags.FLAGS, _KEYS, _POINTS, _BARE, _WINDOWS, MAX_BLOCKS,
    )  # fmt: skip
    blocks = _tidy(out, pieces, blocks, before, tree.tag, tree.parent, tree.last, listings, tags.FLAGS)
    houses = blocks[:, 0]
    code = (tags.FLAGS[tree.tag[houses]] & _PRE != 0) | (listings[houses] & _LISTING != 0)
    return Blocks(out, pieces, blocks, before, home, code)
