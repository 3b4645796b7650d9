"""From chosen blocks to text and to Markdown."""

from __future__ import annotations

import re

import numpy as np

from curate.stages.extract.content import inline, layout
from curate.stages.extract.content import markdown as _markdown
from curate.stages.extract.content.chosen import NO_END, BlockText, Chosen
from curate.stages.extract.content.segment import Blocks
from curate.stages.extract.dom import Tree

_NONCHARACTERS = re.compile("[\ufdd0-\ufdef]")


def render(
    tree: Tree,
    blocks: Blocks,
    keep: np.ndarray,
    *,
    markdown: bool = False,
    links: bool = False,
    block_text: BlockText | None = None,
) -> str:
    """The kept blocks (`keep`: a bool each) in order.

    Text: paragraphs, headings, listings and tables with a blank line between; list items and table rows on lines of their own,
    `- ` or their number before an item, ` | ` between cells; listings with their lines and indentation exactly.
    Markdown: CommonMark with tables, `links` to http, https, mailto and relative addresses if wanted.
    `block_text` is applied to the text of each paragraph, heading and cell, never to listings or inline code; with it, `$…$`
    and `$$…$$` in what it returns are formulas and `\\$` is a dollar, which Markdown leaves as they are.
    Never raises for any tree. The noncharacters U+FDD0 to U+FDEF, which mark formulas in blocks, are left out.
    """
    kept = np.flatnonzero(keep[: len(blocks)]).astype(np.int32)
    if not len(kept):
        return ""
    chosen = Chosen(tree, blocks, kept, block_text)
    text = _markdown.write(chosen, links) if markdown else _text(chosen)
    return text if text.isascii() else _NONCHARACTERS.sub("", text)


def _text(chosen: Chosen) -> str:
    """Plain text: what needs composing is composed here, the rest copied by the kernel."""
    bodies = _bodies(chosen)
    first, end = chosen.start, chosen.stop
    if not bodies:
        return layout.assemble(chosen.tree, chosen.up, chosen.numbers, chosen.outline, chosen.blocks.text, first, end)
    places = np.array(list(bodies), np.int64)
    encoded = [text.encode("utf-8", "replace") for text in bodies.values()]
    ends = len(chosen.source) + np.cumsum([len(each) for each in encoded])
    first, end = first.copy(), end.copy()
    first[places], end[places] = ends - [len(each) for each in encoded], ends
    body = np.frombuffer(chosen.source + b"".join(encoded), np.uint8)
    return layout.assemble(chosen.tree, chosen.up, chosen.numbers, chosen.outline, body, first, end)


def _bodies(chosen: Chosen) -> dict[int, str]:
    """The texts that do not stand in the page's buffer as they are: rows with empty cells or of several blocks, and all but
    listings where `block_text` is given."""
    kinds = chosen.outline[:, layout.KIND]
    if chosen.block_text is None:
        return {
            place: _row(chosen, place, None)
            for place in np.flatnonzero(~chosen.whole).tolist()
            if place in chosen.cells
        }
    styles, styled = layout.piece_styles(chosen.tree, chosen.blocks, chosen.kept)
    bodies = {}
    for place in np.flatnonzero(kinds != layout.CODE).tolist():
        if kinds[place] == layout.ROW:
            if place in chosen.cells:
                bodies[place] = _row(chosen, place, styles)
        elif styled[place] & layout.CODE_STYLE and chosen.may_compose(*chosen.extent(place)[:2]):
            bodies[place] = _styled(chosen, *chosen.extent(place), None, styles)
        else:
            bodies[place] = chosen.block_text(chosen.raw(place))
    return bodies


def _row(chosen: Chosen, place: int, styles: np.ndarray | None) -> str:
    if styles is None:
        texts = [
            "".join(gap + text for gap, text, _ in chosen.spans(first, end, NO_END, chosen.held))
            for _, first, end in chosen.cells[place]
        ]
    else:
        texts = [_styled(chosen, first, end, NO_END, chosen.held, styles) for _, first, end in chosen.cells[place]]
    return " | ".join(" ".join(text.split("\n")).strip() for text in texts).rstrip()


def _styled(chosen: Chosen, first: int, end: int, stop: int, held: np.ndarray | None, styles: np.ndarray) -> str:
    spans = chosen.spans(first, end, stop, held)
    marked = inline.mark((gap, text, int(styles[piece]) & layout.CODE_STYLE, "") for gap, text, piece in spans)
    return inline.plain(chosen.said(marked))
