"""Finds program text: where line breaks and spaces count, and what stands beside it that is no part of it.

A `pre` is a listing by itself. So are GitHub's tables of lines and editors' lines, known by their classes; a `code` with line
breaks or `div` lines in it; and `div` lines that hold nothing but `code`, as SyntaxHighlighter writes them. In the latter two
line breaks and spaces of the source are plain white space, and no-break spaces indent.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from curate.stages.extract.dom import Tree, tags

VERBATIM, SOFT, LINE, REMOVED = 1, 2, 4, 8
"""Bits of a node: a listing that is not a `pre`, its white space kept; one whose no-break spaces alone are kept; an inline
element that is a line of its own; line numbers and buttons."""

_B, _I = tags.BITS, tags.ID
_BLOCK, _PRE, _HEADING = _B["BLOCK"], _B["PRE"], _B["HEADING"]
_TEXT = tags.TEXT
_SKIPPED = tags.FLAGS & _B["SKIP"] != 0
_CODE, _BR, _DIV, _SPAN, _BUTTON, _BODY = (_I[name] for name in ("code", "br", "div", "span", "button", "body"))
_TD, _TH, _TABLE, _LI, _OL = (_I[name] for name in ("td", "th", "table", "li", "ol"))


def _words(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Strings as one row of bytes and where each starts."""
    found = [word.encode() for word in text.split()]
    ends = np.cumsum([0, *map(len, found)]).astype(np.int32)
    return np.frombuffer(b"".join(found), np.uint8), ends


_GUTTERS = _words("gutter lineno linenumber line-number line_number blob-num hljs-ln-n crayon-num ln-num line-num lntd")
_GUTTER_TOKENS = _words("lnt ln lnum")
_LINES = _words("line token-line code-line codeline code_line ec-line cl hljs-line source-line")
_TABLE_LINES = _words("blob-code blob-code-inner js-file-line")
_DIV_LINES = _words("cm-line view-line ace_line CodeMirror-line")
_COPY = _words("copy clipboard Copy")


@njit(cache=True)
def _is_at(data: np.ndarray, at: int, stop: int, words: np.ndarray, begin: int, end: int) -> bool:
    same = at + end - begin <= stop
    index = begin
    while same and index < end:
        same = data[at + index - begin] == words[index]
        index += 1
    return same


@njit(cache=True)
def _holds(data: np.ndarray, first: int, stop: int, words: np.ndarray, ends: np.ndarray, whole: bool) -> bool:
    """Whether an attribute's value holds one of some words; `whole`: as a word of its own."""
    for at in range(first, stop):
        if whole and at > first and data[at - 1] > 32:
            continue
        for word in range(len(ends) - 1):
            begin, end = ends[word], ends[word + 1]
            if data[at] == words[begin] and _is_at(data, at, stop, words, begin, end):
                after = at + end - begin
                if not whole or after == stop or data[after] <= 32:
                    return True
    return False


@njit(cache=True)
def _numbers_only(data: np.ndarray, tag: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray, node: int,
                  budget: np.ndarray) -> bool:  # fmt: skip
    """Whether the text below a node is line numbers: digits, a digit at least, white space, `.`, `:` and `|`."""
    digits = 0
    for inner in range(node, last[node]):
        budget[0] -= 1
        if tag[inner] != _TEXT:
            continue
        at = start[inner]
        while at < stop[inner]:
            budget[0] -= 1
            byte = data[at]
            if 48 <= byte <= 57:
                digits += 1
            elif byte == 38:
                # A reference such as `&nbsp;`, of a few letters.
                end = at + 1
                while end < stop[inner] and end < at + 8 and data[end] != 59:
                    end += 1
                at = end
            elif byte == 0xC2 and at + 1 < stop[inner] and data[at + 1] == 0xA0:
                at += 1
            elif byte > 32 and byte != 46 and byte != 58 and byte != 124:
                return False
            at += 1
    return digits > 0


@njit(cache=True)
def _mark_pre(data: np.ndarray, tag: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray, spans: np.ndarray,
              flags: np.ndarray, node: int, lines: np.ndarray, line_ends: np.ndarray, marks: np.ndarray,
              budget: np.ndarray) -> None:  # fmt: skip
    """Marks the elements that are lines of a `pre` without a line break: `code` after `code`, or `span` by their classes."""
    codes = 0
    spanned = 0
    for inner in range(node + 1, last[node]):
        budget[0] -= 1
        if tag[inner] == _TEXT:
            budget[0] -= stop[inner] - start[inner]
            for at in range(start[inner], stop[inner]):
                if data[at] == 10:
                    return
        elif tag[inner] == _BR or flags[tag[inner]] & _BLOCK:
            return
        elif tag[inner] == _CODE:
            codes += 1
        elif tag[inner] == _SPAN and _holds(data, spans[inner, 0], spans[inner, 1], lines, line_ends, True):
            spanned += 1
    for inner in range(node + 1, last[node]):
        is_line = codes > 1 and tag[inner] == _CODE
        if not is_line and spanned > 1 and tag[inner] == _SPAN:
            is_line = _holds(data, spans[inner, 0], spans[inner, 1], lines, line_ends, True)
        if is_line:
            marks[inner] |= LINE


@njit(cache=True)
def _numbered_child(data: np.ndarray, tag: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray,
                    skip: np.ndarray, node: int, number: int) -> int:  # fmt: skip
    """The first element in a line if a number and nothing else stands in it; -1 for any other."""
    child = node + 1
    while child < last[node] and tag[child] != _TEXT and skip[tag[child]]:
        child = last[child]
    if child >= last[node] or tag[child] == _TEXT or last[child] != child + 2 or tag[child + 1] != _TEXT:
        return -1
    value = np.int64(0)
    for at in range(start[child + 1], stop[child + 1]):
        if not 48 <= data[at] <= 57 or value > 1_000_000:
            return -1
        value = value * 10 + np.int64(data[at]) - 48
    return child if value == number else -1


@njit(cache=True)
def _mark_numbers(data: np.ndarray, tag: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray,
                  skip: np.ndarray, node: int, marks: np.ndarray) -> None:  # fmt: skip
    """Marks the numbers of a `pre` of `div` lines that are numbered 1, 2, 3 … in elements of their own, whatever the class."""
    box = node
    # The lines' parent: down through elements that hold one element.
    for _ in range(5):
        child = box + 1
        if child >= last[box] or tag[child] == _TEXT or last[child] != last[box]:
            break
        box = child
    for marking in (False, True):
        number = 1
        child = box + 1
        while child < last[box]:
            if tag[child] == _DIV:
                found = _numbered_child(data, tag, last, start, stop, skip, child, number)
                if found < 0:
                    return
                if marking:
                    marks[found] |= REMOVED
                number += 1
            child = last[child]
        if number < 3:
            return


@njit(cache=True)
def _is_listing(data: np.ndarray, tag: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray, flags: np.ndarray,
                node: int, budget: np.ndarray) -> bool:  # fmt: skip
    """Whether a `code` has lines: a line break, `div`s or list items in it, text around or in them, and no other block."""
    breaks = 0
    texts = 0
    for inner in range(node + 1, last[node]):
        budget[0] -= 1
        number = tag[inner]
        if number in (_BR, _DIV, _LI):
            breaks += 1
        elif number == _TEXT:
            for at in range(start[inner], stop[inner]):
                if data[at] > 32:
                    texts += 1
                    break
        elif flags[number] & _BLOCK and number != _OL:
            return False
    return breaks > 0 and texts > 1


@njit(cache=True)
def _is_code_line(data: np.ndarray, tag: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray, flags: np.ndarray,
                  node: int, budget: np.ndarray) -> int:  # fmt: skip
    """A `div` with nothing but `code` in it: 1; one with no text: 0; any other: -1."""
    found = 0
    inner = node + 1
    while inner < last[node]:
        budget[0] -= 1
        number = tag[inner]
        if number == _CODE:
            found = 1
            inner = last[inner]
            continue
        if number == _TEXT:
            at = start[inner]
            while at < stop[inner]:
                if data[at] > 32:
                    if _is_space(data, at, stop[inner]):
                        at += 5
                    else:
                        return -1
                at += 1
        elif flags[number] & _BLOCK:
            return -1
        inner += 1
    return found


@njit(cache=True)
def _is_space(data: np.ndarray, at: int, stop: int) -> bool:
    return (
        at + 5 < stop and data[at] == 38 and data[at + 1] == 110 and data[at + 2] == 98 and data[at + 5] == 59
    )  # &nbsp;


@njit(cache=True)
def _find(data: np.ndarray, tag: np.ndarray, parent: np.ndarray, last: np.ndarray, start: np.ndarray, stop: np.ndarray,
          spans: np.ndarray, flags: np.ndarray, gutters: np.ndarray, gutter_ends: np.ndarray, tokens: np.ndarray,
          token_ends: np.ndarray, lines: np.ndarray, line_ends: np.ndarray, rows: np.ndarray, row_ends: np.ndarray,
          divs: np.ndarray, div_ends: np.ndarray, copy: np.ndarray, copy_ends: np.ndarray,
          skip: np.ndarray) -> np.ndarray:  # fmt: skip
    count = len(tag)
    marks = np.zeros(count, np.uint8)
    judged = np.zeros(count, np.bool_)
    # What is looked at more than once is bounded by a multiple of the page.
    budget = np.array([8 * len(data) + 1000], np.int64)
    inside = 0
    node = 1
    while node < count and budget[0] > 0:
        number = tag[node]
        if number == _TEXT:
            node += 1
            continue
        first, end = spans[node, 0], spans[node, 1]
        if (node < inside or number in (_TD, _TH)) and end > first:
            found = _holds(data, first, end, gutters, gutter_ends, False)
            if not found and node < inside:
                found = _holds(data, first, end, tokens, token_ends, True)
            if found and _numbers_only(data, tag, last, start, stop, node, budget):
                marks[node] |= REMOVED
                node = last[node]
                continue
        if node < inside:
            if number == _BUTTON or (end > first and _holds(data, first, end, copy, copy_ends, False)
                                     and last[node] - node < 30 and last[node] < inside):  # fmt: skip
                text = 0
                for inner in range(node, last[node]):
                    if tag[inner] == _TEXT:
                        text += stop[inner] - start[inner]
                if text < 60:
                    marks[node] |= REMOVED
                    node = last[node]
                    continue
            node += 1
            continue
        if flags[number] & _PRE:
            inside = last[node]
            _mark_numbers(data, tag, last, start, stop, skip, node, marks)
            _mark_pre(data, tag, last, start, stop, spans, flags, node, lines, line_ends, marks, budget)
        elif number == _CODE:
            if _is_listing(data, tag, last, start, stop, flags, node, budget):
                marks[node] |= SOFT
                inside = last[node]
            else:
                box = parent[node]
                while box > 0 and not flags[tag[box]] & _BLOCK:
                    box = parent[box]
                outer = parent[box] if box > 0 else 0
                if tag[box] == _DIV and outer > 0 and tag[outer] != _BODY and not judged[outer]:
                    judged[outer] = True
                    good = 0
                    child = outer + 1
                    while child < last[outer] and good >= 0:
                        if tag[child] == _DIV:
                            kind = _is_code_line(data, tag, last, start, stop, flags, child, budget)
                            good = good + kind if kind >= 0 else -1
                        elif tag[child] != _TEXT and tag[child] != _BR:
                            good = -1
                        child = last[child]
                    if good > 1:
                        marks[outer] |= SOFT
                        inside = last[outer]
        elif end > first and number in (_TD, _DIV):
            box = -1
            if number == _DIV and _holds(data, first, end, divs, div_ends, True):
                box = parent[node]
            elif number == _TD and _holds(data, first, end, rows, row_ends, True):
                box = parent[node]
                while box > 0 and tag[box] != _TABLE:
                    box = parent[box]
            if box > 0 and tag[box] != _BODY:
                marks[box] |= VERBATIM
                inside = last[box]
        node += 1
    return marks


def find(tree: Tree) -> np.ndarray:
    """For each node the bits above. Linear in the page; never raises."""
    return _find(
        tree.data, tree.tag, tree.parent, tree.last, tree.start, tree.stop, tree.spans, tags.FLAGS, *_GUTTERS,
        *_GUTTER_TOKENS, *_LINES, *_TABLE_LINES, *_DIV_LINES, *_COPY, _SKIPPED,
    )  # fmt: skip
