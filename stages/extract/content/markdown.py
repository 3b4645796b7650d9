"""Chosen blocks as Markdown: CommonMark with GitHub's tables."""

from __future__ import annotations

import html
import re

import numpy as np

from curate.stages.extract.content import inline, layout
from curate.stages.extract.content.chosen import NO_END, Chosen
from curate.stages.extract.content.layout import BULLET, CODE, HEADING, PARAGRAPH, ROW
from curate.stages.extract.dom import tags

MAX_SPECIAL = 200_000
"""Characters of one page that may have a meaning in Markdown and are looked at one by one (a line's end counts for three). What
stands beyond is escaped wherever it may have any, and loses its styles and line breaks."""
MAX_CELLS = 300_000
"""Places of one page's tables that are filled up for cells that span several, and so that all rows are of one length."""
MAX_ADDRESSES = 4_000_000
"""Characters of the addresses of one page's links, each as often as it is written: a link around many paragraphs is one in each
of them."""
MAX_INDENT = 4_000_000
"""Characters of indents in one listing; one of more is written outside of its list."""

_NONCHARACTERS = re.compile("[\ufdd0-\ufdef]")
_HREF = re.compile(rb"""\shref="([^"<>']*)["]""")
_CLOSING = re.compile(r"(?:(?<=\s)|\A)(#+)\Z")
_QUOTE, _CODE_TAG, _H1 = (tags.ID[name] for name in ("blockquote", "code", "h1"))


def write(chosen: Chosen, links: bool) -> str:
    """The chosen blocks as Markdown; `links`: with their links."""
    return _Writer(chosen, links).write()


class _Writer:
    """What is known while a page is written: the indents of open items, the addresses of links, which marks lists have."""

    def __init__(self, chosen: Chosen, links: bool) -> None:
        self.chosen, self.links = chosen, links
        self.tree, self.blocks = chosen.tree, chosen.blocks
        self.kind, self.node, self.container, self.item, self.list, _, self.group, self.follows = (
            chosen.outline.T.tolist()
        )
        self.styles, styled = layout.piece_styles(chosen.tree, chosen.blocks, chosen.kept)
        self.styled = styled.tolist()
        self.indents: dict[int, str] = {}
        self.prefixes: dict[int, str] = {-1: ""}
        self.addresses: dict[int, str] = {-1: ""}
        self.turn = False
        self.left, self.room, self.addressed = MAX_SPECIAL, MAX_CELLS, 0

    def write(self) -> str:
        out: list[str] = []
        before = -1
        rows: list[int] = []
        for place in range(len(self.kind)):
            if rows and self.kind[place] == ROW and self.node[place] == self.node[place - 1]:
                continue
            if rows and (self.kind[place] != ROW or self.group[place] != self.group[rows[0]]
                         or self.container[place] != self.container[rows[0]]):  # fmt: skip
                self.put(out, rows[0], before, self.table(rows))
                before, rows = rows[0], []
            if self.kind[place] == ROW:
                rows.append(place)
                continue
            if self.kind[place] == HEADING and before >= 0 and self.node[before] == self.node[place]:
                out.append(" " + self.heading(place)[1])
            else:
                self.put(out, place, before, self.lines(place))
            before = place
        if rows:
            self.put(out, rows[0], before, self.table(rows))
        return "".join(out)

    def put(self, out: list[str], place: int, before: int, lines: list[str]) -> None:
        """Writes a block, with the marks of the items and quotations that it stands in."""
        if not any(lines):
            return
        container, item = self.container[place], self.item[place]
        chain = self.chosen.chain(container)
        if before >= 0 and self.list[before] != self.list[place]:
            # Two lists in a row are told apart by their marks.
            self.turn = not self.turn and self.tag(self.list[before]) == self.tag(self.list[place])
        mark = self.marker(item) if item in chain else ""
        if mark:
            self.indents[item] = " " * len(mark)
        rest = self.rest(container)
        first = rest
        if mark:
            before_item = len(self.rest(int(self.chosen.up[item])))
            first = rest[:before_item] + mark + rest[before_item + len(mark) :]
        text = "\n".join(lines)
        if rest and text.count("\n") * len(rest) > MAX_INDENT:
            first = rest = ""
        if before >= 0:
            out.append(self.separator(place, before, chain, rest))
        out.append(first + (_indented(text, rest) if rest else text))

    def rest(self, container: int) -> str:
        """What stands before all lines but the first of what is in a container."""
        found = self.prefixes.get(container)
        if found is None:
            step = "> " if self.tag(container) == _QUOTE else self.indents.get(container, "")
            found = self.prefixes[container] = self.rest(int(self.chosen.up[container])) + step
        return found

    def tag(self, node: int) -> int:
        return int(self.tree.tag[node]) if node >= 0 else 0

    def marker(self, item: int) -> str:
        number = int(self.chosen.numbers[item])
        if number == BULLET:
            return "* " if self.turn else "- "
        # Markdown knows no negative numbers.
        return f"{max(number, 0)}{')' if self.turn else '.'} "

    def separator(self, place: int, before: int, chain: list[int], rest: str) -> str:
        both = self.kind[place] == PARAGRAPH == self.kind[before]
        if self.follows[place]:
            return "  \n"
        item = self.item[place]
        if both and item >= 0 and self.list[place] == self.list[before]:
            deeper = len(chain) > len(self.chosen.chain(self.container[before]))
            if not deeper or int(self.chosen.numbers[item]) in (BULLET, 1):
                return "\n"
        blank = ""
        if ">" in rest:
            for node, other in zip(chain, self.chosen.chain(self.container[before]), strict=False):
                if node != other:
                    break
                blank = self.rest(node)
        return f"\n{blank.rstrip()}\n"

    def lines(self, place: int) -> list[str]:
        """The lines of a heading, a listing or a paragraph."""
        if self.kind[place] == CODE:
            text = self.chosen.raw(place)
            text = text if text.isascii() else _NONCHARACTERS.sub("", text)
            # Empty lines at the front are dropped, indentation is not.
            text = text[text.rfind("\n", 0, len(text) - len(text.lstrip(" \t\n"))) + 1 :]
            fence = inline.fence(text)
            return [fence + self.language(place), text, fence]
        if self.kind[place] == HEADING:
            return [" ".join(self.heading(place))]
        lines = [line.strip() for line in self.body(place).split("\n")]
        return [*(line + "  " if line else "" for line in lines[:-1]), lines[-1]]

    def heading(self, place: int) -> tuple[str, str]:
        """The number signs of a heading's level, and its text."""
        text = " ".join(self.body(place, layout.STRONG).split("\n")).strip()
        text = _CLOSING.sub(r"\\\1", text) if text.endswith("#") else text
        return "#" * (self.tag(self.node[place]) - _H1 + 1), text

    def body(self, place: int, without: int = 0) -> str:
        first, end, stop = self.chosen.extent(place)
        if (not self.links and not self.styled[place] & ~without) or not self.chosen.may_compose(first, end):
            return self.text(inline.Marked(self.chosen.raw(place)))
        return self.pieces(first, end, stop, None, without)

    def pieces(self, first: int, end: int, stop: int, held: np.ndarray | None, without: int = 0) -> str:
        nodes, linked = self.blocks.pieces[:, 0], self.links and without != _ALL_STYLES
        return self.text(inline.mark(
            (gap, text, int(self.styles[piece]) & ~without, self.address(int(nodes[piece])) if linked else "")
            for gap, text, piece in self.chosen.spans(first, end, stop, held)
        ))  # fmt: skip

    def text(self, marked: inline.Marked) -> str:
        marked = self.chosen.said(marked)
        self.left -= inline.specials(marked.text)
        write = inline.inline if self.left >= 0 else inline.escaped
        return write(marked, self.chosen.block_text is not None)

    def address(self, node: int) -> str:
        anchor = int(self.tree.anchor[node])
        if anchor not in self.addresses:
            self.addresses[anchor] = inline.address(self.target(anchor))
        found = self.addresses[anchor]
        self.addressed += len(found)
        return found if self.addressed <= MAX_ADDRESSES else ""

    def target(self, anchor: int) -> str:
        tag = self.tree.source[int(self.tree.start[anchor]) : int(self.tree.stop[anchor])]
        plain = _HREF.search(tag)
        # Reading all attributes takes ten times as long.
        if plain and tag.count(b"href") == 1:
            return html.unescape(plain[1].decode("utf-8", "replace"))
        return self.tree.attributes(anchor).get("href", "")

    def table(self, places: list[int]) -> list[str]:
        """A table's lines: its first row is the head."""
        rows = []
        spanned: dict[int, int] = {}
        for place in places:
            cells: list[str] = []
            for node, first, end in self.chosen.cells.get(place, ()):
                self.skip(cells, spanned)
                without = 0 if self.chosen.may_compose(first, end) else _ALL_STYLES
                text = self.pieces(first, end, NO_END, self.chosen.held, without)
                width, height = self.span(node)
                self.room -= width - 1
                if height > 1:
                    self.room -= width
                    spanned.update({len(cells) + column: height - 1 for column in range(width)})
                cells.append(" ".join(text.split("\n")).strip().replace("|", "\\|"))
                cells += [""] * (width - 1)
            self.skip(cells, spanned)
            rows.append(cells)
        width = max(1, *map(len, rows))
        rows[0] += [""] * (width - len(rows[0]))
        self.room -= sum(width - len(cells) for cells in rows)
        if self.room >= 0:
            rows = [cells + [""] * (width - len(cells)) for cells in rows]
        lines = ["| " + " | ".join(cells) + " |" for cells in rows]
        return [lines[0], "|" + " --- |" * width, *lines[1:]]

    def skip(self, cells: list[str], spanned: dict[int, int]) -> None:
        """Leaves the places empty that a cell of an earlier row reaches into."""
        while self.room > 0 and spanned.get(len(cells), 0) > 0:
            self.room -= 1
            spanned[len(cells)] -= 1
            cells.append("")

    def span(self, node: int) -> tuple[int, int]:
        """Columns and rows of a cell, within reason."""
        start, stop = int(self.tree.start[node]), int(self.tree.stop[node])
        if stop - start < 12 or self.room <= 0 or b"span" not in self.tree.source[start:stop].lower():
            return 1, 1
        given = self.tree.attributes(node)
        return _natural(given.get("colspan", ""), 50), _natural(given.get("rowspan", ""), 500)

    def language(self, place: int) -> str:
        """The language of a listing, by the classes and attributes of its element, its `code` and the elements around it."""
        node = int(self.blocks.blocks[self.chosen.kept[place], 0])
        tree = self.tree
        nodes = [node]
        inside = range(node + 1, min(int(tree.last[node]), node + 4))
        nodes += [inner for inner in inside if self.tag(inner) == _CODE_TAG]
        above = int(tree.parent[node])
        for _ in range(3):
            if above <= 0 or int(self.blocks.before[tree.last[above]] - self.blocks.before[above]) > 2:
                break
            nodes.append(above)
            above = int(tree.parent[above])
        for each in nodes:
            if tree.stop[each] - tree.start[each] < _SHORTEST:
                continue
            language = language_of(tree.attributes(each), tree.name(each) in ("pre", "code"))
            if language:
                return language
        return ""


def _indented(text: str, rest: str) -> str:
    """A text with something before each of its lines but the first, without the spaces at its end where the line is empty."""
    start, empty = "\n" + rest, "\n" + rest.rstrip()
    indented = text.replace("\n", start)
    if "\n\n" in text or text.endswith("\n"):
        for _ in range(2):  # every other one of several in a row is seen at a time
            indented = indented.replace(start + "\n", empty + "\n")
        if indented.endswith(start):
            indented = indented[: -len(start)] + empty
    return indented


_LANGUAGE = re.compile(
    r"(?:^|\s)(?:(?:lang|language|highlight-source|highlight-text|highlight|mw-highlight-lang|source|sourceCode)-|brush:\s*)"
    r"([A-Za-z][\w+#.-]{0,24}|[cCrRdD])(?=[\s;,]|$)"
)
_HLJS = re.compile(r"(?:^|\s)(?:hljs|sourceCode|src|prettyprint)\s+(?:src-)?([a-z][\w+#-]{0,15})(?=\s|$)")
_ALL_STYLES = layout.STRONG | layout.EMPHASIS | layout.CODE_STYLE
_SHORTEST = len("<p lang=c>")
_NO_LANGUAGE = re.compile(
    "none|text|plain|plaintext|plain-text|default|notranslate|nohighlight|no-highlight|auto|code|pre|highlight|line-numbers|"
    "linenums|lines|inline|copy|block|wrap|wrapper|container|box|toolbar|undefined|unknown|raw|txt"
)


def language_of(attributes: dict[str, str], is_code: bool = True) -> str:
    """The language that an element's attributes name, lower-case; empty if none."""
    found = [attributes.get(name, "") for name in ("data-lang", "data-language", "data-enlighter-language")]
    if is_code:
        found.append(attributes.get("lang", ""))
    classes = attributes.get("class", "")
    found += [match[1] for match in _LANGUAGE.finditer(classes)]
    if is_code:
        found += [match[1] for match in _HLJS.finditer(classes)]
    for name in found:
        name = name.strip().lower().removeprefix("source-").rstrip(";,.")
        if re.fullmatch(r"[a-z][\w+#.-]{0,24}", name) and not _NO_LANGUAGE.fullmatch(name):
            return name
    return ""


def _natural(text: str, most: int) -> int:
    return min(max(int(text), 1), most) if text.isascii() and text.isdigit() and len(text) < 5 else 1
