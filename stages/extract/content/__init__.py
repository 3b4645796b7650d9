"""The engine `curate`: a page's main content by a learned model over its blocks."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np

from curate.stages.extract import maths
from curate.stages.extract.content import features, render
from curate.stages.extract.content.model import LEAST, Model, choose, words_of
from curate.stages.extract.content.model import load as load_model
from curate.stages.extract.content.segment import Blocks, cut
from curate.stages.extract.dom import parse

__all__ = ["Content", "described", "extract_page", "load_model", "warm"]

HELD = 0.25
"""Where the chosen blocks hold a smaller share of the words of the article that the page's linked data give, a script draws the
page's text: the linked data's text is taken."""
DECLARED = 0.5
"""The confidence of such a text."""


@dataclass(frozen=True, slots=True)
class Content:
    """A page's main text, empty if it has none; its title as the page gives it; the expected F1 of the choice (0 to 1); whether
    a formula was found on the page."""

    text: str
    title: str | None
    confidence: float
    has_math: bool


def extract_page(
    source: bytes,
    url: str | None = None,
    *,
    markdown: bool = False,
    math: bool = True,
    links: bool = False,
    model: Model | None = None,
) -> Content:
    """The main content of a page given as valid UTF-8, as text or Markdown (with the targets of links if `links`), with its
    formulas as LaTeX if `math`.

    `model`: another than the one that comes with curate. Linear in the page; never raises for any content.
    """
    del url  # the pages' own structure decides; an address would teach the model sites
    page, found = described(source, math=math)
    tree, blocks = page.tree, page.blocks
    words = words_of(page)
    probabilities = (model or load_model()).probabilities(page)
    keep, confidence = choose(probabilities, words)
    title, body = page.facts.title or None, page.facts.body
    if body and float(words[keep].sum()) < HELD * len(features.words_of(body)):
        inner = parse(_as_html(body).encode("utf-8", "replace"))
        held = cut(inner)
        text = render.render(inner, held, np.ones(len(held), np.bool_), markdown=markdown, links=links)
        return Content(text, title, DECLARED, False)
    if not keep.any():
        return Content("", title, confidence, False)
    if found is not None and found.formulas:
        keep = _with_formulas(keep, probabilities, blocks, found)
    text = render.render(
        tree, blocks, keep, markdown=markdown, links=links,
        block_text=maths.normaliser(found.delimiters) if found and found.delimiters.active else None,
    )  # fmt: skip
    return Content(text, title, confidence, maths.has_math(text, found))


def described(source: bytes, *, math: bool = True) -> tuple[features.Described, maths.Mathematics | None]:
    """A page's blocks as the model sees them, and its mathematics if it may have any."""
    tree = parse(source)
    found = maths.read(tree) if math and maths.marks(source) else None
    if found is None:
        return features.describe_page(tree, cut(tree)), None
    formulas = {each.node: maths.enclose(each).encode() for each in found.formulas}
    return features.describe_page(tree, cut(tree, formulas, found.removed)), found


def _with_formulas(
    keep: np.ndarray, probabilities: np.ndarray, blocks: Blocks, found: maths.Mathematics
) -> np.ndarray:  # fmt: skip
    """The choice, and the blocks with formulas between two kept ones, and those beside one that are half as likely as a block
    has to be: a formula alone has no words to be known by."""
    formulas = np.isin(blocks.pieces[:, 0], [each.node for each in found.formulas])
    until = np.concatenate([[0], np.cumsum(formulas)])
    holds = until[blocks.blocks[:, 4]] > until[blocks.blocks[:, 3]]
    others = np.flatnonzero(~holds)
    sides = np.concatenate([[False], keep[others], [False]])
    after = np.searchsorted(others, np.arange(len(keep)))
    near = sides[after].astype(np.int64) + sides[after + 1]
    return keep | (holds & ((near == 2) | ((near == 1) & (probabilities >= LEAST / 2))))


def _as_html(text: str) -> str:
    """A text of linked data as HTML: what has no tags is lines of plain text."""
    if "</" in text or "/>" in text:
        return text
    return "".join(f"<p>{html.escape(line)}" for line in text.splitlines())


def warm() -> None:
    """Compiles or loads all kernels and the model, so that the first page is as fast as the next."""
    page = b"<title>t</title><article><h1>Title</h1><p>One line of text, <b>and</b> one more.</p><ul><li>Item</ul></article>"
    formula = b"<math><mi>x</mi></math><script src=MathJax.js></script><p>Where \\(x = 1\\) <code>y</code>.</p>"
    table = b"<table><tr><td>1<td>2</table><pre>x = 1</pre>"
    for markdown in (False, True):
        for source in (page, page + table + formula):
            everything = cut(parse(source))
            render.render(parse(source), everything, np.ones(len(everything), np.bool_), markdown=markdown)
            extract_page(source, markdown=markdown)
