"""The chosen blocks of a page, as both ways of writing it read them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curate.stages.extract.content import inline, layout
from curate.stages.extract.content.segment import Blocks
from curate.stages.extract.dom import Tree

BlockText = Callable[[str], str]
NO_END = 1 << 31

MAX_PIECES, MAX_COMPOSED = 20_000, 30_000
"""Pieces of one paragraph, and of all a page's paragraphs and cells, that are written with their styles; more lose them."""


class Chosen:
    """What the kept blocks are (`layout.outline`), their bytes, and the cells of the rows among them.

    A place is a kept block's number among the kept ones. `kept`: the blocks' numbers; `cells`: of a row's first place the node,
    the first piece and one past the last piece of each cell; `held`: which pieces are in kept rows; `whole`: which places need
    no composing.
    """

    def __init__(self, tree: Tree, blocks: Blocks, kept: np.ndarray, block_text: BlockText | None) -> None:
        self.tree, self.blocks, self.kept, self.block_text = tree, blocks, kept, block_text
        self.source = blocks.text.tobytes()
        self.outline, self.up, self.numbers = layout.outline(tree, blocks, kept)
        self.start, self.stop = blocks.blocks[kept, 1], blocks.blocks[kept, 2]
        self.composed = 0
        self._extents = blocks.blocks[kept, 1:5].tolist()
        self._chains: dict[int, list[int]] = {-1: []}
        self.cells: dict[int, list[tuple[int, int, int]]] = {}
        self.held: np.ndarray | None = None
        self.whole = _NOTHING
        if (self.outline[:, layout.KIND] == layout.ROW).any():
            cells, self.held, self.whole = layout.cells(tree, blocks, kept, self.outline)
            for place, node, first, end in cells.tolist():
                self.cells.setdefault(place, []).append((node, first, end))

    def raw(self, place: int) -> str:
        """A block's characters."""
        start, stop, _, _ = self._extents[place]
        return self.source[start:stop].decode("utf-8", "replace")

    def may_compose(self, first: int, end: int) -> bool:
        """Notes that pieces are to be written with their styles; False if these are too many, or those before were."""
        self.composed += end - first
        return end - first <= MAX_PIECES and self.composed <= MAX_COMPOSED

    def spans(self, first: int, end: int, stop: int, held: np.ndarray | None) -> list[tuple[str, str, int]]:
        """Pieces as far as byte `stop`: what stands before each, its characters, its number. Blocks are words apart."""
        found = []
        at = home = -1
        for piece, (_, begin, past, block) in enumerate(self.blocks.pieces[first:end].tolist(), first):
            past = min(past, stop)
            if past <= begin or (held is not None and not held[piece]):
                continue
            gap = "" if at < 0 else " " if block != home else self.source[at:begin].decode("utf-8", "replace")
            found.append((gap, self.source[begin:past].decode("utf-8", "replace"), piece))
            at, home = past, block
        return found

    def extent(self, place: int) -> tuple[int, int, int]:
        """A block's first piece, one past its last, and where its text ends."""
        _, stop, first, end = self._extents[place]
        return first, end, stop

    def chain(self, container: int) -> list[int]:
        """Items and quotations around a block, the outermost first."""
        found = self._chains.get(container)
        if found is None:
            found = self._chains[container] = [*self.chain(int(self.up[container])), container]
        return found

    def said(self, marked: inline.Marked) -> inline.Marked:
        """A text after `block_text`, which sees no inline code."""
        if self.block_text is not None:
            marked.text = self.block_text(marked.text)
        return marked


_NOTHING = np.ones(0, np.bool_)
