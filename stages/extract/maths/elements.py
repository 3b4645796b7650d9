"""The MathML of a page as small elements: read from its source, or from what MathJax 3 drew of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from curate.stages.extract.dom import Tree
from curate.stages.extract.maths.symbols import words

MAX_DEPTH = 60
"""Elements nested deeper are read as their text: no formula that people write goes so far."""
MAX_NODES = 50_000
"""Nodes of one formula that are read."""

TOKENS = frozenset(words("mi mo mn ms mtext"))
LAYOUT = frozenset(
    words(
        "msub msup msubsup mover munder munderover mfrac msqrt mroot mfenced mtable mtr menclose mphantom mspace semantics "
        "maction mmultiscripts"
    )
)
_HIDDEN = frozenset(words("annotation annotation-xml mglyph maligngroup malignmark script style"))
_PIECES = {"⎡": "[", "⎤": "]", "⎛": "(", "⎞": ")", "⎧": "{", "⎫": "}", "⎢": "⌊", "⎥": "⌋", "∣": "|", "∥": "‖", "⏐": "|"}
_HEX = re.compile(r"[0-9A-Fa-f]{1,6}")
_GLYPHS = frozenset({"mjx-c", "mjx-stretchy-v", "mjx-stretchy-h"})


@dataclass(slots=True)
class Element:
    """A MathML element: its name without prefix, its attributes, the elements below, and a token's text."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""


def read(tree: Tree, node: int) -> Element:
    """The MathML below a node; never more than `MAX_NODES` elements, nor deeper than `MAX_DEPTH`."""
    top = Element("math", tree.attributes(node))
    open_elements: list[tuple[int, Element]] = [(int(tree.last[node]), top)]
    i, end, count = node + 1, int(tree.last[node]), 0
    while i < end and count < MAX_NODES:
        while i >= open_elements[-1][0]:
            open_elements.pop()
        name, above, stop = tree.name(i).rpartition(":")[2], open_elements[-1][1], int(tree.last[i])
        count += 1
        if not name:
            loose = tree.text(i)
            if loose.strip() and above.name not in _HIDDEN:
                above.children.append(Element("mtext", text=loose.strip()))
            i += 1
        elif name in _HIDDEN:
            i = stop
        elif name in TOKENS or len(open_elements) >= MAX_DEPTH:
            attributes = tree.attributes(i) if tree.stop[i] - tree.start[i] > len(name) + 8 else {}
            if name in TOKENS and attributes.get("style", "").replace(" ", "") == "display:none":
                i = stop
                continue
            below = [] if stop <= i + 1 else _swallowed(tree, i, stop)
            words = _own_text(tree, i, below[0][0] if below else stop)
            if below and not words.strip() and tree.source[int(tree.stop[i]) - 2 : int(tree.stop[i])] != b"/>":
                element = Element("mrow")  # KaTeX wraps what it stacks: <mo><mi>x</mi></mo>
                above.children.append(element)
                if len(open_elements) < MAX_DEPTH:
                    open_elements.append((stop, element))
                i += 1
                continue
            above.children.append(Element(name if name in TOKENS else "mtext", attributes, text=words))
            i = below[0][0] if below else stop
        else:
            attributes = tree.attributes(i) if tree.stop[i] - tree.start[i] > len(name) + 2 else {}
            element = Element(name, attributes)
            above.children.append(element)
            open_elements.append((stop, element))
            i += 1
    return top


def _swallowed(tree: Tree, node: int, stop: int) -> list[tuple[int, str]]:
    """The first MathML element that a token holds, as when `<mi/>` was read as an open tag; HTML below a token is its text."""
    for i in range(node + 1, min(stop, node + 20)):
        name = tree.name(i).rpartition(":")[2]
        if name in TOKENS or (name.startswith("m") and name in LAYOUT):
            return [(i, name)]
    return []


def _own_text(tree: Tree, node: int, stop: int) -> str:
    return "".join(tree.text(i) for i in range(node + 1, min(stop, node + 200)) if not tree.name(i))


def read_glyphs(tree: Tree, node: int) -> Element:
    """The MathML that MathJax 3 drew as CHTML or SVG, from the elements named after it (`mjx-mi`; `g data-mml-node="mi"`) and
    the code points of its glyphs (`mjx-c1D465`; `data-c="1D465"`)."""
    top, passed = Element("math"), 0
    is_html = any(tree.name(i) == "mjx-math" for i in range(node, min(node + 8, int(tree.last[node]))))
    open_elements: list[tuple[int, Element]] = [(int(tree.last[node]), top)]
    for i in range(node + 1, min(int(tree.last[node]), node + MAX_NODES)):
        while i >= open_elements[-1][0]:
            open_elements.pop()
        tag = tree.name(i)
        if not tag or i < passed:
            continue
        attributes, above = tree.attributes(i), open_elements[-1][1]
        name = tag[4:] if tag.startswith(("mjx-m", "mjx-texatom")) else attributes.get("data-mml-node", "")
        classes = attributes.get("class", "").split()
        glyph = attributes.get("data-c", "") or next(
            (each[5:] for each in classes if tag in _GLYPHS and each.startswith("mjx-c")), ""
        )
        if glyph and _HEX.fullmatch(glyph) and int(glyph, 16) < 0x110000:
            above.text += chr(int(glyph, 16))
            passed = int(tree.last[i])  # a stretched sign holds the pieces that draw it
            if "TEX-C" in classes or "-TEX-C-" in attributes.get("xlink:href", attributes.get("href", "")):
                above.attributes["mathvariant"] = "script"
        elif tag in ("rect", "mjx-line"):
            above.attributes["line"] = "true"
        elif name and name not in ("math", "text") and len(open_elements) < MAX_DEPTH:
            element = Element("mrow" if name.lower() == "texatom" else name)
            above.children.append(element)
            open_elements.append((int(tree.last[i]), element))
    _reordered(top, is_html)
    return top


def _reordered(top: Element, is_html: bool) -> None:
    """MathJax draws an upper script before a lower one, in HTML also before the base; the sign of a root is no part of what is
    under it; a fraction without a line is none."""
    waiting = [top]
    while waiting:
        element = waiting.pop()
        below = element.children
        if element.name == "msubsup" and len(below) == 3:
            below[1:] = below[:0:-1]
        elif element.name == "mover" and len(below) == 2 and is_html:
            below.reverse()
        elif element.name == "munderover" and len(below) == 2 and below[1].name == "munder":
            below[:] = [*below[1].children, below[0]]
        elif element.name == "munderover" and len(below) == 3 and is_html:
            below[:] = [*below[1:], below[0]]
        elif element.name == "munderover" and len(below) == 3 and _equates(below[2]) and not _equates(below[1]):
            below[1:] = below[:0:-1]  # in a line of text the limits are scripts, the upper one first
        elif element.name in ("msqrt", "mroot"):
            below[:] = [each for each in below if not (each.name == "mo" and each.text in ("√", ""))]
        elif element.name == "mfrac" and "line" not in element.attributes:
            element.attributes["linethickness"] = "0"
        elif element.name == "mi" and len(element.text) == 1 and element.text.isascii() and element.text.isalpha():
            element.attributes.setdefault("mathvariant", "normal")
        elif element.name == "mo" and len(element.text) > 1:
            element.text = next((whole for piece, whole in _PIECES.items() if piece in element.text), element.text)
        waiting.extend(element.children)


def _equates(element: Element) -> bool:
    return any(each.name == "mo" and each.text in ("=", "∈") for each in (element, *element.children))
