"""Element names as small numbers, and what HTML says of each (WHATWG HTML, section 13: parsing; section 15: rendering)."""

from __future__ import annotations

import numpy as np

_GROUPS = {
    "VOID": "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr",
    "RAW": "script style textarea title xmp iframe noembed noframes plaintext",
    # The tree builder's "special" elements: an end tag of another kind does not reach past them.
    "SPECIAL": "address applet area article aside base basefont bgsound blockquote body br button caption center col colgroup "
    "dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header "
    "hgroup hr html iframe img input keygen li link listing main marquee menu meta nav noembed noframes noscript object ol p "
    "param plaintext pre script search section select source style summary table tbody td template textarea tfoot th thead "
    "title tr track ul wbr xmp foreignobject desc",
    "SCOPE": "applet caption html table td th marquee object template foreignobject desc",
    "CLOSES_P": "address article aside blockquote center details dialog dir div dl dd dt fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hgroup hr li listing main menu nav ol p plaintext pre search section summary table ul xmp",
    "HEADING": "h1 h2 h3 h4 h5 h6",
    "FORMATTING": "a b big code em font i nobr s small strike strong tt u",
    "IN_HEAD": "base basefont bgsound link meta noframes noscript script style template title html head",
    "FOREIGN": "svg math",
    # Elements that begin and end a line of their own when a browser draws the page.
    "BLOCK": "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu nav ol optgroup option p plaintext pre "
    "search section summary table tbody td tfoot th thead tr ul xmp foreignobject iframe video audio object canvas select "
    "textarea button template noscript head title",
    # What stands below these is no text of the page.
    "SKIP": "script style textarea title iframe noembed noframes select option optgroup datalist object audio video canvas "
    "svg head map applet embed",
    "LIST": "ul ol menu dir",
    # `<ul></li>`: an end tag of an item does not reach past the list; special elements but address, div and p stop an item.
    "PRE": "pre listing xmp plaintext",
    # A browser leaves svg or math when one of these begins there.
    "BREAKOUT": "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu "
    "meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var section article main nav footer header aside",
    # Inside math and svg these hold HTML again.
    "INTEGRATION": "mi mo mn ms mtext annotation-xml foreignobject desc title",
    "TABLE_PART": "caption colgroup col tbody tfoot thead tr td th",
    "TABLE_SCOPE": "html table template",
    "BUTTON": "button",
    # White space right below these is no text.
    "BLANK": "table tbody thead tr ul ol html head select",
}
_MORE = "abbr bdi bdo cite data del dfn ins kbd label mark meter output progress q rb rp rt rtc ruby samp slot span sub sup "
_MORE += "time var acronym picture amp-img mrow mfrac msqrt msup msub annotation semantics"

TEXT = 1
NAMES: tuple[str, ...] = (
    "",
    "#text",
    *sorted({name for names in _GROUPS.values() for name in names.split()} | set(_MORE.split())),
)
"""The name of each number: 0 is any element not listed, 1 a text node."""

ID = {name: number for number, name in enumerate(NAMES)}
BITS = {group: 1 << bit for bit, group in enumerate(_GROUPS)}
FLAGS = np.zeros(256, dtype=np.int64)
"""For each number the groups that it is in, as the bits of `BITS`."""
for _group, _names in _GROUPS.items():
    for _name in _names.split():
        FLAGS[ID[_name]] |= BITS[_group]


def pack(name: str) -> int:
    """A name as the kernels know it: its bytes, lower-case, folded into 64 bits."""
    value = 0
    for letter in name.encode():
        value = ((value << 8) ^ (value >> 56) * 0x100000001B3 ^ letter) & 0xFFFFFFFFFFFFFFFF
    return value


SLOT_BITS = 10
SLOT_MULTIPLIER = 0x9E3779B97F4A7C15


def _slots() -> tuple[np.ndarray, np.ndarray]:
    keys = np.zeros(1 << SLOT_BITS, dtype=np.uint64)
    numbers = np.zeros(1 << SLOT_BITS, dtype=np.uint8)
    for number in range(2, len(NAMES)):
        key = pack(NAMES[number])
        slot = (key * SLOT_MULTIPLIER & 0xFFFFFFFFFFFFFFFF) >> (64 - SLOT_BITS)
        while keys[slot]:
            slot = (slot + 1) % len(keys)
        keys[slot], numbers[slot] = key, number
    return keys, numbers


KEYS, NUMBERS = _slots()
"""An open hash table from packed names to numbers."""
