"""The compiled tokeniser and tree builder.

It follows the states and insertion modes of WHATWG HTML, section 13.2, where they change what text a page has and where it
stands: raw text, character references left as they are, implied ends of p, li, dt, dd, td, tr, option …, scopes, tables,
foreign content, bogus comments. It leaves out what they do for scripts and styles: text written between a table and its cells
stays there; copies of formatting elements (a formatting element that ends inside a block ends there for what follows it, and
stays the parent of what it holds); frames. A script whose `<!--` never ends stops at `</script>`, or the page would be lost.
One pass, no recursion; the stack is at most `DEPTH` elements deep as in browsers, deeper ones become siblings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from curate.stages.extract.dom import tags

DEPTH = 512
HIDDEN, ARIA_HIDDEN, HREF, SHADOW, LITERAL = 1, 2, 4, 8, 16
"""Marks of an element: not drawn by its attributes; hidden from readers; a link with a target; a declared shadow root. And of a
text node: its `&` begin no character references (scripts, listings as xmp, CDATA sections)."""

_B = tags.BITS
_VOID, _RAW, _SPECIAL, _SCOPE, _CLOSES_P = _B["VOID"], _B["RAW"], _B["SPECIAL"], _B["SCOPE"], _B["CLOSES_P"]
_HEADING, _FORMATTING, _IN_HEAD, _FOREIGN = _B["HEADING"], _B["FORMATTING"], _B["IN_HEAD"], _B["FOREIGN"]
_BREAKOUT, _LIST, _INTEGRATION = _B["BREAKOUT"], _B["LIST"], _B["INTEGRATION"]
_TABLE_PART, _TABLE_SCOPE, _BLANK = _B["TABLE_PART"], _B["TABLE_SCOPE"], _B["BLANK"]
_BUTTON_SCOPE = _SCOPE | _B["BUTTON"]


def _numbers(names: str) -> tuple[int, ...]:
    return tuple(tags.ID[name] for name in names.split())


def _packed(names: str) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(tags.pack(name)) for name in names.split())


_TEXT = tags.TEXT
_A, _P, _LI, _DD, _DT, _BR, _DIV, _ADDRESS, _IMG = _numbers("a p li dd dt br div address img")
_TD, _TH, _TR, _TBODY, _THEAD, _TFOOT, _TABLE = _numbers("td th tr tbody thead tfoot table")
_HTML, _HEAD_TAG, _BODY, _NOSCRIPT, _SCRIPT, _TITLE = _numbers("html head body noscript script title")
_FORM, _OPTION, _OPTGROUP, _BUTTON, _SELECT, _INPUT, _TEXTAREA = _numbers(
    "form option optgroup button select input textarea"
)
_TEMPLATE, _PLAINTEXT, _RT, _RP, _RB, _RTC, _ANNOTATION_XML = _numbers("template plaintext rt rp rb rtc annotation-xml")
_CLASS, _ID, _STYLE, _HIDDEN_NAME, _ARIA, _ROLE, _PROP = _packed("class id style hidden aria-hidden role itemprop")
_HREF_NAME, _SHADOW_NAME, _TR_NAME, _IMAGE = _packed("href shadowrootmode tr image")
_FOLD = np.uint64(0x100000001B3)
_EIGHT, _TOP = np.uint64(8), np.uint64(56)
_MULTIPLIER, _SHIFT = np.uint64(tags.SLOT_MULTIPLIER), np.uint64(64 - tags.SLOT_BITS)

# The builder's numbers, in one array so that helpers can change them.
_N, _TOPS, _EXTRA, _ANCHOR, _SEEN, _PLAIN_SCRIPTS, _CHANGES = range(7)
_SEEN_HTML, _SEEN_HEAD, _SEEN_BODY = 1, 2, 4

# What an open element is: of HTML; of svg or math; of these, but what stands in it is HTML again.
_OF_HTML, _OF_FOREIGN, _OF_BOTH = 0, 1, 2


class Open(NamedTuple):
    """The open elements, outermost first: node, number, packed name and kind of each; how many are open of each number; the
    builder's numbers; where the content of each node ends; `tags.FLAGS`. `idle`: for 512 names which end tag ended nothing, and
    how often the stack had changed by then (`idle_since`), so that a flood of those does not search the stack each time."""

    node: np.ndarray
    tag: np.ndarray
    name: np.ndarray
    kind: np.ndarray
    opened: np.ndarray
    s: np.ndarray
    close: np.ndarray
    flags: np.ndarray
    idle: np.ndarray
    idle_since: np.ndarray


@njit(cache=True)
def fold(value: np.uint64, byte: np.uint64) -> np.uint64:
    """One more byte of a name: `tags.pack` in the kernels."""
    return (value << _EIGHT) ^ (value >> _TOP) * _FOLD ^ byte


@njit(cache=True)
def read_name(data: np.ndarray, at: int) -> tuple[np.uint64, int]:
    """An element's name from `at`, packed, and where it ends: at white space, `/` or `>`."""
    value = np.uint64(0)
    size = len(data)
    while at < size:
        byte = data[at]
        if byte <= 32 or byte == 47 or byte == 62:
            break
        if 65 <= byte <= 90:
            byte += 32
        value = fold(value, np.uint64(byte))
        at += 1
    return value, at


@njit(cache=True)
def number_of(name: np.uint64, keys: np.ndarray, numbers: np.ndarray) -> int:
    """The number of a packed name in `tags`, 0 for one that is not listed."""
    slot = (name * _MULTIPLIER) >> _SHIFT
    while keys[slot] != 0:
        if keys[slot] == name:
            return np.int64(numbers[slot])  # type: ignore[return-value]
        slot = (slot + np.uint64(1)) & np.uint64(len(keys) - 1)
    return 0


@njit(cache=True)
def _is_drawn_not(data: np.ndarray, at: int, stop: int) -> bool:
    """True if a style holds `display: none` or `visibility: hidden`; `dis…y` and `vis…y` are letters enough."""
    while at + 10 < stop:
        byte = data[at] | 32
        if byte == 100 and data[at + 1] | 32 == 105 and data[at + 2] | 32 == 115 and data[at + 6] | 32 == 121:
            at += 7
            while at < stop and (data[at] <= 32 or data[at] == 58):
                at += 1
            if at + 3 < stop and data[at] | 32 == 110 and data[at + 1] | 32 == 111 and data[at + 2] | 32 == 110:
                return True
        elif byte == 118 and data[at + 1] | 32 == 105 and data[at + 2] | 32 == 115 and data[at + 9] | 32 == 121:
            at += 10
            while at < stop and (data[at] <= 32 or data[at] == 58):
                at += 1
            if at + 3 < stop and data[at] | 32 == 104 and data[at + 1] | 32 == 105 and data[at + 2] | 32 == 100:
                return True
        else:
            at += 1
    return False


@njit(cache=True)
def read_attributes(data: np.ndarray, at: int, spans: np.ndarray) -> tuple[int, bool, int]:
    """From the end of a tag's name: where the tag ends (after `>`; -1 if the page ends first), whether it closes itself, its
    marks. `spans` takes where the values of class, id, and role or itemprop stand (start, stop; 0, 0 if absent)."""
    size = len(data)
    spans[:] = 0
    marks = 0
    slash = False
    while True:
        while at < size and (data[at] <= 32 or data[at] == 47):
            slash = data[at] == 47
            at += 1
        if at >= size:
            return -1, False, marks
        if data[at] == 62:
            return at + 1, slash, marks
        slash = False
        name = np.uint64(0)
        begin = at
        while at < size:
            byte = data[at]
            if byte <= 32 or byte == 47 or byte == 62 or (byte == 61 and at > begin):
                break
            if 65 <= byte <= 90:
                byte += 32
            name = fold(name, np.uint64(byte))
            at += 1
        after = at
        while after < size and data[after] <= 32:
            after += 1
        first = stop = at
        if after < size and data[after] == 61:
            at = after + 1
            while at < size and data[at] <= 32:
                at += 1
            if at < size and (data[at] == 34 or data[at] == 39):
                quote = data[at]
                at += 1
                first = at
                while at < size and data[at] != quote:
                    at += 1
                stop = at
                at += 1
            else:
                first = at
                while at < size and data[at] > 32 and data[at] != 62:
                    at += 1
                stop = at
            if at > size:
                return -1, False, marks
        if name == _CLASS:
            if spans[1] == 0:
                spans[0], spans[1] = first, stop
        elif name == _ID:
            if spans[3] == 0:
                spans[2], spans[3] = first, stop
        elif name in (_ROLE, _PROP):
            if spans[5] == 0:
                spans[4], spans[5] = first, stop
        elif name == _HREF_NAME:
            marks |= HREF
        elif name == _STYLE:
            if _is_drawn_not(data, first, stop):
                marks |= HIDDEN
        elif name == _HIDDEN_NAME:
            marks |= HIDDEN
        elif name == _ARIA:
            if stop > first and data[first] | 32 == 116:
                marks |= ARIA_HIDDEN
        elif name == _SHADOW_NAME:
            marks |= SHADOW


@njit(cache=True)
def _raw_end(data: np.ndarray, at: int, name: np.uint64, script: bool) -> int:
    """Where the end tag of a raw text element begins, or the end of the page. A script knows `<!-- <script> </script> -->`."""
    size = len(data)
    escaped = False
    double = False
    while at + 1 < size:
        byte = data[at]
        if byte == 60:
            if data[at + 1] == 47:
                found, end = read_name(data, at + 2)
                if found == name and end < size:
                    if not double:
                        return at
                    double = False
            elif script and data[at + 1] == 33 and at + 3 < size and data[at + 2] == 45 and data[at + 3] == 45:
                escaped = True
                at += 1
            elif escaped and not double:
                found, end = read_name(data, at + 1)
                if found == name and end < size:
                    double = True
        elif escaped and byte == 45 and data[at + 1] == 45 and at + 2 < size and data[at + 2] == 62:
            escaped = double = False
        at += 1
    return size


@njit(cache=True)
def raw_end(data: np.ndarray, at: int, name: np.uint64, script: bool) -> tuple[int, bool]:
    """`_raw_end`, but a script whose double escape never ends is taken as plain, or it would swallow the page. Then True is the
    second result: no later script ends its own either, so that looking for that end again would take time without end."""
    end = _raw_end(data, at, name, script)
    if script and end == len(data):
        return _raw_end(data, at, name, False), True
    return end, False


@njit(cache=True)
def comment_end(data: np.ndarray, at: int) -> int:
    """Where the page goes on after `<!`, `<?` or `</` that begins no tag; `at` stands on the `<`."""
    size = len(data)
    if at + 3 < size and data[at + 1] == 33 and data[at + 2] == 45 and data[at + 3] == 45:
        at += 4
        if at < size and data[at] == 62:
            return at + 1
        if at + 1 < size and data[at] == 45 and data[at + 1] == 62:
            return at + 2
        while at + 2 < size:
            if data[at] == 45 and data[at + 1] == 45:
                if data[at + 2] == 62:
                    return at + 3
                if data[at + 2] == 33 and at + 3 < size and data[at + 3] == 62:
                    return at + 4
            at += 1
        return size
    at += 1
    while at < size and data[at] != 62:
        at += 1
    return min(at + 1, size)


@njit(cache=True)
def cdata_end(data: np.ndarray, at: int) -> int:
    """Where a CDATA section's `]]>` stands, or the end of the page."""
    size = len(data)
    while at + 2 < size:
        if data[at] == 93 and data[at + 1] == 93 and data[at + 2] == 62:
            return at
        at += 1
    return size


@njit(cache=True)
def _find(tag: int, mask: int, o: Open) -> int:
    """The innermost open element of a number, not past one in `mask`; -1 if there is none."""
    if o.opened[tag] == 0:
        return -1
    for index in range(o.s[_TOPS] - 1, -1, -1):
        if o.tag[index] == tag:
            return index
        if o.flags[o.tag[index]] & mask:
            return -1
    return -1


@njit(cache=True)
def _find_bits(bits: int, mask: int, o: Open) -> int:
    """The innermost open element in any group of `bits`, not past one in `mask`."""
    for index in range(o.s[_TOPS] - 1, -1, -1):
        found = o.flags[o.tag[index]]
        if found & bits:
            return index
        if found & mask:
            return -1
    return -1


@njit(cache=True)
def _find_item(first: int, second: int, o: Open) -> int:
    """The open item that a new li, dd or dt ends: not past a special element but address, div and p."""
    if o.opened[first] + o.opened[second] == 0:
        return -1
    for index in range(o.s[_TOPS] - 1, -1, -1):
        tag = o.tag[index]
        if tag in (first, second):
            return index
        if o.flags[tag] & _SPECIAL and tag != _ADDRESS and tag != _DIV and tag != _P:
            return -1
    return -1


@njit(cache=True)
def _push(tag: int, name: np.uint64, kind: int, node: int, o: Open) -> None:
    """Opens an element."""
    place = o.s[_TOPS]
    o.node[place], o.tag[place], o.name[place], o.kind[place] = node, tag, name, kind
    o.opened[tag] += 1
    o.s[_TOPS] += 1
    o.s[_CHANGES] += 1


@njit(cache=True)
def _pop(to: int, at: int, o: Open) -> None:
    """Ends every open element from the stack's place `to` upward, at byte `at`."""
    for index in range(o.s[_TOPS] - 1, to - 1, -1):
        node = o.node[index]
        o.close[node] = at
        o.opened[o.tag[index]] -= 1
        if node == o.s[_ANCHOR]:
            o.s[_ANCHOR] = -1
    o.s[_TOPS] = to
    o.s[_CHANGES] += 1


@njit(cache=True)
def _take_out(index: int, at: int, o: Open) -> None:
    """Ends one element that others are still open in."""
    node = o.node[index]
    o.close[node] = at
    o.opened[o.tag[index]] -= 1
    if node == o.s[_ANCHOR]:
        o.s[_ANCHOR] = -1
    for place in range(index, o.s[_TOPS] - 1):
        o.node[place], o.tag[place] = o.node[place + 1], o.tag[place + 1]
        o.name[place], o.kind[place] = o.name[place + 1], o.kind[place + 1]
    o.s[_TOPS] -= 1
    o.s[_CHANGES] += 1


@njit(cache=True)
def _leave_foreign(at: int, o: Open) -> None:
    """Ends the elements of svg and math that stand open innermost."""
    outer = o.s[_TOPS] - 1
    while o.kind[outer] == _OF_FOREIGN:
        outer -= 1
    _pop(outer + 1, at, o)


@njit(cache=True)
def _end_formatting(tag: int, at: int, o: Open) -> bool:
    """Ends the innermost formatting element of a number: alone, if blocks are open in it, else with what is open in it."""
    found = _find(tag, _SCOPE, o)
    if found < 0:
        return False
    for index in range(found + 1, o.s[_TOPS]):
        if o.flags[o.tag[index]] & _SPECIAL:
            _take_out(found, at, o)
            return True
    _pop(found, at, o)
    return True


@njit(cache=True)
def _into_table(tag: int, at: int, o: Open) -> bool:
    """Ends what stands open between a table and the place where a part of it may begin; False where no table is open."""
    cell = tag in (_TD, _TH)
    for index in range(o.s[_TOPS] - 1, -1, -1):
        above = o.tag[index]
        section = above in (_TBODY, _THEAD, _TFOOT)
        if above in (_TABLE, _TEMPLATE) or (section and (cell or tag == _TR)) or (above == _TR and cell):
            _pop(index + 1, at, o)
            return True
    return False


@njit(cache=True)
def _implied_ends(tag: int, at: int, o: Open) -> bool:
    """Ends what the start tag of `tag` ends; False for a start tag that is ignored."""
    bits = o.flags[tag]
    if o.opened[_HEAD_TAG] and not bits & _IN_HEAD and not o.opened[_TEMPLATE]:
        _pop(_find(_HEAD_TAG, 0, o), at, o)
    if o.kind[o.s[_TOPS] - 1] == _OF_FOREIGN:
        return True
    if bits & _TABLE_PART:
        return (o.opened[_TABLE] > 0 or o.opened[_TEMPLATE] > 0) and _into_table(tag, at, o)
    if tag == _FORM and o.opened[_FORM] and not o.opened[_TEMPLATE]:
        return False
    if tag == _LI:
        found = _find_item(_LI, _LI, o)
        if found >= 0:
            _pop(found, at, o)
    elif tag in (_DD, _DT):
        found = _find_item(_DD, _DT, o)
        if found >= 0:
            _pop(found, at, o)
    if bits & _CLOSES_P and o.opened[_P]:
        found = _find(_P, _BUTTON_SCOPE, o)
        if found >= 0:
            _pop(found, at, o)
    found = -1
    top = o.s[_TOPS] - 1
    if bits & _HEADING:
        if o.flags[o.tag[top]] & _HEADING:
            found = top
    elif tag == _A:
        if o.opened[_A]:
            _end_formatting(_A, at, o)
            o.s[_ANCHOR] = -1
    elif tag == _TABLE:
        found = _find(_TABLE, _SCOPE, o)  # one that stands in no cell of the other
    elif tag == _BUTTON:
        found = _find(_BUTTON, _SCOPE, o)
    elif tag in (_OPTION, _OPTGROUP):
        if o.tag[top] == _OPTION:
            found = top
        if tag == _OPTGROUP and o.opened[_OPTGROUP]:
            found = _find(_OPTGROUP, _SCOPE, o)
    elif tag in (_SELECT, _INPUT, _TEXTAREA):
        found = _find(_SELECT, _SCOPE, o)
    elif tag in (_RT, _RP, _RB, _RTC):
        while o.tag[top] in (_RT, _RP, _RB) or (o.tag[top] == _RTC and tag in (_RB, _RTC)):
            found = top
            top -= 1
    if found >= 0:
        _pop(found, at, o)
        return tag != _SELECT
    return True


@njit(cache=True)
def _end_tag(tag: int, name: np.uint64, at: int, o: Open) -> None:
    """Ends what an end tag ends; one that matches nothing in its scope is ignored."""
    if tag in (_HTML, _BODY):
        return
    if o.s[_EXTRA] > 0:
        o.s[_EXTRA] -= 1
        return
    slot = name & np.uint64(511)
    if o.idle[slot] == name and o.idle_since[slot] == o.s[_CHANGES]:
        return
    bits = o.flags[tag]
    top = o.s[_TOPS]
    index = top - 1
    if tag == _P and o.kind[index] == _OF_FOREIGN:
        # As the start tags that a browser leaves svg and math at.
        _leave_foreign(at, o)
        top = o.s[_TOPS]
        index = top - 1
    while o.kind[index] != _OF_HTML:
        if o.name[index] == name:
            _pop(index, at, o)
            return
        index -= 1
    found = -1
    if tag == 0:
        for index in range(top - 1, -1, -1):
            if o.tag[index] == 0 and o.name[index] == name:
                found = index
                break
            if o.flags[o.tag[index]] & _SPECIAL:
                break
    elif bits & _HEADING:
        found = _find_bits(_HEADING, _SCOPE, o)
    elif not o.opened[tag]:
        return
    elif bits & _FORMATTING:
        if _end_formatting(tag, at, o):
            return
    elif not bits & _SPECIAL:
        found = _find(tag, _SPECIAL, o)
        if found < 0 and bits & _FOREIGN:
            found = _find(tag, 0, o)
    elif bits & _TABLE_PART:
        found = _find(tag, _TABLE_SCOPE, o)
    elif tag in (_TABLE, _TEMPLATE):
        found = _find(tag, 0, o)
    elif tag == _FORM:
        # What is open in a form stays open.
        found = _find(tag, _SCOPE, o)
        if found >= 0 and found < top - 1:
            _take_out(found, at, o)
            return
    elif tag == _LI:
        found = _find(tag, _SCOPE | _LIST, o)
    elif tag == _P:
        found = _find(tag, _BUTTON_SCOPE, o)
    else:
        found = _find(tag, _SCOPE, o)
    if found >= 0:
        _pop(found, at, o)
    else:
        o.idle[slot], o.idle_since[slot] = name, o.s[_CHANGES]


@njit(cache=True)
def _says_html(data: np.ndarray, at: int, stop: int) -> bool:
    """True if a tag holds the letters `html`, as the encoding of MathML's annotation-xml does where it holds HTML."""
    for index in range(at, stop - 3):
        if (data[index] | 32 == 104 and data[index + 1] | 32 == 116 and data[index + 2] | 32 == 109
                and data[index + 3] | 32 == 108):  # fmt: skip
            return True
    return False


@njit(cache=True)
def build(data: np.ndarray, capacity: int, keys: np.ndarray, numbers: np.ndarray, flags: np.ndarray):  # type: ignore[no-untyped-def]
    """The nodes of a page in document order: see `tree.Tree`. Stops where `capacity` nodes are used up."""
    tag = np.empty(capacity, np.uint8)
    parent = np.empty(capacity, np.int32)
    start = np.empty(capacity, np.int32)
    stop = np.empty(capacity, np.int32)
    close = np.empty(capacity, np.int32)
    anchor = np.empty(capacity, np.int32)
    marks = np.empty(capacity, np.uint8)
    spans = np.empty((capacity, 6), np.int32)
    span = np.zeros(6, np.int32)
    s = np.zeros(7, np.int64)
    o = Open(np.zeros(DEPTH + 1, np.int32), np.zeros(DEPTH + 1, np.uint8), np.zeros(DEPTH + 1, np.uint64),
             np.zeros(DEPTH + 1, np.uint8), np.zeros(256, np.int32), s, close, flags, np.zeros(512, np.uint64),
             np.zeros(512, np.int64))  # fmt: skip
    size = len(data)

    tag[0], parent[0], start[0], stop[0], close[0], anchor[0], marks[0] = 0, -1, 0, 0, size, -1, 0
    spans[0, :] = 0
    s[_N], s[_TOPS], s[_ANCHOR] = 1, 1, -1
    at = begin = 0
    while at <= size:
        # Text up to the next thing that is a tag, a comment or the end.
        while at < size and data[at] != 60:
            at += 1
        follow = data[at + 1] if at + 1 < size else 0
        letter = follow | 32
        if at < size and not (97 <= letter <= 122 or (follow == 47 and at + 2 < size) or follow == 33 or follow == 63):
            at += 1
            continue
        if at > begin and s[_N] < capacity:
            blank = True
            for index in range(begin, at):
                if data[index] > 32:
                    blank = False
                    break
            above = o.tag[s[_TOPS] - 1]
            if not blank and o.opened[_HEAD_TAG] and (above in (_HEAD_TAG, _NOSCRIPT)):
                _pop(_find(_HEAD_TAG, 0, o), begin, o)
                above = o.tag[s[_TOPS] - 1]
            if not blank or not flags[above] & _BLANK:
                node = s[_N]
                tag[node], parent[node], start[node], stop[node] = _TEXT, o.node[s[_TOPS] - 1], begin, at
                close[node], anchor[node], marks[node] = at, s[_ANCHOR], 0
                s[_N] += 1
        begin = at
        if at >= size or s[_N] >= capacity:
            break
        above_kind = o.kind[s[_TOPS] - 1]
        if not 97 <= letter <= 122:
            third = data[at + 2] | 32 if at + 2 < size else 0
            if follow != 47 or not 97 <= third <= 122:
                # In svg and math a CDATA section is text.
                if above_kind != _OF_HTML and at + 8 < size and data[at + 2] == 91 and data[at + 8] == 91:
                    inner = at + 9
                    at = cdata_end(data, inner)
                    node = s[_N]
                    tag[node], parent[node], start[node], stop[node] = _TEXT, o.node[s[_TOPS] - 1], inner, at
                    close[node], anchor[node], marks[node] = at, s[_ANCHOR], LITERAL
                    s[_N] += 1
                    at = min(at + 3, size)
                else:
                    at = comment_end(data, at)
                begin = at
                continue
            name, end = read_name(data, at + 2)
            number = number_of(name, keys, numbers)
            end, _, _ = read_attributes(data, end, span)
            if end < 0:
                break
            if number == _BR:
                node = s[_N]
                tag[node], parent[node], start[node], stop[node] = _BR, o.node[s[_TOPS] - 1], at, end
                close[node], anchor[node], marks[node] = end, s[_ANCHOR], 0
                spans[node, :] = 0
                s[_N] += 1
            else:
                _end_tag(number, name, at, o)
            at = begin = end
            continue
        name, end = read_name(data, at + 1)
        number = number_of(name, keys, numbers)
        end, slash, mark = read_attributes(data, end, span)
        if end < 0:
            break
        if name == _IMAGE and above_kind != _OF_FOREIGN:
            number = _IMG
        bits = flags[number]
        if number in (_HTML, _HEAD_TAG, _BODY):
            bit = _SEEN_HTML if number == _HTML else _SEEN_HEAD if number == _HEAD_TAG else _SEEN_BODY
            if s[_SEEN] & bit or (number == _HEAD_TAG and s[_SEEN] & _SEEN_BODY):
                at = begin = end
                continue
            s[_SEEN] |= bit
        if above_kind == _OF_FOREIGN and bits & _BREAKOUT:
            _leave_foreign(at, o)
        if not _implied_ends(number, at, o):
            at = begin = end
            continue
        above = o.tag[s[_TOPS] - 1]
        bare = number in (_TD, _TH) and above in (_TABLE, _TBODY, _THEAD, _TFOOT)
        if bare and s[_TOPS] < DEPTH and s[_N] + 1 < capacity:
            # A row that is not written out.
            node = s[_N]
            tag[node], parent[node], start[node], stop[node] = _TR, o.node[s[_TOPS] - 1], at, at
            close[node], anchor[node], marks[node] = at, s[_ANCHOR], 0
            spans[node, :] = 0
            s[_N] += 1
            _push(_TR, _TR_NAME, _OF_HTML, node, o)
        node = s[_N]
        tag[node], parent[node], start[node], stop[node] = number, o.node[s[_TOPS] - 1], at, end
        close[node], anchor[node], marks[node] = end, s[_ANCHOR], mark
        spans[node, :] = span
        s[_N] += 1
        at = begin = end
        foreign = o.kind[s[_TOPS] - 1] == _OF_FOREIGN
        if bits & _VOID or (slash and (foreign or bits & _FOREIGN)):
            continue
        if bits & _RAW and not foreign:
            if number == _PLAINTEXT:
                at = size
            else:
                at, escaped = raw_end(data, end, name, number == _SCRIPT and not s[_PLAIN_SCRIPTS])
                s[_PLAIN_SCRIPTS] |= escaped
            if at > end and s[_N] < capacity:
                inner = s[_N]
                tag[inner], parent[inner], start[inner], stop[inner], close[inner] = _TEXT, node, end, at, at
                anchor[inner], marks[inner] = -1, 0 if number in (_TEXTAREA, _TITLE) else LITERAL
                s[_N] += 1
            close[node] = at
            if at < size:
                at, _, _ = read_attributes(data, at + 2, span)
                if at < 0:
                    at = size
            begin = at
            continue
        if s[_TOPS] >= DEPTH:
            s[_EXTRA] += 1
            continue
        kind = _OF_HTML
        if foreign:
            back = bits & _INTEGRATION and (number != _ANNOTATION_XML or _says_html(data, start[node], end))
            kind = _OF_BOTH if back else _OF_FOREIGN
        elif bits & _FOREIGN:
            kind = _OF_FOREIGN
        _push(number, name, kind, node, o)
        if number == _A and mark & HREF:
            s[_ANCHOR] = node
    _pop(1, size, o)
    count = s[_N]
    last = np.empty(count, np.int32)
    for node in range(count):
        last[node] = node + 1
    for node in range(count - 1, 0, -1):
        above_node = parent[node]
        if last[node] > last[above_node]:
            last[above_node] = last[node]
    return (tag[:count], parent[:count], last, start[:count], stop[:count], close[:count], anchor[:count], marks[:count],
            spans[:count])  # fmt: skip
