"""A page as arrays of nodes in document order."""

from __future__ import annotations

import html
import html.entities
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curate.stages.extract.dom import build, tags

MAX_NODES = 1_000_000
"""More nodes than this are not read: what follows them is left out."""

MAX_VALUE = 30_000
"""Characters of an attribute's value that are read: more than the longest formula, so that none is taken cut short."""

_NAME = re.compile(rb"<([A-Za-z][^\x00-\x20/>]*)")
_ATTRIBUTE = re.compile(
    r"([^\x00-\x20/>][^\x00-\x20/>=]*)(?:[\x00-\x20]*=[\x00-\x20]*(?:\"([^\"]*)\"|'([^']*)'|([^\x00-\x20>]*)))?"
)
# In an attribute `&copy=1` and `&copyright` are as they stand: only what lies between two `&` is a name, whole.
_REFERENCE = re.compile(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[A-Za-z][A-Za-z0-9]*[;=]?)")


def _decoded(found: re.Match[str]) -> str:
    known = found[1][0] == "#" or found[1] in html.entities.html5
    return html.unescape(found[0]) if known else found[0]


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes of a page; a node is its index, in document order, so that the descendants of `i` are `i + 1 … last[i] - 1`.

    Node 0 is the document. `tag`: the number in `tags.NAMES` (0: an element not listed there; `tags.TEXT`: a text node).
    `parent`: int32, -1 of the document. `start`, `stop`: bytes of `source`: an element's start tag; a text node's characters as
    they are written. `close`: where an element's content ends. `anchor`: the link that a node stands in, else -1.
    `marks`: bits of `build` (HIDDEN, ARIA_HIDDEN, HREF, SHADOW, LITERAL). `spans` (n, 6): where the values of the attributes
    class, id, and role or itemprop start and stop; not set for text nodes. The row of a cell that stands right in a table is a
    node too: its start tag has no bytes.
    """

    source: bytes
    data: np.ndarray
    tag: np.ndarray
    parent: np.ndarray
    last: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    close: np.ndarray
    anchor: np.ndarray
    marks: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.tag)

    def name(self, node: int) -> str:
        """An element's name, lower-case; empty for a text node and the document."""
        number = int(self.tag[node])
        if number == tags.TEXT or node == 0:
            return ""
        if number:
            return tags.NAMES[number]
        found = _NAME.match(self.source, int(self.start[node]))
        return found[1].lower().decode("utf-8", "replace") if found else ""

    def attributes(self, node: int) -> dict[str, str]:
        """An element's attributes, names lower-case, character references decoded; of two with one name the first. Of a value
        its first `MAX_VALUE` characters as written: pages keep whole data sets in attributes."""
        found: dict[str, str] = {}
        if node == 0 or self.tag[node] == tags.TEXT:
            return found
        begin = _NAME.match(self.source, int(self.start[node]), int(self.stop[node]))
        if begin is None:
            return found
        inside = self.source[begin.end() : self.stop[node] - 1].decode("utf-8", "replace")
        for name, double, single, bare in _ATTRIBUTE.findall(inside):
            found.setdefault(
                name.encode().lower().decode(), _REFERENCE.sub(_decoded, (double or single or bare)[:MAX_VALUE])
            )
        return found

    def children(self, node: int) -> Iterator[int]:
        """The nodes right below one, in order."""
        child, end = node + 1, int(self.last[node])
        while child < end:
            yield child
            child = int(self.last[child])

    def text(self, node: int) -> str:
        """All text below a node (or of a text node), character references decoded, white space as it is written; scripts and
        styles included as they stand."""
        if self.tag[node] == tags.TEXT:
            return self._characters(node)
        nodes = np.flatnonzero(self.tag[node : self.last[node]] == tags.TEXT) + node
        return "".join(self._characters(int(each)) for each in nodes)

    def _characters(self, node: int) -> str:
        raw = self.source[self.start[node] : self.stop[node]].decode("utf-8", "replace")
        return raw if self.marks[node] & build.LITERAL else html.unescape(raw)


def parse(source: bytes) -> Tree:
    """The tree of a page given as valid UTF-8. Linear in its size; never raises for any content."""
    capacity = min(3 * source.count(b"<") + 4, MAX_NODES)
    data = np.frombuffer(source, dtype=np.uint8)
    return Tree(source, data, *build.build(data, capacity, tags.KEYS, tags.NUMBERS, tags.FLAGS))
