"""How big a tree a page makes, by one scan of its bytes, before any parser sees it.

Parsers take time that grows with the square of the depth: Lexbor needs 14 s for 100,000 nested `<div>`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from curate.stages.extract.dom import build, tags

_VOID = "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr"
_CLOSED_BY_OTHERS = "p li dt dd tr td th tbody thead tfoot colgroup caption option optgroup rt rp rb html head body"
_RAW_TEXT = "script style textarea title xmp iframe noembed noframes"
_SPECIAL = (
    "address applet article aside blockquote button center details dialog dir div dl fieldset figcaption figure footer form "
    "frameset h1 h2 h3 h4 h5 h6 header hgroup main marquee menu nav object ol pre search section select summary table "
    "template ul svg math"
)


def _table(names: str) -> np.ndarray:
    return np.array(sorted(tags.pack(name) for name in names.split()), dtype=np.uint64)


_VOIDS, _OPTIONAL, _RAWS, _SPECIALS = _table(_VOID), _table(_CLOSED_BY_OTHERS), _table(_RAW_TEXT), _table(_SPECIAL)
_FOREIGN = _table("svg math")


@njit(cache=True)
def _holds(table: np.ndarray, name: np.uint64) -> bool:
    index = np.searchsorted(table, name)
    return bool(index < len(table) and table[index] == name)


@njit(cache=True)
def _tag_end(data: np.ndarray, at: int) -> int:
    """Where the `>` of a tag stands; quotes count only around an attribute's value."""
    after_equals = False
    while at < len(data):
        byte = data[at]
        if byte == 62:
            return at
        if after_equals and (byte == 34 or byte == 39):
            quote = byte
            at += 1
            while at < len(data) and data[at] != quote:
                at += 1
        if byte > 32:
            after_equals = byte == 61
        at += 1
    return at


@njit(cache=True)
def _find(stack: np.ndarray, depth: int, name: np.uint64) -> int:
    """The innermost open element of that name, where its end tag may reach it; -1 if there is none."""
    special = _holds(_SPECIALS, name)
    for index in range(depth - 1, -1, -1):
        if stack[index] == name:
            return index
        if not special and _holds(_SPECIALS, stack[index]):
            return -1
    return -1


@njit(cache=True)
def _scan(data: np.ndarray, limit: int) -> tuple[int, int]:
    stack = np.zeros(limit + 1, dtype=np.uint64)
    depth = deepest = elements = foreign = 0
    at, size = 0, len(data)
    while at + 1 < size:
        if data[at] != 60:
            at += 1
            continue
        byte = data[at + 1]
        if byte == 33 and at + 3 < size and data[at + 2] == 45 and data[at + 3] == 45:
            at += 4
            while at < size and not (data[at] == 62 and data[at - 1] == 45 and data[at - 2] == 45):
                at += 1
            continue
        closing = byte == 47
        first = data[at + 2] if closing and at + 2 < size else byte
        if not (65 <= first <= 90 or 97 <= first <= 122):
            at += 1
            continue
        name, end = build.read_name(data, at + 1 + closing)
        at = _tag_end(data, end)
        if closing:
            found = _find(stack, depth, name)
            if found >= 0:
                depth = found
                if _holds(_FOREIGN, name):
                    foreign = max(0, foreign - 1)
            continue
        elements += 1
        if _holds(_VOIDS, name) or _holds(_OPTIONAL, name) or (foreign > 0 and data[at - 1] == 47):
            continue
        if foreign == 0 and _holds(_RAWS, name):
            at, _ = build.raw_end(data, at, name, False)
            continue
        if depth > limit:
            return elements, depth
        stack[depth] = name
        depth += 1
        deepest = max(deepest, depth)
        if _holds(_FOREIGN, name):
            foreign += 1
    return elements, deepest


def measure(page: bytes, max_depth: int) -> tuple[int, int]:
    """Start tags, and the most elements open at once, not counting those that HTML closes by itself (`<p>`, `<li>`, `<td>` …).

    Both stop counting at the first element deeper than `max_depth`, which is given as `max_depth` + 1.
    """
    return _scan(np.frombuffer(page, dtype=np.uint8), max_depth)
